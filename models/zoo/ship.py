"""The last steps of every recipe: export, choose, decide, measure, write.

The order is the rule: the seed is chosen on the tune half of the held-out data, the threshold on
the calibrate half, and only then are the test data looked at, once, to be reported.
"""

from __future__ import annotations

import math
import platform
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

import numpy as np
import onnx
import torch

from models.calibrate.scores import Logits, confidence
from models.manifest import Decision
from models.pipeline.declared import Step
from models.zoo.data import Dataset, Labels, Raw
from models.zoo.export import Floats, onnx_logits, write_float, write_int8
from models.zoo.figures import CascadeFigures, CloudFigures, EdgeFigures, Figures, write_json
from models.zoo.fitting import Prepare
from models.zoo.lessons import Trained
from models.zoo.networks import parameter_count
from models.zoo.threshold import Mask, decide, harmed, tune_mask

INT8_CALIBRATION_SAMPLES = 1000
INT8_CALIBRATION_SEED = 0


@dataclass(frozen=True)
class Terms:
    """What a recipe declares about its task beside the networks."""

    preparation: tuple[Step, ...]
    prepare: Prepare
    """Does to a batch of raw tensors what `preparation` declares for one sample."""
    eps: float
    split: str
    """How the held-out part was cut into tune and calibrate, in words."""
    tune_persons: tuple[int, ...] = ()


def ship(
    dataset: Dataset,
    terms: Terms,
    *,
    cloud: Trained,
    edges: Sequence[Trained],
    teacher_cpu_seconds: float,
    out: Path,
) -> Figures:
    """Writes `edge.onnx`, `cloud.onnx`, `decision.json` and `figures.json` into `out`."""
    out.mkdir(parents=True, exist_ok=True)
    tune = tune_mask(dataset, terms.tune_persons)
    held_x, held_y = _prepared(dataset.held_x, terms), dataset.held_y
    sample_shape = held_x.shape[1:]
    cloud_path = out / "cloud.onnx"
    write_float(cloud.network, cloud_path, sample_shape=sample_shape)
    cloud_held = onnx_logits(cloud_path, held_x)

    with tempfile.TemporaryDirectory() as folder:
        pairs = [
            _edge_files(edge, Path(folder), _int8_calibration(dataset, terms)) for edge in edges
        ]
        edge_held = [onnx_logits(int8, held_x) for _, int8 in pairs]
        on_tune = [_percent(logits[tune], held_y[tune]) for logits in edge_held]
        shipped = int(np.argmax(on_tune))
        decision = decide(
            edge_held[shipped], cloud_held, held_y, tune, eps=terms.eps, split=terms.split
        )

        test_x, test_y = _prepared(dataset.test_x, terms), dataset.test_y
        cloud_test = onnx_logits(cloud_path, test_x)
        edge_test = [onnx_logits(int8, test_x) for _, int8 in pairs]
        edge_figures = tuple(
            EdgeFigures(
                seed=edge.seed,
                epochs=edge.epochs,
                cpu_seconds=round(edge.cpu_seconds, 1),
                file_bytes=int8.stat().st_size,
                tune_int8_percent=round(on_tune[number], 2),
                held_fp32_percent=_percent(onnx_logits(fp32, held_x), held_y),
                held_int8_percent=_percent(edge_held[number], held_y),
                test_fp32_percent=_percent(onnx_logits(fp32, test_x), test_y),
                test_int8_percent=_percent(edge_test[number], test_y),
            )
            for number, (edge, (fp32, int8)) in enumerate(zip(edges, pairs, strict=True))
        )
        (out / "edge.onnx").write_bytes(pairs[shipped][1].read_bytes())

    local_held, local = (_local(logits[shipped], decision) for logits in (edge_held, edge_test))
    harms = harmed(edge_test[shipped], cloud_test, test_y) & local
    routed = np.where(local[:, None], edge_test[shipped], cloud_test)
    figures = Figures(
        task=dataset.name,
        data_sha256=dataset.sha256,
        label_names=dataset.label_names,
        preparation=terms.preparation,
        edge_parameters=parameter_count(edges[shipped].network),
        shipped_seed=edges[shipped].seed,
        shipped_because="highest INT8 accuracy on the tune half of the held-out data",
        teacher_cpu_seconds=round(teacher_cpu_seconds, 1),
        edges=edge_figures,
        cloud=CloudFigures(
            seed=cloud.seed,
            epochs=cloud.epochs,
            cpu_seconds=round(cloud.cpu_seconds, 1),
            parameters=parameter_count(cloud.network),
            file_bytes=cloud_path.stat().st_size,
            held_percent=_percent(cloud_held, held_y),
            test_percent=_percent(cloud_test, test_y),
            test_macro_recall_percent=_macro_recall(cloud_test, test_y),
        ),
        cascade=CascadeFigures(
            held_escalated_percent=_share(~local_held),
            test_escalated_percent=_share(~local),
            test_percent=_percent(routed, test_y),
            test_harm_percent=_share(harms),
            test_macro_recall_edge_percent=_macro_recall(edge_test[shipped], test_y),
        ),
        versions={
            "python": platform.python_version(),
            "torch": str(torch.__version__),
            "onnx": onnx.__version__,
            "onnxruntime": metadata.version("onnxruntime"),
            "numpy": np.__version__,
        },
    )
    write_json(out / "decision.json", decision)
    write_json(out / "figures.json", figures)
    _tell(figures, decision)
    return figures


