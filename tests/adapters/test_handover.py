"""The worker's way to its supervisor: questions over the socket pair, records through the pipe."""

import asyncio
import os
import socket
from collections.abc import Callable, Coroutine
from typing import Literal

import pytest
from msgspec.structs import replace

from edge_agent.cloud import handover
from edge_agent.cloud.ask import MOST_UNSENT, SupervisorAsk
from edge_agent.cloud.handover import Answer, Escalate, NoAnswer, Ready
from edge_agent.cloud.line import Line
from edge_agent.cloud.pipe import RecordPipe
from edge_agent.errors import BadOrder, SupervisorGone
from edge_agent.sdk.wire import HEADER, MAX_META, Frame
from models.calibrate.curve import Curve
from sync.errors import MalformedMessage
from sync.wire import codec, v1
from tests.records import answered

QUESTION = v1.Escalation(
    "bench-1", "case-7", "sides", "3", 270, (v1.Tensor("answers", "FP32", (6,), bytes(24)),)
)
ORDER = handover.WorkerOrder(3, 4, 5, "/var/p", "sides", "ab", "bench-1")


class Pair:
    """Both ends of the socket pair, and what was heard at each."""

    def __init__(self) -> None:
        self.asked: list[tuple[Escalate, bytes]] = []

    async def open(self) -> None:
        ours, theirs = socket.socketpair()
        self.supervisor = await Line.open(ours, self._at_supervisor)
        self.worker = await Line.open(theirs, self._at_worker)
        self.ask = SupervisorAsk(self.worker)

    async def close(self) -> None:
        await self.supervisor.close()
        await self.worker.gone

    def _at_supervisor(self, frame: Frame) -> None:
        said = handover.read_from_worker(frame.meta)
        assert isinstance(said, Escalate)
        self.asked.append((said, bytes(frame.body)))

    def _at_worker(self, frame: Frame) -> None:
        said = handover.read_to_worker(frame.meta)
        assert isinstance(said, Answer | NoAnswer)
        self.ask.heard(said, "sides")


def with_pair(story: Callable[[Pair], Coroutine[object, object, None]]) -> None:
    async def told() -> None:
        pair = Pair()
        await pair.open()
        try:
            await asyncio.wait_for(story(pair), timeout=10)
        finally:
            await pair.close()

    asyncio.run(told())


