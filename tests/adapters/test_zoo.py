"""The zoo's loader, and the shipped weights against the figures published beside them."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from models.zoo import data

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
    with pytest.raises(ValueError, match="'pastries' is unknown; the zoo has apparel, activity"):
        data.load("pastries")


def test_missing_data_say_where_we_looked_and_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(data.DataMissing, match="set LONGSTOP_DATA to the folder") as caught:
        data.load("apparel", folders=(tmp_path,))
    assert caught.value.code == "data_missing"
    assert str(tmp_path) in str(caught.value)


def test_a_missing_set_is_told_in_one_line_and_digits_take_its_place(tmp_path: Path) -> None:
    told: list[str] = []
    assert data.load_or_digits("activity", tell=told.append, folders=(tmp_path,)).name == "digits"
    assert len(told) == 1
    assert "\n" not in told[0]
    assert told[0].endswith("using digits instead")


def test_longstop_data_is_looked_at_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "SHA256SUMS").write_text("")
    monkeypatch.setenv("LONGSTOP_DATA", str(tmp_path))
    assert data.find_data() == tmp_path


def test_a_file_that_is_not_the_one_its_checksum_names_is_refused(tmp_path: Path) -> None:
    (tmp_path / "SHA256SUMS").write_text(f"{'0' * 64}  har_phone_watch.npz\n")
    (tmp_path / "har_phone_watch.npz").write_bytes(b"half a file")
    with pytest.raises(data.DataMissing, match="copy the file again"):
        data.load("activity", folders=(tmp_path,))


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
