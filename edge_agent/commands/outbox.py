"""`longstop-agent outbox`: what the device still owes the cloud, read while the agent may run.

The database is opened for reading alone, so it is never checkpointed from here.
"""

import sqlite3
from collections.abc import Sequence
from pathlib import Path
from typing import Self, TypeVar

import msgspec
import sqlite_utils
from msgspec import Struct

from edge_agent.errors import BadRequest
from sync.errors import OutboxUnavailable, WireError
from sync.wire import codec, v1


class BatchLine(Struct, frozen=True):
    """Records that wait."""

    lo: int
    hi: int
    at: float
    bytes: int


class LossLine(Struct, frozen=True):
    """Numbers whose content is gone; the gateway has not heard of it yet."""

    lo: int
    hi: int
    reason: str


class QuestionLine(Struct, frozen=True):
    """A hard case the cloud still owes an answer to."""

    request_id: str
    client: str
    stored_at: float
    attempts: int
    bytes: int


class RevisionLine(Struct, frozen=True):
    """Revisions that wait for a client."""

    client: str
    count: int


class Listing(Struct, frozen=True):
    """Everything in the outbox."""

    incarnation: str
    boot: int
    issued: int
    batches: tuple[BatchLine, ...]
    lost: tuple[LossLine, ...]
    questions: tuple[QuestionLine, ...]
    revisions: tuple[RevisionLine, ...]


T = TypeVar("T")
Shown = list[v1.Record] | v1.Escalation


class Reader:
    """The outbox of a data folder. Raises `OutboxUnavailable`."""

    def __init__(self, data: Path) -> None:
        self._path = data / "outbox" / "outbox.db"
        if not self._path.exists():
            raise OutboxUnavailable(f"there is no outbox at {self._path}; has the agent run here?")
        connection = sqlite3.connect(f"{self._path.resolve().as_uri()}?mode=ro", uri=True)
        self._database = sqlite_utils.Database(connection)

    def listing(self) -> Listing:
        meta = self._meta()
        return Listing(
            incarnation=str(meta["incarnation"]),
            boot=int(str(meta["boot"])),
            issued=int(str(meta["next"])) - 1,
            batches=self._all(
                BatchLine, "SELECT lo, hi, at, length(body) AS bytes FROM batch ORDER BY lo"
            ),
            lost=self._all(LossLine, "SELECT lo, hi, reason FROM lost ORDER BY lo"),
            questions=self._all(
                QuestionLine,
                "SELECT request_id, client, stored_at, attempts, length(body) AS bytes"
                " FROM escalation ORDER BY place",
            ),
            revisions=self._all(
                RevisionLine,
                "SELECT client, count(*) AS count FROM revision GROUP BY client ORDER BY client",
            ),
        )

    def show(self, what: str) -> Shown:
        """The batch that holds a number, or the question of a request id. Raises `BadRequest`."""
        try:
            if what.isdecimal():
                for row in self._query(
                    "SELECT body FROM batch WHERE lo <= :n AND hi >= :n", {"n": int(what)}
                ):
                    return codec.unpack_records(_body(row))
            for row in self._query(
                "SELECT body FROM escalation WHERE request_id = :id", {"id": what}
            ):
                message = codec.decode_up(_body(row))
                if isinstance(message, v1.Escalation):
                    return message
        except WireError as error:
            raise OutboxUnavailable(f"{what} in {self._path} is damaged: {error}") from error
        raise BadRequest(
            f"the outbox holds no record {what} and no question {what};"
            " see `longstop-agent outbox ls`"
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._database.close()

    def _meta(self) -> dict[str, object]:
        return {str(row["k"]): row["v"] for row in self._query("SELECT k, v FROM meta")}

    def _all(self, kind: type[T], query: str) -> tuple[T, ...]:
        return tuple(msgspec.convert(row, kind) for row in self._query(query))

    def _query(
        self, query: str, values: dict[str, object] | None = None
    ) -> list[dict[str, object]]:
        try:
            return list(self._database.query(query, values or {}))
        except sqlite3.DatabaseError as error:
            raise OutboxUnavailable(f"{self._path} cannot be read: {error}") from error


def _body(row: dict[str, object]) -> bytes:
    body = row["body"]
    return body if isinstance(body, bytes) else b""


def lines(listing: Listing) -> Sequence[str]:
    """For a person."""
    pending = sum(batch.hi - batch.lo + 1 for batch in listing.batches)
    lost = sum(loss.hi - loss.lo + 1 for loss in listing.lost)
    issued = f"{listing.issued} records issued as {listing.incarnation}, boot {listing.boot}"
    return [
        f"{issued}: {pending} pending, {lost} lost and not yet reported",
        *(f"batch     {one.lo}..{one.hi}  {one.bytes} bytes" for one in listing.batches),
        *(f"lost      {one.lo}..{one.hi}  {one.reason}" for one in listing.lost),
        *(
            f"question  {one.request_id}  from {one.client}, {one.attempts} attempts,"
            f" {one.bytes} bytes"
            for one in listing.questions
        ),
        *(f"revisions {one.count} waiting for {one.client}" for one in listing.revisions),
    ]


def lines_of(shown: Shown) -> Sequence[str]:
    """For a person, one record a line."""
    if isinstance(shown, v1.Escalation):
        shapes = ", ".join(f"{one.name} {one.datatype} {list(one.shape)}" for one in shown.inputs)
        return [f"question {shown.request_id} of {shown.task} {shown.version}: {shapes}"]
    return [msgspec.json.encode(msgspec.structs.asdict(record)).decode() for record in shown]
