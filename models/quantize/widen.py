"""Float16 models as float32 ones: every float16 tensor, type and cast, subgraphs included."""

import numpy as np
from onnx import AttributeProto, GraphProto, ModelProto, TensorProto, TypeProto, numpy_helper

_HALF, _FLOAT = TensorProto.FLOAT16, TensorProto.FLOAT
# Operators whose attribute of this name is a tensor type.
_TYPES = {"to": {"Cast"}, "dtype": {"EyeLike", "RandomNormalLike", "RandomUniformLike"}}


def is_half(model: ModelProto) -> bool:
    """Whether any weight, input or output is float16."""
    graph = model.graph
    return any(tensor.data_type == _HALF for tensor in graph.initializer) or any(
        value.type.tensor_type.elem_type == _HALF for value in (*graph.input, *graph.output)
    )


def widen(model: ModelProto) -> ModelProto:
    """A copy without float16; the model itself where there is none."""
    if not is_half(model):
        return model
    wide = ModelProto()
    wide.CopyFrom(model)
    _widen_graph(wide.graph)
    return wide


def _widen_graph(graph: GraphProto) -> None:
    for tensor in graph.initializer:
        _widen_tensor(tensor)
    for value in (*graph.input, *graph.output, *graph.value_info):
        _widen_type(value.type)
    for node in graph.node:
        for attribute in node.attribute:
            match attribute.type:
                case AttributeProto.GRAPH:
                    _widen_graph(attribute.g)
                case AttributeProto.TENSOR:
                    _widen_tensor(attribute.t)
                case AttributeProto.INT if attribute.i == _HALF and node.op_type in _TYPES.get(
                    attribute.name, ()
                ):
                    attribute.i = _FLOAT
                case _:
                    pass


def _widen_tensor(tensor: TensorProto) -> None:
    if tensor.data_type == _HALF:
        values = numpy_helper.to_array(tensor).astype(np.float32)
        tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))


def _widen_type(kind: TypeProto) -> None:
    if kind.tensor_type.elem_type == _HALF:
        kind.tensor_type.elem_type = _FLOAT
