"""Runs a whole fleet on virtual time: the shipped device and gateway, on links that misbehave.

What is replaced, and nothing else (`REPLACED`, held to by a test):

| in a program | here |
|---|---|
| sockets: HTTP and MQTT transports | the shipped memory transport over a `sim.link.Link` |
| threads: `ThreadRunner` | the shipped `InlineRunner` |
| clocks: `SystemClock` | `sim.loop.VirtualClock` |
| processes: worker's pipe and socket pair | a call, in `Handover` |
| the process that calibrates | the same function, called |
| models trained on data | the shipped twins, which answer what their input says |

Nothing here decides what an agent or a gateway decides: which input is hard, when to give up
waiting, what to send again, what to count.
"""

import asyncio
import gc
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Final

import httpx
from fastapi import FastAPI

from cloud_gateway.app import create_app
from cloud_gateway.settings import BrokerSettings, Settings
from edge_agent import __version__
from edge_agent.cascade.ports import InferRequest
from edge_agent.cascade.run import Cascade
from edge_agent.cloud.budget import Budget
from edge_agent.cloud.circuit import Pace
from edge_agent.cloud.link import CloudLink, DeviceReport, LinkSettings
from edge_agent.engine import Engine
from edge_agent.risk.audit import Audits
from edge_agent.risk.run import AuditSettings, Risk
from models.manifest import Role
from models.package import read
from models.predict import Predictor
from sim import books, budget, invariants, loop, report, risk, workload
from sim.asgi import deliver_to
from sim.device import Device, Handover
from sim.invariants import Asked, InvariantBroken
from sim.link import Link
from sim.operator import Operator, scratch_folder
from sim.scenario import Scenario
from sync.backoff import Backoff
from sync.outbox.delivery import Policy
from sync.outbox.run import Outbox, OutboxSettings
from sync.runner import InlineRunner, Runner
from sync.transport.memory import MemoryTransport
from sync.wire import v1

REPLACED: Final = ("Link", "VirtualClock", "Handover")
"""Names of the classes of `sim` that stand inside a running device or gateway."""
VERSION = "1.0.0"
Progress = Callable[[float, int], None]


