"""What the device knows of how long its cloud takes, now."""

import math

from edge_agent.cloud.round_trips import MOST, RoundTrips


def test_the_last_ones_are_kept_and_no_more() -> None:
    trips = RoundTrips()
    for n in range(MOST + 5):
        trips.took("mqtt", n / 1000)
    assert len(trips.recent()) == MOST
    assert trips.recent()[0] == 5 / 1000
    assert math.isclose(trips.recent()[-1], (MOST + 4) / 1000)


def test_another_way_or_a_link_that_was_down_begins_anew() -> None:
    trips = RoundTrips()
    trips.took("mqtt", 0.01)
    trips.took("http", 0.04)
    assert trips.recent() == (0.04,)
    trips.went_down()
    assert trips.recent() == ()
