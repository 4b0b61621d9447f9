"""ONNX files made without PyTorch: layers from numpy weights, INT8, and files made small.

Rules:
1. The output is `logits`, float32 [n, K], with a free first axis; opset 17.
2. What scikit-learn's converter adds beside the scores (a label, a map) is cut off, and
   probabilities become logits by a clipped logarithm, inside the file.
3. INT8 and stripped files are made as `longstop-models quantize` makes them.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

from models.quantize.onnx_static import write, write_static
from models.quantize.options import Settings
from models.quantize.strip import stripped

Floats = npt.NDArray[np.float32]
Weights = npt.NDArray[np.floating[Any]]
Feeds = Mapping[str, npt.NDArray[Any]]
Layer = tuple[Weights, Weights]
"""Matrix [inputs, outputs] and offsets [outputs]."""

OPSET = 17
IR_VERSION = 8
INFERENCE_BATCH = 500
LEAST_PROBABILITY = 1e-6


def perceptron(layers: Sequence[Layer], *, sample_shape: tuple[int, ...]) -> onnx.ModelProto:
    """Layers with ReLU between them, from `x` float32 [n, *sample_shape], read row by row."""
    given, nodes, weights = "x", [], []
    if len(sample_shape) != 1:
        nodes.append(helper.make_node("Flatten", ["x"], ["flat"], axis=1))
        given = "flat"
    for number, (matrix, offsets) in enumerate(layers):
        last = number == len(layers) - 1
        names = [f"w{number}", f"b{number}"]
        # Transposed: per-channel INT8 then has one scale for each output.
        weights += [initializer(names[0], matrix.T), initializer(names[1], offsets)]
        made = "logits" if last else f"sum{number}"
        nodes.append(helper.make_node("Gemm", [given, *names], [made], transB=1))
        if not last:
            given = f"relu{number}"
            nodes.append(helper.make_node("Relu", [made], [given]))
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", *sample_shape])
    return model_of(nodes, [x], weights, classes=len(layers[-1][1]))


def initializer(name: str, values: npt.NDArray[Any]) -> TensorProto:
    """Weights of a file: floats become float32."""
    kept = values.astype(np.float32) if values.dtype.kind == "f" else values
    return numpy_helper.from_array(np.ascontiguousarray(kept), name)


def model_of(
    nodes: Sequence[onnx.NodeProto],
    inputs: Sequence[onnx.ValueInfoProto],
    weights: Sequence[TensorProto],
    *,
    classes: int,
    imports: Sequence[onnx.OperatorSetIdProto] = (),
) -> onnx.ModelProto:
    """A checked model whose nodes end in `logits` [n, classes]."""
    logits = helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["n", classes])
    graph = helper.make_graph(list(nodes), "longstop", list(inputs), [logits], list(weights))
    opsets = list(imports) or [helper.make_opsetid("", OPSET)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=IR_VERSION)
    onnx.checker.check_model(model)
    return model


def scores_only(model: onnx.ModelProto, *, classes: int) -> onnx.ModelProto:
    """A classifier of scikit-learn's converter (no zipmap), as `x` to `logits` and no more.

    Raises:
        ValueError: the model has not one input and an output `probabilities`.
    """
    graph = model.graph
    if len(graph.input) != 1 or "probabilities" not in [value.name for value in graph.output]:
        raise ValueError("wanted one input and an output 'probabilities'; switch zipmap off")
    given = graph.input[0].name
    wanted, kept = {"probabilities"}, []
    for node in reversed(graph.node):
        if wanted & set(node.output):
            wanted |= set(node.input)
            kept.append(node)
    for node in kept:
        node.input[:] = ["x" if name == given else name for name in node.input]
    nodes = [
        *reversed(kept),
        # Not Clip: OpenVINO 2026.4 does not read trees, and with a Clip after them it dies of it.
        helper.make_node("Max", ["probabilities", "least"], ["clipped"]),
        helper.make_node("Log", ["clipped"], ["logits"]),
    ]
    weights = [one for one in graph.initializer if one.name in wanted]
    weights.append(initializer("least", np.array(LEAST_PROBABILITY, dtype=np.float32)))
    features = graph.input[0].type.tensor_type.shape.dim[1].dim_value
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", features])
    # The converter keeps them in a set, so their order is anybody's guess.
    imports = sorted(model.opset_import, key=lambda one: one.domain)
    return model_of(nodes, [x], weights, classes=classes, imports=imports)


def write_float(model: onnx.ModelProto, path: Path) -> None:
    """Writes a model as it is, stripped."""
    write(stripped(model), path)


def write_int8(model: onnx.ModelProto, path: Path, *, calibration: Feeds) -> None:
    """Writes a model as INT8; `calibration` are prepared training inputs by name."""
    inputs = [calibration[value.name] for value in model.graph.input]
    with tempfile.TemporaryDirectory() as folder:
        whole = Path(folder) / "fp32.onnx"
        write(model, whole)
        write_static(whole, path, inputs, Settings())


def onnx_logits(path: Path, inputs: Feeds) -> Floats:
    """The logits onnxruntime computes from a file, one thread, on the processor."""
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    import onnxruntime  # 20 MB that an importer of this module need not pay

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return np.concatenate(
        [session.run(["logits"], dict(batch))[0] for batch in _batches(inputs, INFERENCE_BATCH)]
    )


def _batches(inputs: Feeds, size: int) -> Iterator[Feeds]:
    count = len(next(iter(inputs.values())))
    for start in range(0, count, size):
        yield {name: values[start : start + size] for name, values in inputs.items()}
