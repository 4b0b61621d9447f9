"""Apparel in three sizes of edge net: files, figures and what a better edge net buys."""

from __future__ import annotations

from pathlib import Path

import pytest

from models import package
from models.manifest import Role
from models.pipeline.kinds import Kind
from models.zoo import data
from models.zoo.figures import ZOO, read_certificate, read_figures
from models.zoo.graphs import onnx_logits
from models.zoo.packages import build_zoo
from models.zoo.prepared import prepared

SIZES = {
    # task: most bytes, least INT8 accuracy (percent)
    "apparel-xs": (17_000, 89.5),
    "apparel": (40_000, 92.5),
    "apparel-l": (120_000, 93.0),
}
each_size = pytest.mark.parametrize("task", SIZES)


@each_size
def test_each_size_is_small_and_accurate_enough(task: str) -> None:
    most, least = SIZES[task]
    figures = read_figures(task)
    shipped = next(edge for edge in figures.edges if edge.seed == figures.shipped_seed)
    assert (ZOO / task / "edge.onnx").stat().st_size == shipped.file_bytes <= most
    assert shipped.test_int8_percent >= least
    assert figures.task == "apparel"


def test_the_sizes_share_one_cloud_file() -> None:
    assert not (ZOO / "apparel-xs" / "cloud.onnx").exists()
    assert not (ZOO / "apparel-l" / "cloud.onnx").exists()
    clouds = {read_figures(task).cloud for task in SIZES}
    assert len(clouds) == 1


@each_size
def test_files_reproduce_their_published_accuracy(task: str) -> None:
    try:
        apparel = data.load(task)
    except data.DataMissing as missing:
        pytest.skip(str(missing))
    figures = read_figures(task)
    shipped = next(edge for edge in figures.edges if edge.seed == figures.shipped_seed)
    inputs = prepared(apparel.test_x, figures.preparation, Kind("uint8", (28, 28)))
    logits = onnx_logits(ZOO / task / "edge.onnx", {"x": inputs})
    found = 100.0 * float((logits.argmax(axis=1) == apparel.test_y).mean())
    assert found == pytest.approx(shipped.test_int8_percent, abs=0.2)


def test_a_better_edge_net_escalates_less() -> None:
    escalated = [read_figures(task).cascade.test_escalated_percent for task in SIZES]
    assert escalated == sorted(escalated, reverse=True)
    assert all(read_certificate(task).feasible for task in SIZES)


def test_packages_of_all_sizes_hold_the_same_cloud_model(tmp_path: Path) -> None:
    files = {}
    for task in SIZES:
        folder = build_zoo(task, "1", tmp_path / task)
        manifest = package.read(folder, Role.CLOUD).manifest
        assert (manifest.name, manifest.task) == (f"zoo-{task}", task)
        files[task] = (manifest.edge.models[0].file.sha256, manifest.cloud.models[0].file.sha256)
    assert len({edge for edge, _ in files.values()}) == len(SIZES)
    assert len({cloud for _, cloud in files.values()}) == 1


def test_the_whole_zoo_stays_below_fourteen_megabytes() -> None:
    left_out = {"__pycache__", ".work"}
    files = [path for path in ZOO.rglob("*") if not left_out & set(path.relative_to(ZOO).parts)]
    assert sum(path.stat().st_size for path in files if path.is_file()) <= 14_000_000
