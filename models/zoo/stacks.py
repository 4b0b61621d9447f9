"""A stack that `learner` trained, as an ONNX graph.

Rules:
1. A stack over sequences takes `x` float32 [n, c, t]: channels first, as ONNX convolves.
2. A stack over words takes `ids` and `mask` int64 [n, t]. Where the mask is 0 the id counts as 0,
   which is padding, whatever stands there.
3. A table of embeddings may be int8, one scale for each of its columns; sums are float32 then.
   (With QDQ around the sum as well, OpenVINO 2026.4 answers something else.)
4. Means and spreads of the inputs are folded into the first layer, so nothing is scaled twice.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper

from models.zoo.graphs import initializer, model_of
from models.zoo.learner import (
    Array,
    Convolution,
    Dense,
    Dropout,
    Embedding,
    Floats,
    Highest,
    Layer,
    Mean,
    Relu,
)


def fold_scaling(first: Layer, means: Floats, spreads: Floats) -> None:
    """Let a convolution that learnt (x - means) / spreads take x itself; both are [channels].

    Raises:
        TypeError: the layer is no convolution.
    """
    if not isinstance(first, Convolution):
        raise TypeError(f"wanted a convolution first, not {type(first).__name__}")
    matrix, offsets = first.dense.matrix, first.dense.offsets
    by = np.tile(1 / spreads.astype(np.float64), first.width)[:, None]
    wide = matrix.value.astype(np.float64) * by
    shift = np.tile(means.astype(np.float64), first.width) @ wide
    offsets.value = (offsets.value - shift).astype(np.float32)
    matrix.value = wide.astype(np.float32)


def graph_of(
    stack: Sequence[Layer], *, classes: int, length: int, channels: int = 0, small: bool = False
) -> onnx.ModelProto:
    """The stack as a model; `length` is t, and `channels` is c where there are no words.

    A `small` one has its table of embeddings in int8.

    Raises:
        TypeError: a layer this cannot write.
    """
    written = _Written(small=small)
    if isinstance(stack[0], Embedding):
        words = [_input(name, TensorProto.INT64, [length]) for name in ("ids", "mask")]
        inputs, at = words, "ids"
    else:
        inputs, at = [_input("x", TensorProto.FLOAT, [channels, length])], "x"
    for number, layer in enumerate(stack):
        at = written.layer(layer, at, number)
    written.nodes[-1].output[0] = "logits"
    return model_of(written.nodes, inputs, written.weights, classes=classes)


def _input(name: str, kind: int, shape: list[int]) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, kind, ["n", *shape])


class _Written:
    """Nodes and weights so far."""

    def __init__(self, *, small: bool) -> None:
        self._small = small
        self.nodes: list[onnx.NodeProto] = []
        self.weights: list[TensorProto] = []

    def layer(self, layer: Layer, at: str, number: int) -> str:
        """Writes one layer that takes the value `at`; gives the name of what it makes."""
        match layer:
            case Embedding():
                return self._embedding(layer, at, number)
            case Convolution():
                shaped = layer.dense.matrix.value.reshape(layer.width, layer.channels, -1)
                names = self._keep(number, shaped.transpose(2, 1, 0), layer.dense.offsets.value)
                return self._node("Conv", [at, *names], number, kernel_shape=[layer.width])
            case Relu():
                return self._node("Relu", [at], number)
            case Highest():
                pooled = self._node("GlobalMaxPool", [at], number)
                return self._node("Flatten", [pooled], number, part="flat", axis=1)
            case Mean():
                return self._mean(at, number)
            case Dense():
                # Transposed: per-channel INT8 then has one scale for each output.
                names = self._keep(number, layer.matrix.value.T, layer.offsets.value)
                return self._node("Gemm", [at, *names], number, transB=1)
            case Dropout():
                return at
            case _:
                raise TypeError(f"no way to write {type(layer).__name__} as ONNX")

    def _keep(self, number: int, *values: Array) -> list[str]:
        names = [f"w{number}_{at}" for at in range(len(values))]
        self.weights += [initializer(*one) for one in zip(names, values, strict=True)]
        return names

    def _node(
        self, op: str, inputs: list[str], number: int, *, part: str = "made", **settings: Any
    ) -> str:
        made = f"{part}{number}"
        self.nodes.append(helper.make_node(op, inputs, [made], **settings))
        return made

    def _embedding(self, layer: Embedding, at: str, number: int) -> str:
        masked = self._node("Mul", [at, "mask"], number, part="masked")
        if self._small:
            scales = np.abs(layer.table.value).max(axis=0) / np.float32(127)
            codes = np.rint(layer.table.value / scales).astype(np.int8)
            table, scale = self._keep(number, codes, scales)
            picked = self._node("Gather", [table, masked], number, part="codes", axis=0)
            rows = [picked, scale]
            looked_up = self._node("DequantizeLinear", rows, number, part="rows", axis=2)
        else:
            (table,) = self._keep(number, layer.table.value)
            looked_up = self._node("Gather", [table, masked], number, part="rows", axis=0)
        return self._node("Transpose", [looked_up], number, perm=[0, 2, 1])

    def _mean(self, at: str, number: int) -> str:
        """Sum over the steps, divided by how many the mask leaves, at least one."""
        last, one = f"last{number}", f"one{number}"
        self.weights.append(initializer(last, np.array([-1], dtype=np.int64)))
        self.weights.append(initializer(one, np.array(1, dtype=np.float32)))
        summed = self._node("ReduceSum", [at, last], number, part="sum", keepdims=0)
        used = self._node("Cast", ["mask"], number, part="used", to=TensorProto.FLOAT)
        count = self._node("ReduceSum", [used, last], number, part="count", keepdims=1)
        least = self._node("Max", [count, one], number, part="least")
        return self._node("Div", [summed, least], number)
