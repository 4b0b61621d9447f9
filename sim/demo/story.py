"""The minute itself: streams on, an update, a cut, an altered package, and the count afterwards."""

import asyncio
import contextlib
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from sim import books
from sim.demo import book, judge, plan, reference, sabotage
from sim.demo.caller import Errand
from sim.demo.figures import Figures, TaskFigures
from sim.demo.fleet import Fleet
from sim.demo.plan import Device
from sim.demo.programs import DemoError, until

_SETTLE_S = 45.0
"""How long after the streams the callers wait for the last revisions."""

Sabotage = Literal["lose", "twice", "late"]


@dataclass(frozen=True)
class Wishes:
    """What the command line asked for."""

    seconds: float
    rate: float
    seed: int
    sabotage: Sabotage | None


@dataclass(frozen=True)
class Outcome:
    """The figures, and the promises they were held to."""

    figures: Figures
    promises: Sequence[judge.Promise]


async def tell(fleet: Fleet, tasks: tuple[str, ...], wishes: Wishes) -> Outcome:
    """Run the whole demo and judge it; every program has ended before the count begins."""
    say = fleet.say
    cast = plan.devices(tasks)
    await _raise_curtain(fleet, cast)
    times = plan.timeline(wishes.seconds)
    start = await _streams(fleet, cast, wishes)
    say(
        f"streams: {wishes.rate:.0f} inputs a second on each of {len(cast)} devices for "
        f"{wishes.seconds:.0f} s, deadline {plan.DEADLINE_MS} ms"
    )

    await _at(start + times.update)
    update_began = time.monotonic()
    say(f"update: publishing {plan.UPDATED}, signed by the operator's key")
    for task in dict.fromkeys(device.task for device in cast):
        await fleet.publish(task, plan.UPDATED)
        await fleet.desire(task, plan.UPDATED, cast)
    await asyncio.gather(*(fleet.serving(device, plan.UPDATED) for device in cast))
    update_done = time.monotonic()
    say(f"update: every device serves {plan.UPDATED} after {update_done - update_began:.1f} s")

    await _at(start + times.cut)
    for proxy in fleet.proxies.values():
        proxy.cut()
    cut_began = time.monotonic()
    say("cut: the proxy swallows every byte and closes nothing")
    if wishes.sabotage == "late":
        await asyncio.sleep(2)
        await sabotage.hold_up_a_worker(fleet, cast[0])
    if wishes.sabotage == "lose":
        await asyncio.sleep(8)
        sabotage.lose_a_batch(fleet, cast[0])
    await _at(cut_began + (times.repair - times.cut))
    cut_ended = time.monotonic()
    for proxy in fleet.proxies.values():
        proxy.repair()
    say(f"cut: over after {cut_ended - cut_began:.1f} s; old connections stay dead, new ones work")

    await _at(start + times.tamper)
    say(f"tampering: {plan.TAMPERED} is published, then altered on the gateway's disk")
    for task in dict.fromkeys(device.task for device in cast):
        await fleet.publish(task, plan.TAMPERED)
        fleet.alter_archive(task, plan.TAMPERED)
        await fleet.desire(task, plan.TAMPERED, cast)

    # A little before the end: a stream that is on time then ends on time.
    await _at(start + times.end - 1.0)
    for device in cast:
        await fleet.enough(device)
    await _at(start + times.end)
    say("streams over; waiting for the last revisions and an empty outbox")
    refused = await _refusals(fleet, cast)
    for device in cast:
        await fleet.programs.wait(f"caller-{device.name}", _SETTLE_S + 15)
    if wishes.sabotage == "twice":
        await sabotage.deliver_twice(fleet, cast[0])
    await _drain(fleet, cast)
    serving = {device.name: await fleet.version(device) for device in cast}
    await fleet.stop(cast)

    say("counting: both databases, the callers' books, the proxy's meters, both models again")
    windows = judge.Windows(cut_began, cut_ended, update_began, update_done)
    confirmed = books.refusals(fleet.database, plan.TAMPERED)
    witnesses = [
        judge.Witness(
            device=device,
            book=book.read(fleet.book(device)),
            tally=fleet.proxies[device.name].tally,
            ledger=judge.ledger_of(
                books.read_files(device.name, fleet.outbox(device), fleet.database, bodies=True)
            ),
            serving=serving[device.name],
            refusal=refused[device.name] if device.name in confirmed else "",
        )
        for device in cast
    ]
    return await asyncio.to_thread(_judge, fleet, witnesses, windows)


