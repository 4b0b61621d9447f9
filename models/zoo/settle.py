"""The last steps of a recipe on generated data: choose, decide, measure, write.

The order is the rule: the seed is chosen on the tune groups of the held-out data, the threshold on
the calibrate groups, and only then are the test data looked at, once, to be reported.
"""

from __future__ import annotations

import platform
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

import msgspec
import numpy as np
from msgspec import Struct

from models.calibrate.scores import Logits
from models.pipeline.ops.families import Step
from models.zoo.cascade import cascade_figures
from models.zoo.data import Dataset, Labels, Raw
from models.zoo.figures import CascadeFigures
from models.zoo.threshold import Mask, decide, tune_mask

Answer = Callable[[Path, Raw], Logits]
"""Logits of a file for raw samples, through their declared preparation and onnxruntime."""
TRAINED_WITH = ("numpy", "onnx", "onnxruntime", "scikit-learn", "skl2onnx", "tokenizers")


class NetFigures(Struct, frozen=True):
    """One trained net. Accuracies are in percent."""

    seed: int
    precision: str
    file_bytes: int
    parameters: int
    cpu_seconds: float
    tune_percent: float
    held_percent: float
    test_percent: float
    test_fp32_percent: float
    test_recall_percent: tuple[float, ...]
    """Share found of each class, in the order of the labels."""


class GeneratedFigures(Struct, frozen=True):
    """All of one task on generated data."""

    task: str
    data: str
    data_sha256: str
    label_names: tuple[str, ...]
    edge_preparation: tuple[Step, ...]
    cloud_preparation: tuple[Step, ...]
    """Steps from a raw input to what the net takes, as a manifest declares them."""
    tokens: int | None
    """Places of a text after `tokenizer.json`; None where no text comes in."""
    tune_groups: tuple[int, ...]
    """Held-out groups that choose seed and temperature; the others calibrate."""
    edge_precision_because: str
    shipped_seed: int
    shipped_because: str
    edges: tuple[NetFigures, ...]
    cloud: NetFigures
    cascade: CascadeFigures
    versions: dict[str, str]


@dataclass(frozen=True)
class Net:
    """A trained net on disk."""

    path: Path
    seed: int
    precision: str
    parameters: int
    cpu_seconds: float
    answer: Answer
    fp32: Path | None = None
    """The same net before INT8."""


@dataclass(frozen=True)
class Terms:
    """What a recipe declares about its task beside the nets."""

    data: str
    eps: float
    groups: str
    """What a group is, in the plural."""
    tune_groups: tuple[int, ...]
    edge_preparation: tuple[Step, ...]
    cloud_preparation: tuple[Step, ...]
    edge_precision_because: str
    tokens: int | None = None


def settle(
    dataset: Dataset, terms: Terms, *, edges: Sequence[Net], cloud: Net, out: Path
) -> GeneratedFigures:
    """Writes `edge.onnx`, `cloud.onnx`, `certificate.json` and `figures.json` into `out`."""
    tune = tune_mask(dataset, terms.tune_groups)
    held_y = dataset.held_y
    cloud_held = cloud.answer(cloud.path, dataset.held_x)
    edge_held = [edge.answer(edge.path, dataset.held_x) for edge in edges]
    on_tune = [_percent(logits[tune], held_y[tune]) for logits in edge_held]
    shipped = int(np.argmax(on_tune))
    certificate = decide(
        edge_held[shipped],
        cloud_held,
        held_y,
        tune,
        eps=terms.eps,
        split=_split(dataset, terms),
        groups=dataset.held_groups,
        counting="groups",
    )

    test_y = dataset.test_y
    cloud_test = cloud.answer(cloud.path, dataset.test_x)
    edge_test = [edge.answer(edge.path, dataset.test_x) for edge in edges]
    figures = GeneratedFigures(
        task=dataset.name,
        data=terms.data,
        data_sha256=dataset.sha256,
        label_names=dataset.label_names,
        edge_preparation=terms.edge_preparation,
        cloud_preparation=terms.cloud_preparation,
        tokens=terms.tokens,
        tune_groups=terms.tune_groups,
        edge_precision_because=terms.edge_precision_because,
        shipped_seed=edges[shipped].seed,
        shipped_because="highest accuracy on the tune groups of the held-out data",
        edges=tuple(
            _figures(edge, dataset, tune, held, test)
            for edge, held, test in zip(edges, edge_held, edge_test, strict=True)
        ),
        cloud=_figures(cloud, dataset, tune, cloud_held, cloud_test),
        cascade=cascade_figures(
            certificate, edge_held[shipped], edge_test[shipped], cloud_test, test_y
        ),
        versions={"python": platform.python_version()}
        | {name: metadata.version(name) for name in TRAINED_WITH},
    )
    out.mkdir(parents=True, exist_ok=True)
    (out / "edge.onnx").write_bytes(edges[shipped].path.read_bytes())
    (out / "cloud.onnx").write_bytes(cloud.path.read_bytes())
    for name, value in (("certificate.json", certificate), ("figures.json", figures)):
        encoded = msgspec.json.format(msgspec.json.encode(value), indent=2)
        (out / name).write_bytes(encoded + b"\n")
    tell(figures)
    return figures


def tell(figures: GeneratedFigures) -> None:
    """Prints what was measured."""
    print(f"{figures.task}: {figures.data}, data {figures.data_sha256}")
    for net in (*figures.edges, figures.cloud):
        mark = " <- ships" if net is not figures.cloud and net.seed == figures.shipped_seed else ""
        print(
            f"  {'cloud' if net is figures.cloud else 'edge'} seed {net.seed}, {net.precision}:"
            f" tune {net.tune_percent} %, held {net.held_percent} %, test {net.test_percent} %"
            f" (FP32 {net.test_fp32_percent} %), recall {net.test_recall_percent},"
            f" {net.file_bytes} bytes, {net.cpu_seconds} s{mark}"
        )
    cascade = figures.cascade
    print(
        f"  escalates {cascade.test_escalated_percent} % of test inputs"
        f" (held {cascade.held_escalated_percent} %), cascade {cascade.test_percent} %,"
        f" harm {cascade.test_harm_percent} %",
        flush=True,
    )


def _figures(net: Net, dataset: Dataset, tune: Mask, held: Logits, test: Logits) -> NetFigures:
    before = test if net.fp32 is None else net.answer(net.fp32, dataset.test_x)
    return NetFigures(
        seed=net.seed,
        precision=net.precision,
        file_bytes=net.path.stat().st_size,
        parameters=net.parameters,
        cpu_seconds=round(net.cpu_seconds, 1),
        tune_percent=_percent(held[tune], dataset.held_y[tune]),
        held_percent=_percent(held, dataset.held_y),
        test_percent=_percent(test, dataset.test_y),
        test_fp32_percent=_percent(before, dataset.test_y),
        test_recall_percent=_recalls(test, dataset.test_y),
    )


def _split(dataset: Dataset, terms: Terms) -> str:
    held = np.array([]) if dataset.held_groups is None else np.unique(dataset.held_groups)
    tuning = len(terms.tune_groups)
    return f"by group: {tuning} {terms.groups} tune, {len(held) - tuning} others calibrate"


def _recalls(logits: Logits, labels: Labels) -> tuple[float, ...]:
    right = logits.argmax(axis=1) == labels
    return tuple(_share(right[labels == label]) for label in range(logits.shape[1]))


def _percent(logits: Logits, labels: Labels) -> float:
    return _share(logits.argmax(axis=1) == labels)


def _share(flags: Mask) -> float:
    return round(100.0 * float(flags.mean()), 2)
