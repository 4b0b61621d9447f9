"""What cannot be quantised as asked is refused by name, and nothing is written."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import pytest
from onnx import ModelProto, helper, numpy_helper

from models import errors
from models.quantize.onnx_static import write_static
from models.quantize.options import QuantizeOptions, Settings
from models.quantize.run import quantize
from tests.small_nets import model_of, net, samples, saved

Array = npt.NDArray[Any]


def silent(_line: str) -> None:
    pass


def refusal(kind: type[errors.ModelsError], run: Callable[[], object]) -> str:
    with pytest.raises(kind) as caught:
        run()
    assert caught.value.code == kind.code
    return str(caught.value)


def static(model: ModelProto | bytes, folder: Path, *arrays: Array, **settings: Any) -> None:
    source = folder / "float.onnx"
    source.write_bytes(model if isinstance(model, bytes) else model.SerializeToString())
    write_static(source, folder / "int8.onnx", arrays or (samples(32),), Settings(**settings))


def product(weights: Array, *, op: str = "MatMul", domain: str = "") -> ModelProto:
    return model_of(
        [helper.make_node(op, ["x", "w"], ["y"], "only", domain=domain)],
        [numpy_helper.from_array(weights, "w")],
        inputs={"x": ("n", 4)},
        outputs={"y": ("n", 3)},
        domains=(domain,) if domain else (),
    )


@pytest.mark.parametrize("content", [b"", b"no model", net().SerializeToString()[:300]])
def test_a_file_that_is_no_whole_model_is_unreadable(content: bytes, tmp_path: Path) -> None:
    said = refusal(errors.ModelUnreadable, lambda: static(content, tmp_path))
    assert "float.onnx" in said
    assert not (tmp_path / "int8.onnx").exists()


def test_a_missing_file_is_unreadable(tmp_path: Path) -> None:
    gone = tmp_path / "gone.onnx"
    said = refusal(
        errors.ModelUnreadable,
        lambda: write_static(gone, tmp_path / "a.onnx", (samples(32),), Settings()),
    )
    assert "gone.onnx is not there" in said


def test_external_data_that_did_not_come_along_are_named(tmp_path: Path) -> None:
    source = tmp_path / "float.onnx"
    onnx.save_model(
        net(), str(source), save_as_external_data=True, location="w.bin", size_threshold=0
    )
    (tmp_path / "w.bin").unlink()
    said = refusal(
        errors.ModelUnreadable,
        lambda: write_static(source, tmp_path / "a.onnx", (samples(32),), Settings()),
    )
    assert "w.bin" in said


def test_external_data_outside_the_model_s_folder_are_refused(tmp_path: Path) -> None:
    inner = tmp_path / "inner"
    inner.mkdir()
    source = inner / "float.onnx"
    onnx.save_model(
        net(), str(source), save_as_external_data=True, location="w.bin", size_threshold=0
    )
    (inner / "w.bin").rename(tmp_path / "w.bin")
    model = onnx.load(str(source), load_external_data=False)
    for tensor in model.graph.initializer:
        for entry in tensor.external_data:
            if entry.key == "location":
                entry.value = "../w.bin"
    source.write_bytes(model.SerializeToString())
    refusal(
        errors.ModelUnreadable,
        lambda: write_static(source, tmp_path / "a.onnx", (samples(32),), Settings()),
    )


@pytest.mark.parametrize("opset", [27, 99])
def test_an_opset_that_is_too_new_says_which_would_do(opset: int, tmp_path: Path) -> None:
    model = net()
    model.opset_import[0].version = opset
    said = refusal(errors.OpsetUnsupported, lambda: static(model, tmp_path))
    assert "export it with opset 17" in said


def test_a_file_format_that_is_too_new_is_named_as_well(tmp_path: Path) -> None:
    model = net()
    model.ir_version = 99
    refusal(errors.OpsetUnsupported, lambda: static(model, tmp_path))


def test_a_custom_operator_is_named(tmp_path: Path) -> None:
    weights = np.ones((4, 3), np.float32)
    model = product(weights, op="Swirl", domain="acme")
    assert "acme::Swirl" in refusal(errors.UnknownOperator, lambda: static(model, tmp_path))
    model = product(weights, op="Swirl")
    assert "operator Swirl" in refusal(errors.UnknownOperator, lambda: static(model, tmp_path))


def test_float64_weights_are_refused(tmp_path: Path) -> None:
    said = refusal(errors.ModelUnsupported, lambda: static(product(np.ones((4, 3))), tmp_path))
    assert "weight 'w'" in said
    assert "float64" in said


def test_a_model_that_is_broken_inside_is_refused(tmp_path: Path) -> None:
    wrong = product(np.ones((5, 3), np.float32))
    refusal(errors.ModelUnsupported, lambda: static(wrong, tmp_path, np.ones((32, 4), np.float32)))


def test_an_int8_file_is_not_quantised_again(tmp_path: Path) -> None:
    static(net(), tmp_path)
    small = (tmp_path / "int8.onnx").read_bytes()
    said = refusal(errors.AlreadyQuantised, lambda: static(small, tmp_path))
    assert "give the FP32 file" in said


def test_a_model_that_multiplies_nothing_has_nothing_to_quantise(tmp_path: Path) -> None:
    relu = model_of(
        [helper.make_node("Relu", ["x"], ["y"])],
        [],
        inputs={"x": ("n", 4)},
        outputs={"y": ("n", 4)},
    )
    inputs = np.ones((32, 4), np.float32)
    refusal(errors.NothingToQuantise, lambda: static(relu, tmp_path, inputs))
    refusal(errors.NothingToQuantise, lambda: static(net(), tmp_path, keep=("*",)))


def test_a_layer_nobody_has_is_answered_with_those_there_are(tmp_path: Path) -> None:
    said = refusal(errors.UnknownLayer, lambda: static(net(), tmp_path, keep=("tail",)))
    assert "'tail'" in said
    assert "conv" in said


def with_nan() -> Array:
    inputs = samples(32)
    inputs[7, 0, 0, 0] = np.nan
    return inputs


@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        ((samples(32), samples(32)), "2 arrays came for a model with 1 inputs"),
        ((samples(32).astype(np.uint8),), "are uint8 and the model takes float32"),
        ((samples(32)[:, :, :5],), r"have the shape [2, 5, 6] and the model takes [2, 6, 6]"),
        ((samples(32).reshape(32, -1),), "have the shape [72]"),
        ((with_nan(),), "sample 7 of 'x' holds NaN"),
    ],
)
def test_samples_that_are_not_the_model_s_inputs_say_how(
    arrays: tuple[Array, ...], words: str, tmp_path: Path
) -> None:
    assert words in refusal(errors.CalibrationUnfit, lambda: static(net(), tmp_path, *arrays))


def test_inputs_of_unequal_numbers_do_not_belong_together(tmp_path: Path) -> None:
    model = model_of(
        [
            helper.make_node("Add", ["a", "b"], ["s"]),
            helper.make_node("MatMul", ["s", "w"], ["y"]),
        ],
        [numpy_helper.from_array(np.ones((4, 3), np.float32), "w")],
        inputs={"a": ("n", 4), "b": ("n", 4)},
        outputs={"y": ("n", 3)},
    )
    arrays = (np.ones((32, 4), np.float32), np.ones((31, 4), np.float32))
    said = refusal(errors.CalibrationUnfit, lambda: static(model, tmp_path, *arrays))
    assert "31, 32 samples" in said


def test_a_model_that_computes_nan_from_good_inputs_is_caught(tmp_path: Path) -> None:
    model = model_of(
        [
            helper.make_node("Sqrt", ["x"], ["s"]),
            helper.make_node("MatMul", ["s", "w"], ["y"]),
        ],
        [numpy_helper.from_array(np.ones((4, 3), np.float32), "w")],
        inputs={"x": ("n", 4)},
        outputs={"y": ("n", 3)},
    )
    inputs = -np.ones((32, 4), np.float32)
    said = refusal(errors.CalibrationUnfit, lambda: static(model, tmp_path, inputs))
    assert "computes NaN" in said


def test_a_handful_of_samples_gives_no_range(tmp_path: Path) -> None:
    said = refusal(errors.CalibrationTooSmall, lambda: static(net(), tmp_path, samples(15)))
    assert "15 samples came and 16 are the least" in said


@pytest.mark.parametrize(
    ("labels", "words"),
    [
        (np.full(32, 3), "label 3 of sample 0 is none of the model's 3 classes"),
        (np.full(32, -1), "label -1"),
        (np.zeros(31, np.int64), "int64 [31] for 32 samples"),
        (np.zeros(32), "float64 [32]"),
    ],
)
def test_labels_that_cannot_be_true_are_refused(labels: Array, words: str, tmp_path: Path) -> None:
    source = saved(net(), tmp_path / "float.onnx")
    options = QuantizeOptions(source, tmp_path / "int8.onnx", (samples(32),), labels=labels)
    assert words in refusal(errors.LabelsUnfit, lambda: quantize(options, tell=silent))
    assert not options.out.exists()


def test_labels_for_a_model_without_classes_are_refused(tmp_path: Path) -> None:
    model = model_of(
        [helper.make_node("MatMul", ["x", "w"], ["y"])],
        [numpy_helper.from_array(np.ones((4, 1), np.float32), "w")],
        inputs={"x": ("n", 4)},
        outputs={"y": ("n", 1)},
    )
    source = saved(model, tmp_path / "float.onnx")
    inputs = np.random.default_rng(0).normal(size=(32, 4)).astype(np.float32)
    options = QuantizeOptions(
        source, tmp_path / "int8.onnx", (inputs,), labels=np.zeros(32, np.int64)
    )
    assert "leave the labels out" in refusal(
        errors.LabelsUnfit, lambda: quantize(options, tell=silent)
    )


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"settings": Settings(method="median")}, "'median' is unknown"),  # type: ignore[arg-type]
        ({"settings": Settings(percentile=20)}, "percentile 20"),
        ({"target": 99.5}, "target 99.5 is no share"),
        ({"seconds": 0.0}, "measure nothing"),
        ({"runtimes": ()}, "no runtime"),
        ({"same_grid": Path("b.onnx"), "sensitivity": True}, "--same-grid goes with neither"),
        ({"same_grid": Path("b.onnx"), "settings": Settings(keep=("c",))}, "--keep"),
        ({"out": Path("float.onnx")}, "is the model itself"),
    ],
)
def test_options_that_make_no_sense_fail_at_once(changed: dict[str, Any], words: str) -> None:
    given: dict[str, Any] = {
        "model": Path("float.onnx"),
        "out": Path("int8.onnx"),
        "calibration": (samples(32),),
    }
    assert words in refusal(
        errors.QuantizeOptionsInvalid, lambda: QuantizeOptions(**(given | changed))
    )


def test_a_place_that_cannot_be_written_is_left_as_it_was(tmp_path: Path) -> None:
    source = saved(net(), tmp_path / "float.onnx")
    there = tmp_path / "there"
    there.mkdir()
    for target in (there, tmp_path / "nowhere" / "int8.onnx"):
        options = QuantizeOptions(source, target, (samples(32),), runtimes=("onnx",), seconds=0.01)
        said: list[str] = []
        refusal(errors.TargetUnwritable, lambda: quantize(options, tell=said.append))  # noqa: B023
        assert not said, "refused before the work, not after it"
    assert sorted(each.name for each in tmp_path.iterdir()) == ["float.onnx", "there"]
