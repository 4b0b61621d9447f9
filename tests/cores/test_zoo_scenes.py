"""Scenes of garments: what is in them is where it is said to be, and a seed names them."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from models.pipeline.answers import Detected, Seen
from models.pipeline.heads import Detect
from models.zoo.garments import drawn
from models.zoo.garments.judging import judge, outcomes, truths
from models.zoo.garments.scenes import (
    EMPTY_SHARE,
    LARGEST,
    NOTHING,
    SIDE,
    SMALLEST,
    TILE,
    Scenes,
    png,
    scenes,
)

CLASSES = 3
HEAD = Detect(labels=("bag", "boot", "coat"), threshold=0.5)


def tiles(count: int) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    """White squares with a black rim of four pixels."""
    found = np.zeros((count, TILE, TILE), np.uint8)
    found[:, 4:-4, 4:-4] = 255
    return found


def made(count: int = 200, seed: int = 5) -> Scenes:
    return scenes(tiles(count), np.arange(count, dtype=np.int64) % CLASSES, seed)


def test_a_seed_names_the_scenes_and_another_one_others() -> None:
    assert made(20).sha256 == made(20).sha256
    assert made(20).sha256 != made(20, seed=6).sha256


def test_the_first_scenes_are_the_same_however_many_follow() -> None:
    few, many = made(10), made(30)
    assert np.array_equal(few.pictures, many.pictures[:10])
    assert np.array_equal(few.boxes, many.boxes[:10], equal_nan=True)


def test_some_scenes_hold_nothing_and_say_so() -> None:
    found = made()
    empty = found.labels == NOTHING
    assert empty.mean() == pytest.approx(EMPTY_SHARE, abs=0.07)
    assert np.array_equal(np.isnan(found.boxes).all(axis=1), empty)
    assert np.array_equal(found.labels[~empty], (np.arange(200) % CLASSES)[~empty])


def test_a_box_is_a_square_inside_the_picture_within_the_sizes() -> None:
    boxes = made().boxes
    boxes = boxes[~np.isnan(boxes).any(axis=1)]
    width, height = boxes[:, 2] - boxes[:, 0], boxes[:, 3] - boxes[:, 1]
    assert np.array_equal(width, height)
    assert boxes.min() >= 0
    assert boxes.max() <= SIDE
    assert width.min() >= round(TILE * SMALLEST)
    assert width.max() <= round(TILE * LARGEST)


def test_the_garment_is_in_the_middle_of_its_box() -> None:
    found = made()
    for picture, box in zip(found.pictures, found.boxes, strict=True):
        if np.isnan(box).any():
            continue
        left, top, right, bottom = box.astype(int)
        inside = picture[top:bottom, left:right]
        rim = (right - left) // 4
        # The tile is white and dimmed by a third at most; a little clutter may hide part of it.
        assert np.median(inside[rim:-rim, rim:-rim]) >= 165


def test_a_scene_as_a_file_has_the_same_pixels() -> None:
    picture = made(1).pictures[0]
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(png(picture)))), picture)


def test_golden_pictures_are_drawn_the_same_each_time_and_differ() -> None:
    assert drawn.pictures() == drawn.pictures()
    assert len(set(drawn.pictures().values())) == 4


def one_scene(label: int, box: tuple[float, float, float, float] | None) -> Scenes:
    corners = (np.nan,) * 4 if box is None else box
    return Scenes(
        np.zeros((1, SIDE, SIDE), np.uint8),
        np.array([corners], np.float32),
        np.array([NOTHING if box is None else label]),
    )


BOX = (10.0, 10.0, 40.0, 40.0)


def candidates(*rows: tuple[float, ...]) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    return np.array(rows, np.float32).reshape(-1, 6)


def test_truth_is_an_answer_of_the_head() -> None:
    assert truths(one_scene(1, BOX), HEAD) == [Detected((Seen("boot", 1.0, BOX),))]
    assert truths(one_scene(1, None), HEAD) == [Detected(())]


@pytest.mark.parametrize(
    ("rows", "right", "placed", "score"),
    [
        (((*BOX, 0.9, 1.0),), True, True, 0.9),
        (((*BOX, 0.9, 2.0),), False, True, 0.9),
        (((30.0, 30.0, 60.0, 60.0, 0.9, 1.0),), False, False, 0.9),
        (((*BOX, 0.9, 1.0), (45.0, 45.0, 60.0, 60.0, 0.6, 0.0)), False, False, 0.6),
        (((*BOX, 0.3, 1.0),), False, False, 0.7),
    ],
)
def test_an_answer_is_right_when_place_and_name_are(
    rows: tuple[tuple[float, ...], ...], right: bool, placed: bool, score: float
) -> None:
    found = judge(one_scene(1, BOX), [candidates(*rows)], HEAD)
    assert (found.right.item(), found.placed.item()) == (right, placed)
    assert found.scores.item() == pytest.approx(score)


def test_of_an_empty_scene_nothing_is_right_and_as_sure_as_its_best_candidate_is_poor() -> None:
    scene = one_scene(0, None)
    nothing = judge(scene, [candidates((*BOX, 0.1, 0.0))], HEAD)
    assert nothing.right.item()
    assert nothing.scores.item() == pytest.approx(0.9)
    assert not judge(scene, [candidates((*BOX, 0.8, 0.0))], HEAD).right.item()


def test_an_answer_without_confidence_is_wrong() -> None:
    found = judge(one_scene(1, BOX), [candidates((*BOX, 0.9, 1.0), (np.nan,) * 6)], HEAD)
    assert not found.right.item()
    assert np.isnan(found.scores.item())


def test_harm_is_an_edge_mistake_the_cloud_does_not_make() -> None:
    scene = one_scene(1, BOX)
    wrong = judge(scene, [candidates((*BOX, 0.9, 2.0))], HEAD)
    right = judge(scene, [candidates((*BOX, 0.8, 1.0))], HEAD)
    assert outcomes(wrong, right, HEAD).harm.tolist() == [True]
    assert outcomes(right, wrong, HEAD).harm.tolist() == [False]
    assert outcomes(right, wrong, HEAD).disagree.tolist() == [True]
    assert outcomes(right, right, HEAD).disagree.tolist() == [False]
