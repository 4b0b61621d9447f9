"""The engine refuses rather than be late, and serves nothing it could not check."""

import asyncio
import shutil
import threading
from collections.abc import Awaitable, Callable, Coroutine
from pathlib import Path

import pytest
from msgspec.structs import replace

from edge_agent.engine import Engine
from edge_agent.errors import Overloaded
from models import package
from models.errors import HashMismatch, PackageError
from models.manifest import Role, decode, encode
from models.pipeline.features_twin import FeatureTable
from models.predict import Predictor
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

    def close(self) -> None:
        """Nothing runs."""


def tell(story: Coroutine[object, object, None]) -> None:
    asyncio.run(asyncio.wait_for(story, timeout=10))


def engine_on(folder: Path, runner: Runner, *, typical_s: float = 0.01, queue: int = 64) -> Engine:
    predictor = Predictor.load(package.read(build_twin("sides", "3", folder / "p"), Role.EDGE))
    return Engine(
        predictor,
        digest="ab" * 32,
        runner=runner,
        clock=Hands(),
        typical_s=typical_s,
        queue=queue,
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
        for end in runner.open:
            end()
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
        for end in runner.open:
            end()
        await asyncio.gather(*accepted)

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
        with pytest.raises(Overloaded, match=r"0\.0 ms are left"):
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
