"""Answers: what each head reads, how sure it is, and when two answers agree."""

import math
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.calibrate.certificate import CertifiedScore
from models.calibrate.decide import judge
from models.calibrate.scores import score_of
from models.pipeline.answers import (
    Answer,
    Classified,
    Detected,
    Estimated,
    Flagged,
    Found,
    Ranked,
    Seen,
    same_answer,
)
from models.pipeline.files import FileRef
from models.pipeline.heads import (
    Anomaly,
    Classify,
    Detect,
    Head,
    Regress,
    Search,
    accepts,
)
from models.pipeline.kinds import Kind
from models.pipeline.reading import Read, read, reader_of, references_of
from models.pipeline.values import Array, Floats

LETTERS = Classify(("a", "b", "c"))
BAGS = Detect(("bag", "shoe"), threshold=0.5)
POWER = Regress(tolerance=2.0, unit="kWh")
CROWD = Regress(tolerance=2.0, form="members")
ALARM = Anomaly(threshold=1.0, scale=0.5, needed=2, of=3)
ROWS = FileRef("rows.npz", "0" * 64, 300)
NEAREST = Search(("cup", "cup", "jug"), ROWS)
REFERENCES = references_of(NEAREST, np.array([[1, 0], [1, 1], [0, 2]], np.float32), 2)
HEADS: tuple[tuple[Head, tuple[int, ...]], ...] = (
    (LETTERS, (3,)),
    (Classify(("a", "b", "c"), top=3), (3,)),
    (Classify(tuple(map(str, range(80))), top=2), (80,)),
    (BAGS, (2, 6)),
    (POWER, (3,)),
    (CROWD, (4,)),
    (ALARM, (5,)),
    (NEAREST, (2,)),
)
NUMBERS = st.one_of(
    st.floats(), st.floats(0, 1), st.sampled_from([0.0, 1.0, 0.5, math.nan, math.inf, -math.inf])
)


def floats(*values: float | tuple[float, ...]) -> Floats:
    return np.array(values, np.float32)


def reading(head: Head, output: Array, **told: Any) -> Read:
    return read(head, output, references=REFERENCES, **told)


def candidate(score: float, name: float = 0, *box: float) -> tuple[float, ...]:
    return (*(box or (0.0, 0.0, 10.0, 10.0)), score, name)


@st.composite
def outputs(draw: st.DrawFn) -> tuple[Head, Array]:
    head, shape = draw(st.sampled_from(HEADS))
    dtype = draw(st.sampled_from([np.float16, np.float32, np.float64]))
    values = draw(st.lists(NUMBERS, min_size=math.prod(shape), max_size=math.prod(shape)))
    with np.errstate(over="ignore"):
        return head, np.array(values).astype(dtype).reshape(shape)


@given(case=outputs())
def test_any_output_has_a_confidence_in_zero_to_one_or_none_and_an_answer_in_json(
    case: tuple[Head, Array],
) -> None:
    head, output = case
    found = reading(head, output)
    assert found.confidence is None or 0.0 <= found.confidence <= 1.0
    assert found.label
    if not np.isfinite(output).all():
        assert found.confidence is None
        assert judge(found.confidence, 0.0).hard
    again: Answer = msgspec.json.decode(msgspec.json.encode(found.answer), type=Answer)
    assert again == found.answer


@given(one=outputs(), other=outputs())
def test_agreement_holds_with_itself_and_both_ways_round(
    one: tuple[Head, Array], other: tuple[Head, Array]
) -> None:
    head = one[0]
    first, second = reading(*one).answer, reading(*other).answer
    assert same_answer(head, first, first)
    assert same_answer(head, first, second) == same_answer(head, second, first)


# classify


def test_a_class_is_the_largest_logit_and_its_confidence_the_tempered_probability() -> None:
    found = reading(LETTERS, floats(0, math.log(4), 0), temperature=2.0)
    assert found.label == "b"
    assert found.confidence == pytest.approx(0.5)
    assert found.answer == Classified("b", 1, (Ranked("b", found.confidence or 0),))


@pytest.mark.parametrize("name", ["top", "margin", "entropy", "squares"])
@pytest.mark.parametrize("classes", [3, 200])
def test_the_certificate_s_score_is_the_confidence(name: CertifiedScore, classes: int) -> None:
    head = Classify(tuple(map(str, range(classes))))
    logits = np.random.default_rng(1).normal(size=classes).astype(np.float32)
    found = reading(head, logits, temperature=1.7, score=name)
    assert name != "head"
    assert found.confidence == pytest.approx(score_of(name, 1.7)(logits), abs=1e-9)


