"""What every runtime promises, asked of each of them."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
import pytest
from onnx import TensorProto, helper

from models.errors import (
    ExternalDataMissing,
    OperatorUnsupported,
    OpsetUnsupported,
    ProviderUnavailable,
    RuntimeFailed,
    UnknownRuntime,
)
from models.runtimes.base import Array, Floats, Port, Runtime
from models.runtimes.choose import RUNTIMES, open_model
from models.runtimes.twin import Dtype
from tests.contracts import model_files
from tests.contracts.model_files import In, Out
from tests.house.tree import ROOT
from tests.tiny_models import write_matrix

WEIGHTS: npt.NDArray[np.float32] = np.eye(6, 3, k=-1, dtype=np.float32)
"""Picks values 1, 2 and 3 of six, which is what a twin does that skips one."""


def write_onnx(folder: Path) -> Path:
    return write_matrix(folder / "model.onnx", WEIGHTS)


def write_twin(folder: Path) -> Path:
    path = folder / "model.json"
    path.write_text('{"classes": 3, "skip": 1}')
    return path


WRITERS: dict[str, Callable[[Path], Path]] = {
    "onnx": write_onnx,
    "openvino": write_onnx,
    "twin": write_twin,
}
LIBRARIES = pytest.mark.parametrize("library", ["onnx", "openvino"])


@pytest.fixture(params=sorted(RUNTIMES))
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def runtime(name: str, tmp_path: Path) -> Runtime:
    return open_model(WRITERS[name](tmp_path), name)


class Make:
    """Opens a model with these ports on one runtime."""

    def __init__(self, name: str, folder: Path) -> None:
        self._name, self._folder = name, folder

    def __call__(self, inputs: list[In], outputs: list[Out], *, rows: int | None = None) -> Runtime:
        path = self._folder / "ports.model"
        return open_model(model_files.WRITERS[self._name](path, inputs, outputs, rows), self._name)


@pytest.fixture
def make(name: str, tmp_path: Path) -> Make:
    return Make(name, tmp_path)


def batch_of(count: int) -> Floats:
    return np.random.default_rng(5).normal(size=(count, 1, 2, 3)).astype(np.float32)


def run(runtime: Runtime, batch: Array) -> Array:
    """The only output for the only input."""
    (output,) = runtime.run((batch,))
    return output


def test_it_says_what_it_is_and_where_it_computes(name: str, runtime: Runtime) -> None:
    assert (runtime.name, runtime.provider, runtime.precision) == (name, "cpu", "f32")
    assert runtime.skipped == ()
    assert runtime.version[0].isdigit()


@pytest.mark.parametrize("count", [1, 2, 17])
def test_a_batch_gives_one_row_of_float32_logits_per_sample(runtime: Runtime, count: int) -> None:
    batch = batch_of(count)
    logits = run(runtime, batch)
    assert logits.dtype == np.float32
    np.testing.assert_allclose(logits, batch.reshape(count, 6)[:, 1:4], rtol=1e-6)


def test_a_row_depends_on_its_own_sample_alone(runtime: Runtime) -> None:
    batch = batch_of(8)
    together = run(runtime, batch)
    alone = np.concatenate([run(runtime, batch[at : at + 1]) for at in range(8)])
    np.testing.assert_allclose(together, alone, rtol=1e-6)


@pytest.mark.parametrize("count", [1, 3])
def test_the_callers_batch_is_left_as_it_was(runtime: Runtime, count: int) -> None:
    """Also by later requests of the same size, smaller and larger."""
    batch = batch_of(count)
    before = batch.copy()
    first = run(runtime, batch)
    kept = first.copy()
    first += 1  # what came back is the caller's to change
    for later in (count, 1, 4, count):
        run(runtime, np.full((later, 1, 2, 3), 7, np.float32))
    np.testing.assert_array_equal(batch, before)
    np.testing.assert_array_equal(first, kept + 1)
    np.testing.assert_array_equal(run(runtime, batch), kept)


def test_an_input_that_is_an_output_too_is_copied(make: Make) -> None:
    runtime = make([In("x", (2,))], [Out("same", (2,))])
    batch = np.ones((1, 2), np.float32)
    same = run(runtime, batch)
    same += 5
    np.testing.assert_array_equal(batch, 1)
    np.testing.assert_array_equal(run(runtime, batch), 1)
    np.testing.assert_array_equal(same, 6)


def test_a_transposed_batch_is_read_in_its_own_order(runtime: Runtime) -> None:
    batch = np.ascontiguousarray(batch_of(4).transpose(0, 1, 3, 2)).transpose(0, 1, 3, 2)
    assert not batch.flags.c_contiguous
    np.testing.assert_allclose(run(runtime, batch), batch.reshape(4, 6)[:, 1:4], rtol=1e-6)


@pytest.mark.parametrize("count", [1, 4])
def test_a_slice_of_a_larger_array_and_a_read_only_one_will_do(
    runtime: Runtime, count: int
) -> None:
    wide = np.random.default_rng(1).normal(size=(2 * count, 1, 2, 6)).astype(np.float32)
    batch = wide[::2, :, :, ::2]
    batch.flags.writeable = False
    wanted = batch.reshape(count, 6)[:, 1:4]
    np.testing.assert_allclose(run(runtime, batch), wanted, rtol=1e-6)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_values_that_are_not_finite_come_through(make: Make, bad: float) -> None:
    batch = np.ones((2, 3), np.float32)
    batch[0] = bad
    np.testing.assert_array_equal(run(make([In("x", (3,))], [Out("y", (3,))]), batch), batch)


def test_not_a_number_comes_through_a_product(runtime: Runtime) -> None:
    batch = batch_of(2)
    batch[0] = np.nan
    logits = run(runtime, batch)
    assert np.isnan(logits[0]).all()
    assert np.isfinite(logits[1]).all()


def test_the_ports_are_those_of_the_file_in_its_order(make: Make) -> None:
    runtime = make(
        [In("z", (2, 2)), In("a", (3,), "int64")],
        [Out("last", (3,), 4, "int64"), Out("first", (2, 2))],
    )
    assert runtime.inputs == (
        Port("z", "float32", (None, 2, 2)),
        Port("a", "int64", (None, 3)),
    )
    assert runtime.outputs == (
        Port("last", "int64", (None, 3)),
        Port("first", "float32", (None, 2, 2)),
    )


@pytest.mark.parametrize("count", [1, 3])
def test_several_inputs_give_several_outputs_in_the_ports_order(make: Make, count: int) -> None:
    runtime = make(
        [In("z", (2, 2)), In("a", (3,), "int64")],
        [Out("last", (3,), 4, "int64"), Out("first", (2, 2)), Out("one", (), 1)],
    )
    z = np.arange(4 * count, dtype=np.float32).reshape(count, 2, 2) / 4
    a = np.arange(3 * count).reshape(count, 3)
    last, first, one = runtime.run([z, a])
    np.testing.assert_array_equal(last, a)
    np.testing.assert_array_equal(first, z)
    np.testing.assert_array_equal(one, z[:, 0, 1])


@pytest.mark.parametrize(
    "dtype", ["bool", "float16", "float64", "int8", "int16", "int32", "int64", "uint8"]
)
def test_an_input_may_be_of_any_type(make: Make, dtype: Dtype) -> None:
    runtime = make([In("x", (2, 3), dtype)], [Out("y", (6,))])
    batch = (np.arange(12).reshape(2, 2, 3) % 5).astype(dtype)
    assert runtime.inputs[0].dtype == dtype
    np.testing.assert_array_equal(run(runtime, batch), batch.reshape(2, 6).astype(np.float32))


@pytest.mark.parametrize(
    "dtype", ["bool", "float16", "float64", "int8", "int16", "int32", "int64", "uint8"]
)
def test_an_output_may_be_of_any_type_and_eight_bit_heads_stay_eight_bit(
    make: Make, dtype: Dtype
) -> None:
    runtime = make([In("x", (4,))], [Out("y", (4,), 0, dtype)])
    low = 0 if dtype in ("bool", "uint8") else -100
    batch = np.array([[low, 0, 1, 120], [1, 0, 7, low]], np.float32)
    output = run(runtime, batch)
    assert output.dtype == dtype == runtime.outputs[0].dtype
    np.testing.assert_array_equal(output, batch.astype(dtype))


@pytest.mark.parametrize("rows", [1, 4])
@pytest.mark.parametrize("count", [1, 4, 7])
def test_a_file_made_for_so_many_rows_takes_any_number(make: Make, rows: int, count: int) -> None:
    runtime = make(
        [In("x", (2,)), In("y", (1,))], [Out("both", (3,)), Out("y2", (1,), 2)], rows=rows
    )
    x = np.arange(2 * count, dtype=np.float32).reshape(count, 2)
    y = -np.arange(count, dtype=np.float32).reshape(count, 1)
    both, again = runtime.run([x, y])
    np.testing.assert_array_equal(both, np.hstack([x, y]))
    np.testing.assert_array_equal(again, y)
    assert [port.shape for port in (*runtime.inputs, *runtime.outputs)] == [
        (None, 2), (None, 1), (None, 3), (None, 1)
    ]  # fmt: skip


def test_a_sample_too_small_is_refused_by_name(runtime: Runtime) -> None:
    with pytest.raises(RuntimeFailed) as caught:
        run(runtime, np.zeros((1, 1, 1, 2), dtype=np.float32))
    assert caught.value.code == "runtime_failed"
    np.testing.assert_allclose(run(runtime, batch_of(1)), batch_of(1).reshape(1, 6)[:, 1:4])


@pytest.mark.parametrize("count", [1, 2])
def test_another_type_is_refused_and_not_converted(make: Make, count: int) -> None:
    runtime = make([In("x", (3,))], [Out("y", (3,))])
    with pytest.raises(RuntimeFailed, match="float64"):
        run(runtime, np.zeros((count, 3)))


def test_too_few_inputs_and_too_many_are_refused(make: Make) -> None:
    runtime = make([In("x", (3,)), In("y", (1,))], [Out("z", (3,))])
    x, y = np.zeros((1, 3), np.float32), np.zeros((1, 1), np.float32)
    for feeds in ([], [x], [x, y, y]):
        with pytest.raises(RuntimeFailed):
            runtime.run(feeds)
    with pytest.raises(RuntimeFailed):
        make([In("x", (3,))], [Out("z", (3,))]).run([x, x])


def test_inputs_of_different_lengths_are_refused(make: Make) -> None:
    runtime = make([In("x", (3,)), In("y", (1,))], [Out("z", (3,))])
    with pytest.raises(RuntimeFailed):
        runtime.run([np.zeros((2, 3), np.float32), np.zeros((3, 1), np.float32)])


@pytest.mark.parametrize("content", [b"", b"not a model", b"\x00" * 100, b"\xff" * 1000])
def test_a_file_that_is_no_model_is_refused_by_name(
    name: str, tmp_path: Path, content: bytes, capfd: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "broken.model"
    path.write_bytes(content)
    with pytest.raises(RuntimeFailed, match=r"broken\.model"):
        open_model(path, name)
    assert capfd.readouterr() == ("", "")  # a library would tell the log of programs, too


def test_a_file_cut_short_is_refused_by_name(name: str, tmp_path: Path) -> None:
    path = WRITERS[name](tmp_path)
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(RuntimeFailed):
        open_model(path, name)


def test_a_file_that_is_not_there_is_refused_by_name(name: str, tmp_path: Path) -> None:
    with pytest.raises(RuntimeFailed, match="nowhere"):
        open_model(tmp_path / "nowhere", name)


def test_an_unknown_runtime_names_the_known_ones(tmp_path: Path) -> None:
    known = "onnx, openvino, twin"
    with pytest.raises(UnknownRuntime, match=f"'abacus' is unknown; choose one of {known}"):
        open_model(tmp_path / "x", "abacus")


def test_the_accelerator_is_taken_only_where_there_is_one(name: str, tmp_path: Path) -> None:
    runtime = open_model(WRITERS[name](tmp_path), name, provider="auto")
    assert runtime.provider in ("cpu", "cuda", "gpu", "npu")
    assert all(reason for _, reason in runtime.skipped)
    np.testing.assert_allclose(run(runtime, batch_of(2)), batch_of(2).reshape(2, 6)[:, 1:4], 1e-2)


def test_a_provider_that_is_not_here_is_passed_over_and_said_so(name: str, tmp_path: Path) -> None:
    runtime = open_model(WRITERS[name](tmp_path), name, provider="abacus,cpu")
    assert runtime.provider == "cpu"
    ((provider, reason),) = runtime.skipped
    assert provider == "abacus"
    assert "unknown here" in reason


def test_no_provider_is_taken_that_was_not_asked_for(name: str, tmp_path: Path) -> None:
    with pytest.raises(ProviderUnavailable, match=r"abacus: unknown here.*allow cpu"):
        open_model(WRITERS[name](tmp_path), name, provider="abacus")


@pytest.mark.parametrize(
    ("library", "accelerator", "reason"),
    [("onnx", "cuda", "was built without it"), ("openvino", "gpu", "sees no such device")],
)
def test_an_accelerator_that_is_not_here_gives_way_and_says_why(
    library: str, accelerator: str, reason: str, tmp_path: Path
) -> None:
    runtime = open_model(write_onnx(tmp_path), library, provider=f"{accelerator},cpu")
    if runtime.provider == accelerator:
        pytest.skip(f"this machine has one: {accelerator}")
    assert runtime.provider == "cpu"
    ((provider, said),) = runtime.skipped
    assert provider == accelerator
    assert reason in said
    with pytest.raises(ProviderUnavailable, match=reason):
        open_model(write_onnx(tmp_path), library, provider=accelerator)


def test_openvino_computes_in_another_precision_only_when_asked(tmp_path: Path) -> None:
    """Where the processor has no bfloat16 it stays with float32, and says that."""
    runtime = open_model(write_onnx(tmp_path), "openvino", precision="bf16")
    assert runtime.precision in ("bf16", "f32")
    exact = batch_of(4).reshape(4, 6)[:, 1:4]
    np.testing.assert_allclose(run(runtime, batch_of(4)), exact, rtol=1e-2)
    pinned = open_model(write_onnx(tmp_path), "openvino")
    np.testing.assert_allclose(run(pinned, batch_of(4)), exact, rtol=1e-6)


def test_onnxruntime_refuses_a_precision_it_cannot_be_asked_for(tmp_path: Path) -> None:
    with pytest.raises(RuntimeFailed, match="in the file's own precision, not in bf16"):
        open_model(write_onnx(tmp_path), "onnx", precision="bf16")


@pytest.mark.parametrize("half", ["edge", "cloud"])
def test_one_quantised_file_serves_both_libraries(half: str) -> None:
    """Near, not equal: a certificate is made for one runtime."""
    path = ROOT / "models" / "zoo" / "digits" / f"{half}.onnx"
    onnxruntime, openvino = open_model(path, "onnx"), open_model(path, "openvino")
    assert (onnxruntime.inputs, onnxruntime.outputs) == (openvino.inputs, openvino.outputs)
    shape = (50, *(length or 1 for length in onnxruntime.inputs[0].shape[1:]))
    batch = np.random.default_rng(4).uniform(-1, 1, size=shape).astype(np.float32)
    here, there = run(onnxruntime, batch), run(openvino, batch)
    np.testing.assert_allclose(here, there, atol=0.1 * float(here.std()))


@LIBRARIES
def test_weights_may_lie_in_a_file_beside_the_model(library: str, tmp_path: Path) -> None:
    path = with_weights_outside(tmp_path, "weights.bin")
    logits = run(open_model(path, library), batch_of(2))
    np.testing.assert_allclose(logits, batch_of(2).reshape(2, 6)[:, 1:4], rtol=1e-6)


@LIBRARIES
def test_weights_that_are_missing_are_named(library: str, tmp_path: Path) -> None:
    path = with_weights_outside(tmp_path, "weights.bin")
    (tmp_path / "weights.bin").unlink()
    with pytest.raises(ExternalDataMissing, match=r"'weights\.bin', which is not beside it"):
        open_model(path, library)


@LIBRARIES
@pytest.mark.parametrize("absolute", [True, False])
def test_weights_outside_the_models_folder_are_refused(
    library: str, tmp_path: Path, absolute: bool
) -> None:
    inner = tmp_path / "inner"
    inner.mkdir()
    path = with_weights_outside(inner, "weights.bin")
    (inner / "weights.bin").rename(tmp_path / "weights.bin")
    model = onnx.load(path, load_external_data=False)
    for entry in model.graph.initializer[0].external_data:
        if entry.key == "location":
            entry.value = str(tmp_path / "weights.bin") if absolute else "../weights.bin"
    path.write_bytes(model.SerializeToString())
    with pytest.raises(RuntimeFailed, match="outside its own folder"):
        open_model(path, library)


@LIBRARIES
def test_a_file_that_names_more_weights_than_any_has_is_refused(
    library: str, tmp_path: Path
) -> None:
    """Eleven bytes and a name each, kept apart, would else be taken for four thousand."""
    path = write_onnx(tmp_path)
    model = onnx.load(path)
    for at in range(1025):
        model.metadata_props.add(key="location", value=f"weights{at}")
    path.write_bytes(model.SerializeToString())
    with pytest.raises(RuntimeFailed, match=r"model\.onnx.*more than 1024 files of weights"):
        open_model(path, library)


@LIBRARIES
@pytest.mark.parametrize("domain", ["", "my.operators"])
def test_an_operator_nobody_knows_is_named(library: str, tmp_path: Path, domain: str) -> None:
    path = one_node(tmp_path / "custom.onnx", "Magic", domain=domain)
    with pytest.raises(OperatorUnsupported, match=r"custom\.onnx.*Magic"):
        open_model(path, library)


def test_openvino_reads_no_file_that_it_may_die_of(tmp_path: Path) -> None:
    """In a process of its own, for without the refusal it ends by a segmentation fault."""
    graph = clipped([helper.make_node("Scaler", ["x"], ["a"], domain="ai.onnx.ml")])
    path = model_files.save(graph, tmp_path / "trees.onnx", domain="ai.onnx.ml")
    code = (
        "import sys; from pathlib import Path; from models.runtimes.choose import open_model\n"
        f"open_model(Path({str(path)!r}), 'openvino')"
    )
    done = subprocess.run(
        [sys.executable, "-P", "-c", code], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert "OperatorUnsupported: trees.onnx holds 'Scaler' of 'ai.onnx.ml'" in done.stderr


def test_openvino_looks_into_the_bodies_of_branches(tmp_path: Path) -> None:
    bodies = {
        f"{which}_branch": helper.make_graph(
            [helper.make_node("Magic", ["x"], [which], domain="my.operators")],
            which,
            [],
            [helper.make_tensor_value_info(which, TensorProto.FLOAT, ["n", 2])],
        )
        for which in ("then", "else")
    }
    true = helper.make_node(
        "Constant", [], ["c"], value=helper.make_tensor("c", TensorProto.BOOL, [], [True])
    )
    graph = clipped([true, helper.make_node("If", ["c"], ["a"], **bodies)])
    path = model_files.save(graph, tmp_path / "branch.onnx", domain="my.operators")
    with pytest.raises(OperatorUnsupported, match=r"branch\.onnx holds 'Magic' of 'my.operators'"):
        open_model(path, "openvino")


def test_an_opset_newer_than_onnxruntimes_is_named(tmp_path: Path) -> None:
    with pytest.raises(OpsetUnsupported, match=r"newer\.onnx.*Opset 99"):
        open_model(one_node(tmp_path / "newer.onnx", "Relu", opset=99), "onnx")


def test_openvino_reads_the_operators_it_knows_of_any_opset(tmp_path: Path) -> None:
    """Documented: what they mean there is for the package's golden outputs to judge."""
    runtime = open_model(one_node(tmp_path / "newer.onnx", "Relu", opset=99), "openvino")
    np.testing.assert_array_equal(run(runtime, np.array([[-1, 2]], np.float32)), [[0, 2]])


