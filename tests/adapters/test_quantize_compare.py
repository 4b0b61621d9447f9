"""`quantize` from one end to the other: the file, the table, the sweep and what it advises."""

from pathlib import Path

import msgspec
import numpy as np
import pytest
from onnx import ModelProto, helper, numpy_helper

from models.errors import RuntimeFailed
from models.quantize.options import QuantizeOptions, Settings
from models.quantize.report import Comparison, to_text
from models.quantize.run import quantize
from tests.small_nets import digits, model_of, net, samples, saved

DIGITS = Path(__file__).parents[2] / "models" / "zoo" / "digits" / "cloud.onnx"


def on_digits(out: Path) -> QuantizeOptions:
    """Ranges from training digits, compared on held-out ones."""
    inputs, labels = digits("held")
    return QuantizeOptions(
        DIGITS,
        out,
        (digits()[0][:200],),
        (inputs,),
        labels,
        runtimes=("onnx",),
        seconds=0.05,
    )


@pytest.fixture(scope="module")
def comparison(tmp_path_factory: pytest.TempPathFactory) -> Comparison:
    folder = tmp_path_factory.mktemp("digits")
    return quantize(on_digits(folder / "edge.onnx"), tell=lambda _line: None)


def test_the_table_has_what_the_integers_cost_and_bring(comparison: Comparison) -> None:
    whole, small = comparison.files
    assert (whole.precision, small.precision) == ("FP32", "INT8")
    assert (whole.size, whole.agreement, whole.relative_error) == (DIGITS.stat().st_size, 1.0, 0.0)
    assert small.size == Path(comparison.out).stat().st_size < whole.size / 3
    assert small.accuracy == pytest.approx(whole.accuracy, abs=0.01)
    assert small.agreement is not None
    assert small.agreement >= 0.99
    assert small.rank_correlation is not None
    assert 0.9 < small.rank_correlation < 1
    assert comparison.held_out
    assert (comparison.calibration_n, comparison.evaluation_n) == (200, 360)


def test_each_file_is_timed_against_fp32_on_the_same_runtime(comparison: Comparison) -> None:
    whole, small = comparison.runs
    assert whole.ratio == 1
    assert whole.median_us > 0
    assert small.ratio == pytest.approx(small.median_us / whole.median_us, rel=0.5)


def test_the_comparison_is_one_value_for_scripts_and_lines_for_people(
    comparison: Comparison,
) -> None:
    assert msgspec.json.decode(msgspec.json.encode(comparison), type=Comparison) == comparison
    text = to_text(comparison)
    for words in ("minmax over 200 samples", "360 samples that calibration did not see", "us   x"):
        assert words in text
    assert text.endswith(comparison.advice)
    assert max(map(len, text.splitlines()[:-1])) <= 100


def test_the_same_options_make_the_same_file(comparison: Comparison, tmp_path: Path) -> None:
    again = quantize(on_digits(tmp_path / "edge.onnx"), tell=lambda _line: None)
    assert again.sha256 == comparison.sha256


def test_a_runtime_that_is_not_here_is_skipped_with_its_reason(tmp_path: Path) -> None:
    told: list[str] = []
    options = QuantizeOptions(
        saved(net(), tmp_path / "float.onnx"),
        tmp_path / "int8.onnx",
        (samples(120),),
        runtimes=("onnx", "abacus"),
        seconds=0.01,
    )
    found = quantize(options, tell=told.append)
    assert {row.runtime for row in found.runs} == {"onnx"}
    assert found.skipped[0].startswith("abacus: runtime 'abacus' is unknown")
    assert any(line.startswith("abacus is skipped") for line in told)
    assert "skipped abacus" in to_text(found)


def test_no_runtime_at_all_is_an_error(tmp_path: Path) -> None:
    options = QuantizeOptions(
        saved(net(), tmp_path / "float.onnx"),
        tmp_path / "int8.onnx",
        (samples(120),),
        runtimes=("twin",),
    )
    with pytest.raises(RuntimeFailed):
        quantize(options, tell=lambda _line: None)
    assert not options.out.exists()


def test_one_file_serves_both_runtimes(tmp_path: Path) -> None:
    pytest.importorskip("openvino", reason="the extra openvino is not installed")
    options = QuantizeOptions(
        saved(net(), tmp_path / "float.onnx"),
        tmp_path / "int8.onnx",
        (samples(120),),
        seconds=0.02,
    )
    found = quantize(options, tell=lambda _line: None)
    assert [(row.runtime, row.precision) for row in found.runs] == [
        ("onnx", "FP32"),
        ("onnx", "INT8"),
        ("openvino", "FP32"),
        ("openvino", "INT8"),
    ]
    assert [row.ratio for row in found.runs if row.precision == "FP32"] == [1, 1]
    assert all(row.agreement is not None and row.agreement > 0.95 for row in found.runs)


