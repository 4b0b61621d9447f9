"""The parts links are made of: whose answer it is, when silence is death, what a status means."""

import asyncio

import pytest

from sync.backoff import delay_by_outage_s
from sync.errors import MalformedMessage
from sync.transport.mqtt import FIRST_CONNECT_S, RECONNECT, connect_timeout_s
from sync.transport.questions import Questions
from sync.transport.silence import MOST_S, PATIENCE_S, Silence
from sync.transport.status import UNAUTHORISED_RETRY_S, refusal
from sync.wire import topics, v1

# -- questions


def test_each_answer_finds_its_own_question_and_a_second_one_nobody() -> None:
    async def story() -> None:
        questions = Questions()
        with questions.ask("t", b"one") as one, questions.ask("t", b"two") as two:
            first, _ = topics.unwrap(one.payload)
            second, message = topics.unwrap(two.payload)
            assert message == b"two"
            assert questions.answer(topics.wrap(second, b"to two")) is None
            assert questions.answer(topics.wrap(second, b"again")) is None
            assert questions.waiting() == [one]
            assert questions.answer(topics.wrap(first, b"to one")) is None
            assert (one.reply.result(), two.reply.result()) == (b"to one", b"to two")
        assert questions.answer(topics.wrap(first, b"too late")) is None
        assert questions.waiting() == []

    asyncio.run(story())


def test_numbers_of_an_earlier_process_mean_nothing_now() -> None:
    async def story() -> None:
        numbers = set()
        for _ in range(20):
            with Questions().ask("t", b"x") as question:
                numbers.add(topics.unwrap(question.payload)[0])
        assert len(numbers) == 20
        assert 0 not in numbers

    asyncio.run(story())


def test_what_answers_nothing_is_unasked_and_what_is_no_envelope_is_named() -> None:
    questions = Questions()
    assert questions.answer(topics.wrap(0, b"notice")) == b"notice"
    with pytest.raises(MalformedMessage):
        questions.answer(b"short")


# -- silence


def test_silence_counts_from_the_first_question_since_something_was_heard() -> None:
    silence = Silence()
    assert silence.ends_at() is None
    silence.asked(10.0)
    silence.asked(11.0)
    assert silence.ends_at() == 10.0 + PATIENCE_S
    silence.heard(11.5, still_asking=True)
    assert silence.ends_at() == 11.5 + PATIENCE_S
    silence.heard(12.0, still_asking=False)
    assert silence.ends_at() is None


def test_what_has_not_left_this_machine_is_no_silence() -> None:
    silence = Silence()
    silence.busy(9.0)
    assert silence.ends_at() is None
    silence.asked(10.0)
    silence.busy(11.0)
    assert silence.ends_at() == 11.0 + PATIENCE_S


def test_patience_doubles_while_new_connections_stay_silent_too() -> None:
    silence = Silence()
    waits = []
    for _ in range(5):
        silence.asked(0.0)
        waits.append(silence.ends_at())
        silence.died()
        silence.reconnected()
    assert waits == [2.0, 4.0, 8.0, 16.0, MOST_S]
    silence.asked(0.0)
    silence.heard(0.1, still_asking=False)
    silence.asked(1.0)
    assert silence.ends_at() == 1.0 + PATIENCE_S


# -- how often a device knocks


def test_around_the_tenth_second_of_an_outage_no_attempt_is_more_than_three_seconds_away() -> None:
    for chance in (0.0, 0.5, 1.0):
        for first in range(100):
            now = first / 100 + FIRST_CONNECT_S
            while now < 13.0:
                gap = delay_by_outage_s(RECONNECT, now, chance)
                gap += connect_timeout_s(now + gap)
                if now > 7.0:
                    assert gap < 2.8
                now += gap


def test_a_link_that_answers_slowly_gets_the_time_it_needs_in_the_end() -> None:
    assert connect_timeout_s(0.0) == 1.5
    assert connect_timeout_s(60.0) > 4.0
    assert connect_timeout_s(1e6) == 6.0


# -- statuses

NOON = 1_790_000_000.0


@pytest.mark.parametrize(
    ("status", "headers", "body", "refused"),
    [
        (
            429,
            {"retry-after": "7"},
            b'{"code":"overloaded","detail":"wait"}',
            v1.Refused("overloaded", "wait", False, 7.0),
        ),
        (503, {}, b"", v1.Refused("unavailable", "HTTP status 503", False, 0.0)),
        (
            503,
            {"retry-after": "Mon, 21 Sep 2026 14:13:40 GMT"},
            b"",
            v1.Refused("unavailable", "HTTP status 503", False, 20.0),
        ),
        (500, {}, b"<html>", v1.Refused("http_500", "HTTP status 500", False, 0.0)),
        (408, {}, b"", v1.Refused("http_408", "HTTP status 408", False, 0.0)),
        (
            401,
            {},
            b'{"code":"token_revoked","detail":"enrol again"}',
            v1.Refused("token_revoked", "enrol again", False, UNAUTHORISED_RETRY_S),
        ),
        (
            403,
            {"retry-after": "7"},
            b'{"code":"wrong_device","detail":"d2 is another"}',
            v1.Refused("wrong_device", "d2 is another", False, UNAUTHORISED_RETRY_S),
        ),
        (
            401,
            {},
            b'{"error":"who are you"}',
            v1.Refused("unauthorised", "who are you", False, UNAUTHORISED_RETRY_S),
        ),
        (
            403,
            {},
            b"",
            v1.Refused("unauthorised", "HTTP status 403", False, UNAUTHORISED_RETRY_S),
        ),
        (
            404,
            {"retry-after": "7"},
            b'{"error":"no model named x"}',
            v1.Refused("http_404", "no model named x", True, 0.0),
        ),
        (413, {}, b"[1]", v1.Refused("message_too_large", "HTTP status 413", True, 0.0)),
        (302, {}, b"", v1.Refused("http_302", "HTTP status 302", False, 0.0)),
        (
            500,
            {},
            b'{"also":' + b"[" * 50_000,
            v1.Refused("http_500", "HTTP status 500", False, 0.0),
        ),
    ],
)
def test_a_status_says_whether_time_may_heal_it(
    status: int, headers: dict[str, str], body: bytes, refused: v1.Refused
) -> None:
    assert refusal(status, headers, body, NOON) == refused


@pytest.mark.parametrize(
    ("text", "wait_s"),
    [
        ("nan", 0.0),
        ("-5", 0.0),
        ("1e9", 3600.0),
        ("soon", 0.0),
        ("Wed, 21 Sep 2016 14:13:20 GMT", 0.0),
        ("Wed, 21 Sep 2096 14:13:20 GMT", 3600.0),
        ("", 0.0),
    ],
)
def test_a_strange_retry_after_neither_hurries_nor_silences(text: str, wait_s: float) -> None:
    assert refusal(429, {"retry-after": text}, b"", NOON).retry_after_s == wait_s
