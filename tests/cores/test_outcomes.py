"""Outcomes: who was wrong, which losses follow, and what is refused."""

import numpy as np
import pytest

from models.calibrate.outcomes import Outcomes, check_labels, of_logits
from models.calibrate.overlap import overlapping, refuse_overlap, row_hashes
from models.errors import LabelOutside, OutcomesMissing, RowsOverlap, TooFewSamples

RIGHT, WRONG = [4.0, 0.0, 0.0], [0.0, 4.0, 0.0]
LABELS = np.zeros(4, dtype=np.int64)


def four() -> Outcomes:
    """Both right; only the edge wrong; only the cloud wrong; both wrong, each differently."""
    edge = np.array([RIGHT, WRONG, RIGHT, WRONG])
    cloud = np.array([RIGHT, RIGHT, WRONG, [0.0, 0.0, 4.0]])
    return of_logits(edge, cloud, LABELS)


def test_losses_are_counted_as_the_promises_say() -> None:
    found = four()
    assert found.loss("harm").tolist() == [0, 1, 0, 0]
    assert found.loss("excess").tolist() == [0, 1, -1, 0]
    assert found.loss("teacher").tolist() == [0, 1, 1, 1]
    assert found.loss("selective").tolist() == [0, 1, 0, 1]


def test_excess_is_at_most_harm_and_harm_at_most_teacher() -> None:
    chance = np.random.default_rng(0)
    found = of_logits(
        chance.normal(size=(500, 3)), chance.normal(size=(500, 3)), chance.integers(0, 3, 500)
    )
    assert (found.loss("excess") <= found.loss("harm")).all()
    assert (found.loss("harm") <= found.loss("teacher")).all()


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_malformed_edge_output_has_no_score_and_counts_as_wrong(bad: float) -> None:
    edge = np.array([[4.0, 0.0], [bad, 0.0], [1.0, 1.0]])
    found = of_logits(edge, np.array([[4.0, 0.0]] * 3), np.zeros(3, dtype=np.int64))
    assert np.isnan(found.scores).tolist() == [False, True, True]
    assert found.loss("harm").tolist() == [0, 1, 1]
    assert found.disagree.tolist() == [False, True, True]


def test_a_malformed_cloud_output_counts_as_wrong() -> None:
    cloud = np.array([[4.0, 0.0], [np.nan, 0.0]])
    found = of_logits(np.array([[4.0, 0.0]] * 2), cloud, np.zeros(2, dtype=np.int64))
    assert found.loss("excess").tolist() == [0, -1]


@pytest.mark.parametrize("score", [np.nan, np.inf, -0.1, 1.5])
def test_a_score_outside_its_range_is_none(score: float) -> None:
    found = Outcomes(scores=np.array([score, 0.5]), disagree=np.zeros(2, dtype=bool))
    assert np.isnan(found.scores).tolist() == [True, False]


@pytest.mark.parametrize("labels", [[0, 3, 1], [0, -1, 1]])
def test_a_label_outside_the_set_is_refused_with_its_place(labels: list[int]) -> None:
    with pytest.raises(LabelOutside, match="sample 1"):
        check_labels(np.array(labels), 3, 3)


def test_labels_that_are_no_whole_numbers_are_refused() -> None:
    with pytest.raises(ValueError, match="whole-number"):
        check_labels(np.zeros(3), 3, 3)  # type: ignore[arg-type]


def test_without_labels_only_the_teacher_promise_can_be_made() -> None:
    found = of_logits(np.array([RIGHT, WRONG]), np.array([RIGHT, RIGHT]), None)
    assert found.loss("teacher").tolist() == [0, 1]
    for promise in ("harm", "excess", "selective"):
        with pytest.raises(OutcomesMissing, match="teacher"):
            found.loss(promise)


def test_no_sample_at_all_is_too_few() -> None:
    with pytest.raises(TooFewSamples):
        of_logits(np.zeros((0, 3)), np.zeros((0, 3)), None)
    with pytest.raises(TooFewSamples):
        Outcomes(scores=np.zeros(0), disagree=np.zeros(0, dtype=bool))


def test_columns_of_another_length_are_refused() -> None:
    with pytest.raises(ValueError, match="groups must be"):
        Outcomes(np.zeros(3), np.zeros(3, dtype=bool), groups=np.zeros(2, dtype=np.int64))


def test_chosen_samples_keep_all_their_columns() -> None:
    whole = Outcomes(
        scores=np.array([0.1, 0.2, 0.3]),
        disagree=np.array([True, False, True]),
        groups=np.array(["a", "b", "a"]),
        bytes=np.array([1, 2, 3]),
        rows=np.array([7, 8, 9], dtype=np.uint64),
    )
    part = whole.where(np.array([2, 0]))
    assert part.scores.tolist() == [0.3, 0.1]
    assert part.groups is not None
    assert part.groups.tolist() == ["a", "a"]
    assert part.bytes is not None
    assert part.bytes.tolist() == [3, 1]
    assert part.sha256() != whole.sha256()
    assert part.sha256() == whole.where(np.array([2, 0])).sha256()


# Overlap.


def test_a_calibration_sample_among_the_training_samples_is_refused_by_name() -> None:
    training = np.arange(40, dtype=np.uint8).reshape(10, 4)
    calibration = np.vstack([training[[6]] + 100, training[[3]]])
    with pytest.raises(RowsOverlap, match="1 of 2 calibration samples are training samples"):
        refuse_overlap(row_hashes(calibration), {"training": row_hashes(training)})
    assert overlapping(row_hashes(calibration), row_hashes(training)).tolist() == [1]
    refuse_overlap(row_hashes(calibration[:1]), {"training": row_hashes(training)})


def test_texts_and_bytes_are_compared_by_content() -> None:
    assert row_hashes(["ä", "b"]).tolist() == row_hashes(["ä".encode(), b"b"]).tolist()
    assert len(set(row_hashes(["a", "b", "ab"]).tolist())) == 3
    turned = np.arange(12).reshape(3, 4).T
    assert row_hashes(turned).tolist() == row_hashes(turned.copy()).tolist()
