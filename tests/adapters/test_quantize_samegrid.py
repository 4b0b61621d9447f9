"""A fine-tune on its base's grid: a small update, honest about what it cannot hold."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import pytest
import zstandard
from onnx import ModelProto, helper, numpy_helper

from models.errors import GridClipped, GridMismatch
from models.quantize.align import align
from models.quantize.onnx_static import static, write_static
from models.quantize.options import QuantizeOptions, Settings
from models.quantize.prepare import prepared
from models.quantize.reading import read, read_float
from models.quantize.report import to_text
from models.quantize.run import quantize
from models.quantize.samegrid import on_base_grid
from tests.small_nets import digits, net, nudged, samples, saved

Inputs = npt.NDArray[Any]
ZOO = Path(__file__).parents[2] / "models" / "zoo"
TASKS = {"digits": (1, 8, 8), "activity": (6, 64), "apparel": (1, 28, 28)}


def noise(task: str, *, seed: int) -> Inputs:
    chance = np.random.default_rng(seed)
    return chance.normal(size=(32, *TASKS[task])).astype(np.float32)


def base_of(source: Path, folder: Path, inputs: Inputs) -> ModelProto:
    write_static(source, folder / "base.onnx", (inputs,), Settings())
    return read(folder / "base.onnx")


def patch(old: bytes, new: bytes) -> int:
    """Bytes of a zstd delta; the old file as dictionary is enough at this size."""
    book = zstandard.ZstdCompressionDict(old, dict_type=zstandard.DICT_TYPE_RAWCONTENT)
    return len(zstandard.ZstdCompressor(level=19, dict_data=book).compress(new))


@pytest.mark.parametrize("task", TASKS)
def test_a_model_on_its_own_grid_is_its_own_file_byte_for_byte(task: str, tmp_path: Path) -> None:
    source = ZOO / task / "cloud.onnx"
    base = base_of(source, tmp_path, noise(task, seed=0))
    placed = on_base_grid(base, prepared(read_float(source)))
    assert (placed.changed, placed.clipped) == (0, 0)
    assert placed.model.SerializeToString() == base.SerializeToString()


@pytest.mark.parametrize("task", ["digits", "activity"])
def test_a_small_move_changes_few_codes_and_clips_none(task: str, tmp_path: Path) -> None:
    base = base_of(ZOO / task / "cloud.onnx", tmp_path, noise(task, seed=0))
    tuned = saved(nudged(onnx.load(str(ZOO / task / "cloud.onnx")), 1e-3), tmp_path / "t.onnx")
    placed = on_base_grid(base, prepared(read_float(tuned)))
    assert 0 < placed.changed < 0.05 * placed.weights
    assert placed.clipped == 0


def test_a_fine_tune_on_the_same_grid_is_a_far_smaller_update(tmp_path: Path) -> None:
    source = ZOO / "digits" / "cloud.onnx"
    inputs, labels = digits()
    base_of(source, tmp_path, inputs[:256])
    tuned = saved(nudged(onnx.load(str(source)), 1e-4), tmp_path / "tuned.onnx")
    free, held = tmp_path / "free.onnx", tmp_path / "held.onnx"
    write_static(tuned, free, (inputs[256:512],), Settings())
    comparison = quantize(
        QuantizeOptions(
            tuned,
            held,
            (inputs[512:],),
            labels=labels[512:],
            same_grid=tmp_path / "base.onnx",
            runtimes=("onnx",),
            seconds=0.01,
        ),
        tell=lambda _line: None,
    )
    names = ("base.onnx", "free.onnx", "held.onnx")
    old, again, same = ((tmp_path / name).read_bytes() for name in names)
    assert len(old) == len(same)
    assert sum(one != other for one, other in zip(old, same, strict=True)) < 0.01 * len(old)
    assert patch(old, same) < 0.4 * patch(old, again)
    whole, small = comparison.files
    assert comparison.grid is not None
    assert comparison.grid.clipped == 0
    assert small.agreement is not None
    assert small.agreement > 0.99
    assert small.accuracy == pytest.approx(whole.accuracy, abs=0.005)
    assert "on the grid of base.onnx" in to_text(comparison)


def test_a_new_head_alone_costs_a_tenth_of_a_free_requantisation(tmp_path: Path) -> None:
    source = ZOO / "digits" / "cloud.onnx"
    base = base_of(source, tmp_path, noise("digits", seed=0))
    model = onnx.load(str(source))
    head = next(node for node in model.graph.node if node.op_type == "Gemm").input[1]
    old = {each.name: each for each in model.graph.initializer}
    tuned = nudged(model, 1e-3)
    for tensor in tuned.graph.initializer:
        if tensor.name != head:
            tensor.CopyFrom(old[tensor.name])
    write_static(
        saved(tuned, tmp_path / "tuned.onnx"),
        tmp_path / "free.onnx",
        (noise("digits", seed=1),),
        Settings(),
    )
    same = on_base_grid(base, prepared(tuned)).model.SerializeToString()
    before = base.SerializeToString()
    assert patch(before, same) < 0.1 * patch(before, (tmp_path / "free.onnx").read_bytes())


def test_weights_and_biases_land_on_the_nearest_code_of_the_base(tmp_path: Path) -> None:
    source = ZOO / "digits" / "cloud.onnx"
    base = base_of(source, tmp_path, noise("digits", seed=0))
    ready = prepared(nudged(onnx.load(str(source)), 1e-3))
    placed = on_base_grid(base, ready).model
    stored, before, floats = (
        {each.name: numpy_helper.to_array(each) for each in model.graph.initializer}
        for model in (placed, base, ready)
    )
    seen = 0
    for pair in align(base, ready):
        assert pair.scale is not None
        step = stored[pair.scale]
        np.testing.assert_array_equal(step, before[pair.scale])
        step = step.reshape(-1, *[1] * (floats[pair.tuned].ndim - 1)).astype(np.float64)
        assert (np.abs(stored[pair.base] * step - floats[pair.tuned]) <= 0.5001 * step).all()
        seen += stored[pair.base].dtype == np.int32
    assert seen == 6


def test_a_model_too_far_from_its_base_is_refused_with_the_share(tmp_path: Path) -> None:
    source = saved(net(), tmp_path / "float.onnx")
    base_of(source, tmp_path, samples(64))
    far = saved(nudged(net(), 1.0), tmp_path / "far.onnx")
    options = QuantizeOptions(
        far, tmp_path / "far8.onnx", (samples(4),), same_grid=tmp_path / "base.onnx"
    )
    says = r"\d+\.\d\d % of the weights .* 0\.1 % is the limit"
    with pytest.raises(GridClipped, match=says) as caught:
        quantize(options, tell=lambda _line: None)
    assert caught.value.code == "grid_clipped"
    assert not options.out.exists()


def test_what_wakes_in_a_dead_channel_counts_as_clipped(tmp_path: Path) -> None:
    dead = net()
    weights = next(each for each in dead.graph.initializer if each.name == "conv.w")
    values = numpy_helper.to_array(weights).copy()
    values[3] = 0
    weights.CopyFrom(numpy_helper.from_array(values, "conv.w"))
    base = base_of(saved(dead, tmp_path / "float.onnx"), tmp_path, samples(64))
    values[3] = 0.01
    weights.CopyFrom(numpy_helper.from_array(values, "conv.w"))
    with pytest.raises(GridClipped, match="18 of"):
        on_base_grid(base, prepared(dead))


def test_layers_the_base_left_in_fp32_take_the_new_floats(tmp_path: Path) -> None:
    source = saved(net(), tmp_path / "float.onnx")
    write_static(source, tmp_path / "base.onnx", (samples(64),), Settings(keep=("conv*",)))
    tuned = prepared(nudged(net(), 1e-3))
    placed = on_base_grid(read(tmp_path / "base.onnx"), tuned).model
    mine = {tuple(e.dims): numpy_helper.to_array(e) for e in placed.graph.initializer}
    theirs = {tuple(e.dims): numpy_helper.to_array(e) for e in tuned.graph.initializer}
    np.testing.assert_array_equal(mine[8, 2, 3, 3], theirs[8, 2, 3, 3])


def without_relu() -> ModelProto:
    model = net()
    nodes = [node for node in model.graph.node if node.op_type != "Relu"]
    for node in nodes:
        node.input[:] = ["b" if name == "r" else name for name in node.input]
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    return model


def with_other_padding() -> ModelProto:
    model = net()
    pool = next(node for node in model.graph.node if node.op_type == "MaxPool")
    del pool.attribute[:]
    pool.attribute.extend(
        [
            helper.make_attribute("kernel_shape", [2, 2]),
            helper.make_attribute("strides", [3, 3]),
        ]
    )
    return model


def with_average_pooling() -> ModelProto:
    model = net()
    next(node for node in model.graph.node if node.op_type == "MaxPool").op_type = "AveragePool"
    return model


@pytest.mark.parametrize(
    ("other", "words"),
    [
        (with_average_pooling, "AveragePool"),
        (with_other_padding, "attributes or inputs of MaxPool"),
    ],
)
def test_another_architecture_is_refused_naming_where(
    other: Callable[[], ModelProto], words: str, tmp_path: Path
) -> None:
    base = base_of(saved(net(), tmp_path / "float.onnx"), tmp_path, samples(64))
    with pytest.raises(GridMismatch, match=words):
        on_base_grid(base, prepared(other()))


def test_a_relu_the_base_never_had_is_no_fine_tune(tmp_path: Path) -> None:
    base = base_of(saved(without_relu(), tmp_path / "float.onnx"), tmp_path, samples(64))
    with pytest.raises(GridMismatch, match="Relu"):
        on_base_grid(base, prepared(net()))


def test_a_float_file_is_no_base(tmp_path: Path) -> None:
    source = saved(net(), tmp_path / "float.onnx")
    with pytest.raises(GridMismatch, match="no int8 weight"):
        on_base_grid(read(source), prepared(net()))


def test_names_and_node_order_do_not_matter(tmp_path: Path) -> None:
    from models.quantize.feeds import fit
    from models.quantize.observe import ranges_of

    ready = prepared(net())
    named = static(ready, ranges_of(ready, fit(ready, (samples(64),)), Settings()), Settings(), ())
    placed = on_base_grid(named, prepared(nudged(net(), 1e-3)))
    bare = base_of(saved(net(), tmp_path / "float.onnx"), tmp_path, samples(64))
    stripped = on_base_grid(bare, prepared(nudged(net(), 1e-3)))
    assert placed[1:] == stripped[1:]
