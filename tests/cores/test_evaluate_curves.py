"""Curves of a cascade, against cases worked by hand."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.evaluate.curves import (
    Curve,
    Flags,
    Floats,
    deferral,
    deferral_gain,
    escalation_for,
    ideal_deferral,
    least_escalation,
    local_risk,
    oracle_deferral,
    peak,
    random_deferral,
    risk_coverage,
    thinned,
)

# Ten rows, least certain first: the edge is wrong on rows 0, 1, 3 and 6, the cloud on 3 and 8.
SCORES = np.linspace(0.1, 1.0, 10)
EDGE_WRONG = np.isin(np.arange(10), [0, 1, 3, 6])
CLOUD_WRONG = np.isin(np.arange(10), [3, 8])


def test_a_deferral_curve_mends_and_breaks_row_by_row() -> None:
    curve = deferral(SCORES, EDGE_WRONG, CLOUD_WRONG)
    assert curve.x == pytest.approx(np.arange(11) / 10)
    assert curve.y == pytest.approx([0.6, 0.7, 0.8, 0.8, 0.8, 0.8, 0.8, 0.9, 0.9, 0.8, 0.8])


def test_rows_of_one_score_are_escalated_together() -> None:
    curve = deferral(np.array([0.5, 0.5, 0.9, 0.9]), np.array([1, 0, 0, 0]) > 0, np.zeros(4) > 0)
    assert curve.x.tolist() == [0.0, 0.5, 1.0]
    assert curve.y.tolist() == [0.75, 1.0, 1.0]


def test_a_row_without_a_score_is_escalated_first_and_kept_last() -> None:
    scores = np.array([np.nan, 0.2, 0.9])
    wrong = np.array([True, False, False])
    assert deferral(scores, wrong, np.zeros(3) > 0).y[1] == 1.0
    assert risk_coverage(scores, wrong).y.tolist() == pytest.approx([0, 0, 1 / 3])


def test_random_oracle_and_ideal_are_the_lines_they_are_said_to_be() -> None:
    assert random_deferral(EDGE_WRONG, CLOUD_WRONG).y == pytest.approx([0.6, 0.8])
    oracle = oracle_deferral(EDGE_WRONG, CLOUD_WRONG)
    assert oracle.x == pytest.approx([0, 0.4, 1])
    assert oracle.y == pytest.approx([0.6, 0.9, 0.8])
    ideal = ideal_deferral(EDGE_WRONG, CLOUD_WRONG)
    assert ideal.x == pytest.approx([0, 0.3, 0.9, 1])
    assert ideal.y == pytest.approx([0.6, 0.9, 0.9, 0.8])


def test_the_deferral_gain_is_the_share_of_the_way_from_random_to_ideal() -> None:
    # Trapezia of ten strips for the score; 0.7 for random; .225 + .54 + .085 for ideal.
    area = (0.6 + 0.8) / 2 / 10 + (0.7 + 5 * 0.8 + 2 * 0.9 + 0.8) / 10
    gain = deferral_gain(SCORES, EDGE_WRONG, CLOUD_WRONG)
    assert gain == pytest.approx((area - 0.7) / (0.85 - 0.7))


def test_where_escalating_does_the_same_to_every_row_there_is_nothing_to_gain() -> None:
    assert deferral_gain(SCORES, EDGE_WRONG, EDGE_WRONG) is None
    assert deferral_gain(SCORES, np.ones(10) > 0, np.zeros(10) > 0) is None


def test_a_constant_score_gains_nothing() -> None:
    assert deferral_gain(np.full(10, 0.5), EDGE_WRONG, CLOUD_WRONG) == pytest.approx(0)


def test_the_peak_is_the_least_escalation_of_equals_and_may_exceed_the_cloud() -> None:
    found = peak(deferral(SCORES, EDGE_WRONG, CLOUD_WRONG))
    assert found == pytest.approx((0.7, 0.9))


def test_the_escalation_for_an_accuracy_is_the_least_that_reaches_it() -> None:
    curve = deferral(SCORES, EDGE_WRONG, CLOUD_WRONG)
    assert escalation_for(curve, 0.8) == pytest.approx(0.2)
    assert escalation_for(curve, 0.6) == 0
    assert escalation_for(curve, 0.95) is None


def test_the_least_escalation_within_eps_is_what_hindsight_would_choose() -> None:
    harm = (EDGE_WRONG & ~CLOUD_WRONG).astype(float)
    excess = EDGE_WRONG.astype(float) - CLOUD_WRONG
    assert least_escalation(SCORES, harm, 0.1) == pytest.approx(0.2)
    assert least_escalation(SCORES, harm, 0.05) == pytest.approx(0.7)
    # The cloud's own mistake on row 8 pays for one of the edge's.
    assert least_escalation(SCORES, excess, 0.0) == pytest.approx(0.2)
    assert least_escalation(SCORES, excess, 0.2) == 0


def test_rows_without_a_score_can_never_be_kept() -> None:
    scores = np.array([np.nan, 0.2, 0.9, 0.9])
    assert least_escalation(scores, np.zeros(4), 0.0) == 0.25


def test_local_risk_counts_over_all_rows() -> None:
    curve = local_risk(np.array([0.9, 0.5]), np.array([0.0, 1.0]))
    assert curve.x.tolist() == [0.0, 0.5, 1.0]
    assert curve.y.tolist() == [0.5, 0.0, 0.0]


def test_a_thinned_curve_keeps_its_ends() -> None:
    curve = Curve(np.linspace(0, 1, 5001), np.linspace(3, 4, 5001))
    few = thinned(curve, 101)
    assert len(few.x) == 101
    assert (few.x[0], few.x[-1], few.y[0], few.y[-1]) == (0, 1, 3, 4)
    assert thinned(few, 200) is few


ROWS = st.lists(
    st.tuples(st.sampled_from([0.1, 0.4, 0.7, np.nan]), st.booleans(), st.booleans()),
    min_size=1,
    max_size=40,
)


def columns(rows: list[tuple[float, bool, bool]]) -> tuple[Floats, Flags, Flags]:
    return (
        np.array([row[0] for row in rows]),
        np.array([row[1] for row in rows]),
        np.array([row[2] for row in rows]),
    )


@given(ROWS)
def test_no_curve_rises_above_the_ideal_and_all_share_their_ends(
    rows: list[tuple[float, bool, bool]],
) -> None:
    scores, edge, cloud = columns(rows)
    ideal = ideal_deferral(edge, cloud)
    for curve in (deferral(scores, edge, cloud), oracle_deferral(edge, cloud)):
        assert (curve.y <= np.interp(curve.x, ideal.x, ideal.y) + 1e-9).all()
        assert curve.y[0] == pytest.approx(ideal.y[0])
        assert curve.y[-1] == pytest.approx(ideal.y[-1])
    gain = deferral_gain(scores, edge, cloud)
    assert gain is None or -1 - 1e-9 <= gain <= 1 + 1e-9


@given(ROWS)
def test_system_error_is_the_cloud_s_plus_the_local_excess(
    rows: list[tuple[float, bool, bool]],
) -> None:
    """Section 2 of the cascade note: err_system - err_cloud = E[A (e - c)], at every threshold."""
    scores, edge, cloud = columns(rows)
    right = deferral(scores, edge, cloud)
    risk = local_risk(scores, edge.astype(float) - cloud)
    assert right.x == pytest.approx(risk.x)
    assert 1 - right.y == pytest.approx(cloud.mean() + risk.y)
