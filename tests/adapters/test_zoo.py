"""The zoo's loader, and the shipped weights against the figures published beside them."""

from __future__ import annotations

import math
import os
import shutil
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from models import errors
from models.errors import UnknownTask
from models.pipeline.compute.families import compile_steps
from models.pipeline.kinds import Dtype, Kind
from models.zoo import data
from models.zoo.figures import TASKS, ZOO, Figures, read_certificate, read_figures

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

import onnxruntime

Floats = npt.NDArray[np.float32]
FOLDER = data.find_data()


def needs_data(task: str) -> data.Dataset:
    """The task's data, or a skip that says in one line what is missing."""
    try:
        return data.load(task)
    except data.DataMissing as missing:
        pytest.skip(str(missing))


def test_digits_are_always_there_and_never_share_a_sample() -> None:
    digits = data.load("digits")
    assert digits.train_x.shape == (1077, 8, 8)
    assert digits.train_x.dtype == np.uint8
    assert int(digits.train_x.max()) == 16
    assert len(digits.held_x) == len(digits.test_x) == 360
    assert data.load("digits").sha256 == digits.sha256


def test_an_unknown_task_names_the_tasks_there_are() -> None:
    with pytest.raises(UnknownTask, match="'pastries' is unknown; the zoo has apparel, activity"):
        data.load("pastries")


def test_missing_data_say_where_we_looked_and_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(data.DataMissing, match="set LONGSTOP_DATA to the folder") as caught:
        data.load("apparel", folders=(tmp_path,))
    assert caught.value.code == "data_missing"
    assert str(tmp_path) in str(caught.value)


def test_longstop_data_is_looked_at_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "SHA256SUMS").write_text("")
    monkeypatch.setenv("LONGSTOP_DATA", str(tmp_path))
    assert data.find_data() == tmp_path


def test_a_file_that_is_not_the_one_its_checksum_names_is_refused(tmp_path: Path) -> None:
    (tmp_path / "SHA256SUMS").write_text(f"{'0' * 64}  har_phone_watch.npz\n")
    (tmp_path / "har_phone_watch.npz").write_bytes(b"half a file")
    with pytest.raises(data.DataMissing, match="copy the file again"):
        data.load("activity", folders=(tmp_path,))


@pytest.mark.parametrize("line", ["0" * 64, f"{'0' * 64}  two words.npz", "no such page"])
def test_a_checksum_file_with_another_kind_of_line_is_named(tmp_path: Path, line: str) -> None:
    (tmp_path / "SHA256SUMS").write_text(f"{'0' * 64}  har_phone_watch.npz\n\n{line}\n")
    (tmp_path / "har_phone_watch.npz").write_bytes(b"half a file")
    with pytest.raises(data.DataMissing, match=r"line 3 of .*SHA256SUMS has \d words"):
        data.load("activity", folders=(tmp_path,))


def test_every_error_of_the_loader_is_in_the_tree() -> None:
    assert f"-- {data.DataMissing.__name__} " in str(errors.__doc__)


def test_a_checksum_file_may_mark_binary_names_with_a_star(tmp_path: Path) -> None:
    needs_data("activity")
    assert FOLDER is not None
    shutil.copy(FOLDER / "har_phone_watch.npz", tmp_path)
    sums = (FOLDER / "SHA256SUMS").read_text().replace("  ", " *")
    (tmp_path / "SHA256SUMS").write_text(sums)
    assert data.load("activity", folders=(tmp_path,)).name == "activity"


def test_apparel_keeps_its_last_five_thousand_training_pictures_aside() -> None:
    apparel = needs_data("apparel")
    assert apparel.train_x.shape == (55_000, 28, 28)
    assert apparel.held_x.shape == (5_000, 28, 28)
    assert apparel.test_x.shape == (10_000, 28, 28)
    assert apparel.train_x.dtype == np.uint8
    assert apparel.label_names[9] == "Ankle boot"


def test_no_person_of_activity_is_in_two_parts() -> None:
    activity = needs_data("activity")
    assert activity.train_x.shape == (4065, 64, 6)
    assert activity.train_x.dtype == np.int16
    assert len(activity.held_y) == 968
    assert len(activity.test_y) == 1235
    assert activity.train_groups is not None
    assert activity.held_groups is not None
    assert activity.test_groups is not None
    parts = [
        set(groups.tolist())
        for groups in (activity.train_groups, activity.held_groups, activity.test_groups)
    ]
    assert set.union(*parts) == set(range(1, 21))
    assert sum(map(len, parts)) == 20


