"""Clients take turns, and a flood throws out its own."""

from hypothesis import given
from hypothesis import strategies as st

from edge_agent.turns import Turns


def test_clients_take_turns_however_many_each_has() -> None:
    turns: Turns[str] = Turns(room=10)
    for one in ("a1", "a2", "a3", "b1", "a4", "c1", "b2"):
        assert turns.join(one[0], one) is None
    assert turns.take(4) == ["a1", "b1", "c1", "a2"]
    assert turns.take(10) == ["b2", "a3", "a4"]
    assert (turns.take(1), len(turns)) == ([], 0)


def test_a_full_line_throws_out_the_newest_of_whoever_has_most() -> None:
    turns: Turns[str] = Turns(room=3)
    for one in ("a1", "a2", "a3"):
        assert turns.join("a", one) is None
    assert turns.join("a", "a4") == "a4"
    assert turns.join("b", "b1") == "a3"
    assert turns.join("b", "b2") == "b2", "as many as the other: the newcomer goes"
    assert turns.take(9) == ["a1", "b1", "a2"]


def test_what_is_ahead_counts_one_turn_of_each_other() -> None:
    turns: Turns[str] = Turns(room=99)
    for _ in range(50):
        turns.join("flood", "f")
    assert turns.ahead("flood") == 50
    assert turns.ahead("calm") == 1
    turns.join("calm", "c")
    assert turns.ahead("calm") == 3


@given(st.lists(st.one_of(st.sampled_from("abc"), st.none()), max_size=200), st.integers(1, 8))
def test_nobody_is_lost_or_served_twice_and_own_order_holds(
    story: list[str | None], room: int
) -> None:
    turns: Turns[tuple[str, int]] = Turns(room)
    joined: list[tuple[str, int]] = []
    gone: list[tuple[str, int]] = []
    served: list[tuple[str, int]] = []
    for number, client in enumerate(story):
        if client is None:
            served += turns.take(1)
            continue
        joined.append((client, number))
        if (out := turns.join(client, (client, number))) is not None:
            gone.append(out)
        assert len(turns) <= room
    served += turns.take(len(turns))
    assert sorted(served + gone) == sorted(joined)
    for client in "abc":
        own = [number for name, number in served if name == client]
        assert own == sorted(own)
