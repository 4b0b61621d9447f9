"""The FP32 form of an INT8 file: the same weights, with activations that are not rounded.

    python -m models.zoo.unrounded TASK ...

On nets as small as ours FP32 is often the quicker one: rounding between the layers costs more than
integers save. A recipe keeps no float file, so this makes one from what ships, beside it as
`edge-fp32.onnx`. It is another file with other scores, so it is an edition with a certificate of
its own (`models.zoo.certify`).

Rules:
1. A weight becomes (code - zero point) * scale. Nothing is trained, nothing is measured.
2. Rounding an activation to codes from its zero point on cut off what is below zero: where the zero
   point is 0 that was the layer's ReLU, and becomes one. Other roundings are left out.
3. What is above the last code is not cut off: that was rounding's loss, and no part of the net.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
from onnx import ModelProto, NodeProto, helper, numpy_helper

from models.zoo.figures import ZOO

FILE = "edge-fp32.onnx"
Numbers = npt.NDArray[np.generic]


def unrounded(model: ModelProto) -> ModelProto:
    """The FP32 form of a model in QDQ. Raises ValueError for one that holds no rounding."""
    known = {one.name: numpy_helper.to_array(one) for one in model.graph.initializer}
    bare = ModelProto()
    bare.CopyFrom(model)
    same: dict[str, str] = {}
    """Names that hold what another name holds, now that nothing is rounded between them."""
    nodes: list[NodeProto] = []
    for node in model.graph.node:
        first = same.get(node.input[0], node.input[0])
        match node.op_type:
            case "QuantizeLinear" if _zero_point(node, known) == 0:
                nodes.append(helper.make_node("Relu", [first], [node.output[0]], node.name))
            case "QuantizeLinear":
                same[node.output[0]] = first
            case "DequantizeLinear" if first in known:
                weights = _dequantised(node, known)
                bare.graph.initializer.append(numpy_helper.from_array(weights, node.output[0]))
            case "DequantizeLinear":
                same[node.output[0]] = first
            case _:
                kept = NodeProto()
                kept.CopyFrom(node)
                del kept.input[:]
                kept.input.extend(same.get(name, name) for name in node.input)
                nodes.append(kept)
    if not same:
        raise ValueError("the model rounds nothing, so there is nothing to take out")
    nodes.extend(
        helper.make_node("Identity", [same[output.name]], [output.name])
        for output in model.graph.output
        if output.name in same
    )
    del bare.graph.node[:]
    bare.graph.node.extend(nodes)
    needed = {name for node in nodes for name in node.input}
    weights_kept = [one for one in bare.graph.initializer if one.name in needed]
    del bare.graph.initializer[:]
    bare.graph.initializer.extend(weights_kept)
    del bare.graph.value_info[:]
    onnx.checker.check_model(bare)
    return bare


def _zero_point(node: NodeProto, known: dict[str, Numbers]) -> int:
    return int(known[node.input[2]]) if len(node.input) > 2 else 0


def _dequantised(node: NodeProto, known: dict[str, Numbers]) -> npt.NDArray[np.float32]:
    codes, scale = known[node.input[0]], known[node.input[1]].astype(np.float32)
    zero = known[node.input[2]].astype(np.float32) if len(node.input) > 2 else np.float32(0)
    if scale.ndim == 1 and scale.size > 1:
        axis = next((one.i for one in node.attribute if one.name == "axis"), 1)
        shape = [1] * codes.ndim
        shape[axis] = -1
        scale = scale.reshape(shape)
        zero = np.broadcast_to(zero, scale.size).reshape(shape)
    return ((codes.astype(np.float32) - zero) * scale).astype(np.float32)


def write_unrounded(source: Path, target: Path) -> None:
    """Raises ValueError as `unrounded` does."""
    onnx.save(unrounded(onnx.load(source)), target)


def main() -> None:
    parser = argparse.ArgumentParser(prog="models.zoo.unrounded")
    parser.add_argument("tasks", nargs="+", metavar="TASK")
    for task in parser.parse_args().tasks:
        write_unrounded(ZOO / task / "edge.onnx", ZOO / task / FILE)
        print(f"{task}: {(ZOO / task / FILE).stat().st_size} bytes")


if __name__ == "__main__":
    main()
