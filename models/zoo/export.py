"""From a trained network to the two files that ship: a float ONNX file and an INT8 one.

Rules:
1. Input `x`, output `logits`, both with a free first axis `n`; opset 17.
2. Batch normalisation and output scales are folded in: nothing that only training needs ships.
3. Names, value_info and doc strings are stripped: on small nets they are a tenth of the file.
4. INT8 is static QDQ: unsigned activations, signed weights per channel, ranges from training data.
"""

from __future__ import annotations

import copy
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from models.zoo.networks import ScaledLinear

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

import onnxruntime
from onnxruntime.quantization import (
    CalibrationDataReader,
    QuantFormat,
    QuantType,
    quantize_static,
)
from onnxruntime.quantization.shape_inference import quant_pre_process

Floats = npt.NDArray[np.float32]

OPSET = 17
CALIBRATION_BATCH = 64
INFERENCE_BATCH = 500


def fused(network: nn.Module) -> nn.Module:
    """A copy for inference, with batch normalisation and output scales folded into weights."""
    folded = copy.deepcopy(network).eval().float().to(memory_format=torch.contiguous_format)
    return _folded_tree(folded)


def _folded_tree(module: nn.Module) -> nn.Module:
    if isinstance(module, ScaledLinear):
        linear = nn.Linear(module.in_features, module.out_features)
        linear.weight.data = module.weight.data * module.scale
        linear.bias.data = module.bias.data * module.scale
        return linear
    if isinstance(module, nn.Sequential):
        layers: list[nn.Module] = []
        for layer in module:
            if isinstance(layer, nn.BatchNorm1d | nn.BatchNorm2d):
                layers[-1] = fuse_conv_bn_eval(layers[-1], layer)
            else:
                layers.append(_folded_tree(layer))
        return nn.Sequential(*layers)
    for name, child in list(module.named_children()):
        setattr(module, name, _folded_tree(child))
    return module


def write_float(network: nn.Module, path: Path, *, sample_shape: tuple[int, ...]) -> None:
    """Writes `network` as FP32 ONNX, folded and stripped."""
    _export(network, path, sample_shape)
    strip(path)


def write_int8(network: nn.Module, path: Path, *, calibration: Floats) -> None:
    """Writes `network` as INT8 ONNX; `calibration` are prepared training inputs."""
    with tempfile.TemporaryDirectory() as folder:
        # Not the stripped file: quantising looks for the mark that shape inference leaves.
        unstripped = Path(folder) / "fp32.onnx"
        _export(network, unstripped, calibration.shape[1:])
        quantize_static(
            str(unstripped),
            str(path),
            _Batches(calibration),
            quant_format=QuantFormat.QDQ,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            per_channel=True,
        )
    strip(path)


def _export(network: nn.Module, path: Path, sample_shape: tuple[int, ...]) -> None:
    torch.onnx.export(
        fused(network),
        (torch.zeros(1, *sample_shape),),
        str(path),
        input_names=["x"],
        output_names=["logits"],
        opset_version=OPSET,
        dynamic_axes={"x": {0: "n"}, "logits": {0: "n"}},
        dynamo=False,
    )
    quant_pre_process(str(path), str(path), skip_symbolic_shape=True)


class _Batches(CalibrationDataReader):  # type: ignore[misc]
    """The calibration inputs in the form onnxruntime asks for."""

    def __init__(self, inputs: Floats) -> None:
        starts = range(0, len(inputs), CALIBRATION_BATCH)
        self._feeds: Iterator[dict[str, Floats]] = iter(
            [{"x": inputs[start : start + CALIBRATION_BATCH]} for start in starts]
        )

    def get_next(self) -> dict[str, Floats] | None:
        return next(self._feeds, None)


def strip(path: Path) -> None:
    """Rewrites an ONNX file without names, value_info, metadata and doc strings."""
    model = onnx.load(str(path))
    graph = model.graph
    short: dict[str, str] = {"": ""} | {
        value.name: value.name for value in (*graph.input, *graph.output)
    }

    def renamed(name: str) -> str:
        return short.setdefault(name, f"t{len(short):x}")

    for initializer in graph.initializer:
        initializer.name = renamed(initializer.name)
        initializer.doc_string = ""
    for node in graph.node:
        node.name = ""
        node.doc_string = ""
        node.input[:] = [renamed(name) for name in node.input]
        node.output[:] = [renamed(name) for name in node.output]
    del graph.value_info[:]
    del model.metadata_props[:]
    graph.name = "longstop"
    graph.doc_string = model.doc_string = ""
    onnx.checker.check_model(model)
    onnx.save(model, str(path))


def onnx_logits(path: Path, inputs: Floats) -> Floats:
    """The logits onnxruntime computes from a file, one thread, on the processor."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    starts = range(0, len(inputs), INFERENCE_BATCH)
    batches = (inputs[start : start + INFERENCE_BATCH] for start in starts)
    return np.concatenate([session.run(None, {"x": batch})[0] for batch in batches])
