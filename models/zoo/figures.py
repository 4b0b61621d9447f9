"""What a recipe measured, as it stands beside the weights: `figures.json` and `certificate.json`.

Accuracies are in percent. *Held* is the held-out part: its tune half chooses the shipped seed and
the temperature, its calibrate half the threshold. *Test* was read once, after everything else.
"""

from __future__ import annotations

from pathlib import Path

import msgspec
from msgspec import Struct

from models.calibrate.certificate import Certificate
from models.pipeline.ops.families import Step

ZOO = Path(__file__).resolve().parent
TASKS = ("apparel", "activity", "digits")


class EdgeFigures(Struct, frozen=True):
    """One seed of the edge net."""

    seed: int
    epochs: int
    cpu_seconds: float
    file_bytes: int
    """Of the INT8 file."""
    tune_int8_percent: float
    held_fp32_percent: float
    held_int8_percent: float
    test_fp32_percent: float
    test_int8_percent: float


class CloudFigures(Struct, frozen=True):
    """The cloud net, FP32."""

    seed: int
    epochs: int
    cpu_seconds: float
    parameters: int
    file_bytes: int
    held_percent: float
    test_percent: float
    test_macro_recall_percent: float


class CascadeFigures(Struct, frozen=True):
    """Shipped edge net, threshold and cloud net together."""

    held_escalated_percent: float
    test_escalated_percent: float
    test_percent: float
    """Accuracy when every input below the threshold gets the cloud's answer."""
    test_harm_percent: float
    """Answered locally, edge wrong, cloud right: what eps promises to bound."""
    test_macro_recall_edge_percent: float


class Figures(Struct, frozen=True):
    """All of one task."""

    task: str
    data_sha256: str
    label_names: tuple[str, ...]
    preparation: tuple[Step, ...]
    """Steps from a raw input to the net's `x`, as a manifest declares them."""
    edge_parameters: int
    shipped_seed: int
    shipped_because: str
    teacher_cpu_seconds: float
    """Spent on teachers that do not ship and on their answers, beside the times of each net."""
    edges: tuple[EdgeFigures, ...]
    cloud: CloudFigures
    cascade: CascadeFigures
    versions: dict[str, str]


def read_figures(task: str) -> Figures:
    """The published figures of a task of the zoo."""
    return msgspec.json.decode((ZOO / task / "figures.json").read_bytes(), type=Figures)


def read_certificate(task: str) -> Certificate:
    """The published certificate of a task of the zoo."""
    return msgspec.json.decode((ZOO / task / "certificate.json").read_bytes(), type=Certificate)


def write_json(path: Path, value: Struct) -> None:
    """Writes one of the files, indented, so that a diff can be read."""
    path.write_bytes(msgspec.json.format(msgspec.json.encode(value), indent=2) + b"\n")
