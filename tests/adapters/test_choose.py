"""Measuring candidates on this machine and keeping the choice: real files, real runtimes."""

import platform
import sys
import time
from collections.abc import Callable
from importlib import metadata
from itertools import count
from pathlib import Path

import numpy as np
import pytest

from models.errors import NoCandidate
from models.runtimes.base import Runtime
from models.runtimes.choice import FILE, Choice, choose, stored
from models.runtimes.measure import Candidate, measure
from tests.tiny_models import write_matrix

FEEDS = (np.arange(6, dtype=np.float32).reshape(1, 1, 2, 3),)
WEIGHTS = np.eye(6, 3, dtype=np.float32)


def fits(runtime: Runtime, at: int) -> str | None:
    (logits,) = runtime.run(FEEDS)
    return None if logits[0].tolist() == [0, 1, 2] else f"golden 0 gives {logits[0].tolist()}"


def ticking() -> Callable[[], int]:
    """A clock on which everything takes one millisecond."""
    ticks = count(0, 1_000_000)
    return lambda: next(ticks)


@pytest.fixture
def candidates(tmp_path: Path) -> list[Candidate]:
    twin = tmp_path / "twin.json"
    twin.write_text('{"classes": 3}')
    return [
        Candidate(write_matrix(tmp_path / "good.onnx", WEIGHTS), "onnx"),
        Candidate(twin, "twin"),
        Candidate(write_matrix(tmp_path / "bad.onnx", WEIGHTS * 2), "onnx"),
        Candidate(tmp_path / "absent.onnx", "openvino", threads=2),
        Candidate(tmp_path / "good.onnx", "onnx", precision="bf16"),
    ]


def test_what_is_fit_is_timed_and_what_is_not_says_why(candidates: list[Candidate]) -> None:
    good, twin, bad, absent, bf16 = measure(candidates, FEEDS, check=fits, seconds=0.05)
    assert good.words == "good.onnx on onnx, 1 thread"
    for each in (good, twin):
        assert each.run_us is not None
        assert 0 < each.run_us < 10_000
        assert each.unfit is None
    assert (bad.unfit, bad.run_us, bad.provider) == ("golden 0 gives [0.0, 2.0, 4.0]", None, "cpu")
    assert absent.words == "absent.onnx on openvino, 2 threads"
    assert "absent.onnx cannot be read" in str(absent.unfit)
    assert "convert the file, or open it with openvino" in str(bf16.unfit)


def test_the_time_of_a_candidate_is_a_median_that_one_bad_round_does_not_move(
    candidates: list[Candidate],
) -> None:
    ticks = iter(range(10_000))
    now = [0]

    def clock() -> int:
        # Every other look is the end of a run of 1 ms; one run in the middle takes a second.
        at = next(ticks)
        now[0] += 0 if at % 2 else 1_000_000
        if at == 14:
            now[0] += 1_000_000_000
        return now[0]

    found = measure(candidates[:1], FEEDS, check=fits, seconds=0, clock_ns=clock)
    assert found[0].run_us is not None
    assert found[0].run_us < 10_000


def test_a_choice_is_kept_with_its_reason_and_used_again(
    candidates: list[Candidate], tmp_path: Path
) -> None:
    folder = tmp_path / "kept"
    first = choose(candidates, FEEDS, check=fits, folder=folder, seconds=0.05)
    assert first.at in (0, 1)
    assert "bad.onnx on onnx, 1 thread is unfit: golden 0 gives" in first.reason
    assert fits(candidates[first.at].open(cache=tmp_path / "cache"), 0) is None

    def never(runtime: Runtime, at: int) -> str | None:
        raise AssertionError("measured again")

    assert choose(candidates, FEEDS, check=never, folder=folder) == first


