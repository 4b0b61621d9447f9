"""The rule between device and cloud, as a table."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.calibrate.decide import judge

probabilities = st.floats(min_value=0, max_value=1)


@pytest.mark.parametrize(
    ("confidence", "threshold", "hard", "reason"),
    [
        (0.9, 0.8, False, "confident"),
        (0.8, 0.8, False, "confident"),
        (math.nextafter(0.8, 0), 0.8, True, "below_threshold"),
        (1.0, 1.0, False, "confident"),
        (0.0, 0.0, False, "confident"),
        (None, 0.8, True, "degenerate"),
        (None, 0.0, True, "degenerate"),
        (math.nan, 0.0, True, "degenerate"),
        (math.inf, 0.8, True, "degenerate"),
        (-math.inf, 0.0, True, "degenerate"),
        (1.0001, 0.8, True, "degenerate"),
        (-0.1, 0.0, True, "degenerate"),
        (1.0, None, True, "uncertified"),
        (None, None, True, "degenerate"),
    ],
)
def test_what_is_hard_and_why(
    confidence: float | None, threshold: float | None, hard: bool, reason: str
) -> None:
    assert judge(confidence, threshold) == (hard, reason)


@given(st.floats() | st.none(), st.floats() | st.none())
def test_only_a_probability_at_or_above_a_threshold_stays_on_the_device(
    confidence: float | None, threshold: float | None
) -> None:
    if not judge(confidence, threshold).hard:
        assert confidence is not None
        assert threshold is not None
        assert 0 <= confidence <= 1
        assert confidence >= threshold


@given(probabilities, probabilities, probabilities)
def test_a_higher_threshold_never_keeps_more_on_the_device(
    confidence: float, one: float, other: float
) -> None:
    lower, upper = sorted((one, other))
    assert judge(confidence, upper).hard or not judge(confidence, lower).hard
