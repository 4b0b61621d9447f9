"""A float32 model made ready: constants and batch normalisation folded, shapes known, layers named.

Folding is onnxruntime's own first level: it writes a graph of standard operators which any runtime
reads. Quantising before it would put a grid on weights that no device ever multiplies with.
"""

import os
import re
import tempfile
from pathlib import Path
from typing import NamedTuple

import onnx
import onnx.shape_inference
import onnx.version_converter
from onnx import GraphProto, ModelProto, TensorProto

from models.errors import ModelUnsupported, OpsetUnsupported
from models.quantize.reading import opset

LAYERS = ("Conv", "ConvTranspose", "Gemm", "MatMul")
"""Operators that multiply: here INT8 wins its time and loses its accuracy."""
_PER_CHANNEL_OPSET = 13
_COPY = ".copy-for."


class Layer(NamedTuple):
    """One multiplying node of a prepared model."""

    name: str
    kind: str


def prepared(model: ModelProto) -> ModelProto:
    """`model` folded, with every tensor's shape and a unique name for every node.

    Raises `OpsetUnsupported`, `ModelUnsupported`.
    """
    if opset(model) < _PER_CHANNEL_OPSET:
        try:
            model = onnx.version_converter.convert_version(model, _PER_CHANNEL_OPSET)
        except Exception as error:  # a C++ error of no class of its own
            raise ModelUnsupported(
                f"the model is of opset {opset(model)}, scales per channel need "
                f"{_PER_CHANNEL_OPSET}, and it does not convert: {error}; export it with opset 17"
            ) from error
    folded = onnx.shape_inference.infer_shapes(_folded(model), strict_mode=False)
    taken: set[str] = set()
    for at, node in enumerate(folded.graph.node):
        if not node.name or node.name in taken:
            node.name = f"{node.op_type}_{at}"
        taken.add(node.name)
    _unshare_weights(folded.graph)
    return folded


def copied_bytes(ready: ModelProto) -> int:
    """Bytes of the weights that a prepared model holds because another node uses them too."""
    return sum(len(tensor.raw_data) for tensor in ready.graph.initializer if _COPY in tensor.name)


def layers_of(model: ModelProto) -> tuple[Layer, ...]:
    """The multiplying nodes of a prepared model, in its order."""
    return tuple(
        Layer(node.name, node.op_type) for node in model.graph.node if node.op_type in LAYERS
    )


def _unshare_weights(graph: GraphProto) -> None:
    """Gives every node float weights of its own.

    Onnxruntime 1.31 copies a shared bias `t4` as `t40`, and where another tensor has that name it
    wires the two together in silence; and it does not open a file with shared int8 weights when
    asked for its exact kernels, as our runtime does. The copies cost bytes, not time.
    """
    weights = {
        tensor.name: tensor for tensor in graph.initializer if tensor.data_type == TensorProto.FLOAT
    }
    names = {name for node in graph.node for name in (*node.input, *node.output)}
    used: set[str] = set()
    for node in graph.node:
        for at, name in enumerate(node.input):
            if name in used and name in weights:
                copy = f"{name}{_COPY}{node.name}"
                while copy in names:
                    copy += "_"
                names.add(copy)
                graph.initializer.add().CopyFrom(weights[name])
                graph.initializer[-1].name = node.input[at] = copy
            used.add(name)


def _folded(model: ModelProto) -> ModelProto:
    # Before the import, which reads it: the wheel carries a telemetry client, on by default.
    os.environ["ORT_DISABLE_TELEMETRY"] = "1"
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 4
    with tempfile.TemporaryDirectory(prefix="longstop-quantize.") as folder:
        written = Path(folder) / "folded.onnx"
        options.optimized_model_filepath = str(written)
        try:
            onnxruntime.InferenceSession(
                model.SerializeToString(), options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # onnxruntime's errors derive from Exception alone
            raise _refused(error, onnxruntime.__version__) from error
        return onnx.load(str(written))


def _refused(error: Exception, version: str) -> OpsetUnsupported | ModelUnsupported:
    said = str(error)
    newest = re.search(r"till opset (\d+)|max supported IR version: (\d+)", said)
    if newest:
        limit = f"opset {newest[1]}" if newest[1] else f"IR version {newest[2]}"
        return OpsetUnsupported(
            f"the model is newer than onnxruntime {version}, which reads up to {limit}; "
            "export it with opset 17"
        )
    return ModelUnsupported(
        f"onnxruntime {version} does not run the model: {said}; export it again"
    )