async def carry_on(fleet: Fleet, tasks: tuple[str, ...], wishes: Wishes) -> None:
    """Start everything again on the data it had, with quiet streams that do not end."""
    cast = plan.devices(tasks)
    await fleet.start_again(cast)
    await asyncio.gather(*(fleet.serving(device, plan.UPDATED) for device in cast))
    await _streams(fleet, cast, replace(wishes, seconds=7 * 24 * 3600.0, rate=2.0))


def _judge(fleet: Fleet, witnesses: Sequence[judge.Witness], windows: judge.Windows) -> Outcome:
    tasks = tuple(dict.fromkeys(witness.device.task for witness in witnesses))
    rows: list[TaskFigures] = []
    for task in tasks:
        mine = [witness for witness in witnesses if witness.device.task == task]
        samples = {e.sample for one in mine for e in one.book if isinstance(e, book.Sent)}
        folder = fleet.home / "packages" / f"{task}-{plan.FIRST}"
        rows.append(judge.task_figures(task, mine, reference.of(task, folder, samples), windows))
    figures = Figures(
        tasks=rows,
        cut=judge.cut_figures(witnesses, windows),
        records=judge.records(witnesses),
        update=judge.update_figures(witnesses, windows),
        dashboard_url=f"{fleet.url}/",
        broker=fleet.broker,
        data="digits" if tasks == ("digits",) else "shared",
    )
    return Outcome(figures, judge.promises(figures, witnesses, windows))


async def _raise_curtain(fleet: Fleet, cast: Sequence[Device]) -> None:
    fleet.say("gateway: starting, with its broker")
    await fleet.start_gateway()
    fleet.say(f"gateway: page at {fleet.url}/  broker: {fleet.broker}")
    for task in dict.fromkeys(device.task for device in cast):
        fleet.say(f"package: building, signing and publishing {task} {plan.FIRST}")
        await fleet.publish(task, plan.FIRST)
    for device in cast:
        fleet.say(f"agent: {device.name} joins over {device.link}, through a proxy of its own")
        await fleet.invite(device)
    for task in dict.fromkeys(device.task for device in cast):
        await fleet.desire(task, plan.FIRST, cast)
    for device in cast:
        await fleet.start_agent(device)
    await asyncio.gather(*(fleet.serving(device, plan.FIRST) for device in cast))


async def _streams(fleet: Fleet, cast: Sequence[Device], wishes: Wishes) -> float:
    """Get every application ready, then let all begin; returns the moment they do."""
    await asyncio.gather(
        *(
            fleet.send_caller(
                device,
                Errand(
                    device=device.name,
                    task=device.task,
                    run=str(fleet.run_folder(device)),
                    book=str(fleet.book(device)),
                    rate=wishes.rate,
                    seed=wishes.seed + number,
                    seconds=wishes.seconds,
                    settle_s=_SETTLE_S,
                    deadline_ms=plan.DEADLINE_MS,
                ),
            )
            for number, device in enumerate(cast)
        )
    )
    start = time.monotonic() + 1.0
    for number, device in enumerate(cast):
        # Spread within one interval, so that three streams do not always ask at once.
        await fleet.go(device, start + number / (len(cast) * wishes.rate))
    return start


async def _at(moment: float) -> None:
    await asyncio.sleep(max(0.0, moment - time.monotonic()))


async def _refusals(fleet: Fleet, cast: Sequence[Device]) -> dict[str, str]:
    async def all_refused() -> bool:
        said = [await fleet.refusal(device, plan.TAMPERED) for device in cast]
        return all(said)

    # Judged later: a device that never refuses is a broken promise, not a broken demo.
    with contextlib.suppress(DemoError):
        await until("every device refuses the altered package", all_refused, timeout_s=20)
    return {device.name: await fleet.refusal(device, plan.TAMPERED) for device in cast}


async def _drain(fleet: Fleet, cast: Sequence[Device]) -> None:
    async def empty() -> bool:
        return all([await fleet.drained(device) for device in cast])

    with contextlib.suppress(DemoError):
        await until("every outbox is empty", empty, timeout_s=30, every_s=0.3)
