"""One and the same model as a twin's file and as an ONNX file, with any ports."""

from collections.abc import Callable, Sequence
from math import prod
from pathlib import Path
from typing import NamedTuple

import msgspec
import numpy as np
import onnx
from onnx import TensorProto, helper

from models.runtimes.twin import Dtype, TwinFile, TwinInput, TwinOutput

_TYPES: dict[Dtype, int] = {
    "bool": TensorProto.BOOL,
    "float16": TensorProto.FLOAT16,
    "float32": TensorProto.FLOAT,
    "float64": TensorProto.DOUBLE,
    "int8": TensorProto.INT8,
    "int16": TensorProto.INT16,
    "int32": TensorProto.INT32,
    "int64": TensorProto.INT64,
    "uint8": TensorProto.UINT8,
}


class In(NamedTuple):
    name: str
    shape: tuple[int, ...]
    dtype: Dtype = "float32"


class Out(NamedTuple):
    """What fills `shape` after the first `skip` values of the inputs strung together."""

    name: str
    shape: tuple[int, ...]
    skip: int = 0
    dtype: Dtype = "float32"


Writer = Callable[[Path, Sequence[In], Sequence[Out], int | None], Path]


def write_twin(path: Path, inputs: Sequence[In], outputs: Sequence[Out], rows: int | None) -> Path:
    twin = TwinFile(
        inputs=tuple(TwinInput(each.name, each.dtype, each.shape) for each in inputs),
        outputs=tuple(TwinOutput(*each) for each in outputs),
        rows=rows,
    )
    path.write_bytes(msgspec.json.encode(twin))
    return path


def write_onnx(path: Path, inputs: Sequence[In], outputs: Sequence[Out], rows: int | None) -> Path:
    constants = {"all": np.array([-1], np.int64), "rows": np.array([1], np.int64)}
    nodes = []
    for each in inputs:
        constants[f"{each.name}_flat"] = np.array([-1, prod(each.shape)], np.int64)
        nodes += [
            helper.make_node("Cast", [each.name], [f"{each.name}_float"], to=TensorProto.FLOAT),
            helper.make_node(
                "Reshape", [f"{each.name}_float", f"{each.name}_flat"], [f"{each.name}_row"]
            ),
        ]
    nodes.append(helper.make_node("Concat", [f"{each.name}_row" for each in inputs], ["r"], axis=1))
    for name, shape, skip, dtype in outputs:
        constants[f"{name}_from"] = np.array([skip], np.int64)
        constants[f"{name}_to"] = np.array([skip + prod(shape)], np.int64)
        constants[f"{name}_shape"] = np.array([-1, *shape], np.int64)
        nodes += [
            helper.make_node("Slice", ["r", f"{name}_from", f"{name}_to", "rows"], [f"{name}_cut"]),
            helper.make_node("Reshape", [f"{name}_cut", f"{name}_shape"], [f"{name}_float"]),
        ]
        if dtype in ("int8", "uint8"):  # as a quantised head ends
            constants[f"{name}_scale"] = np.array(1, np.float32)
            constants[f"{name}_zero"] = np.array(0, dtype)
            scaled = [f"{name}_float", f"{name}_scale", f"{name}_zero"]
            nodes.append(helper.make_node("QuantizeLinear", scaled, [name]))
        else:
            to = _TYPES[dtype]
            nodes.append(helper.make_node("Cast", [f"{name}_float"], [name], to=to))
    first = "n" if rows is None else rows
    given, wanted = (
        [
            helper.make_tensor_value_info(each.name, _TYPES[each.dtype], [first, *each.shape])
            for each in side
        ]
        for side in (inputs, outputs)
    )
    weights = [onnx.numpy_helper.from_array(value, name) for name, value in constants.items()]
    graph = helper.make_graph(nodes, "ports", given, wanted, weights)
    return save(graph, path)


def save(graph: onnx.GraphProto, path: Path, *, opset: int = 17, domain: str = "") -> Path:
    """Write a graph, of one more `domain` than ONNX's own if there is one."""
    opsets = [helper.make_opsetid("", opset)]
    if domain:
        opsets.append(helper.make_opsetid(domain, 1))
    model = helper.make_model(graph, opset_imports=opsets, ir_version=8)
    path.write_bytes(model.SerializeToString())
    return path


WRITERS: dict[str, Writer] = {
    "onnx": write_onnx,
    "openvino": write_onnx,
    "twin": write_twin,
}
