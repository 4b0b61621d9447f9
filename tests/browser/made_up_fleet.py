"""A fleet to look at: what its devices say goes in through the gateway's own doors."""

import random
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from fastapi import FastAPI
from sqlalchemy import Connection

from cloud_gateway.app import Gateway, create_app
from cloud_gateway.auth import token_hash
from cloud_gateway.fleet import store
from cloud_gateway.fleet.run import Beats
from cloud_gateway.packages.store import Wish, wish
from cloud_gateway.settings import BrokerSettings, Settings
from cloud_gateway.tables import EVERY_DEVICE
from cloud_gateway.telemetry.ingest import Ingest
from sync.clock import Clock
from sync.wire import codec, v1

LABELS = {"apparel": ("shirt", "coat", "sandal", "bag"), "activity": ("walking", "sitting")}


class MadeUpFleet:
    """Says what devices would say. Times are the clock's, shifted by `ago`."""

    def __init__(self, app: FastAPI, gateway: Gateway, *, seed: int = 7) -> None:
        self.app = app
        self.gateway = gateway
        self.chance = random.Random(seed)
        self._issued: dict[str, int] = {}

    async def enrol(self, names: Iterable[str]) -> None:
        """Devices as `device add` makes them."""
        for name in names:
            await self.gateway.devices.add(name)

    async def enrol_many(self, names: Sequence[str]) -> None:
        """The same in one transaction, without tokens that anybody could use."""

        def save(connection: Connection) -> None:
            for name in names:
                token = token_hash(f"token of {name}")
                store.add(connection, store.Enrolled(name, token, "", self.clock.wall(), None))

        await self.gateway.database.write(save)

    @property
    def clock(self) -> Clock:
        return self.gateway.clock

    async def desire(self, task: str, version: str, device: str = EVERY_DEVICE) -> None:
        new = [Wish(device, task, version, self.clock.wall())]
        await self.gateway.database.write(lambda connection: wish(connection, new))

    async def beat(
        self,
        name: str,
        task: str,
        version: str,
        *,
        link: str = "mqtt",
        pending: int = 0,
        waiting: int = 0,
        refusals: Sequence[v1.Refusal] = (),
        ago: float = 0.0,
        risk: v1.TaskRisk | None = None,
    ) -> None:
        """One heartbeat, heard `ago` seconds before now."""
        heard = Shifted(self.clock, ago)
        beats = Beats(self.gateway.database, heard)
        digest = token_hash(task + version).hex()[:12]
        state = v1.TaskState(task, version, digest, "serving", risk=risk)
        beats.hear(
            v1.Beat(
                device=name,
                incarnation=f"of-{name}",
                boot=3,
                at=heard.wall() + 0.2,
                link=link,
                tasks=(state,),
                refusals=tuple(refusals),
                issued=self._issued.get(name, 0) + pending,
                pending=pending,
                escalations_waiting=waiting,
                agent_version="0.1.0",
            )
        )
        await beats.flush()

    async def answers(
        self,
        name: str,
        task: str,
        version: str,
        *,
        edge: int,
        cloud: int = 0,
        provisional: int = 0,
        revised: int = 0,
        ago: float = 0.0,
        over_s: float = 1.0,
    ) -> None:
        """One batch of records, answered over the `over_s` seconds that ended `ago` seconds ago."""
        routes = ["edge"] * edge + ["cloud"] * cloud + ["provisional"] * provisional
        self.chance.shuffle(routes)
        now = self.clock.wall() - ago
        records: list[v1.Record] = [
            self._record(task, version, route, now - over_s * (1 - (index + 0.5) / len(routes)))
            for index, route in enumerate(routes)
        ]
        records += [
            v1.Revised(f"late-{index}", "camera", task, "bag", 0.9, version, now)
            for index in range(revised)
        ]
        lo = self._issued.get(name, 0) + 1
        self._issued[name] = hi = lo + len(records) - 1
        batch = v1.Batch(
            device=name,
            incarnation=f"of-{name}",
            boot=3,
            lo=lo,
            hi=hi,
            at=now,
            body=codec.pack_records(records),
        )
        ingest = self._ingest(ago)
        ack = await ingest.batch(batch, codec.encode(batch))
        assert ack.outcome == "committed", ack

    async def health(self, name: str, said: v1.Health) -> None:
        number = self._issued.get(name, 0) + 1
        self._issued[name] = number
        now = self.clock.wall()
        body = codec.pack_records([said])
        batch = v1.Batch(name, f"of-{name}", 1, number, number, now, body)
        await self._ingest(0.0).batch(batch, codec.encode(batch))

    async def lose(self, name: str, count: int, reason: str) -> None:
        lo = self._issued.get(name, 0) + 1
        self._issued[name] = hi = lo + count - 1
        now = self.clock.wall()
        report = v1.LossReport(name, f"of-{name}", (v1.Lost(lo, hi, reason),), now)
        await self._ingest(0.0).losses(report, codec.encode(report))

    def _ingest(self, ago: float) -> Ingest:
        """The gateway's door for records, as it was `ago` seconds before now."""
        clock = Shifted(self.clock, ago)
        return Ingest(self.gateway.database, clock, self.gateway.metrics, dead_letter_bytes=1 << 20)

    def _record(self, task: str, version: str, route: str, at: float) -> v1.Answered:
        run_us = int(self.chance.lognormvariate(5.6, 0.35)) + 40
        wait_us = {
            "edge": 0,
            "cloud": int(self.chance.lognormvariate(10.6, 0.45)),
            "provisional": 268_000,
        }[route]
        return v1.Answered(
            request_id=f"{self.chance.getrandbits(64):016x}",
            client="camera",
            task=task,
            version=version,
            digest="0123456789ab",
            route="cloud" if route == "cloud" else "edge",
            final=route != "provisional",
            reason={"edge": "confident", "cloud": "escalated", "provisional": "link_down"}[route],
            label=self.chance.choice(LABELS.get(task, ("yes", "no"))),
            confidence=0.97 if route == "edge" else 0.55,
            hard=route != "edge",
            deadline_ms=300,
            prepare_us=60,
            run_us=run_us,
            wait_us=wait_us,
            total_us=60 + run_us + wait_us + self.chance.randrange(400),
            at=at,
        )


class Shifted:
    """The wall clock some seconds ago."""

    def __init__(self, clock: Clock, ago: float) -> None:
        self._clock = clock
        self._ago = ago

    def monotonic(self) -> float:
        return self._clock.monotonic() - self._ago

    def wall(self) -> float:
        return self._clock.wall() - self._ago


@asynccontextmanager
async def made_up_fleet(data: Path, clock: Clock | None = None) -> AsyncIterator[MadeUpFleet]:
    """A whole gateway on the folder `data`, without a broker; nobody in its fleet yet."""
    settings = Settings(data=data, port=0, broker=BrokerSettings(kind="none"))
    app = create_app(settings, clock=clock)
    gateway: Gateway = app.state.gateway
    async with gateway.running():
        yield MadeUpFleet(app, gateway)
