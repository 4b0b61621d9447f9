"""Nets small enough to quantise in a blink, as real ONNX files: a convolution and a product."""

from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

from models.zoo import data

Floats = npt.NDArray[np.float32]
CLASSES = 3
SHAPE = (2, 6, 6)


def samples(n: int, *, seed: int = 5) -> Floats:
    """Inputs [n, 2, 6, 6] for the nets here."""
    return np.random.default_rng(seed).normal(size=(n, *SHAPE)).astype(np.float32)


def digits(part: str = "train") -> tuple[Floats, npt.NDArray[np.int64]]:
    """Digits [n, 1, 8, 8] as the zoo's model takes them, and their labels."""
    sets = data.load("digits")
    images, labels = {
        "train": (sets.train_x, sets.train_y),
        "held": (sets.held_x, sets.held_y),
    }[part]
    inputs = (np.asarray(images, np.float32)[:, None] / 16).astype(np.float32)
    return inputs, np.asarray(labels, np.int64)


def net(*, batch: int | str = "n", opset: int = 17, seed: int = 1) -> ModelProto:
    """Conv, batch normalisation, Relu, pooling, a product and a sum: three classes."""
    chance = np.random.default_rng(seed)

    def weights(name: str, *shape: int) -> TensorProto:
        return numpy_helper.from_array(chance.normal(size=shape).astype(np.float32), name)

    ones = numpy_helper.from_array(1 + np.arange(8, dtype=np.float32), "bn.variance")
    nodes = [
        helper.make_node("Conv", ["x", "conv.w", "conv.b"], ["c"], "conv", pads=[1, 1, 1, 1]),
        helper.make_node(
            "BatchNormalization",
            ["c", "bn.scale", "bn.bias", "bn.mean", "bn.variance"],
            ["b"],
            "norm",
        ),
        helper.make_node("Relu", ["b"], ["r"], "relu"),
        helper.make_node("MaxPool", ["r"], ["p"], "pool", kernel_shape=[3, 3], strides=[3, 3]),
        helper.make_node("Flatten", ["p"], ["f"], "flat"),
        helper.make_node("MatMul", ["f", "head.w"], ["m"], "head"),
        helper.make_node("Add", ["m", "head.b"], ["logits"], "shift"),
    ]
    return model_of(
        nodes,
        [
            weights("conv.w", 8, 2, 3, 3),
            weights("conv.b", 8),
            weights("bn.scale", 8),
            weights("bn.bias", 8),
            weights("bn.mean", 8),
            ones,
            weights("head.w", 32, CLASSES),
            weights("head.b", CLASSES),
        ],
        inputs={"x": (batch, *SHAPE)},
        outputs={"logits": (batch, CLASSES)},
        opset=opset,
    )


def model_of(
    nodes: list[NodeProto],
    weights: list[TensorProto],
    *,
    inputs: dict[str, tuple[int | str, ...]],
    outputs: dict[str, tuple[int | str, ...]],
    opset: int = 17,
    kind: int = TensorProto.FLOAT,
    domains: tuple[str, ...] = (),
) -> ModelProto:
    """A model of these nodes; `kind` is the element type of inputs and outputs."""
    given, taken = (
        [helper.make_tensor_value_info(name, kind, shape) for name, shape in ends.items()]
        for ends in (inputs, outputs)
    )
    graph = helper.make_graph(nodes, "small", given, taken, weights)
    sets = [helper.make_opsetid("", opset), *(helper.make_opsetid(each, 1) for each in domains)]
    return helper.make_model(graph, opset_imports=sets, ir_version=8)


def saved(model: ModelProto, path: Path) -> Path:
    """The model in a file."""
    path.write_bytes(model.SerializeToString())
    return path


def nudged(model: ModelProto, by: float, *, seed: int = 9) -> ModelProto:
    """A fine-tune: every weight moved by `by` of its tensor's deviation, at random."""
    chance = np.random.default_rng(seed)
    tuned = ModelProto()
    tuned.CopyFrom(model)
    for tensor in tuned.graph.initializer:
        values = numpy_helper.to_array(tensor)
        if values.dtype == np.float32 and "variance" not in tensor.name:
            moved = values + chance.normal(size=values.shape) * by * max(values.std(), 1e-6)
            tensor.CopyFrom(numpy_helper.from_array(moved.astype(np.float32), tensor.name))
    return tuned


def weights_of(path: Path) -> dict[str, npt.NDArray[np.generic]]:
    """The initializers of a file by name."""
    model = onnx.load(str(path))
    return {each.name: numpy_helper.to_array(each) for each in model.graph.initializer}