def _prepared(raw: Raw, terms: Terms) -> Floats:
    prepared: Floats = terms.prepare(torch.from_numpy(raw)).contiguous().numpy()
    return np.ascontiguousarray(prepared)


def _int8_calibration(dataset: Dataset, terms: Terms) -> Floats:
    """Training inputs for the ranges of INT8; they take no part in choosing a threshold."""
    order = np.random.default_rng(INT8_CALIBRATION_SEED).permutation(len(dataset.train_y))
    return _prepared(dataset.train_x[order[:INT8_CALIBRATION_SAMPLES]], terms)


def _edge_files(edge: Trained, folder: Path, calibration: Floats) -> tuple[Path, Path]:
    fp32, int8 = folder / f"{edge.seed}.fp32.onnx", folder / f"{edge.seed}.int8.onnx"
    write_float(edge.network, fp32, sample_shape=calibration.shape[1:])
    write_int8(edge.network, int8, calibration=calibration)
    return fp32, int8


def _local(logits: Logits, decision: Decision) -> Mask:
    """Which samples the device answers by itself."""
    threshold = math.inf if decision.threshold is None else decision.threshold
    local: Mask = confidence(logits, decision.temperature) >= threshold
    return local


def _percent(logits: Logits, labels: Labels) -> float:
    return round(100.0 * float((logits.argmax(axis=1) == labels).mean()), 2)


def _share(flags: Mask) -> float:
    return round(100.0 * float(flags.mean()), 2)


def _macro_recall(logits: Logits, labels: Labels) -> float:
    right = logits.argmax(axis=1) == labels
    recalls = [float(right[labels == label].mean()) for label in np.unique(labels)]
    return round(100.0 * float(np.mean(recalls)), 2)


def _tell(figures: Figures, decision: Decision) -> None:
    print(f"{figures.task}: data {figures.data_sha256}")
    for edge in figures.edges:
        mark = " <- ships" if edge.seed == figures.shipped_seed else ""
        print(
            f"  edge seed {edge.seed}: held INT8 {edge.held_int8_percent} %,"
            f" test FP32 {edge.test_fp32_percent} %, INT8 {edge.test_int8_percent} %,"
            f" {edge.file_bytes} bytes{mark}"
        )
    cloud, cascade = figures.cloud, figures.cascade
    print(
        f"  cloud seed {cloud.seed}: held {cloud.held_percent} %, test {cloud.test_percent} %,"
        f" {cloud.file_bytes} bytes\n"
        f"  threshold {decision.threshold}:"
        f" escalates {cascade.test_escalated_percent} % of test inputs,"
        f" cascade {cascade.test_percent} %, harm {cascade.test_harm_percent} %",
        flush=True,
    )
