"""Presence: what may be said of a device last heard then, by a gateway listening since then."""

from math import inf

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloud_gateway.fleet.presence import CLOCK_SLACK_S, Presence, judge

moments = st.floats(0, 4e9)


def look(contact_at: float | None, now: float, *, listening_since: float = 0.0) -> Presence:
    return judge(contact_at, now, listening_since=listening_since, silent_after_s=15.0)


@pytest.mark.parametrize(
    ("contact_at", "now", "listening_since", "expected"),
    [
        (None, 1000.0, 0.0, Presence("never", inf)),
        (1000.0, 1000.0, 0.0, Presence("live", 1015.0)),
        (1000.0, 1015.0, 0.0, Presence("live", 1015.0)),
        (1000.0, 1015.5, 0.0, Presence("silent", inf)),
        (1000.0, 1001.0, 1000.5, Presence("live", 1015.0)),
        # A gateway that has just come back has not given the device the time to be heard.
        (1000.0, 5000.0, 4990.0, Presence("unknown", 5005.0)),
        (1000.0, 5005.0, 4990.0, Presence("silent", inf)),
        # The clock was set back: nobody knows how long ago the contact was.
        (1000.0 + CLOCK_SLACK_S, 1000.0, 0.0, Presence("live", 1017.0)),
        (1000.1 + CLOCK_SLACK_S, 1000.0, 0.0, Presence("unknown", 1002.1)),
    ],
)
def test_what_may_be_said(
    contact_at: float | None, now: float, listening_since: float, expected: Presence
) -> None:
    assert look(contact_at, now, listening_since=listening_since) == expected


@given(contact_at=moments, now=moments, listening_since=moments)
def test_live_means_heard_within_the_time(
    contact_at: float, now: float, listening_since: float
) -> None:
    seen = look(contact_at, now, listening_since=listening_since)
    heard_lately = -CLOCK_SLACK_S <= now - contact_at <= 15.0
    assert (seen.state == "live") == heard_lately


@given(contact_at=moments, now=moments, listening_since=moments)
def test_silence_is_only_told_by_one_who_has_listened(
    contact_at: float, now: float, listening_since: float
) -> None:
    seen = look(contact_at, now, listening_since=listening_since)
    if seen.state == "silent":
        assert now - listening_since >= 15.0


@given(contact_at=moments, now=st.floats(1e6, 4e9), listening_since=moments)
def test_a_judgement_holds_until_it_says(
    contact_at: float, now: float, listening_since: float
) -> None:
    seen = look(contact_at, now, listening_since=listening_since)
    if now < seen.until < inf:
        between = (now + seen.until) / 2
        assert look(contact_at, between, listening_since=listening_since).state == seen.state
