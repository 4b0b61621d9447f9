"""How long a worker that ended is left down."""

from hypothesis import given
from hypothesis import strategies as st

from edge_agent.upkeep.restart import Ends, RestartPolicy, after_end
from sync.backoff import Backoff

POLICY = RestartPolicy(pause=Backoff(base_s=1, cap_s=8), steady_s=10)


def pauses(*lives: tuple[bool, float]) -> list[float]:
    """The pause after each life: whether it served, how long it lived."""
    ends, found = Ends(), []
    for served, lived_s in lives:
        restart = after_end(ends, POLICY, served=served, lived_s=lived_s, chance=1.0)
        ends = restart.ends
        found.append(restart.pause_s)
    return found


def test_a_worker_that_served_is_back_at_once_the_first_time() -> None:
    assert pauses((True, 3600)) == [0]
    assert pauses((True, 0.5)) == [0]


def test_ends_close_together_double_the_pause_up_to_a_cap() -> None:
    assert pauses(*[(True, 1.0)] * 7) == [0, 1, 2, 4, 8, 8, 8]


def test_a_steady_life_clears_the_account() -> None:
    assert pauses((True, 1), (True, 1), (True, 11), (True, 1)) == [0, 1, 0, 1]


def test_a_worker_that_never_served_waits_from_its_first_end() -> None:
    assert pauses((False, 0.1), (False, 0.1), (False, 60)) == [1, 1, 2]


@given(st.lists(st.tuples(st.booleans(), st.floats(0, 100)), max_size=50), st.floats(0, 0.999))
def test_no_pause_is_over_the_cap(lives: list[tuple[bool, float]], chance: float) -> None:
    ends = Ends()
    for served, lived_s in lives:
        restart = after_end(ends, POLICY, served=served, lived_s=lived_s, chance=chance)
        ends = restart.ends
        assert 0 <= restart.pause_s <= 8