@pytest.mark.parametrize("change", ["content", "version", "processor", "candidates", "threads"])
def test_a_change_of_what_it_rests_on_means_measuring_again(
    candidates: list[Candidate], tmp_path: Path, change: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    pair = candidates[:2]
    before = choose(pair, FEEDS, check=fits, folder=tmp_path, seconds=0, clock_ns=ticking())
    match change:
        case "content":
            write_matrix(pair[0].file, WEIGHTS, outputs=2)
        case "version":
            monkeypatch.setattr(metadata, "version", lambda name: "99")
        case "processor":
            monkeypatch.setattr(platform, "machine", lambda: "another")
        case "candidates":
            pair.reverse()
        case _:
            pair[0] = Candidate(pair[0].file, "onnx", threads=2)
    asked: list[str] = []

    def check(runtime: Runtime, at: int) -> str | None:
        asked.append(runtime.name)
        return None

    after = choose(pair, FEEDS, check=check, folder=tmp_path, seconds=0, clock_ns=ticking())
    assert len(asked) == 2
    assert after.key != before.key


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"key": 1}', b"\xff" * 50])
def test_a_damaged_choice_is_made_again(
    candidates: list[Candidate], tmp_path: Path, content: bytes
) -> None:
    (tmp_path / FILE).write_bytes(content)
    choose(candidates, FEEDS, check=fits, folder=tmp_path, seconds=0, clock_ns=ticking())
    assert b"reason" in (tmp_path / FILE).read_bytes()
    assert not list(tmp_path.glob("*.part"))


def test_a_folder_that_cannot_be_written_costs_only_the_measurement(
    candidates: list[Candidate], tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    made = choose(candidates, FEEDS, check=fits, folder=tmp_path / "file", seconds=0)
    assert isinstance(made, Choice)


def test_when_nothing_is_fit_every_reason_is_said_and_kept_until_something_changes(
    candidates: list[Candidate], tmp_path: Path
) -> None:
    said = r"bad\.onnx .* is unfit: golden 0 .*absent\.onnx cannot"
    asked: list[Runtime] = []

    def check(runtime: Runtime, at: int) -> str | None:
        asked.append(runtime)
        return fits(runtime, at)

    for _ in range(2):
        with pytest.raises(NoCandidate, match=said):
            choose(candidates[2:4], FEEDS, check=check, folder=tmp_path)
    assert len(asked) == 1
    write_matrix(candidates[2].file, WEIGHTS)
    assert choose(candidates[2:4], FEEDS, check=check, folder=tmp_path).at == 0


def test_a_limit_leaves_out_what_would_take_too_long_but_never_the_first(
    candidates: list[Candidate], tmp_path: Path
) -> None:
    def slow(runtime: Runtime, at: int) -> str | None:
        time.sleep(0.2)
        return None

    begun = time.monotonic()
    first, second = measure(candidates[:2], FEEDS, check=slow, seconds=60, limit_s=0.3)
    assert time.monotonic() - begun < 5
    assert first.run_us is not None
    assert second.unfit == "0.3 s were too short to measure it, too"


def test_a_stored_choice_is_found_without_measuring(
    candidates: list[Candidate], tmp_path: Path
) -> None:
    assert stored(candidates, tmp_path) is None
    made = choose(candidates, FEEDS, check=fits, folder=tmp_path, seconds=0)
    assert stored(candidates, tmp_path) == made
    assert stored(candidates[1:], tmp_path) is None


def test_a_candidate_whose_check_breaks_is_unfit_and_no_more(
    candidates: list[Candidate], tmp_path: Path
) -> None:
    small = write_matrix(tmp_path / "small.onnx", np.eye(4, 3, dtype=np.float32), shape=(1, 2, 2))
    wrong, good = measure(
        [Candidate(small, "onnx"), candidates[0]], FEEDS, check=fits, seconds=0, clock_ns=ticking()
    )
    assert "did not run a batch of float32 [1, 1, 2, 3]" in str(wrong.unfit)
    assert good.run_us == 1000


def test_without_the_extra_openvino_says_what_to_install(
    candidates: list[Candidate], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "openvino", None)
    candidate = Candidate(candidates[0].file, "openvino")
    (found,) = measure([candidate], FEEDS, check=fits, seconds=0, clock_ns=ticking())
    assert found.unfit == "openvino is not installed; install longstop[openvino], or choose onnx"
