"""The engine refuses rather than be late, and serves nothing it could not check."""

import asyncio
import shutil
import threading
from collections.abc import Awaitable, Callable, Coroutine
from pathlib import Path

import pytest
from msgspec.structs import replace

from edge_agent.admission import LONGEST_INLINE_S
from edge_agent.engine import Engine, shared
from edge_agent.errors import DeadlineExceeded, Overloaded
from edge_agent.workplace import CacheSettings
from models import package
from models.errors import HashMismatch, PackageError
from models.manifest import Role, decode, encode
from models.pipeline.features_twin import FeatureTable
from models.predict import Prediction, Predictor
from models.twins import build_twin
from sync.runner import InlineRunner, Runner, T, ThreadRunner
from tests.local_device import easy
from tests.peculiar_packages import build_lookup
from tests.tiny_models import build_tiny


class Hands:
    """A clock that stands where it is put."""

    def __init__(self) -> None:
        self.at = 100.0

    def monotonic(self) -> float:
        return self.at

    def wall(self) -> float:
        return 1.8e9


class Held:
    """A runner whose calls end when the test says so."""

    def __init__(self) -> None:
        self.open: list[Callable[[], None]] = []

    def submit(self, call: Callable[[], T]) -> Awaitable[T]:
        future: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self.open.append(lambda: future.set_result(call()))
        return future

    async def end_all(self) -> None:
        """One after the other: the next begins when the one before it has ended."""
        while self.open:
            self.open.pop(0)()
            for _ in range(3):
                await asyncio.sleep(0)

    def close(self) -> None:
        """Nothing runs."""


def tell(story: Coroutine[object, object, None]) -> None:
    asyncio.run(asyncio.wait_for(story, timeout=10))


def engine_on(
    folder: Path,
    runner: Runner,
    *,
    typical_s: float = 0.01,
    queue: int = 64,
    batch: int = 1,
    cache: CacheSettings | None = None,
    clock: Hands | None = None,
) -> Engine:
    predictor = Predictor.load(package.read(build_twin("sides", "3", folder / "p"), Role.EDGE))
    return Engine(
        predictor,
        digest="ab" * 32,
        runner=runner,
        clock=clock or Hands(),
        typical_s=typical_s,
        queue=queue,
        batch=batch,
        cache=cache,
    )


def test_a_request_that_would_be_late_behind_the_others_is_refused_at_once(
    tmp_path: Path,
) -> None:
    async def story() -> None:
        runner = Held()
        engine = engine_on(tmp_path, runner)
        accepted = [asyncio.ensure_future(engine.predict(easy(), until=100.035)) for _ in range(3)]
        await asyncio.sleep(0)
        with pytest.raises(Overloaded, match=r"3 inputs waiting and needs about 40\.0 ms"):
            await engine.predict(easy(), until=100.035)
        patient = asyncio.ensure_future(engine.predict(easy(), until=100.3))
        await asyncio.sleep(0)
        await runner.end_all()
        assert [one.label for one in await asyncio.gather(*accepted, patient)] == ["left"] * 4

    tell(story())


def test_the_queue_is_bounded_whatever_the_deadlines(tmp_path: Path) -> None:
    async def story() -> None:
        runner = Held()
        engine = engine_on(tmp_path, runner, queue=2)
        accepted = [asyncio.ensure_future(engine.predict(easy(), until=1e9)) for _ in range(2)]
        await asyncio.sleep(0)
        with pytest.raises(Overloaded):
            await engine.predict(easy(), until=1e9)
        await runner.end_all()
        await asyncio.gather(*accepted)

    tell(story())


def test_a_flood_of_one_client_costs_another_one_turn(tmp_path: Path) -> None:
    async def story() -> None:
        runner = Held()
        engine = engine_on(tmp_path, runner, queue=8)
        ended: list[str] = []

        async def ask(client: str) -> None:
            try:
                await engine.predict(easy(), until=1e9, client=client)
                ended.append(client)
            except Overloaded:
                ended.append(f"{client} overloaded")

        asking = [asyncio.ensure_future(ask("flood")) for _ in range(20)]
        await asyncio.sleep(0)
        asking.append(asyncio.ensure_future(ask("calm")))
        for _ in range(3):
            await asyncio.sleep(0)
        assert ended == ["flood overloaded"] * 13
        await runner.end_all()
        await asyncio.gather(*asking)
        assert ended[13:] == ["flood", "flood", "calm", *["flood"] * 5]

    tell(story())


