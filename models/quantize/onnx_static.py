"""Static INT8: a prepared float model and its ranges make one QDQ file that every runtime reads.

Activations are unsigned and have one scale, weights are signed and symmetric with one scale per
output channel: the only pair of types that is fast on the processors we know. Onnxruntime's own
quantiser places the nodes; ranges come from `observe`, so that a sweep over layers pays for them
once.
"""

import os
import tempfile
from collections.abc import Sequence
from fnmatch import fnmatchcase
from pathlib import Path

import numpy as np
import onnx
from onnx import ModelProto, TensorProto

from models.errors import ModelUnsupported, NothingToQuantise, TargetUnwritable, UnknownLayer
from models.quantize.feeds import fit
from models.quantize.observe import Ranges, ranges_of
from models.quantize.options import Array, Settings
from models.quantize.prepare import layers_of, prepared
from models.quantize.reading import read_float
from models.quantize.strip import stripped


def write_static(source: Path, target: Path, inputs: Sequence[Array], settings: Settings) -> None:
    """`source`, float32, as INT8 in `target`, with ranges from `inputs`: one array [n, ...] each.

    Raises `QuantizeError`, `TargetUnwritable`.
    """
    ready = prepared(read_float(source))
    ranges = ranges_of(ready, fit(ready, inputs), settings)
    kept = matching(ready, settings.keep)
    write(stripped(static(ready, ranges, settings, kept)), target)


def matching(ready: ModelProto, patterns: Sequence[str]) -> tuple[str, ...]:
    """Names of the nodes that stay in FP32. Raises `UnknownLayer` for a pattern without any."""
    names = [node.name for node in ready.graph.node]
    found: dict[str, None] = {}
    for pattern in patterns:
        fits = [name for name in names if name == pattern or fnmatchcase(name, pattern)]
        if not fits:
            layers = ", ".join(f"{each.name}" for each in layers_of(ready))
            raise UnknownLayer(
                f"no layer is called {pattern!r}; those that multiply are {layers or 'none'}"
            )
        found.update(dict.fromkeys(fits))
    return tuple(found)


def static(
    ready: ModelProto, ranges: Ranges, settings: Settings, kept: Sequence[str]
) -> ModelProto:
    """The prepared model as QDQ, names and all; nodes in `kept` stay in FP32.

    Raises `NothingToQuantise`, `ModelUnsupported`.
    """
    if not any(each.name not in kept for each in layers_of(ready)):
        raise NothingToQuantise(
            "the model has no Conv, ConvTranspose, Gemm or MatMul that may be quantised; "
            "ship the FP32 file, or keep fewer layers"
        )
    os.environ["ORT_DISABLE_TELEMETRY"] = "1"
    from onnxruntime.quantization import CalibrationMethod, QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.calibrate import TensorsData, save_tensors_data
    from onnxruntime.quantization.quant_utils import add_pre_process_metadata

    marked = ModelProto()
    marked.CopyFrom(ready)
    add_pre_process_metadata(marked)  # else it warns that nobody folded
    spans = {
        name: (np.array([found.low], np.float32), np.array([found.high], np.float32))
        for name, found in ranges.items()
    }
    with tempfile.TemporaryDirectory(prefix="longstop-quantize.") as folder:
        source, written, cache = (Path(folder) / name for name in ("f.onnx", "q.onnx", "r.json"))
        onnx.save(marked, str(source))
        # Whatever method found the ranges, they are two numbers by now.
        save_tensors_data(TensorsData(CalibrationMethod.MinMax, spans), cache)
        try:
            quantize_static(
                str(source),
                str(written),
                quant_format=QuantFormat.QDQ,
                activation_type=QuantType.QUInt8,
                weight_type=QuantType.QInt8,
                per_channel=settings.per_channel,
                reduce_range=settings.reduce_range,
                nodes_to_exclude=list(kept),
                calibration_cache_path=cache,
            )
            model = onnx.load(str(written))
        except Exception as error:  # its errors are of every class
            raise ModelUnsupported(
                "onnxruntime's quantiser does not take the model: "
                f"{str(error) or type(error).__name__}; export it with fixed shapes, or keep the "
                "layer it names"
            ) from error
    if not weight_codes(model):
        raise NothingToQuantise(
            "no weight of the model became an integer; ship the FP32 file, or keep fewer layers"
        )
    return model


def weight_codes(model: ModelProto) -> tuple[str, ...]:
    """Names of the int8 weights of a QDQ model."""
    integers = {each.name for each in model.graph.initializer if each.data_type == TensorProto.INT8}
    return tuple(
        node.input[0]
        for node in model.graph.node
        if node.op_type == "DequantizeLinear" and node.input[0] in integers
    )


def write(model: ModelProto, target: Path) -> None:
    """A model as one file, whole or not at all. Raises `TargetUnwritable`."""
    draft = target.with_name(f".{target.name}.part")
    try:
        draft.write_bytes(model.SerializeToString())
        draft.replace(target)
    except OSError as error:
        draft.unlink(missing_ok=True)
        raise TargetUnwritable(
            f"{target} cannot be written: {error.strerror}; choose a folder that can be written"
        ) from error