@LIBRARIES
def test_an_output_that_is_no_tensor_is_refused(library: str, tmp_path: Path) -> None:
    graph = helper.make_graph(
        [helper.make_node("SequenceConstruct", ["x"], ["s"])],
        "sequence",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 2])],
        [helper.make_tensor_sequence_value_info("s", TensorProto.FLOAT, ["n", 2])],
    )
    with pytest.raises(RuntimeFailed, match=r"sequence\.onnx"):
        open_model(model_files.save(graph, tmp_path / "sequence.onnx"), library)


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


def with_weights_outside(folder: Path, name: str) -> Path:
    model = onnx.load(write_onnx(folder))
    path = folder / "outside.onnx"
    onnx.save(model, path, save_as_external_data=True, location=name, size_threshold=0)
    return path


def clipped(nodes: list[onnx.NodeProto]) -> onnx.GraphProto:
    """From x to a by these nodes, and to y without what is below zero."""
    return helper.make_graph(
        [*nodes, helper.make_node("Clip", ["a", "zero"], ["y"])],
        "clipped",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 2])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 2])],
        [helper.make_tensor("zero", TensorProto.FLOAT, [], [0.0])],
    )


def one_node(path: Path, operator: str, *, opset: int = 17, domain: str = "") -> Path:
    graph = helper.make_graph(
        [helper.make_node(operator, ["x"], ["y"], domain=domain)],
        "one",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 2])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 2])],
    )
    return model_files.save(graph, path, opset=opset, domain=domain)
