"""The one file that meets skl2onnx: a fitted estimator as a graph with one input and one output."""

import os
from typing import Any, Literal

import msgspec
import numpy as np

from models.errors import EstimatorUnsupported
from models.sklearn_trees import trees_node

Ending = Literal["probabilities", "logits", "values"]
"""What the exporter's last output holds: probabilities, decision scores, or numbers."""
FLOOR = 1e-10
"""The least probability an exported classifier gives, where its file ends in probabilities."""
OPSET = 17
_ML_OPSET = 3


def convert(estimator: Any, final: Any, ending: Ending, *, width: int) -> bytes:
    """The ONNX file of `estimator`, whose last step is `final`: float32 x [n, k] to y [n, width].

    Raises `EstimatorUnsupported`; `ModuleNotFoundError` without
    the exporter.
    """
    kind = type(final).__name__
    if kind.startswith("HistGradientBoosting"):
        model = _boosted(estimator, final)
    else:
        options: dict[str, bool] = {}
        if ending != "values" and kind != "LinearSVC":  # it has no such option
            options["zipmap"] = False
        if ending == "logits":
            options["raw_scores"] = True
        model = _export(estimator, {id(final): options} if options else None)
    _end_in_scores(model.graph, ending, width)
    _drop_unneeded(model.graph)
    return _bytes(model, [str(name) for name in getattr(final, "classes_", ())])


def _export(estimator: Any, options: dict[int, dict[str, bool]] | None = None) -> Any:
    """The exporter's own graph, from `x`; the last output are scores or values."""
    # skl2onnx may import onnxruntime, whose telemetry is on unless this is set before.
    os.environ["ORT_DISABLE_TELEMETRY"] = "1"
    from skl2onnx import to_onnx  # type: ignore[import-untyped]
    from skl2onnx.common.data_types import FloatTensorType  # type: ignore[import-untyped]

    try:
        return to_onnx(
            estimator,
            initial_types=[("x", FloatTensorType([None, int(estimator.n_features_in_)]))],
            options=options,
            target_opset={"": OPSET, "ai.onnx.ml": _ML_OPSET},
        )
    except Exception as error:
        raise EstimatorUnsupported(
            f"{type(estimator).__name__} with these options cannot be exported: "
            f"{type(error).__name__}: {str(error)[:300]}; fit it with others, or export it to "
            "ONNX yourself"
        ) from error


def _boosted(estimator: Any, final: Any) -> Any:
    """What comes before the trees by the exporter, then the trees."""
    import onnx
    from onnx import TensorProto, helper
    from sklearn.pipeline import Pipeline

    before = _transformers(estimator)
    if before:
        model = _export(Pipeline(before))
        graph = model.graph
    else:
        given = helper.make_tensor_value_info(
            "x", TensorProto.FLOAT, [None, int(estimator.n_features_in_)]
        )
        graph = helper.make_graph([], "trees", [given], [given])
        opsets = [helper.make_opsetid("", OPSET), helper.make_opsetid("ai.onnx.ml", _ML_OPSET)]
        model = helper.make_model(
            graph, opset_imports=opsets, ir_version=onnx.helper.find_min_ir_version_for(opsets)
        )
        graph = model.graph
    graph.node.append(trees_node(final, graph.output[-1].name, "raw"))
    scores = "raw"
    if hasattr(final, "classes_") and final.n_trees_per_iteration_ == 1:
        sides = onnx.numpy_helper.from_array(np.array([[-1, 1]], np.float32), "two_sides")
        graph.initializer.append(sides)
        graph.node.append(helper.make_node("Mul", ["raw", sides.name], ["both"]))
        scores = "both"
    graph.output.append(helper.make_tensor_value_info(scores, TensorProto.FLOAT, None))
    if "ai.onnx.ml" not in {opset.domain for opset in model.opset_import}:
        model.opset_import.append(helper.make_opsetid("ai.onnx.ml", _ML_OPSET))
    return model


def _transformers(estimator: Any) -> list[tuple[str, Any]]:
    """The steps before the last one, of pipelines in pipelines too."""
    if type(estimator).__name__ != "Pipeline":
        return []
    *before, (_, last) = estimator.steps
    return [
        (f"{depth}{name}", step)
        for depth, steps in ((0, before), (1, _transformers(last)))
        for name, step in steps
        if step is not None and step != "passthrough"
    ]


def _end_in_scores(graph: Any, ending: Ending, width: int) -> None:
    """Put `y` float32 [n, width] in place of the exporter's outputs."""
    from onnx import TensorProto, helper, numpy_helper

    def constant(name: str, value: Any) -> str:
        graph.initializer.append(numpy_helper.from_array(value, name))
        return name

    scores = graph.output[-1].name  # labels, if any, come before it
    if ending == "probabilities":
        floor = constant("least_probability", np.array(FLOOR, np.float32))
        graph.node.append(helper.make_node("Max", [scores, floor], ["floored"]))
        graph.node.append(helper.make_node("Log", ["floored"], ["scores_of_any_shape"]))
    elif ending == "logits" and width == 2:
        # The exporter gives -s and s, of which sigmoid(s) is the softmax at half their size.
        half = constant("half", np.array(0.5, np.float32))
        graph.node.append(helper.make_node("Mul", [scores, half], ["scores_of_any_shape"]))
    else:
        graph.node.append(helper.make_node("Identity", [scores], ["scores_of_any_shape"]))
    shape = constant("y_shape", np.array([-1, width], np.int64))
    graph.node.append(helper.make_node("Reshape", ["scores_of_any_shape", shape], ["y"]))
    del graph.output[:]
    graph.output.append(helper.make_tensor_value_info("y", TensorProto.FLOAT, [None, width]))


def _drop_unneeded(graph: Any) -> None:
    """Leave out what `y` does not need: the way to the labels."""
    needed, kept = {"y"}, []
    for node in reversed(graph.node):
        if needed & set(node.output):
            needed.update(node.input)
            kept.append(node)
    weights = [weight for weight in graph.initializer if weight.name in needed]
    del graph.node[:], graph.initializer[:], graph.value_info[:]
    graph.node.extend(reversed(kept))
    graph.initializer.extend(weights)


def _bytes(model: Any, classes: list[str]) -> bytes:
    """The same bytes for the same estimator; the names of the classes stand in the metadata."""
    import onnx

    model.graph.name, model.doc_string = "estimator", ""
    onnx.helper.set_model_props(model, {})
    if classes:
        named = msgspec.json.encode(classes).decode()
        onnx.helper.set_model_props(model, {"classes": named})
    onnx.checker.check_model(model)
    data: bytes = model.SerializeToString(deterministic=True)
    return data
