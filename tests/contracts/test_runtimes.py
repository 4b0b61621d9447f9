"""What every runtime promises, asked of each of them."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from models.errors import RuntimeFailed, UnknownRuntime
from models.runtimes.base import Floats, Runtime
from models.runtimes.choose import RUNTIMES, open_model
from tests.tiny_models import write_matrix

WEIGHTS: npt.NDArray[np.float32] = np.eye(6, 3, k=-1, dtype=np.float32)
"""Picks values 1, 2 and 3 of six, which is what a twin does that skips one."""


def write_onnx(folder: Path) -> Path:
    return write_matrix(folder / "model.onnx", WEIGHTS)


def write_twin(folder: Path) -> Path:
    path = folder / "model.json"
    path.write_text('{"classes": 3, "skip": 1}')
    return path


WRITERS: dict[str, Callable[[Path], Path]] = {"onnx": write_onnx, "twin": write_twin}


@pytest.fixture(params=sorted(RUNTIMES))
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def runtime(name: str, tmp_path: Path) -> Runtime:
    return open_model(WRITERS[name](tmp_path), name)


def batch_of(count: int) -> Floats:
    return np.random.default_rng(5).normal(size=(count, 1, 2, 3)).astype(np.float32)


def test_it_says_what_it_is_and_where_it_computes(name: str, runtime: Runtime) -> None:
    assert runtime.name == name
    assert runtime.provider == "cpu"


@pytest.mark.parametrize("count", [1, 2, 17])
def test_a_batch_gives_one_row_of_float32_logits_per_sample(runtime: Runtime, count: int) -> None:
    batch = batch_of(count)
    logits = runtime.run(batch)
    assert logits.dtype == np.float32
    np.testing.assert_allclose(logits, batch.reshape(count, 6)[:, 1:4], rtol=1e-6)


def test_a_row_depends_on_its_own_sample_alone(runtime: Runtime) -> None:
    batch = batch_of(8)
    together = runtime.run(batch)
    alone = np.concatenate([runtime.run(batch[at : at + 1]) for at in range(8)])
    np.testing.assert_allclose(together, alone, rtol=1e-6)


def test_the_callers_batch_is_left_as_it_was(runtime: Runtime) -> None:
    batch = batch_of(3)
    before = batch.copy()
    first = runtime.run(batch)
    kept = first.copy()
    first += 1  # what came back is the caller's to change
    runtime.run(batch_of(4) * 3)
    np.testing.assert_array_equal(batch, before)
    np.testing.assert_array_equal(first, kept + 1)


def test_a_transposed_batch_is_read_in_its_own_order(runtime: Runtime) -> None:
    batch = np.ascontiguousarray(batch_of(4).transpose(0, 1, 3, 2)).transpose(0, 1, 3, 2)
    assert not batch.flags.c_contiguous
    np.testing.assert_allclose(runtime.run(batch), batch.reshape(4, 6)[:, 1:4], rtol=1e-6)


def test_values_that_are_not_finite_come_through(runtime: Runtime) -> None:
    batch = batch_of(2)
    batch[0] = np.nan
    logits = runtime.run(batch)
    assert np.isnan(logits[0]).all()
    assert np.isfinite(logits[1]).all()


def test_a_sample_too_small_is_refused_by_name(runtime: Runtime) -> None:
    with pytest.raises(RuntimeFailed) as caught:
        runtime.run(np.zeros((1, 1, 1, 2), dtype=np.float32))
    assert caught.value.code == "runtime_failed"


@pytest.mark.parametrize("content", [b"", b"not a model", b"\x00" * 100, b"\xff" * 1000])
def test_a_file_that_is_no_model_is_refused_by_name(
    name: str, tmp_path: Path, content: bytes
) -> None:
    path = tmp_path / "broken.model"
    path.write_bytes(content)
    with pytest.raises(RuntimeFailed, match=r"broken\.model"):
        open_model(path, name)


def test_a_file_cut_short_is_refused_by_name(name: str, tmp_path: Path) -> None:
    path = WRITERS[name](tmp_path)
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(RuntimeFailed):
        open_model(path, name)


def test_a_file_that_is_not_there_is_refused_by_name(name: str, tmp_path: Path) -> None:
    with pytest.raises(RuntimeFailed, match="nowhere"):
        open_model(tmp_path / "nowhere", name)


def test_an_unknown_runtime_names_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(UnknownRuntime, match=r"'abacus' is unknown; choose one of onnx, twin"):
        open_model(tmp_path / "x", "abacus")


def test_the_accelerator_is_taken_only_where_there_is_one(name: str, tmp_path: Path) -> None:
    runtime = open_model(WRITERS[name](tmp_path), name, provider="auto")
    assert runtime.provider in ("cpu", "cuda")
    np.testing.assert_allclose(runtime.run(batch_of(2)), batch_of(2).reshape(2, 6)[:, 1:4], 1e-2)


def test_a_model_with_two_outputs_is_refused(tmp_path: Path) -> None:
    path = write_matrix(tmp_path / "two.onnx", WEIGHTS, outputs=2)
    with pytest.raises(RuntimeFailed, match="1 inputs and 2 outputs; export it with one of each"):
        open_model(path, "onnx")


def test_opening_a_model_keeps_onnxruntime_from_phoning_home(tmp_path: Path) -> None:
    path = write_onnx(tmp_path)
    script = f"""
import os
from pathlib import Path
from models.runtimes.choose import open_model
assert "ORT_DISABLE_TELEMETRY" not in os.environ
open_model(Path({str(path)!r}), "onnx")
print(os.environ["ORT_DISABLE_TELEMETRY"])
"""
    clean = {key: value for key, value in os.environ.items() if key != "ORT_DISABLE_TELEMETRY"}
    done = subprocess.run(
        [sys.executable, "-P", "-c", script], env=clean, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "1"