def test_the_most_probable_classes_are_ranked_with_their_probabilities() -> None:
    head = Classify(("a", "b", "c", "d"), top=3)
    found = reading(head, 2 * np.log(floats(0.1, 0.4, 0.2, 0.3)), temperature=2.0)
    assert isinstance(found.answer, Classified)
    assert [ranked.label for ranked in found.answer.top] == ["b", "d", "c"]
    assert [ranked.probability for ranked in found.answer.top] == pytest.approx([0.4, 0.3, 0.2])
    surer = reading(head, np.log(floats(0.1, 0.4, 0.2, 0.3)), score="margin")
    assert surer.answer == found.answer
    assert surer.confidence == pytest.approx(0.1)


@pytest.mark.parametrize(
    ("logits", "label"),
    [
        ((1.0, 1.0, 1.0), "a"),
        ((math.nan, 1.0, 2.0), "c"),
        ((math.inf, 1.0, 2.0), "a"),
        ((math.nan, math.nan, math.nan), "a"),
    ],
)
def test_logits_that_say_nothing_have_no_confidence_and_no_ranks(
    logits: tuple[float, ...], label: str
) -> None:
    found = reading(LETTERS, floats(*logits))
    assert found == Read(Classified(label, "abc".index(label)), label, None)


def test_an_impossible_temperature_is_refused_when_the_reader_is_made() -> None:
    with pytest.raises(ValueError, match="temperature"):
        reader_of(LETTERS, temperature=0.0)


# detect


def test_objects_are_the_candidates_at_or_above_the_threshold_best_first() -> None:
    rows = floats(candidate(0.5), candidate(0.9, 1), candidate(0.25))
    found = reading(BAGS, rows)
    assert isinstance(found.answer, Detected)
    assert [seen.label for seen in found.answer.objects] == ["shoe", "bag"]
    assert found.answer.objects[1] == Seen("bag", 0.5, (0.0, 0.0, 10.0, 10.0))
    assert found.label == "1 bag, 1 shoe"


@pytest.mark.parametrize(
    ("scores", "confidence"),
    [
        ((0.75,), 0.75),
        ((0.75, 0.125), 0.75),
        ((0.75, 0.4375), 0.5625),
        ((0.875, 0.75), 0.75),
        ((0.125,), 0.875),
        ((0.4375, 0.125), 0.5625),
    ],
)
def test_a_detection_is_as_sure_as_its_closest_call(
    scores: tuple[float, ...], confidence: float
) -> None:
    assert reading(BAGS, floats(*map(candidate, scores))).confidence == confidence


def test_an_empty_result_is_a_case_to_judge_and_never_easy_by_itself() -> None:
    near, far = (reading(BAGS, floats(candidate(score))) for score in (0.4375, 0.0625))
    assert near.label == far.label == "nothing"
    assert judge(near.confidence, 0.9).reason == "below_threshold"
    assert judge(far.confidence, 0.9).reason == "confident"


def test_output_without_any_candidate_is_hard_unless_the_model_s_own_floor_is_known() -> None:
    nothing = np.empty((0, 6), np.float32)
    assert reading(BAGS, nothing) == Read(Detected(()), "nothing", None)
    known = Detect(BAGS.labels, threshold=0.5, floor=0.25)
    assert reading(known, nothing).confidence == 0.75


@pytest.mark.parametrize(
    "row",
    [
        candidate(math.nan),
        candidate(1.5),
        candidate(-0.1),
        candidate(0.9, 2),
        candidate(0.9, -1),
        candidate(0.9, 0.5),
        candidate(0.9, math.nan),
        candidate(0.9, 0, 5, 0, 4, 1),
        candidate(0.9, 0, 0, 5, 1, 4),
        candidate(0.9, 0, 0, 0, math.inf, 1),
        candidate(0.9, 0, math.nan, 0, 1, 1),
    ],
)
def test_one_malformed_candidate_makes_the_whole_output_hard_and_is_no_object(
    row: tuple[float, ...],
) -> None:
    found = reading(BAGS, floats(candidate(0.8), row))
    assert found.confidence is None
    assert isinstance(found.answer, Detected)
    assert [seen.score for seen in found.answer.objects] == [pytest.approx(0.8)]


def seen(label: str, *box: float) -> Seen:
    left, top, right, bottom = box
    return Seen(label, 0.9, (left, top, right, bottom))


