"""A day of outages for a hundred devices, and proof that the simulator would notice.

The mutants below change one decision of the shipped code. A simulator that still said "every
invariant held" would be deciding for itself.
"""

import gc
import types
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from cloud_gateway.telemetry.ingest import Ingest
from edge_agent.cascade import decision
from sim import cli, loop, report, scenario, world
from sim.scenario import Scenario
from sync.outbox.store import Store
from sync.wire import v1

OUTAGE = scenario.load("outage")


def small(devices: int = 3, hours: float = 2.0) -> Scenario:
    """The same weather for few devices and hours, with checks on the way."""
    return msgspec.structs.replace(OUTAGE, devices=devices, hours=hours, check_every_s=900.0)


@pytest.mark.slow
def test_a_hundred_devices_keep_every_promise_through_a_day_of_outages() -> None:
    result = world.run(OUTAGE, seed=1)
    assert result.broken is None, f"{result.broken}; replay: {report.replay_command(result)}"
    assert result.devices == 100
    assert result.virtual_s >= 24 * 3600
    assert result.requests == result.answered == pytest.approx(100 * 24 * 60, rel=0.02)
    assert (result.late, result.lost, result.pending) == (0, 0, 0)
    # The weather was as bad as promised, and both ways of ending a hard case were taken.
    assert result.messages_swallowed > 1000
    assert result.messages_repeated > 100
    assert result.from_cloud > 1000
    assert result.revised == result.provisional > 1000


def test_the_same_seed_gives_the_same_day_and_another_seed_another() -> None:
    first, again, other = (world.run(small(), seed=seed) for seed in (7, 7, 8))
    assert first == again
    assert first.digest != other.digest
    assert first.broken is None


def test_a_core_that_always_answers_locally_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    def always_local(state: decision.Case, event: decision.Event, now: float) -> decision.Step:
        del event, now
        answer = decision.Answer("edge", final=True, reason="confident", hard=False)
        return decision.Step(state, (answer,))

    monkeypatch.setattr(decision, "step", always_local)
    broken = world.run(small(), seed=1).broken
    assert broken is not None
    assert "has no answer of the cloud" in broken


def test_an_ingest_that_counts_a_repeated_batch_again_is_noticed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    shipped = Ingest.batch

    async def forgetful(self: Ingest, message: v1.Batch, raw: bytes) -> v1.BatchAck:
        # As if the key of a batch were not looked at: every repetition is a new series.
        reply = await shipped(self, message, raw)
        if reply.outcome == "duplicate":
            made_up = f"again-{message.at}-{message.lo}"
            again = msgspec.structs.replace(message, incarnation=made_up)
            await shipped(self, again, raw)
        return reply

    monkeypatch.setattr(Ingest, "batch", forgetful)
    broken = world.run(small(devices=5, hours=4.0), seed=1).broken
    assert broken is not None
    assert "twice" in broken or "count" in broken


def test_an_outbox_that_forgets_a_batch_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    shipped = Store.rows

    def settle_unsent(self: Store, limit: int) -> object:
        rows = shipped(self, limit)
        for row in rows[1:2]:
            self.settle(row)
        return rows[:1]

    monkeypatch.setattr(Store, "rows", settle_unsent)
    broken = world.run(small(devices=5, hours=4.0), seed=1).broken
    assert broken is not None
    assert "nowhere" in broken


def test_a_caller_answered_after_its_deadline_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decision, "answer_by", lambda until, deadline_ms: until + 0.1)
    broken = world.run(small(), seed=1).broken
    assert broken is not None
    assert "was due at" in broken


def test_a_failure_prints_the_command_that_replays_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(decision, "answer_by", lambda until, deadline_ms: until + 0.1)
    argv = ["run", "outage", "--devices", "5", "--hours", "3", "--seed", "5"]
    assert cli.main(argv) == 1
    said = capsys.readouterr().out
    assert "BROKEN" in said
    assert "./just sim outage --seed 5 --devices 5 --hours 3" in said


@pytest.mark.parametrize(
    "wrong", [["--devices", "0"], ["--hours", "-1"], ["--hours", "nan"], ["--hours", "1e9"]]
)
def test_a_size_or_length_that_makes_no_sense_is_refused_by_name(
    wrong: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["run", "outage", *wrong]) == 2
    assert "bad_scenario" in capsys.readouterr().err


def test_a_file_that_is_no_scenario_is_refused_by_name(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for content in (b"\xff\xfe", b"devices = 'many'", b"name = 'x'\nbugdet = 1"):
        (tmp_path / "mine.toml").write_bytes(content)
        assert cli.main(["run", str(tmp_path / "mine.toml")]) == 2
        assert "bad_scenario" in capsys.readouterr().err


def test_only_sockets_threads_and_clocks_are_replaced(tmp_path: Path) -> None:
    assert found_inside_running_parts(tmp_path) == set(world.REPLACED)


def found_inside_running_parts(tmp_path: Path) -> set[str]:
    """Names of simulator classes whose instances a running device or gateway holds on to."""

    async def story(virtual: loop.VirtualLoop) -> set[str]:
        one = world.World(small(devices=1), 1, virtual, tmp_path)
        async with one.app.router.lifespan_context(one.app):
            await one.populate()
            (device,) = one.devices.values()
            parts = [device.outbox, device.link, device.cascade, one.app.state.gateway]
            found = {type(held).__name__ for held in reachable(parts)}
            await one.close()
        return found

    return loop.run(story)


def reachable(roots: list[object]) -> Iterator[object]:
    """Instances of classes defined in `sim` that can be reached from these objects."""
    seen: set[int] = set()
    todo = list(roots)
    plain = (type, types.ModuleType, types.FrameType, loop.VirtualLoop)
    while todo:
        held = todo.pop()
        if id(held) in seen or isinstance(held, plain):
            continue
        seen.add(id(held))
        if type(held).__module__.startswith("sim."):
            yield held
            continue
        if not isinstance(held, types.FunctionType):
            todo.extend(gc.get_referents(held))
        elif held.__closure__:
            todo.extend(held.__closure__)
