"""An ONNX file as a model held whole in memory, in float32, or a named reason why not.

Rules:
1. External data are read and held with the model; a path that leaves the model's folder is refused.
2. Float16 is widened to float32, inputs and outputs included: integers are made from float32.
3. What no runtime here could run is refused before anything is computed.
"""

from collections.abc import Iterator
from pathlib import Path

import onnx
import onnx.inliner
from onnx import AttributeProto, GraphProto, ModelProto, NodeProto, TensorProto

from models.errors import (
    AlreadyQuantised,
    ModelUnreadable,
    ModelUnsupported,
    OpsetUnsupported,
    UnknownOperator,
)
from models.quantize.widen import widen

STANDARD = ("", "ai.onnx", "ai.onnx.ml", "com.microsoft")
_QUANTISED = {
    "ConvInteger",
    "DequantizeLinear",
    "DynamicQuantizeLinear",
    "MatMulInteger",
    "QLinearConv",
    "QLinearMatMul",
    "QuantizeLinear",
}
_REFUSED = {TensorProto.DOUBLE: "float64", TensorProto.BFLOAT16: "bfloat16"}


def read_float(path: Path) -> ModelProto:
    """The float32 model in `path`.

    Raises `ModelUnreadable`, `OpsetUnsupported`, `UnknownOperator`, `AlreadyQuantised`,
    `ModelUnsupported`.
    """
    model = read(path)
    _refuse_unknown(model, path)
    found = sorted({node.op_type for node in nodes_of(model.graph)} & _QUANTISED)
    if found:
        raise AlreadyQuantised(
            f"{path} holds {', '.join(found)}: it is quantised; give the FP32 file it was made from"
        )
    for tensor in model.graph.initializer:
        if tensor.data_type in _REFUSED:
            raise ModelUnsupported(
                f"weight {tensor.name!r} of {path} is {_REFUSED[tensor.data_type]}; "
                "export the model in float32"
            )
    if not real_inputs(model.graph):
        raise ModelUnsupported(f"{path} has no input; export it with one")
    return widen(model)


def read(path: Path) -> ModelProto:
    """Any ONNX model with its external data. Raises `ModelUnreadable`, `OpsetUnsupported`."""
    try:
        # The paths inside an ONNX file are somebody else's: onnx refuses those that climb out.
        model = onnx.load(str(path))
    except FileNotFoundError as error:
        missing = Path(error.filename) if error.filename else path
        raise ModelUnreadable(f"{missing} is not there; check the path") from error
    except Exception as error:  # protobuf's and onnx's own share no base
        raise ModelUnreadable(
            f"{path} cannot be read as ONNX: {str(error).strip() or type(error).__name__}; "
            "export it again, and copy the files of its external data with it"
        ) from error
    if not model.graph.node or not model.opset_import:
        raise ModelUnreadable(f"{path} holds no ONNX graph; export it again")
    newest = onnx.defs.onnx_opset_version()
    if opset(model) > newest:
        raise OpsetUnsupported(
            f"{path} is of opset {opset(model)}, and the newest known here is {newest}; "
            "export it with opset 17"
        )
    return onnx.inliner.inline_local_functions(model) if model.functions else model


def size_with_data(path: Path) -> int:
    """Bytes of an ONNX file and of the external data it names. Raises `ModelUnreadable`."""
    try:
        model = onnx.load(str(path), load_external_data=False)
        others = {
            entry.value
            for tensor in model.graph.initializer
            for entry in tensor.external_data
            if entry.key == "location"
        }
        return sum((path.parent / name).stat().st_size for name in (path.name, *others))
    except OSError as error:
        raise ModelUnreadable(f"{path} cannot be read: {error.strerror}") from error


def opset(model: ModelProto) -> int:
    """Version of the standard operators that a model is written in."""
    return max(
        (each.version for each in model.opset_import if each.domain in STANDARD[:2]), default=1
    )


def real_inputs(graph: GraphProto) -> list[onnx.ValueInfoProto]:
    """Inputs that a caller feeds: old exporters list weights among them."""
    weights = {tensor.name for tensor in graph.initializer}
    return [value for value in graph.input if value.name not in weights]


def nodes_of(graph: GraphProto) -> Iterator[NodeProto]:
    """Every node, those inside If, Loop and Scan included."""
    for node in graph.node:
        yield node
        for attribute in node.attribute:
            if attribute.type == AttributeProto.GRAPH:
                yield from nodes_of(attribute.g)
            for inner in attribute.graphs:
                yield from nodes_of(inner)


def _refuse_unknown(model: ModelProto, path: Path) -> None:
    for node in nodes_of(model.graph):
        custom = node.domain not in STANDARD
        known = node.domain not in STANDARD[:2] or onnx.defs.has(node.op_type, "")
        if custom or not known:
            name = f"{node.domain}::{node.op_type}" if node.domain else node.op_type
            raise UnknownOperator(
                f"{path} has the operator {name} (node {node.name or 'without a name'}), "
                "which is not of standard ONNX; export the model with standard operators"
            )