class World:
    """One gateway and its devices. Build it inside a virtual loop; `close` it there too."""

    def __init__(
        self, scenario: Scenario, seed: int, virtual: loop.VirtualLoop, folder: Path
    ) -> None:
        self.scenario = scenario
        self.seed = seed
        self.clock = loop.VirtualClock(virtual)
        self.folder = folder
        self.inputs = workload.inputs(random.Random(f"{seed} inputs"))
        self.usual = len(self.inputs.samples)
        if scenario.risk is not None:
            self.inputs = workload.with_drifted(self.inputs, random.Random(f"{seed} drifted"))
        self.turns: list[risk.Turn] = []
        self.devices: dict[str, Device] = {}
        self.asked: dict[str, Asked] = {}
        self.app: FastAPI = create_app(
            Settings(
                data=self.folder / "gateway",
                beat_flush_s=600.0,
                broker=BrokerSettings(kind="none"),
            ),
            clock=self.clock,
            runners=_inline,
        )

    @property
    def gateway_database(self) -> Path:
        return self.folder / "gateway" / "gateway.db"

    def outbox_database(self, device: str) -> Path:
        return self.folder / device / "outbox.db"

    async def populate(self) -> None:
        """Publish the package, add every device and start it."""
        admin = (self.folder / "gateway" / "admin.token").read_text().strip()
        async with httpx.AsyncClient(
            transport=httpx.ASGITransport(self.app),
            base_url="http://gateway",
            headers={"Authorization": f"Bearer {admin}"},
        ) as client:
            operator = Operator(client)
            folder = await operator.publish_twin(
                workload.TASK,
                VERSION,
                self.folder / "gateway" / "trust",
                self.folder / "package",
                None if self.scenario.risk is None else risk.promise(workload.THRESHOLD),
            )
            clock = self.clock
            predictor = Predictor.load(
                read(folder, Role.EDGE), clock_ns=lambda: int(clock.monotonic() * 1e9)
            )
            predictor.check_golden()
            for number in range(self.scenario.devices):
                name = f"device-{number:04d}"
                await self._join(name, await operator.add_device(name), predictor)

    async def _join(self, name: str, token: str, predictor: Predictor) -> None:
        chance = random.Random(f"{self.seed} {name}")
        tuning = self.scenario.agent
        patient = Backoff(tuning.retry_base_s, tuning.retry_cap_s)
        outbox = await Outbox.open(
            self.folder / name,
            clock=self.clock,
            runner=InlineRunner(),
            settings=OutboxSettings(linger_ms=tuning.linger_ms, policy=Policy(backoff=patient)),
            chance=random.Random(f"{self.seed} {name} outbox"),
        )
        radio = Link(self.scenario.weather, chance, deliver_to(self.app, token))
        state = v1.TaskState(workload.TASK, VERSION, "", "serving")
        counted, purse = self._budget(name, radio, lambda: told())  # noqa: PLW0108 - made below
        link = CloudLink(
            device=name,
            agent_version=__version__,
            transport=MemoryTransport(radio.carry if counted is None else counted.carry),
            outbox=outbox,
            clock=self.clock,
            chance=random.Random(f"{self.seed} {name} link"),
            settings=LinkSettings(pace=Pace(beat_s=tuning.beat_s, probe=patient)),
            report=lambda: DeviceReport(tasks=(state,)),
            on_desired=lambda desired: None,
            on_revision=lambda client: None,
            on_answer=lambda answer: None if watch is None else watch.answered(answer),
            on_refusal=lambda request: None if watch is None else watch.refused(request),
            on_change=lambda: told(),  # noqa: PLW0108
            budget=purse,
        )
        watch = await self._watch(name, link)
        engine = Engine(
            predictor,
            digest=predictor.package.manifest_sha256,
            runner=InlineRunner(),
            clock=self.clock,
            typical_s=1e-6,
        )
        share = 0.0 if self.scenario.risk is None else self.scenario.risk.audit_share
        handover = Handover(link, Audits(f"{self.seed} {name}".encode()[:64], share))
        cascade = Cascade(
            engine=engine,
            ask=handover,
            records=handover,
            clock=self.clock,
            device=name,
            audits=handover,
        )
        handover.budget = purse

        def told() -> None:
            if purse is not None:
                budget.tell(cascade, purse, link)

        told()
        if purse is not None:
            purse.start()
        if watch is not None:
            tell = risk.teller(cascade)
            key = watch.joined(workload.TASK, engine.digest, engine.signed, None, tell)
            handover.watched = (watch, key)
        self.devices[name] = Device(name, outbox, radio, link, handover, cascade, watch, counted)
        await link.start()

    def _budget(
        self, name: str, radio: Link, on_change: Callable[[], None]
    ) -> tuple[budget.Counted | None, Budget | None]:
        limit = self.scenario.bytes_per_hour
        if limit is None:
            return None, None
        purse = budget.open_budget(limit, self.folder / name, self.clock, on_change)
        return budget.Counted(self.clock, radio.carry), purse

    async def _watch(self, name: str, link: CloudLink) -> Risk | None:
        if self.scenario.risk is None:
            return None

        def turned(alarm: v1.Alarm) -> None:
            self.turns.append(risk.Turn(name, alarm.kind, self.clock.monotonic()))
            _ = link.noted(alarm)

        return await Risk.open(
            self.folder / name / "risk.db",
            runner=InlineRunner(),
            clock=self.clock,
            settings=AuditSettings(),
            line=link,
            calibrate=risk.calibrate,
            report=turned,
            on_change=link.news,
        )

    async def ask(self, device: Device, number: int, sample: int) -> None:
        """One request of an application, and what its caller noted down."""
        traffic = self.scenario.traffic
        request_id = f"{device.name}-{number:06d}"
        at = self.clock.monotonic()
        until = at + traffic.deadline_ms / 1000
        asked = Asked(request_id, device.name, sample, at, until)
        self.asked[request_id] = asked
        reply = await device.cascade.answer(
            InferRequest(
                id=request_id,
                client="app",
                dtype=self.inputs.dtype,
                shape=self.inputs.shape,
                data=self.inputs.samples[sample],
                deadline_ms=traffic.deadline_ms,
                received=at,
                until=until,
            )
        )
        self.asked[request_id] = replace(
            asked,
            answered_at=self.clock.monotonic(),
            label=reply.label,
            source=reply.source,
            final=reply.final,
            reason=reply.reason,
        )

    async def applications(self, device: Device, until: float) -> None:
        """Ask at random moments until then, and wait for the last answers."""
        chance = random.Random(f"{self.seed} {device.name} application")
        begun = self.clock.monotonic()
        async with asyncio.TaskGroup() as requests:
            moments = workload.arrivals(chance, self.scenario.traffic.every_s, until - begun)
            for number, moment in enumerate(moments):
                await asyncio.sleep(begun + moment - self.clock.monotonic())
                requests.create_task(self.ask(device, number, self._choose(chance, moment)))

    def _choose(self, chance: random.Random, moment: float) -> int:
        """What is asked then; a world that has changed asks other things as well."""
        story = self.scenario.risk
        changed = story is not None and moment >= story.drift_at_h * 3600
        if story is not None and changed and chance.random() < story.drift:
            return chance.randrange(self.usual, len(self.inputs.samples))
        return chance.randrange(self.usual)

    def check(self, *, at_the_end: bool) -> Mapping[str, books.DeviceFiles]:
        """Hold the fleet to its invariants. Raises `InvariantBroken`."""
        invariants.answered_in_time(self.asked.values(), self.clock.monotonic())
        files = {
            name: books.read_files(
                name, self.outbox_database(name), self.gateway_database, bodies=at_the_end
            )
            for name in self.devices
        }
        for name, held in files.items():
            invariants.covered(name, held)
            if (spent := self.devices[name].spent) is not None:
                limit = self.scenario.bytes_per_hour or 0
                invariants.within_budget(name, spent.by_hour, limit)
            if at_the_end:
                invariants.balanced(name, held)
                mine = [one for one in self.asked.values() if one.device == name]
                invariants.counted_once(name, mine, held)
        if at_the_end:
            invariants.hard_ends_in_cloud(self.asked.values(), self.inputs.known, files)
        return files

    async def close(self) -> None:
        """Stop every device in order; the gateway's own lifespan ends it."""
        for device in self.devices.values():
            await device.handover.finish()
            if device.risk is not None:
                await device.risk.close()
            await device.link.close()
            await device.outbox.close()
            await device.radio.close()


