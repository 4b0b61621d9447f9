"""Pictures of the fleet, each read in one transaction. Writes nothing.

1. The SQL is `reading`'s, presence is judged by `presence`, lists are counted by `listing`; here
   the three become one picture.
2. Counts of the window come from `device_answers`, for tiles and rows alike, so the tiles are the
   sum of the rows; the charts come from `fleet_answers`, which is finer.
"""

from collections.abc import Callable, Mapping, Sequence

from sqlalchemy import Connection

from cloud_gateway.database import Database
from cloud_gateway.facts import (
    MARKS,
    STATES,
    Answers,
    Bucket,
    Count,
    DeviceFacts,
    DevicePage,
    Fleet,
    RefusalFacts,
    Series,
    Summary,
    TaskFacts,
)
from cloud_gateway.fleet import reading
from cloud_gateway.fleet.presence import judge
from cloud_gateway.listing import Query, matching
from cloud_gateway.tables import DEVICE_STEP_S, FLEET_STEP_S
from sync.clock import Clock

SILENT_AFTER_S = 40.0
"""Two heartbeats of a device and the way they take: one lost is no silence yet."""
MAX_BUCKETS = 120
STEPS_S = (5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600)

Quantile = Callable[[Sequence[int], float], float | None]
"""The latency in microseconds below which a share of a histogram lies (`rollup.quantile_us`)."""


class View:
    """`fleet`, `series` and `device`, each one read transaction. Raises `StorageUnavailable`."""

    def __init__(
        self,
        database: Database,
        *,
        clock: Clock,
        quantile_us: Quantile,
        silent_after_s: float = SILENT_AFTER_S,
    ) -> None:
        self._database = database
        self._clock = clock
        self._quantile_us = quantile_us
        self._silent_after_s = silent_after_s
        self._listening_since = clock.wall()

    async def fleet(self, id: str) -> Fleet:
        """All devices and their sums."""
        at = self._clock.wall()
        devices = await self._database.read(lambda connection: self._devices(connection, at))
        return Fleet(id=id, at=at, summary=_summary(devices, at), devices=devices)

    async def series(self, minutes: int, *, task: str, device: str) -> Series:
        """The last `minutes` of the fleet, or of one device, in at most MAX_BUCKETS buckets."""
        at = self._clock.wall()
        step = step_of(minutes, DEVICE_STEP_S if device else FLEET_STEP_S)
        since = int(at - minutes * 60) // step * step

        def read(connection: Connection) -> tuple[Bucket, ...]:
            rows = reading.histograms(connection, since, step, task=task, name=device)
            return tuple(self._bucket(start, routes) for start, routes in sorted(rows.items()))

        buckets = await self._database.read(read)
        return Series(at=at, since=since, step_s=step, buckets=buckets)

    async def device(self, facts: DeviceFacts) -> DevicePage:
        """One device in full; `facts` is its row in the picture."""
        at = self._clock.wall()

        def read(connection: Connection) -> DevicePage:
            return DevicePage(
                device=facts,
                at=at,
                window_since=reading.window_since(at),
                ledger=reading.ledger(connection, facts.name, at),
                losses=reading.losses(connection, facts.name),
                health=reading.health(connection, facts.name),
            )

        return await self._database.read(read)

    def _devices(self, connection: Connection, at: float) -> tuple[DeviceFacts, ...]:
        enrolled = reading.enrolled(connection)
        words = reading.last_words(connection)
        tasks = reading.tasks(connection, [one.name for one in enrolled])
        refusals = reading.refusals(connection, tasks)
        answers = reading.answers(connection, at)
        return tuple(
            self._facts(
                one,
                words.get(one.name),
                tasks[one.name],
                refusals.get(one.name, ()),
                answers.get(one.name, Answers()),
                at,
            )
            for one in enrolled
        )

    def _facts(
        self,
        enrolled: reading.Enrolled,
        said: reading.Said | None,
        tasks: tuple[TaskFacts, ...],
        refusals: tuple[RefusalFacts, ...],
        answers: Answers,
        at: float,
    ) -> DeviceFacts:
        contact_at = max(said.heard_at, said.records_at or 0.0) if said else None
        state = judge(
            contact_at,
            at,
            listening_since=self._listening_since,
            silent_after_s=self._silent_after_s,
        ).state
        all_told = said is not None and state == "live" and said.pending == 0
        return DeviceFacts(
            name=enrolled.name,
            state=state,
            added_at=enrolled.added_at,
            contact_at=contact_at,
            link=said.link if said else None,
            agent_version=said.agent_version if said else None,
            tasks=tasks,
            answers=answers if answers.total or all_told else None,
            records_at=said.records_at if said else None,
            issued=said.issued if said else None,
            pending=said.pending if said else None,
            escalations_waiting=said.escalations_waiting if said else None,
            said_at=said.heard_at if said else None,
            clock_ahead_s=said.at - said.heard_at if said else None,
            refusals=refusals,
        )

    def _bucket(self, start: int, routes: Mapping[str, reading.Histogram]) -> Bucket:
        nothing = reading.Histogram(0, 0, ())
        edge, cloud, provisional = (routes.get(route, nothing) for route in reading.ROUTES)
        return Bucket(
            start=start,
            edge=edge.n,
            cloud=cloud.n,
            provisional=provisional.n,
            edge_p50_ms=self._quantile_ms(edge, 0.5),
            edge_p99_ms=self._quantile_ms(edge, 0.99),
            cloud_p50_ms=self._quantile_ms(cloud, 0.5),
            cloud_p99_ms=self._quantile_ms(cloud, 0.99),
        )

    def _quantile_ms(self, histogram: reading.Histogram, share: float) -> float | None:
        value = self._quantile_us(histogram.latency, share) if histogram.n else None
        if value is None:
            return None
        # A quantile is known to the width of a bucket, the longest answer exactly.
        return round(min(value, histogram.max_us) / 1000, 2)


def step_of(minutes: int, finest_s: int) -> int:
    """Width of a chart's buckets: a multiple of what is stored, and few enough to read. Pure."""
    wanted = minutes * 60 / MAX_BUCKETS
    return next((step for step in STEPS_S if step >= wanted and step % finest_s == 0), STEPS_S[-1])


def _summary(devices: Sequence[DeviceFacts], at: float) -> Summary:
    counted = [one.answers for one in devices if one.answers is not None]
    spoken = [one for one in devices if one.said_at is not None]
    records = [one.records_at for one in devices if one.records_at is not None]
    lists = {state: Query(state=state) for state in STATES}
    marked = {mark: Query(mark=mark) for mark in MARKS}

    def count(name: str, query: Query) -> Count:
        return Count(name, len(matching(devices, query)), f"/v1/fleet?{query.link()}")

    return Summary(
        at=at,
        total=len(devices),
        states=tuple(count(state, query) for state, query in lists.items()),
        marks=tuple(count(mark, query) for mark, query in marked.items()),
        window_since=reading.window_since(at),
        answers=Answers(
            edge=sum(answers.edge for answers in counted),
            cloud=sum(answers.cloud for answers in counted),
            provisional=sum(answers.provisional for answers in counted),
            hard=sum(answers.hard for answers in counted),
        )
        if counted
        else None,
        records_at=max(records, default=None),
        pending=sum(one.pending or 0 for one in spoken) if spoken else None,
        escalations_waiting=sum(one.escalations_waiting or 0 for one in spoken) if spoken else None,
        said_at=min((one.said_at or at for one in spoken), default=None),
    )