def test_what_is_late_when_its_turn_comes_is_not_run(tmp_path: Path) -> None:
    async def story() -> None:
        runner, clock = Held(), Hands()
        engine = engine_on(tmp_path, runner, clock=clock)
        first = asyncio.ensure_future(engine.predict(easy(), until=1e9))
        second = asyncio.ensure_future(engine.predict(easy(), until=100.5))
        await asyncio.sleep(0)
        clock.at = 101.0
        await runner.end_all()
        await first
        with pytest.raises(Overloaded, match=r"0\.0 ms are left"):
            await second

    tell(story())


def test_requests_that_wait_share_a_run_and_get_what_each_would_get_alone(tmp_path: Path) -> None:
    async def story() -> None:
        runner = Held()
        engine = engine_on(tmp_path, runner, batch=8)
        labels = (0, 1, 2, 0, 2, 1)
        asked = [asyncio.ensure_future(engine.predict(easy(one), until=1e9)) for one in labels]
        await asyncio.sleep(0)
        runner.open.pop(0)()
        for _ in range(3):
            await asyncio.sleep(0)
        assert len(runner.open) == 1, "the five that waited share one run"
        await runner.end_all()
        alone = engine_on(tmp_path / "alone", InlineRunner())
        for label, said in zip(labels, await asyncio.gather(*asked), strict=True):
            single = await alone.predict(easy(label), until=1e9)
            assert (said.label, said.confidence) == (single.label, single.confidence)

    tell(story())


def test_a_model_takes_several_at_once_only_where_they_answer_as_one(tmp_path: Path) -> None:
    predictor = Predictor.load(package.read(build_tiny(tmp_path), Role.EDGE))
    assert shared(predictor, 1, typical_s=1.0) == 1
    assert shared(predictor, 8, typical_s=1.0) == 8
    assert shared(predictor, 8, typical_s=1e-9) == 1, "no faster together"


def test_the_same_input_again_is_answered_from_the_cache_until_it_is_old(tmp_path: Path) -> None:
    async def story() -> None:
        clock, runner = Hands(), Held()
        engine = engine_on(tmp_path, runner, clock=clock, cache=CacheSettings(ttl_s=10.0))

        def ask(label: int) -> asyncio.Future[Prediction]:
            sample = easy(label)
            return asyncio.ensure_future(engine.predict(sample, until=1e9, data=sample.tobytes()))

        first, same, other = ask(0), ask(0), ask(1)
        await asyncio.sleep(0)
        await runner.end_all()
        assert [one.label for one in await asyncio.gather(first, same, other)] == [
            "left",
            "left",
            "middle",
        ]
        again = await ask(0)
        assert (again.label, again.run_us) == ("left", 0)
        clock.at += 11.0
        late = ask(0)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert len(runner.open) == 1
        await runner.end_all()
        await late

    tell(story())


def test_an_idle_engine_always_begins_and_so_forgets_a_slow_run(tmp_path: Path) -> None:
    """Were it to refuse by its memory of one stall, it would refuse for ever."""

    async def story() -> None:
        engine = engine_on(tmp_path, InlineRunner(), typical_s=2.0)
        for _ in range(80):
            await engine.predict(easy(), until=100.3)
        assert engine.typical_s < 0.01

    tell(story())


def test_one_stall_hardly_moves_what_is_typical(tmp_path: Path) -> None:
    async def story() -> None:
        engine = engine_on(tmp_path, InlineRunner(), typical_s=1e-9)
        await engine.predict(easy(), until=100.3)
        assert engine.typical_s <= 1.5e-9

    tell(story())


def test_a_request_whose_time_has_passed_is_not_begun(tmp_path: Path) -> None:
    async def story() -> None:
        runner = Held()
        with pytest.raises(DeadlineExceeded, match=r"100\.0 ms after its deadline"):
            await engine_on(tmp_path, runner).predict(easy(), until=99.9)
        assert runner.open == []

    tell(story())


def threads() -> Runner:
    return ThreadRunner("engine")


def test_a_quick_model_runs_in_the_callers_thread(tmp_path: Path) -> None:
    engine = Engine.load(build_tiny(tmp_path), digest="cd" * 32, clock=Hands(), thread=threads)
    before = threading.active_count()
    sample = engine.read("uint8", (2, 3), bytes(6))
    assert asyncio.run(engine.predict(sample, until=100.3)).label in ("low", "middle", "high")
    assert threading.active_count() == before
    assert (engine.task, engine.version, engine.digest) == ("shades", "1", "cd" * 6)
    assert 0 < engine.typical_s < 500e-6


