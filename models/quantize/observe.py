"""Runs a prepared model over calibration inputs and turns what every tensor held into ranges.

One batch's activations are in memory at a time, however many samples there are; histograms take a
second pass, because their bins need the extremes.
"""

import os
from collections.abc import Iterator, Mapping

import numpy as np
from onnx import ModelProto, TensorProto

from models.errors import CalibrationUnfit, ModelUnsupported
from models.quantize.feeds import Feeds
from models.quantize.options import Array, Settings
from models.quantize.ranges import (
    BINS,
    Histogram,
    Range,
    by_entropy,
    by_percentile,
    count,
    count_magnitudes,
    seen,
    with_zero,
)

Ranges = Mapping[str, Range]
"""By tensor name of the prepared model."""


def ranges_of(model: ModelProto, feeds: Feeds, settings: Settings) -> Ranges:
    """The range of every float32 activation. Raises `ModelUnsupported`, `CalibrationUnfit`."""
    names = _activations(model)
    extremes: dict[str, Range] = {}
    for values in _observed(model, names, feeds):
        for name, array in values.items():
            extremes[name] = seen(extremes.get(name), array)
    for name, found in extremes.items():
        if not np.isfinite(found).all():
            raise CalibrationUnfit(
                f"the model computes NaN or an infinity in {name!r} from these inputs; look for a "
                "sample that was not prepared, or for a division by zero in the model"
            )
    if settings.method == "minmax":
        return {name: with_zero(found) for name, found in extremes.items()}
    magnitudes = settings.method == "entropy"
    counts = {name: np.zeros(BINS, np.int64) for name in extremes}
    ends = {
        name: Range(0.0, max(abs(found.low), abs(found.high))) if magnitudes else found
        for name, found in extremes.items()
    }
    for values in _observed(model, names, feeds):
        for name, array in values.items():
            low, high = ends[name]
            counts[name] += count_magnitudes(array, high) if magnitudes else count(array, low, high)
    histograms = {name: Histogram(*ends[name], counts[name]) for name in extremes}
    if magnitudes:
        return {name: by_entropy(each, extremes[name]) for name, each in histograms.items()}
    return {name: by_percentile(each, settings.percentile) for name, each in histograms.items()}


def _activations(model: ModelProto) -> tuple[str, ...]:
    graph = model.graph
    weights = {tensor.name for tensor in graph.initializer}
    met = {name for node in graph.node for name in (*node.input, *node.output)} - weights
    known = (*graph.input, *graph.output, *graph.value_info)
    return tuple(
        dict.fromkeys(
            value.name
            for value in known
            if value.name in met and value.type.tensor_type.elem_type == TensorProto.FLOAT
        )
    )


def _observed(
    model: ModelProto, names: tuple[str, ...], feeds: Feeds
) -> Iterator[Mapping[str, Array]]:
    """Every activation, batch after batch."""
    os.environ["ORT_DISABLE_TELEMETRY"] = "1"
    import onnxruntime

    open_model = ModelProto()
    open_model.CopyFrom(model)
    known = {value.name: value for value in (*model.graph.input, *model.graph.value_info)}
    outputs = {value.name for value in model.graph.output}
    inputs = {each.name for each in feeds.inputs}
    # An input cannot be an output as well; it is what was fed.
    computed = [name for name in names if name not in inputs]
    open_model.graph.output.extend(known[name] for name in computed if name not in outputs)
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 4
    try:
        session = onnxruntime.InferenceSession(
            open_model.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )
        for batch in feeds.batches():
            fed = {each.name: array for each, array in zip(feeds.inputs, batch, strict=True)}
            given = session.run(computed, fed)
            values = fed | dict(zip(computed, given, strict=True))
            yield {name: values[name] for name in names}
    except Exception as error:  # onnxruntime's errors derive from Exception alone
        raise ModelUnsupported(
            f"onnxruntime {onnxruntime.__version__} does not run the model on these inputs: "
            f"{error}; check that they are prepared as the model's pipeline does"
        ) from error