async def settle(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not true():  # noqa: ASYNC110 - it comes true inside the code under test
            await asyncio.sleep(0.001)


def test_a_question_travels_with_its_bytes_and_the_answer_finds_it() -> None:
    async def story(pair: Pair) -> None:
        asked = asyncio.ensure_future(pair.ask.ask(QUESTION, "shop", 0.0))
        await settle(lambda: bool(pair.asked))
        ((said, body),) = pair.asked
        assert handover.escalation_of(said, body, "bench-1") == QUESTION
        assert said.client == "shop"
        pair.supervisor.send(Answer("case-7", "middle", 0.9, "7"))
        assert await asked == v1.Escalated("case-7", "sides", "middle", 0.9, "7", 0)

    with_pair(story)


def test_no_answer_is_a_refusal_with_its_reason() -> None:
    async def story(pair: Pair) -> None:
        asked = asyncio.ensure_future(pair.ask.ask(QUESTION, "shop", 0.0))
        await settle(lambda: bool(pair.asked))
        pair.supervisor.send(NoAnswer("case-7", "link_down"))
        refused = await asked
        assert isinstance(refused, v1.Refused)
        assert refused.code == "link_down"

    with_pair(story)


def test_a_question_asked_twice_is_handed_over_once_and_both_are_answered() -> None:
    async def story(pair: Pair) -> None:
        first = asyncio.ensure_future(pair.ask.ask(QUESTION, "shop", 0.0))
        second = asyncio.ensure_future(pair.ask.ask(QUESTION, "shop", 0.0))
        await settle(lambda: bool(pair.asked))
        first.cancel()
        await asyncio.sleep(0)
        pair.supervisor.send(Answer("case-7", "middle", 0.9, "7"))
        assert isinstance(await second, v1.Escalated)
        assert first.cancelled()
        assert len(pair.asked) == 1

    with_pair(story)


@pytest.mark.parametrize("kind", ["later", "audit"])
def test_a_question_may_be_left_with_the_supervisor_to_be_sent_when_it_suits(
    kind: Literal["later", "audit"],
) -> None:
    async def story(pair: Pair) -> None:
        pair.ask.leave(QUESTION, "shop", kind=kind, value=0.25)
        await settle(lambda: bool(pair.asked))
        ((said, body),) = pair.asked
        assert (said.kind, said.value) == (kind, 0.25)
        assert handover.escalation_of(said, body, "bench-1") == QUESTION

    with_pair(story)


def test_a_question_nobody_waits_for_is_forgotten_and_may_be_asked_again() -> None:
    async def story(pair: Pair) -> None:
        given_up = asyncio.ensure_future(pair.ask.ask(QUESTION, "shop", 0.0))
        await settle(lambda: bool(pair.asked))
        given_up.cancel()
        await asyncio.gather(given_up, return_exceptions=True)
        again = asyncio.ensure_future(pair.ask.ask(QUESTION, "shop", 0.0))
        await settle(lambda: len(pair.asked) == 2)
        pair.supervisor.send(Answer("somebody-else", "middle", 0.9, "7"))
        pair.supervisor.send(NoAnswer("case-7", "refused"))
        assert isinstance(await again, v1.Refused)

    with_pair(story)


def test_questions_are_declined_when_the_supervisor_does_not_read() -> None:
    async def story() -> None:
        ours, theirs = socket.socketpair()
        line = await Line.open(theirs, lambda _: None)
        ask = SupervisorAsk(line)
        (tensor,) = QUESTION.inputs
        large = v1.Tensor(tensor.name, "UINT8", (8 << 20,), bytes(8 << 20))
        waiting = []
        for number in range(MOST_UNSENT // (8 << 20) + 2):
            question = v1.Escalation("bench-1", f"q{number}", "sides", "3", 270, (large,))
            waiting.append(asyncio.ensure_future(ask.ask(question, "shop", 0.0)))
            await asyncio.sleep(0)
        refused = await asyncio.wait_for(waiting[-1], timeout=10)
        assert isinstance(refused, v1.Refused)
        assert refused.code == "overloaded"
        assert not waiting[0].done()
        for one in waiting:
            one.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
        ours.close()
        await line.gone

    asyncio.run(story())


def test_a_stream_that_cannot_be_followed_ends_the_line() -> None:
    async def story() -> None:
        ours, theirs = socket.socketpair()
        line = await Line.open(theirs, lambda _: None)
        ours.sendall(HEADER.pack(MAX_META + 1, 0))
        await asyncio.wait_for(line.gone, timeout=10)
        ours.close()

    asyncio.run(story())


@pytest.mark.parametrize("read", [handover.read_from_worker, handover.read_to_worker])
@pytest.mark.parametrize(
    "meta", [b"", b"{}", b'{"op":"dance"}', b'{"op":"answer"}', b'{"op":"ready","task":1}']
)
def test_what_neither_side_says_is_malformed(read: Callable[[bytes], object], meta: bytes) -> None:
    with pytest.raises(MalformedMessage, match="not a message of a"):
        read(meta)


def test_the_words_between_worker_and_supervisor_are_json_a_person_can_read() -> None:
    whole = handover.frame(Ready("sides", "3", "ab", 77))
    assert whole[8:] == b'{"op":"ready","task":"sides","version":"3","digest":"ab","pid":77}'


def test_an_order_survives_the_environment_and_misspelt_keys_do_not() -> None:
    assert handover.read_order(handover.write_order(ORDER)) == ORDER
    safe = handover.Terms(0.9, "c-1", "safe", "9 of 40 audits", curve=Curve((0.5,), (0.01,)))
    alarmed = replace(ORDER, terms=(handover.StandingTerms("c-1", safe),))
    assert handover.read_order(handover.write_order(alarmed)) == alarmed
    with pytest.raises(BadOrder, match="unknown field `taks`"):
        handover.read_order(handover.write_order(ORDER).replace('"task"', '"taks"'))


class Pipe:
    """A record pipe whose reader is the test."""

    def __init__(self) -> None:
        self.out, self.into = os.pipe()
        os.set_blocking(self.out, False)
        self.missed: list[int] = []

    def __enter__(self) -> "Pipe":
        self.records = RecordPipe(self.into, self.missed.append)
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self.into)
        if self.out >= 0:
            os.close(self.out)

    def read(self) -> bytes:
        return os.read(self.out, 1 << 20)


def test_a_record_stands_in_the_pipe_with_its_length() -> None:
    with Pipe() as pipe:
        pipe.records.put(answered())
        data = pipe.read()
        assert int.from_bytes(data[:2], "little") == len(data) - 2
        assert codec.decode_record(data[2:]) == answered()


def test_records_without_room_are_counted_and_told_together() -> None:
    async def story(pipe: Pipe) -> None:
        size = len(handover.pack_record(answered()) or b"")
        for _ in range(1000):
            pipe.records.put(answered())
        await settle(lambda: bool(pipe.missed))
        (missed,) = pipe.missed
        assert 0 < missed < 1000
        assert len(pipe.read()) == (1000 - missed) * size, "each is there whole or not at all"

    with Pipe() as pipe:
        asyncio.run(story(pipe))


def test_a_record_that_could_be_torn_is_counted_instead() -> None:
    async def story(pipe: Pipe) -> None:
        pipe.records.put(answered(label="x" * 5000))
        pipe.records.tell()
        assert pipe.missed == [1]
        with pytest.raises(BlockingIOError):
            pipe.read()

    with Pipe() as pipe:
        asyncio.run(story(pipe))


def test_a_pipe_nobody_reads_ends_the_worker() -> None:
    with Pipe() as pipe:
        os.close(pipe.out)
        pipe.out = -1
        with pytest.raises(SupervisorGone):
            pipe.records.put(answered())
