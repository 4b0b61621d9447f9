"""Which weight of a base's INT8 file is which weight of a float model. Pure.

The two graphs are walked together from their outputs, past the base's QuantizeLinear and
DequantizeLinear nodes, so neither names nor node order matter: a stripped file is as good as any.
Where the quantiser dropped a Relu or Clip, the grid there must begin at 0 and does its work.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from onnx import AttributeProto, ModelProto, NodeProto, TensorProto, numpy_helper

from models.errors import GridMismatch
from models.quantize.options import Array
from models.quantize.reading import real_inputs

_CLIPS = ("Clip", "Relu")


class Pair(NamedTuple):
    """One weight of the base and the float weight that takes its place."""

    base: str
    """Initializer of the base: integer codes, or floats in a layer left in FP32."""
    tuned: str
    """Float initializer of the tuned model."""
    scale: str | None
    """The base's initializers of scale and zero point; None for a float weight."""
    zero: str | None
    axis: int


def align(base: ModelProto, tuned: ModelProto) -> tuple[Pair, ...]:
    """Every weight of `base` paired with one of `tuned`, a prepared model.

    Raises `GridMismatch` where the graphs differ in anything but weights.
    """
    inputs = [[each.name for each in real_inputs(model.graph)] for model in (base, tuned)]
    outputs = [[each.name for each in model.graph.output] for model in (base, tuned)]
    if any(len(one) != len(other) for one, other in (inputs, outputs)):
        raise _differ("the number of inputs or outputs")
    walk = _Walk(base, tuned, dict(zip(*inputs, strict=True)))
    for one, other in zip(*outputs, strict=True):
        walk.meet(one, other)
    return tuple(walk.pairs.values())


def array_of(tensor: TensorProto) -> Array:
    """An initializer's values."""
    return numpy_helper.to_array(tensor)


class _Walk:
    def __init__(self, base: ModelProto, tuned: ModelProto, inputs: Mapping[str, str]) -> None:
        self._made_base, self._made_tuned = _makers(base), _makers(tuned)
        self._base, self._tuned = _initializers(base), _initializers(tuned)
        self._inputs = inputs
        self._done: set[tuple[str, str]] = set()
        self.pairs: dict[str, Pair] = {}

    def meet(self, base: str, tuned: str) -> None:
        """Everything that `base` and `tuned`, names of one tensor each, were computed from."""
        waiting = [(base, tuned)]
        while waiting:
            pair = waiting.pop()
            if pair not in self._done:
                self._done.add(pair)
                waiting += self._step(*pair)

    def _step(self, base: str, tuned: str) -> Sequence[tuple[str, str]]:
        base, from_zero = self._past_grid(base)
        if "" in (base, tuned) and base != tuned:
            raise _differ("an optional input that only one has")
        node = self._made_base.get(base)
        if node is not None and node.op_type == "DequantizeLinear":
            self._pair_codes(node, tuned)
            return ()
        if base in self._base:
            self._pair_floats(base, tuned)
            return ()
        other = self._made_tuned.get(tuned)
        dropped = other is not None and other.op_type in _CLIPS
        if other is not None and dropped and (node is None or node.op_type != other.op_type):
            if not from_zero:
                raise _differ(f"{other.op_type} {other.name!r}, which the base does not have")
            return ((base, other.input[0]),)
        if node is None or other is None:
            if node is not None or other is not None or self._inputs.get(base, "") != tuned:
                raise _differ("what an input is used for")
            return ()
        if (node.op_type, node.domain or "") != (other.op_type, other.domain or ""):
            raise _differ(f"{other.op_type} {other.name!r}, where the base has {node.op_type}")
        if _attributes(node) != _attributes(other) or len(node.input) != len(other.input):
            raise _differ(f"the attributes or inputs of {other.op_type} {other.name!r}")
        if list(node.output).index(base) != list(other.output).index(tuned):
            raise _differ(f"which output of {other.op_type} {other.name!r} is used")
        return tuple(zip(node.input, other.input, strict=True))

    def _past_grid(self, name: str) -> tuple[str, bool]:
        """The tensor behind an activation's grid, and whether that grid begins at 0."""
        from_zero = False
        while (node := self._made_base.get(name)) is not None:
            made = self._made_base.get(node.input[0])
            behind = made is not None and made.op_type == "QuantizeLinear"
            if node.op_type == "DequantizeLinear" and behind:
                pass
            elif node.op_type == "QuantizeLinear":
                zero = node.input[2] if len(node.input) > 2 else ""
                codes = array_of(self._base[zero]) if zero in self._base else np.zeros((), np.uint8)
                from_zero = from_zero or not (codes - np.iinfo(codes.dtype).min).any()
            else:
                break
            name = node.input[0]
        return name, from_zero

    def _pair_codes(self, node: NodeProto, tuned: str) -> None:
        codes, scale, zero = (*node.input, "")[:3]
        axis = next((each.i for each in node.attribute if each.name == "axis"), 1)
        if codes not in self._base or scale not in self._base:
            raise _differ("a weight of the base that is computed at run time")
        self._add(Pair(codes, tuned, scale, zero or None, axis))

    def _pair_floats(self, base: str, tuned: str) -> None:
        if self._base[base].data_type == TensorProto.FLOAT:
            self._add(Pair(base, tuned, None, None, 0))
            return
        mine, other = self._base[base], self._tuned.get(tuned)
        if other is None or not np.array_equal(array_of(mine), array_of(other)):
            raise _differ(f"the constant {tuned!r}")

    def _add(self, pair: Pair) -> None:
        tensor = self._tuned.get(pair.tuned)
        if tensor is None or tensor.data_type != TensorProto.FLOAT:
            raise _differ(f"{pair.tuned!r}, which is no float weight")
        if list(tensor.dims) != list(self._base[pair.base].dims):
            raise _differ(
                f"the shape of {pair.tuned!r}: {list(tensor.dims)}, in the base "
                f"{list(self._base[pair.base].dims)}"
            )
        known = self.pairs.setdefault(pair.base, pair)
        if known.tuned != pair.tuned:
            one, two = (array_of(self._tuned[each]) for each in (known.tuned, pair.tuned))
            if not np.array_equal(one, two):
                raise _differ(f"{pair.tuned!r}, which the base shares with {known.tuned!r}")


def _makers(model: ModelProto) -> dict[str, NodeProto]:
    return {name: node for node in model.graph.node for name in node.output if name}


def _initializers(model: ModelProto) -> dict[str, TensorProto]:
    return {tensor.name: tensor for tensor in model.graph.initializer}


def _attributes(node: NodeProto) -> list[bytes]:
    found = []
    for attribute in sorted(node.attribute, key=lambda each: each.name):
        bare = AttributeProto()
        bare.CopyFrom(attribute)
        bare.doc_string = ""
        found.append(bare.SerializeToString(deterministic=True))
    return found


def _differ(what: str) -> GridMismatch:
    return GridMismatch(
        f"the model and its base differ in more than weights: {what}; name the INT8 file this "
        "model was tuned from, made by `quantize`, or leave --same-grid out"
    )
