"""The book a caller keeps: one JSON line per request, one per revision."""

from pathlib import Path

import msgspec


class Sent(msgspec.Struct, frozen=True, tag="sent"):
    """One request as its caller saw it."""

    request_id: str
    sample: int
    """Index into the test split."""
    sent_at: float
    took_ms: float
    label: str
    source: str
    final: bool
    reason: str
    version: str
    error: str
    """Code of the error raised instead of an answer, else empty."""


class Revised(msgspec.Struct, frozen=True, tag="revised"):
    """One revision as its caller got it."""

    request_id: str
    label: str
    got_at: float


Entry = Sent | Revised


def line(entry: Entry) -> str:
    """One entry as it stands in the book."""
    return msgspec.json.encode(entry).decode() + "\n"


def read(path: Path) -> list[Entry]:
    """Everything one caller wrote down; a last line cut short by a kill is left out."""
    lines = path.read_text().splitlines(keepends=True) if path.exists() else []
    return [msgspec.json.decode(text, type=Entry) for text in lines if text.endswith("\n")]
