"""Numbers and times as the page says them."""

import pytest

from cloud_gateway.dashboard import wording


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (-3, "0 s"),
        (0, "0 s"),
        (59.9, "59 s"),
        (60, "1 min"),
        (3599, "59 min"),
        (3600, "1 h"),
        (86_399, "23 h"),
        (86_400, "1 d"),
        (9e8, "10416 d"),
    ],
)
def test_an_age_has_one_unit(seconds: float, words: str) -> None:
    assert wording.age(1e9 - seconds, 1e9) == words


@pytest.mark.parametrize(
    ("share", "words"),
    [
        (0.0, "0 %"),
        (0.0004, "0.0 %"),
        (0.082, "8.2 %"),
        (0.0994, "9.9 %"),
        (0.0996, "10 %"),
        (1.0, "100 %"),
    ],
)
def test_a_share_has_the_digits_that_mean_something(share: float, words: str) -> None:
    assert wording.percent(share) == words


def test_nothing_known_is_said_as_unknown() -> None:
    said = (
        wording.age(None, 1.0),
        wording.count(None),
        wording.percent(None),
        wording.utc(None),
        wording.clock(None),
    )
    assert set(said) == {"unknown"}


def test_a_moment_no_calendar_has_is_unknown_and_no_error() -> None:
    for at in (1e300, float("nan"), float("inf"), -1e18):
        assert wording.utc(at) == "unknown"
    assert wording.utc(1_790_000_000.0) == "2026-09-21 14:13:20 UTC"


@pytest.mark.parametrize(
    ("ahead", "words"),
    [(0.4, "in step"), (-1.9, "in step"), (40, "40 s ahead"), (-7200, "2 h behind")],
)
def test_a_clock_is_in_step_ahead_or_behind(ahead: float, words: str) -> None:
    assert wording.clock(ahead) == words