def test_detections_agree_when_their_objects_pair_up_in_any_order() -> None:
    here, there = seen("bag", 0, 0, 10, 10), seen("shoe", 50, 0, 60, 10)
    nearly = seen("bag", 1, 0, 11, 10)
    assert same_answer(BAGS, Detected((here, there)), Detected((there, nearly)))
    assert same_answer(BAGS, Detected(()), Detected(()))
    for other in ((here,), (here, here), (seen("shoe", 0, 0, 10, 10), there), (here, here, there)):
        assert not same_answer(BAGS, Detected((here, there)), Detected(other))
    assert not same_answer(BAGS, Detected((here,)), Detected((seen("bag", 6, 0, 16, 10),)))


def test_a_pairing_is_found_though_the_best_overlap_first_would_miss_it() -> None:
    # The wide one overlaps both of the others, best with the one that only it can leave free.
    left, right = seen("bag", 0, 0, 10, 10), seen("bag", 5, 0, 15, 10)
    wide, far = seen("bag", 3, 0, 13, 10), seen("bag", 8, 0, 18, 10)
    loose = Detect(BAGS.labels, threshold=0.5, match_iou=0.5)
    ones, others = Detected((wide, far)), Detected((right, left))
    assert same_answer(loose, ones, others)
    assert same_answer(loose, others, ones)


def test_boxes_without_area_agree_with_themselves_alone() -> None:
    flat = Detected((seen("bag", 3, 3, 3, 3),))
    assert same_answer(BAGS, flat, flat)
    assert not same_answer(BAGS, flat, Detected((seen("bag", 3, 3, 3, 4),)))
    speck = Detected((seen("bag", 0, 0, 1e-200, 1e-200),))
    assert not same_answer(BAGS, speck, Detected((seen("bag", 0, 0, 1e-200, 2e-200),)))


# regress


def test_a_number_is_as_sure_as_its_interval_is_narrow() -> None:
    found = reading(POWER, floats(11.5, 12.25, 13.5))
    assert found == Read(Estimated(12.25, 11.5, 13.5), "12.25 kWh", 0.5)
    assert reading(POWER, floats(3, 3, 3)).confidence == 1.0


def test_an_ensemble_s_number_is_its_mean_and_its_interval_their_range() -> None:
    found = reading(CROWD, floats(1, 2, 6))
    assert found == Read(Estimated(3.0, 1.0, 6.0), "3", 2 / 7)


@pytest.mark.parametrize("values", [(2.0, 1.0, 3.0), (0.0, 3.0, 1.0), (0.0, math.nan, 1.0)])
def test_an_interval_upside_down_or_broken_has_no_confidence(values: tuple[float, ...]) -> None:
    found = reading(POWER, floats(*values))
    assert found.confidence is None
    if math.isnan(values[1]):
        assert found == Read(Estimated(None, 0.0, 1.0), "no value", None)


def test_one_broken_member_leaves_no_number() -> None:
    assert reading(CROWD, floats(1, math.inf)).answer == Estimated(None, None, None)
    assert reading(CROWD, floats(1)).confidence is None


def test_numbers_agree_within_the_tolerance() -> None:
    one = Estimated(10.0, 9.0, 11.0)
    assert same_answer(POWER, one, Estimated(12.0, 0.0, 99.0))
    assert not same_answer(POWER, one, Estimated(12.1, 12.0, 12.2))
    assert not same_answer(POWER, one, Estimated(None, None, None))


# anomaly


def test_a_window_is_anomalous_when_enough_of_its_scores_reach_the_threshold() -> None:
    assert reading(ALARM, floats(1, 0, 1)).answer == Flagged(True, 1.0)
    assert reading(ALARM, floats(9, 0, 0)).answer == Flagged(False, 0.0)
    assert reading(ALARM, floats(9, 0, 0)).label == "normal"


def test_more_scores_than_a_window_are_watched_window_by_window() -> None:
    spread, close = floats(2, 0, 0, 2, 0, 0), floats(0, 0, 2, 0, 2, 0)
    assert reading(ALARM, spread).label == "normal"
    assert reading(ALARM, close).label == "anomalous"
    assert reading(ALARM, close.reshape(6, 1)).label == "anomalous"


def test_an_alarm_is_as_sure_as_the_score_that_decides_is_far_from_the_threshold() -> None:
    assert reading(ALARM, floats(1, 1, 1)).confidence == 0.0
    assert reading(ALARM, floats(0.5, 9, 0)).confidence == pytest.approx(1 - math.exp(-1))
    assert reading(ALARM, floats(1.5, 9, 0)).confidence == pytest.approx(1 - math.exp(-1))


def test_what_watches_does_not_fall_silent_when_its_scores_break() -> None:
    found = reading(ALARM, floats(math.nan, math.nan, 0))
    assert found == Read(Flagged(True, None), "anomalous", None)