FLOORS = {
    # task: INT8 edge, cloud (percent), largest edge file (bytes)
    "apparel": (92.5, 94.5, 40_000),
    "activity": (89.5, 93.5, 8_000),
    "digits": (97.0, 99.0, 8_000),
}
CLOUD_SAMPLES = 2_000
"""The cloud net of apparel takes a millisecond a picture, so part of them stands for all."""
each_task = pytest.mark.parametrize("task", TASKS)


def prepared(raw: data.Raw, figures: Figures) -> Floats:
    """What device and gateway make of raw samples, by the declared steps."""
    dtype: Dtype = "uint8" if raw.dtype == np.uint8 else "int16"
    prepare = compile_steps(figures.preparation, Kind(dtype, raw.shape[1:]))
    return np.stack([np.ascontiguousarray(prepare(sample)) for sample in raw])


def run_onnx(path: Path, inputs: Floats) -> Floats:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    assert [value.name for value in session.get_inputs()] == ["x"]
    assert [value.name for value in session.get_outputs()] == ["logits"]
    batches = [inputs[start : start + 500] for start in range(0, len(inputs), 500)]
    return np.concatenate([session.run(["logits"], {"x": batch})[0] for batch in batches])


def percent_right(logits: Floats, labels: data.Labels) -> float:
    return 100.0 * float((logits.argmax(axis=1) == labels).mean())


@each_task
def test_published_figures_reach_their_floors(task: str) -> None:
    figures = read_figures(task)
    edge_floor, cloud_floor, largest = FLOORS[task]
    shipped = next(edge for edge in figures.edges if edge.seed == figures.shipped_seed)
    assert shipped.test_int8_percent >= edge_floor
    assert figures.cloud.test_percent >= cloud_floor
    assert len(figures.edges) == 3
    assert (ZOO / task / "edge.onnx").stat().st_size == shipped.file_bytes <= largest
    assert (ZOO / task / "cloud.onnx").stat().st_size == figures.cloud.file_bytes


def test_all_weights_together_stay_small() -> None:
    assert sum(path.stat().st_size for path in ZOO.glob("*/*.onnx")) <= 6_000_000


@each_task
def test_the_shipped_seed_was_chosen_on_held_out_data(task: str) -> None:
    figures = read_figures(task)
    best = max(figures.edges, key=lambda edge: edge.tune_int8_percent)
    assert figures.shipped_seed == best.seed


@each_task
def test_shipped_files_reproduce_their_published_accuracy(task: str) -> None:
    dataset = needs_data(task)
    figures = read_figures(task)
    assert figures.data_sha256 == dataset.sha256
    assert figures.label_names == dataset.label_names
    shipped = next(one for one in figures.edges if one.seed == figures.shipped_seed)
    inputs, labels = prepared(dataset.test_x, figures), dataset.test_y
    edge = run_onnx(ZOO / task / "edge.onnx", inputs)
    assert percent_right(edge, labels) == pytest.approx(shipped.test_int8_percent, abs=0.2)

    some = slice(0, CLOUD_SAMPLES)
    cloud = run_onnx(ZOO / task / "cloud.onnx", inputs[some])
    published = figures.cloud.test_percent
    chance = 4 * math.sqrt(published * (100 - published) / CLOUD_SAMPLES)
    tolerance = 0.2 if len(labels) <= CLOUD_SAMPLES else 0.2 + chance
    assert percent_right(cloud, labels[some]) == pytest.approx(published, abs=tolerance)


@each_task
def test_the_shipped_threshold_is_the_one_held_out_data_give(task: str) -> None:
    certified = read_certificate(task)
    assert certified.promise == "harm"
    assert certified.threshold is not None
    assert 0.0 < certified.threshold <= 1.0
    assert certified.feasible
    assert certified.upper_bound is not None
    assert certified.upper_bound <= certified.eps


def test_the_apparel_threshold_escalates_some_inputs_and_not_most() -> None:
    cascade = read_figures("apparel").cascade
    assert 2.0 <= cascade.test_escalated_percent <= 30.0
    assert cascade.test_percent >= read_figures("apparel").cloud.test_percent - 0.6