def run(scenario: Scenario, *, seed: int, progress: Progress | None = None) -> report.Result:
    """Run a scenario from seed to verdict."""
    # Outside the loop: what interrupts the loop must not keep the databases.
    with scratch_folder() as folder, _rarely_collected():
        return loop.run(
            lambda virtual: _story(World(scenario, seed, virtual, Path(folder)), progress)
        )


@contextmanager
def _rarely_collected() -> Iterator[None]:
    """Let the collector look seldom: a fleet is large, lives long and leaves little behind."""
    before = gc.get_threshold()
    gc.set_threshold(200_000, 20, 100)
    try:
        yield
    finally:
        gc.set_threshold(*before)


async def _story(world: World, progress: Progress | None) -> report.Result:
    async with world.app.router.lifespan_context(world.app):
        await world.populate()
        files: Mapping[str, books.DeviceFiles] = {}
        broken: str | None = None
        try:
            await _live(world, progress)
            files = world.check(at_the_end=True)
        except* InvariantBroken as group:
            broken = str(_first(group))
        finally:
            await world.close()
    return _result(world, files, broken)


def _first(group: BaseExceptionGroup[InvariantBroken]) -> InvariantBroken:
    """The first of what several tasks found broken."""
    found = group.exceptions[0]
    return _first(found) if isinstance(found, BaseExceptionGroup) else found


async def _live(world: World, progress: Progress | None) -> None:
    scenario = world.scenario
    ends = world.clock.monotonic() + scenario.hours * 3600
    devices = world.devices.values()
    async with asyncio.TaskGroup() as living:
        weather = [living.create_task(device.radio.live(ends)) for device in devices]
        asking = [living.create_task(world.applications(device, ends)) for device in devices]
        while world.clock.monotonic() < ends:
            left = ends - world.clock.monotonic()
            await asyncio.sleep(min(scenario.check_every_s, left))
            world.check(at_the_end=False)
            if progress is not None:
                progress(world.clock.monotonic(), len(world.asked))
        await asyncio.gather(*asking, *weather)
    for device in devices:
        device.radio.up = True
    await asyncio.sleep(scenario.settle_s)


def _result(
    world: World, files: Mapping[str, books.DeviceFiles], broken: str | None
) -> report.Result:
    asked = list(world.asked.values())
    radios = [device.radio for device in world.devices.values()]
    held = files.values()
    return report.Result(
        scenario=world.scenario.name,
        seed=world.seed,
        devices=len(world.devices),
        hours=world.scenario.hours,
        virtual_s=round(world.clock.monotonic(), 3),
        requests=len(asked),
        answered=sum(1 for one in asked if one.answered_at is not None),
        late=sum(1 for one in asked if one.answered_at is not None and one.answered_at > one.until),
        from_edge=sum(1 for one in asked if one.source == "edge" and one.final),
        from_cloud=sum(1 for one in asked if one.source == "cloud"),
        provisional=sum(1 for one in asked if one.source and not one.final),
        revised=sum(1 for x in held for record in x.records if isinstance(record, v1.Revised)),
        issued=sum(x.issued for x in held),
        delivered=sum(books.size(x.delivered) for x in held),
        lost=sum(books.size(x.lost) for x in held),
        pending=sum(books.size(x.pending) for x in held),
        messages_carried=sum(radio.carried for radio in radios),
        messages_swallowed=sum(radio.swallowed for radio in radios),
        messages_repeated=sum(radio.repeated for radio in radios),
        digest=report.digest(asked),
        broken=broken,
        risk=_risk_figures(world, asked),
    )


def _risk_figures(world: World, asked: Sequence[Asked]) -> report.RiskFigures | None:
    if (story := world.scenario.risk) is None:
        return None
    alarms = risk.first(world.turns, "broken")
    changes, never = story.drift_at_h * 3600, float("inf")

    def share(span: Callable[[Asked], bool]) -> float:
        differing, of = risk.differing(asked, world.inputs.known, span)
        return differing / of if of else 0.0

    return report.RiskFigures(
        alarms=len(alarms),
        recalibrated=len(risk.first(world.turns, "recalibrated")),
        differ_at_first=share(lambda one: one.at < changes),
        differ_drifting=share(lambda one: changes <= one.at < alarms.get(one.device, never)),
        differ_after=share(lambda one: one.at >= alarms.get(one.device, never)),
    )


def _inline(name: str) -> Runner:
    del name  # a thread would be called so
    return InlineRunner()
