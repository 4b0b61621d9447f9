"""Requests without an answer: told of by the next one, counted once."""

from collections import deque

import numpy as np

from edge_agent.control.unanswered import REMEMBERED, Unanswered
from edge_agent.local_api.frames import read_request
from edge_agent.sdk.call import MOST_TOLD, Call
from edge_agent.sdk.tensor import tensor_of
from edge_agent.sdk.wire import HEADER


def told(call: Call) -> tuple[str, ...]:
    return read_request(call.head()[HEADER.size :]).unanswered


def call_of(missed: deque[str], name: str) -> Call:
    made = Call("sides", "shop", tensor_of(np.zeros(2, np.float32)), 100, name)
    made.missed = missed
    return made


def test_the_next_request_tells_of_those_that_had_no_answer_each_time_it_is_sent() -> None:
    missed: deque[str] = deque(maxlen=64)
    first = call_of(missed, 'odd "name"')
    assert told(first) == ()
    first.exceeded()
    second, third = call_of(missed, "b"), call_of(missed, "c")
    assert told(second) == ('odd "name"',)
    assert told(second) == ('odd "name"',), "it may not have arrived"
    assert told(third) == ()


def test_no_more_are_told_of_at_once_than_a_request_may_hold() -> None:
    missed = deque(f"q{number}" for number in range(40))
    assert len(told(call_of(missed, "a"))) == MOST_TOLD
    assert len(missed) == 40 - MOST_TOLD


def test_whoever_tells_of_a_request_it_counts_once() -> None:
    book = Unanswered()
    book.saw(("a", "b"))
    book.saw(("b", "c"))
    assert book.count == 3
    book.saw(f"q{number}" for number in range(REMEMBERED))
    assert book.count == 3 + REMEMBERED
