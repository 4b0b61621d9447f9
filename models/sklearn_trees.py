"""Histogram gradient boosting as one node of trees; the exporter writes its nodes in a form that
today's ONNX refuses.

A sample goes left where its value is at most the threshold, or is missing and the node says so.
Thresholds are float64 and samples float32, so each is rounded down: x <= t then means the same.
"""

from typing import Any

import numpy as np

from models.errors import EstimatorUnsupported


def trees_node(final: Any, source: str, result: str) -> Any:
    """A `TreeEnsembleRegressor` from float32 [n, k] to raw scores [n, trees of one iteration].

    Raises `EstimatorUnsupported` for splits on categories, which trees in ONNX do not have.
    """
    from onnx import helper

    trees = [
        (target, tree.nodes) for stage in final._predictors for target, tree in enumerate(stage)
    ]
    nodes = np.concatenate([nodes for _, nodes in trees])
    if nodes["is_categorical"].any():
        raise EstimatorUnsupported(
            f"{type(final).__name__} splits on categories, which trees in ONNX cannot; "
            "encode them as numbers before it"
        )
    sizes = [len(nodes) for _, nodes in trees]
    tree_of = np.repeat(np.arange(len(trees)), sizes)
    node_of = np.concatenate([np.arange(size) for size in sizes])
    target_of = np.repeat([target for target, _ in trees], sizes)
    leaf = nodes["is_leaf"].astype(bool)
    return helper.make_node(
        "TreeEnsembleRegressor",
        [source],
        [result],
        domain="ai.onnx.ml",
        n_targets=int(final.n_trees_per_iteration_),
        base_values=np.ravel(final._baseline_prediction).astype(np.float32).tolist(),
        nodes_treeids=tree_of.tolist(),
        nodes_nodeids=node_of.tolist(),
        nodes_featureids=np.where(leaf, 0, nodes["feature_idx"]).tolist(),
        nodes_modes=["LEAF" if end else "BRANCH_LEQ" for end in leaf],
        nodes_values=_rounded_down(np.where(leaf, 0.0, nodes["num_threshold"])),
        nodes_truenodeids=np.where(leaf, 0, nodes["left"]).tolist(),
        nodes_falsenodeids=np.where(leaf, 0, nodes["right"]).tolist(),
        nodes_missing_value_tracks_true=np.where(leaf, 0, nodes["missing_go_to_left"]).tolist(),
        target_treeids=tree_of[leaf].tolist(),
        target_nodeids=node_of[leaf].tolist(),
        target_ids=target_of[leaf].tolist(),
        target_weights=nodes["value"][leaf].astype(np.float32).tolist(),
    )


def _rounded_down(thresholds: Any) -> list[float]:
    """The largest float32 at most each threshold. A threshold of +inf only missing values pass."""
    single = thresholds.astype(np.float32)
    above = single.astype(np.float64) > thresholds
    lower: list[float] = np.where(above, np.nextafter(single, np.float32(-np.inf)), single).tolist()
    return lower