def test_a_slow_model_runs_in_a_thread_of_its_own(tmp_path: Path) -> None:
    made: list[Runner] = []

    def thread() -> Runner:
        made.append(ThreadRunner("engine"))
        return made[0]

    folder = build_tiny(tmp_path)
    engine = Engine.load(folder, digest="cd" * 32, clock=Hands(), thread=thread, inline_below_s=0.0)
    sample = engine.read("uint8", (2, 3), bytes(6))
    assert asyncio.run(engine.predict(sample, until=100.3)).confidence is not None
    assert len(made) == 1
    engine.close()


def test_a_package_that_answers_otherwise_here_serves_uncertified(tmp_path: Path) -> None:
    folder = build_tiny(tmp_path)
    manifest = decode((folder / "manifest.json").read_bytes())
    golden = manifest.golden
    turned = tuple(replace(said, label="another") for said in golden.edge)
    altered = replace(manifest, golden=replace(golden, edge=turned))
    (folder / "manifest.json").write_bytes(encode(altered))
    engine = Engine.load(folder, digest="cd" * 32, clock=Hands(), thread=threads)
    assert engine.threshold is None
    assert engine.certified_risk is None
    assert "the package stores another" in str(engine.uncertified)
    engine.close()


def test_a_package_that_answers_as_at_home_carries_its_promise(tmp_path: Path) -> None:
    folder = build_tiny(tmp_path)
    engine = Engine.load(folder, digest="cd" * 32, clock=Hands(), thread=threads)
    assert (engine.threshold, engine.certified_risk, engine.uncertified) == (0.7, 0.0159, None)
    engine.close()


def test_golden_answers_and_warm_up_ask_no_source_and_its_rows_decide_later(
    tmp_path: Path,
) -> None:
    source = FeatureTable({"nobody": {"fine": 0.0, "odd": 5.0}})
    engine = Engine.load(
        build_lookup(tmp_path / "p"),
        digest="cd" * 32,
        clock=Hands(),
        thread=InlineRunner,
        sources={"customers": source},
    )
    assert (engine.uncertified, source.asked) == (None, [])
    record = b'{"customer": "nobody"}'
    sample = engine.read("record", (len(record),), record)
    assert asyncio.run(engine.predict(sample, until=100.3)).label == "fraud"
    assert source.asked == ["nobody"]
    engine.close()


def test_a_quick_model_that_looks_features_up_has_a_thread_of_its_own(tmp_path: Path) -> None:
    made: list[Runner] = []

    def thread() -> Runner:
        made.append(InlineRunner())
        return made[0]

    folder = build_lookup(tmp_path / "p")
    Engine.load(folder, digest="cd" * 32, clock=Hands(), thread=thread).close()
    assert len(made) == 1


@pytest.mark.parametrize("damage", ["truncated", "gone", "manifest gone"])
def test_a_damaged_package_does_not_load(tmp_path: Path, damage: str) -> None:
    folder = build_tiny(tmp_path)
    match damage:
        case "truncated":
            (folder / "edge.onnx").write_bytes((folder / "edge.onnx").read_bytes()[:-1])
        case "gone":
            (folder / "edge.onnx").unlink()
        case _:
            shutil.rmtree(folder)
    with pytest.raises(PackageError) as refused:
        Engine.load(folder, digest="cd" * 32, clock=Hands(), thread=threads)
    assert isinstance(refused.value, HashMismatch) == (damage == "truncated")


def test_a_quick_model_that_once_holds_up_the_loop_gets_a_thread(tmp_path: Path) -> None:
    clock = Hands()

    def ticks() -> int:
        clock.at += LONGEST_INLINE_S  # it is asked three times in a run
        return int(clock.at * 1e9)

    slow = Predictor.load(
        package.read(build_twin("sides", "3", tmp_path / "slow"), Role.EDGE), clock_ns=ticks
    )
    held = Held()
    engine = Engine(
        slow,
        digest="ab" * 32,
        runner=InlineRunner(),
        clock=clock,
        typical_s=1e-4,
        thread=lambda: held,
    )
    assert engine.predict_now(easy(), until=1e9) is not None
    assert engine.predict_now(easy(), until=1e9) is None, "from now on it is waited for"

    async def story() -> None:
        asked = asyncio.ensure_future(engine.predict(easy(), until=1e9))
        await asyncio.sleep(0)
        await held.end_all()
        assert (await asked).label == "left"

    tell(story())
