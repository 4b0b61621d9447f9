"""Boxes: which survive suppression, where they lie in the picture, what is cut out and renamed."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from models.pipeline.compute.boxes import (
    corners,
    crop_resize,
    fitted,
    nms,
    relabel,
    unletterbox,
)
from models.pipeline.compute.image import compile_step
from models.pipeline.kinds import Kind
from models.pipeline.ops.image import Letterbox
from models.pipeline.values import Array, Floats

SQUARE = (0.0, 0.0, 10.0, 10.0)


def floats(*rows: tuple[float, ...]) -> Floats:
    return np.array(rows, np.float32)


def iou(one: Array, other: Array) -> float:
    """Intersection over union, by the book."""
    one, other = one.astype(np.float64), other.astype(np.float64)
    across = min(one[2], other[2]) - max(one[0], other[0])
    down = min(one[3], other[3]) - max(one[1], other[1])
    if across <= 0 or down <= 0:
        return 0.0
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (one, other)]
    return float(across * down / (sum(areas) - across * down))


def plain_nms(boxes: Floats, scores: Floats, most: float, floor: float) -> list[tuple[int, int]]:
    """Box and class of what stays, one by one."""
    order = sorted(
        ((at, name) for at, name in np.ndindex(*scores.shape) if scores[at, name] >= floor),
        key=lambda pair: -scores[pair],
    )
    kept: list[tuple[int, int]] = []
    for at, name in order:
        if all(name != other or iou(boxes[at], boxes[earlier]) <= most for earlier, other in kept):
            kept.append((at, name))
    return kept


@st.composite
def scenes(draw: st.DrawFn) -> tuple[Floats, Floats]:
    """Boxes on a grid, so that many overlap and ties are common, and their scores."""
    count, classes = draw(st.integers(0, 90)), draw(st.integers(1, 3))
    seed = np.random.default_rng(draw(st.integers(0, 1 << 30)))
    low, size = seed.integers(0, 12, (count, 2)), seed.integers(0, 8, (count, 2))
    boxes = np.concatenate([low, low + size], axis=1).astype(np.float32)
    scores = (seed.integers(0, 33, (count, classes)) / 32).astype(np.float32)
    return boxes, scores


# No overlap of boxes on this grid comes near one of these, so that rounding decides nothing.
@given(scene=scenes(), most=st.sampled_from([0.0, 0.3003, 0.4504, 0.9005]))
def test_what_stays_is_what_greedy_suppression_one_by_one_leaves(
    scene: tuple[Floats, Floats], most: float
) -> None:
    boxes, scores = scene
    wanted = plain_nms(boxes, scores, most, floor=0.1)
    found = nms(boxes, scores, iou=most, floor=0.1, limit=1000)
    if wanted:
        assert [row[5] for row in found.tolist()] == [name for _, name in wanted]
        assert np.array_equal(found[:, :4], boxes[[at for at, _ in wanted]])
        assert found[:, 4].tolist() == [scores[pair] for pair in wanted]


@given(scene=scenes())
def test_no_two_of_a_class_that_stay_overlap(scene: tuple[Floats, Floats]) -> None:
    found = nms(*scene, iou=0.4, floor=0.05, limit=1000)
    for one, other in itertools.combinations(found, 2):
        assert one[5] != other[5] or iou(one, other) <= 0.4 + 1e-9


@given(scene=scenes(), limit=st.integers(1, 5))
def test_a_limit_keeps_the_best(scene: tuple[Floats, Floats], limit: int) -> None:
    everything = nms(*scene, iou=0.5, floor=0.05, limit=1000)
    assert np.array_equal(nms(*scene, iou=0.5, floor=0.05, limit=limit), everything[:limit])


def test_boxes_of_two_classes_do_not_suppress_each_other() -> None:
    found = nms(floats(SQUARE, SQUARE), floats((0.9, 0.1), (0.1, 0.8)), iou=0.5, floor=0.5, limit=9)
    assert found[:, 5].tolist() == [0, 1]


def test_one_box_may_be_two_classes() -> None:
    found = nms(floats(SQUARE), floats((0.6, 0.7)), iou=0.5, floor=0.5, limit=9)
    assert found[:, 4:].tolist() == floats((0.7, 1), (0.6, 0)).tolist()


def test_an_overlap_of_exactly_the_limit_stays() -> None:
    half = (0.0, 0.0, 10.0, 5.0)
    scores = floats((0.9,), (0.8,))
    assert len(nms(floats(SQUARE, half), scores, iou=0.5, floor=0.1, limit=9)) == 2
    assert len(nms(floats(SQUARE, half), scores, iou=0.499, floor=0.1, limit=9)) == 1


def test_the_best_candidate_is_shown_even_below_the_floor() -> None:
    found = nms(floats(SQUARE, SQUARE), floats((0.01,), (0.02,)), iou=0.5, floor=0.5, limit=9)
    assert found[:, 4].tolist() == [np.float32(0.02)]


def test_a_model_without_boxes_gives_no_candidates() -> None:
    found = nms(
        np.empty((0, 4), np.float32), np.empty((0, 3), np.float32), iou=0.5, floor=0.1, limit=9
    )
    assert found.shape == (0, 6)
    assert found.dtype == np.float32


@pytest.mark.parametrize("broken", [math.nan, math.inf, -math.inf])
def test_a_broken_box_or_score_is_never_hidden(broken: float) -> None:
    sound, odd = floats((0.9,), (0.8,)), floats(SQUARE, (0, 0, 1, broken))
    found = nms(odd, sound, iou=0.5, floor=0.5, limit=9)
    assert found[0, 4] == np.float32(0.9)
    assert np.isnan(found[-1]).all()
    if broken != -math.inf:
        found = nms(floats(SQUARE, SQUARE), floats((0.9,), (broken,)), iou=0.5, floor=0.5, limit=9)
        assert np.isnan(found[-1]).all()
    found = nms(floats(SQUARE), floats((broken,)), iou=0.5, floor=0.5, limit=9)
    assert len(found) == 1
    assert np.isnan(found).all()


def test_a_broken_box_that_nobody_scores_does_no_harm() -> None:
    found = nms(
        floats(SQUARE, (0, 0, math.inf, 1)), floats((0.9,), (0.0,)), iou=0.5, floor=0.5, limit=9
    )
    assert not np.isnan(found).any()


def test_boxes_come_as_corners_or_centres_in_pixels_or_shares() -> None:
    pixels = floats((10, 20, 30, 60))
    assert np.array_equal(corners(pixels, "xyxy"), pixels)
    assert np.array_equal(corners(floats((20, 40, 20, 40)), "cxcywh"), pixels)
    shares = floats((0.1, 0.1, 0.3, 0.3))
    found = corners(shares, "xyxy", normalised=True, height=200, width=100)
    assert found == pytest.approx(pixels)
    shares = floats((0.2, 0.2, 0.2, 0.2))
    found = corners(shares, "cxcywh", normalised=True, height=200, width=100)
    assert found == pytest.approx(pixels)


def test_boxes_too_large_for_their_type_become_infinite_without_a_warning() -> None:
    assert not np.isfinite(corners(np.array([[1e300, 0, 1, 1]]), "xyxy")).all()
    assert not np.isfinite(corners(floats((3e38, 0, 3e38, 1)), "cxcywh", normalised=True)).all()


@given(high=st.integers(1, 3000), wide=st.integers(1, 3000))
def test_a_picture_fits_its_letterbox_and_fills_one_side(high: int, wide: int) -> None:
    place = fitted(high, wide, 320, 416)
    assert place.height == 320 or place.width == 416
    assert 1 <= place.height <= 320
    assert 1 <= place.width <= 416
    assert 0 <= place.top == (320 - place.height) // 2
    assert 0 <= place.left == (416 - place.width) // 2


def test_a_box_found_in_a_letterbox_lies_on_the_same_thing_in_the_picture() -> None:
    picture = np.zeros((300, 500, 3), np.uint8)
    picture[120:180, 50:250] = 255
    boxed = compile_step(Letterbox(160, 160, fill=0), Kind("uint8", (300, 500, 3)))(picture)
    rows, columns = np.nonzero(boxed[..., 0] > 127)
    seen = (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1, 0.9, 0)
    found = unletterbox(floats(seen), 300, 500, 160, 160)
    assert found[0, :4] == pytest.approx([50, 120, 250, 180], abs=500 / 160)
    assert found[0, 4:].tolist() == floats(seen)[0, 4:].tolist()


def test_a_box_beyond_the_picture_is_cut_at_its_edges_and_a_broken_one_stays_broken() -> None:
    given_rows = floats((-5, -5, 300, 300, 0.5, 1), (math.nan,) * 6)
    found = unletterbox(given_rows, 100, 200, 100, 100)
    assert found[0, :4].tolist() == [0, 0, 200, 100]
    assert np.isnan(found[1]).all()


def test_crops_hold_what_lies_in_their_boxes() -> None:
    picture = np.zeros((20, 30, 3), np.uint8)
    picture[5:10, 10:20] = (10, 20, 30)
    found = crop_resize(picture, floats((10, 5, 20, 10, 0.9, 0), (0, 0, 5, 5, 0.8, 0)), 4, 6)
    assert found.shape == (2, 4, 6, 3)
    assert found.dtype == np.uint8
    assert (found[0] == (10, 20, 30)).all()
    assert (found[1] == 0).all()


@pytest.mark.parametrize("shape", [(8, 9), (8, 9, 1), (8, 9, 3)])
@pytest.mark.parametrize(
    "box",
    [
        (-9.0, -9.0, 99.0, 99.0),
        (3.0, 3.0, 3.0, 3.0),
        (5.0, 5.0, 2.0, 2.0),
        (8.9, 7.9, 9.5, 8.5),
        (50.0, 50.0, 60.0, 60.0),
    ],
)
def test_a_box_without_area_or_off_the_picture_is_cut_out_all_the_same(
    shape: tuple[int, ...], box: tuple[float, ...]
) -> None:
    found = crop_resize(np.full(shape, 77, np.uint8), floats(box), 3, 4)
    assert found.shape == (1, 3, 4, *shape[2:])
    assert (found == 77).all()


@given(box=hnp.arrays(np.float32, (1, 4)))
def test_a_crop_of_any_box_is_a_picture(box: Floats) -> None:
    found = crop_resize(np.full((5, 7, 3), 9, np.uint8), box, 2, 2)
    assert (found == (9 if np.isfinite(box).all() else 0)).all()


def test_no_boxes_give_no_crops() -> None:
    found = crop_resize(np.zeros((5, 7, 3), np.uint8), np.empty((0, 6), np.float32), 2, 3)
    assert found.shape == (0, 2, 3, 3)


def test_a_classifier_renames_a_candidate_and_shares_in_its_score() -> None:
    found = relabel(floats((*SQUARE, 0.8, 0)), floats((0.0, 0.0, math.log(2))))
    assert found[0, :4].tolist() == list(SQUARE)
    assert found[0, 4:] == pytest.approx([0.4, 2])


@pytest.mark.parametrize("logits", [(1.0, 1.0), (math.nan, 1.0), (math.inf, 0.0)])
def test_a_classifier_that_says_nothing_leaves_no_score(logits: tuple[float, ...]) -> None:
    assert math.isnan(relabel(floats((*SQUARE, 0.8, 0)), floats(logits))[0, 4])


def test_nothing_to_rename_is_nothing_renamed() -> None:
    found = relabel(np.empty((0, 6), np.float32), np.empty((0, 3), np.float32))
    assert found.shape == (0, 6)
