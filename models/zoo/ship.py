"""The last steps of every recipe: export, choose, decide, measure, write.

The order is the rule: the seed is chosen on the tune half of the held-out data, the threshold on
the calibrate half, and only then are the test data looked at, once, to be reported.
"""

from __future__ import annotations

import platform
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

import numpy as np
import onnx
import torch

from models.calibrate.certificate import Certificate
from models.calibrate.scores import Logits
from models.pipeline.ops.families import Step
from models.zoo.cascade import cascade_figures
from models.zoo.data import Dataset, Labels, Raw
from models.zoo.export import Floats, onnx_logits, write_float, write_int8
from models.zoo.figures import (
    CloudFigures,
    EdgeFigures,
    Figures,
    write_json,
)
from models.zoo.fitting import Prepare
from models.zoo.lessons import Trained
from models.zoo.networks import parameter_count
from models.zoo.threshold import decide, tune_mask

INT8_CALIBRATION_SAMPLES = 1000
INT8_CALIBRATION_SEED = 0
CHOSEN = "highest INT8 accuracy on the tune half of the held-out data"
ALONE = "the only seed that was trained"


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
    """Writes `edge.onnx`, `cloud.onnx`, `certificate.json` and `figures.json` into `out`."""
    out.mkdir(parents=True, exist_ok=True)
    held_x = _prepared(dataset.held_x, terms)
    cloud_path = out / "cloud.onnx"
    write_float(cloud.network, cloud_path, sample_shape=held_x.shape[1:])

    def measured(cloud_held: Floats, cloud_test: Floats) -> CloudFigures:
        return CloudFigures(
            seed=cloud.seed,
            epochs=cloud.epochs,
            cpu_seconds=round(cloud.cpu_seconds, 1),
            parameters=parameter_count(cloud.network),
            file_bytes=cloud_path.stat().st_size,
            held_percent=_percent(cloud_held, dataset.held_y),
            test_percent=_percent(cloud_test, dataset.test_y),
            test_macro_recall_percent=_macro_recall(cloud_test, dataset.test_y),
        )

    return _ship_edges(dataset, terms, edges, cloud_path, measured, teacher_cpu_seconds, out)


def ship_size(
    dataset: Dataset,
    terms: Terms,
    *,
    edges: Sequence[Trained],
    beside: Figures,
    cloud_path: Path,
    out: Path,
) -> Figures:
    """Another size of the edge net whose cloud net ships `beside` it: all files but `cloud.onnx`.

    The threshold is this size's own.
    """
    out.mkdir(parents=True, exist_ok=True)
    seconds = beside.teacher_cpu_seconds
    return _ship_edges(
        dataset, terms, edges, cloud_path, lambda _held, _test: beside.cloud, seconds, out
    )


def _ship_edges(
    dataset: Dataset,
    terms: Terms,
    edges: Sequence[Trained],
    cloud_path: Path,
    cloud_figures: Callable[[Floats, Floats], CloudFigures],
    teacher_cpu_seconds: float,
    out: Path,
) -> Figures:
    """Chooses, decides and measures with a cloud file that is there."""
    tune = tune_mask(dataset, terms.tune_persons)
    held_x, held_y = _prepared(dataset.held_x, terms), dataset.held_y
    cloud_held = onnx_logits(cloud_path, held_x)

    with tempfile.TemporaryDirectory() as folder:
        pairs = [
            _edge_files(edge, Path(folder), _int8_calibration(dataset, terms)) for edge in edges
        ]
        edge_held = [onnx_logits(int8, held_x) for _, int8 in pairs]
        on_tune = [_percent(logits[tune], held_y[tune]) for logits in edge_held]
        shipped = int(np.argmax(on_tune))
        certificate = decide(
            edge_held[shipped],
            cloud_held,
            held_y,
            tune,
            eps=terms.eps,
            split=terms.split,
            groups=dataset.held_groups,
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

    figures = Figures(
        task=dataset.name,
        data_sha256=dataset.sha256,
        label_names=dataset.label_names,
        preparation=terms.preparation,
        edge_parameters=parameter_count(edges[shipped].network),
        shipped_seed=edges[shipped].seed,
        shipped_because=CHOSEN if len(edges) > 1 else ALONE,
        teacher_cpu_seconds=round(teacher_cpu_seconds, 1),
        edges=edge_figures,
        cloud=cloud_figures(cloud_held, cloud_test),
        cascade=cascade_figures(
            certificate, edge_held[shipped], edge_test[shipped], cloud_test, test_y
        ),
        versions={
            "python": platform.python_version(),
            "torch": str(torch.__version__),
            "onnx": onnx.__version__,
            "onnxruntime": metadata.version("onnxruntime"),
            "numpy": np.__version__,
        },
    )
    write_json(out / "certificate.json", certificate)
    write_json(out / "figures.json", figures)
    _tell(figures, certificate)
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


def _percent(logits: Logits, labels: Labels) -> float:
    return round(100.0 * float((logits.argmax(axis=1) == labels).mean()), 2)


def _macro_recall(logits: Logits, labels: Labels) -> float:
    right = logits.argmax(axis=1) == labels
    recalls = [float(right[labels == label].mean()) for label in np.unique(labels)]
    return round(100.0 * float(np.mean(recalls)), 2)


def _tell(figures: Figures, certificate: Certificate) -> None:
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
        f"  threshold {certificate.threshold}:"
        f" escalates {cascade.test_escalated_percent} % of test inputs,"
        f" cascade {cascade.test_percent} %, harm {cascade.test_harm_percent} %",
        flush=True,
    )