def test_few_samples_and_float16_are_told(tmp_path: Path) -> None:
    half = net()
    for tensor in half.graph.initializer:
        values = numpy_helper.to_array(tensor).astype(np.float16)
        tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))
    for value in (*half.graph.input, *half.graph.output):
        value.type.tensor_type.elem_type = 10
    told: list[str] = []
    options = QuantizeOptions(
        saved(half, tmp_path / "half.onnx"),
        tmp_path / "int8.onnx",
        (samples(40),),
        runtimes=("onnx",),
        seconds=0.01,
    )
    quantize(options, tell=told.append)
    assert any("half.onnx is float16: widened" in line for line in told)
    assert any(line.startswith("40 calibration samples are few") for line in told)


def test_a_model_without_classes_is_judged_by_its_error(tmp_path: Path) -> None:
    weights = np.random.default_rng(0).normal(size=(4, 1)).astype(np.float32)
    model = model_of(
        [helper.make_node("MatMul", ["x", "w"], ["y"], "only")],
        [numpy_helper.from_array(weights, "w")],
        inputs={"x": ("n", 4)},
        outputs={"y": ("n", 1)},
    )
    inputs = np.random.default_rng(1).normal(size=(120, 4)).astype(np.float32)
    options = QuantizeOptions(
        saved(model, tmp_path / "float.onnx"),
        tmp_path / "int8.onnx",
        (inputs,),
        runtimes=("onnx",),
        seconds=0.01,
    )
    found = quantize(options, tell=lambda _line: None)
    small = found.files[1]
    assert (small.agreement, small.accuracy, small.rank_correlation) == (None, None, None)
    assert 0 < small.relative_error < 0.02


def delicate() -> ModelProto:
    """Three products; what enters the second has one value a thousand times the others."""
    chance = np.random.default_rng(4)
    first = chance.normal(size=(8, 16)).astype(np.float32)
    first[:, 0] *= 1000
    second = chance.normal(size=(16, 16)).astype(np.float32)
    second[0] = 0
    third = chance.normal(size=(16, 3)).astype(np.float32)
    weights = {"a.w": first, "b.w": second, "c.w": third}
    return model_of(
        [
            helper.make_node("MatMul", ["x", "a.w"], ["a"], "a"),
            helper.make_node("MatMul", ["a", "b.w"], ["b"], "b"),
            helper.make_node("MatMul", ["b", "c.w"], ["y"], "c"),
        ],
        [numpy_helper.from_array(values, name) for name, values in weights.items()],
        inputs={"x": ("n", 8)},
        outputs={"y": ("n", 3)},
    )


def test_a_sweep_finds_the_delicate_layers_and_keeps_no_other(tmp_path: Path) -> None:
    source = saved(delicate(), tmp_path / "float.onnx")
    inputs = np.random.default_rng(1).normal(size=(400, 8)).astype(np.float32)
    plain = QuantizeOptions(
        source, tmp_path / "plain.onnx", (inputs,), runtimes=("onnx",), seconds=0.01, target=0.97
    )
    before = quantize(plain, tell=lambda _line: None)
    assert before.files[1].agreement is not None
    assert before.files[1].agreement < 0.9
    assert before.advice.startswith("Ship float.onnx: INT8 gives another label")
    swept = QuantizeOptions(
        source,
        tmp_path / "swept.onnx",
        (inputs,),
        runtimes=("onnx",),
        seconds=0.01,
        target=0.97,
        sensitivity=True,
    )
    found = quantize(swept, tell=lambda _line: None)
    assert found.sensitivity is not None
    assert [row.layer for row in found.sensitivity.layers][-1] == "c"
    assert set(found.kept) == {"a", "b"}
    assert found.sensitivity.met
    assert found.files[1].agreement == found.sensitivity.reached >= 0.97
    assert "left in FP32: " in to_text(found)
    assert "Layers, each alone in INT8" in to_text(found)


def test_a_target_already_met_keeps_nothing(tmp_path: Path) -> None:
    options = QuantizeOptions(
        saved(net(), tmp_path / "float.onnx"),
        tmp_path / "int8.onnx",
        (samples(120),),
        runtimes=("onnx",),
        seconds=0.01,
        target=0.9,
        sensitivity=True,
    )
    found = quantize(options, tell=lambda _line: None)
    assert found.kept == ()
    assert found.sensitivity is not None
    assert len(found.sensitivity.layers) == 2


def test_a_target_out_of_reach_is_said_to_be(tmp_path: Path) -> None:
    options = QuantizeOptions(
        saved(delicate(), tmp_path / "float.onnx"),
        tmp_path / "int8.onnx",
        (np.random.default_rng(1).normal(size=(400, 8)).astype(np.float32),),
        settings=Settings(keep=("c",)),
        runtimes=("onnx",),
        seconds=0.01,
        target=1.0,
        sensitivity=True,
    )
    found = quantize(options, tell=lambda _line: None)
    assert found.sensitivity is not None
    assert "c" in found.kept
    assert not found.sensitivity.met
    assert "not met" in to_text(found)
    assert found.advice.startswith("Ship float.onnx")