def test_too_few_scores_for_a_window_have_no_confidence() -> None:
    for scores in ((), (0.0,), (5.0, 5.0)):
        found = reading(ALARM, floats(*scores))
        assert found.confidence is None
        assert found.label == ("anomalous" if len(scores) == 2 else "normal")


# search


def test_the_nearest_reference_names_an_embedding_whatever_its_length() -> None:
    for length in (1e-200, 1.0, 1e200):
        found = reading(NEAREST, np.array([0.0, length]))
        assert found.label == "jug"
        assert isinstance(found.answer, Found)
        assert found.answer.similarity == pytest.approx(1.0)
        assert found.confidence == pytest.approx((1 - math.sqrt(0.5)) / 2)


def test_another_reference_of_the_same_label_takes_nothing_from_the_margin() -> None:
    between = floats(math.cos(math.pi / 8), math.sin(math.pi / 8))
    found = reading(NEAREST, between)
    assert found.label == "cup"
    wanted = (math.cos(math.pi / 8) - math.cos(3 * math.pi / 8)) / 2
    assert found.confidence == pytest.approx(wanted)


@pytest.mark.parametrize("embedding", [(0.0, 0.0), (math.nan, 1.0), (math.inf, 1.0)])
def test_an_embedding_that_points_nowhere_has_no_confidence(embedding: tuple[float, ...]) -> None:
    assert reading(NEAREST, floats(*embedding)) == Read(Found("cup", None), "cup", None)


def test_references_that_do_not_fit_are_refused_before_anything_is_searched() -> None:
    rows = np.ones((3, 2), np.float32)
    for matrix, why in (
        (rows[:2], "one row of 2 for each of 3 labels"),
        (np.ones((3, 5), np.float32), "one row of 2"),
        (rows * [[1], [0], [1]], r"reference 1 \('cup'\) is zero"),
        (rows * [[1], [1], [math.nan]], r"reference 2 \('jug'\)"),
    ):
        with pytest.raises(ValueError, match=why):
            references_of(NEAREST, matrix, 2)
    with pytest.raises(ValueError, match="references_of"):
        read(NEAREST, floats(1, 0))


# what a head reads


@pytest.mark.parametrize(
    ("head", "kind"),
    [
        (LETTERS, Kind("float32", (3,))),
        (LETTERS, Kind("float16", (3,))),
        (BAGS, Kind("float32", (None, 6))),
        (POWER, Kind("float32", (3,))),
        (CROWD, Kind("float64", (7,))),
        (CROWD, Kind("float64", (None,))),
        (ALARM, Kind("float32", (3,))),
        (ALARM, Kind("float32", (None,))),
        (ALARM, Kind("float32", (), many=True)),
        (ALARM, Kind("float32", (1,), many=True)),
        (NEAREST, Kind("float32", (64,))),
    ],
)
def test_a_head_reads_outputs_of_its_kind(head: Head, kind: Kind) -> None:
    accepts(head, kind)


@pytest.mark.parametrize(
    ("head", "kind", "why"),
    [
        (LETTERS, Kind("float32", (4,)), "3 labels need logits"),
        (LETTERS, Kind("float32", (3,), many=True), "not many float32"),
        (LETTERS, Kind("int8", (3,)), "dequantise the output"),
        (Classify(("a", "b", "a")), Kind("float32", (3,)), "'a' is there more than once"),
        (Classify(("a", "b"), top=3), Kind("float32", (2,)), "top 3 of 2"),
        (BAGS, Kind("float32", (6,)), "candidates"),
        (Detect(("a", "a"), threshold=0.5), Kind("float32", (9, 6)), "more than once"),
        (POWER, Kind("float32", (2,)), "low, value, high"),
        (CROWD, Kind("float32", (1,)), "two or more"),
        (ALARM, Kind("float32", (2,)), r"needs \[3\] or more"),
        (ALARM, Kind("float32", (2,), many=True), "single scores"),
        (Anomaly(1.0, 1.0, needed=3, of=2), Kind("float32", (2,)), "never reach"),
        (NEAREST, Kind("float32", (2, 2)), "an embedding"),
        (Search(("a", "a"), ROWS), Kind("float32", (2,)), "one label"),
    ],
)
def test_a_head_refuses_other_outputs_and_says_why(head: Head, kind: Kind, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        accepts(head, kind)


def test_answers_of_another_head_never_agree() -> None:
    assert not same_answer(LETTERS, Classified("a", 0), Found("a", 1.0))
    assert not same_answer(POWER, Flagged(True, 1.0), Flagged(True, 1.0))
