"""Float ONNX files that become INT8 ones: what comes out, by every way of asking."""

from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
import pytest
from onnx import ModelProto, TensorProto, helper, numpy_helper

from models.quantize.compare import outputs_of
from models.quantize.feeds import fit
from models.quantize.onnx_static import write_static
from models.quantize.options import METHODS, Method, Settings
from models.quantize.prepare import layers_of, prepared
from models.quantize.reading import read, read_float, size_with_data
from models.quantize.strip import stripped
from tests.small_nets import CLASSES, SHAPE, digits, model_of, net, samples, saved, weights_of

DIGITS = Path(__file__).parents[2] / "models" / "zoo" / "digits" / "cloud.onnx"


def agreement(whole: Path, small: Path, inputs: npt.NDArray[np.float32]) -> float:
    feeds = fit(read_float(whole), (inputs,))
    one, other = (outputs_of(each, "onnx", feeds) for each in (whole, small))
    return float((one.argmax(axis=1) == other.argmax(axis=1)).mean())


def quantised(model: ModelProto, folder: Path, settings: Settings | None = None) -> Path:
    source, target = saved(model, folder / "float.onnx"), folder / "int8.onnx"
    write_static(source, target, (samples(64),), settings or Settings())
    return target


def test_activations_are_unsigned_weights_signed_with_a_scale_per_channel(tmp_path: Path) -> None:
    model = read(quantised(net(), tmp_path))
    weights = {each.name: each for each in model.graph.initializer}
    kinds = {
        weights[node.input[2]].data_type
        for node in model.graph.node
        if node.op_type == "QuantizeLinear"
    }
    assert kinds == {TensorProto.UINT8}
    shapes = {
        tuple(weights[node.input[0]].dims): tuple(weights[node.input[1]].dims)
        for node in model.graph.node
        if node.input[0] in weights and weights[node.input[0]].data_type == TensorProto.INT8
    }
    assert shapes[8, 2, 3, 3] == (8,)
    assert shapes[32, CLASSES] == (CLASSES,)


def test_normalisation_is_folded_and_only_inputs_and_outputs_keep_names(tmp_path: Path) -> None:
    model = read(quantised(net(), tmp_path))
    operators = {node.op_type for node in model.graph.node}
    assert not operators & {"BatchNormalization", "Relu"}
    assert {node.name for node in model.graph.node} == {""}
    assert not model.graph.value_info
    assert [each.name for each in (*model.graph.input, *model.graph.output)] == ["x", "logits"]
    assert [each.domain for each in model.opset_import] == [""]
    onnx.checker.check_model(model)


def test_minmax_makes_the_file_that_onnxruntime_s_own_tool_makes(tmp_path: Path) -> None:
    """The zoo's files were made by it: the same settings must give the same quality."""
    import os

    os.environ["ORT_DISABLE_TELEMETRY"] = "1"
    from onnxruntime.quantization import QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    inputs = digits()[0][:256]
    feeds = iter([{"x": inputs[at : at + 64]} for at in range(0, 256, 64)])

    class Reader:
        def get_next(self) -> dict[str, npt.NDArray[np.float32]] | None:
            return next(feeds, None)

    ready, theirs = tmp_path / "ready.onnx", tmp_path / "theirs.onnx"
    quant_pre_process(str(DIGITS), str(ready), skip_symbolic_shape=True)
    quantize_static(
        str(ready),
        str(theirs),
        Reader(),
        quant_format=QuantFormat.QDQ,
        activation_type=QuantType.QUInt8,
        weight_type=QuantType.QInt8,
        per_channel=True,
    )
    write_static(DIGITS, tmp_path / "ours.onnx", (inputs,), Settings())
    assert (tmp_path / "ours.onnx").read_bytes() == stripped(read(theirs)).SerializeToString()


@pytest.mark.parametrize("method", METHODS)
def test_every_method_keeps_the_digits_apart(method: Method, tmp_path: Path) -> None:
    small = tmp_path / "int8.onnx"
    write_static(DIGITS, small, (digits()[0][:200],), Settings(method=method))
    assert agreement(DIGITS, small, digits()[0][200:]) >= 0.995
    assert small.stat().st_size < DIGITS.stat().st_size / 3


def test_methods_differ_in_their_grids_alone(tmp_path: Path) -> None:
    files = {}
    for method in METHODS:
        files[method] = tmp_path / f"{method}.onnx"
        write_static(DIGITS, files[method], (digits()[0][:200],), Settings(method=method))
    assert len({each.read_bytes() for each in files.values()}) == len(METHODS)
    codes = [
        [values for values in weights_of(each).values() if values.dtype == np.int8 and values.ndim]
        for each in files.values()
    ]
    for others in codes[1:]:
        assert all(map(np.array_equal, codes[0], others))


def test_a_layer_kept_in_fp32_keeps_its_weights(tmp_path: Path) -> None:
    ready = prepared(net())
    names = [each.name for each in layers_of(ready)]
    kept = quantised(net(), tmp_path, Settings(keep=(names[0],)))
    kinds = {values.shape: values.dtype for values in weights_of(kept).values()}
    assert kinds[8, 2, 3, 3] == np.float32
    assert kinds[32, CLASSES] == np.int8


def test_a_pattern_keeps_every_layer_it_fits(tmp_path: Path) -> None:
    kept = quantised(net(), tmp_path, Settings(keep=("con*",)))
    assert (8, 2, 3, 3) in {v.shape for v in weights_of(kept).values() if v.dtype == np.float32}


def test_a_reduced_range_uses_seven_bits(tmp_path: Path) -> None:
    for reduce_range, largest in ((False, 127), (True, 64)):
        small = quantised(net(), tmp_path, Settings(reduce_range=reduce_range))
        codes = [v for v in weights_of(small).values() if v.dtype == np.int8 and v.ndim > 1]
        assert max(int(np.abs(each.astype(int)).max()) for each in codes) == largest


def test_weights_per_tensor_have_one_scale(tmp_path: Path) -> None:
    small = quantised(net(), tmp_path, Settings(per_channel=False))
    assert {v.size for v in weights_of(small).values() if v.dtype == np.float32} == {1}


def test_external_data_are_read_and_come_back_inside_the_file(tmp_path: Path) -> None:
    apart = tmp_path / "apart"
    apart.mkdir()
    onnx.save_model(
        net(),
        str(apart / "float.onnx"),
        save_as_external_data=True,
        location="weights.bin",
        size_threshold=0,
    )
    assert size_with_data(apart / "float.onnx") > (apart / "weights.bin").stat().st_size > 0
    write_static(apart / "float.onnx", tmp_path / "a.onnx", (samples(64),), Settings())
    assert (tmp_path / "a.onnx").read_bytes() == quantised(net(), tmp_path).read_bytes()


def test_a_graph_for_one_sample_at_a_time_is_fed_one_at_a_time(tmp_path: Path) -> None:
    fixed, free = tmp_path / "fixed", tmp_path / "free"
    for folder, batch in ((fixed, 1), (free, "n")):
        folder.mkdir()
        quantised(net(batch=batch), folder)
    one, other = (weights_of(folder / "int8.onnx") for folder in (fixed, free))
    for name, values in other.items():
        # Other batch sizes take other kernels, whose last bits differ.
        np.testing.assert_allclose(one[name].astype(float), values.astype(float), rtol=1e-5, atol=1)


def test_a_graph_for_batches_of_five_repeats_its_last_sample(tmp_path: Path) -> None:
    small = quantised(net(batch=5), tmp_path)
    assert agreement(tmp_path / "float.onnx", small, samples(63, seed=3)) > 0.9


def test_a_float16_model_is_widened(tmp_path: Path) -> None:
    half = net()
    for tensor in half.graph.initializer:
        values = numpy_helper.to_array(tensor).astype(np.float16)
        tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))
    for value in (*half.graph.input, *half.graph.output):
        value.type.tensor_type.elem_type = TensorProto.FLOAT16
    source = saved(half, tmp_path / "half.onnx")
    write_static(source, tmp_path / "a.onnx", (samples(64).astype(np.float16),), Settings())
    model = read(tmp_path / "a.onnx")
    assert model.graph.input[0].type.tensor_type.elem_type == TensorProto.FLOAT
    assert TensorProto.FLOAT16 not in {each.data_type for each in model.graph.initializer}
    assert agreement(saved(net(), tmp_path / "f.onnx"), tmp_path / "a.onnx", samples(200)) > 0.95


def test_a_cast_to_float16_inside_a_model_is_widened_too(tmp_path: Path) -> None:
    weights = np.random.default_rng(0).normal(size=(4, 3)).astype(np.float16)
    model = model_of(
        [
            helper.make_node("Cast", ["x"], ["h"], to=TensorProto.FLOAT16),
            helper.make_node("MatMul", ["h", "w"], ["m"]),
            helper.make_node("Cast", ["m"], ["y"], to=TensorProto.FLOAT),
        ],
        [numpy_helper.from_array(weights, "w")],
        inputs={"x": ("n", 4)},
        outputs={"y": ("n", 3)},
    )
    source = saved(model, tmp_path / "half.onnx")
    inputs = np.random.default_rng(1).normal(size=(32, 4)).astype(np.float32)
    write_static(source, tmp_path / "a.onnx", (inputs,), Settings())
    assert any(each.dtype == np.int8 for each in weights_of(tmp_path / "a.onnx").values())


def test_a_model_of_several_inputs_takes_an_array_for_each(tmp_path: Path) -> None:
    weights = np.random.default_rng(0).normal(size=(4, 3)).astype(np.float32)
    model = model_of(
        [
            helper.make_node("MatMul", ["a", "w"], ["left"], "left"),
            helper.make_node("MatMul", ["b", "w"], ["right"], "right"),
            helper.make_node("Add", ["left", "right"], ["y"]),
        ],
        [numpy_helper.from_array(weights, "w")],
        inputs={"a": ("n", 4), "b": ("n", 4)},
        outputs={"y": ("n", 3)},
    )
    source = saved(model, tmp_path / "two.onnx")
    chance = np.random.default_rng(1)
    arrays = tuple(chance.normal(size=(40, 4)).astype(np.float32) * by for by in (1, 100))
    write_static(source, tmp_path / "a.onnx", arrays, Settings())
    feeds = fit(read_float(source), arrays)
    one, other = (outputs_of(each, "onnx", feeds) for each in (source, tmp_path / "a.onnx"))
    assert np.abs(one - other).max() < 0.03 * np.abs(one).max()


def test_an_old_opset_is_converted(tmp_path: Path) -> None:
    small = quantised(net(opset=11), tmp_path)
    assert max(each.version for each in read(small).opset_import) >= 13
    assert agreement(tmp_path / "float.onnx", small, samples(200)) > 0.95


def test_weights_used_twice_become_two(tmp_path: Path) -> None:
    """The quantiser copies a bias `t4` used twice as `t40`, whoever has that name already; and
    onnxruntime does not open a file with shared int8 weights when asked for exact kernels."""
    chance = np.random.default_rng(0)

    def weights(name: str, *shape: int) -> TensorProto:
        return numpy_helper.from_array(chance.normal(size=shape).astype(np.float32), name)

    def conv(given: str, taken: str) -> onnx.NodeProto:
        return helper.make_node("Conv", [given, "t3", "t4"], [taken], pads=[1, 1, 1, 1])

    model = model_of(
        [
            conv("x", "t40"),
            helper.make_node("Neg", ["x"], ["t5"]),
            conv("t5", "t41"),
            helper.make_node("Add", ["t40", "t41"], ["y"]),
        ],
        [weights("t3", 2, 2, 3, 3), weights("t4", 2)],
        inputs={"x": ("n", *SHAPE)},
        outputs={"y": ("n", *SHAPE)},
    )
    source = saved(model, tmp_path / "float.onnx")
    write_static(source, tmp_path / "a.onnx", (samples(64),), Settings())
    feeds = fit(read_float(source), (samples(64),))
    one, other = (outputs_of(each, "onnx", feeds) for each in (source, tmp_path / "a.onnx"))
    assert np.abs(one - other).max() < 0.1


def test_an_activation_that_never_moves_does_no_harm(tmp_path: Path) -> None:
    constant = np.zeros((64, *SHAPE), np.float32)
    source = saved(net(), tmp_path / "float.onnx")
    for method in METHODS:
        write_static(source, tmp_path / "a.onnx", (constant,), Settings(method=method))
        feeds = fit(read_float(source), (constant,))
        assert np.isfinite(outputs_of(tmp_path / "a.onnx", "onnx", feeds)).all()
