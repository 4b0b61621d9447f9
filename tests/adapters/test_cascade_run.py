"""The cascade's shell on virtual time: when it answers, and what it has written by then."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from pathlib import Path
from typing import Literal, TypeVar

import pytest

from edge_agent.cascade.ports import CloudReply, InferRequest, Leaving, Terms
from edge_agent.cascade.privacy import Everything
from edge_agent.cascade.run import Cascade
from edge_agent.cascade.value import weather
from edge_agent.engine import Engine
from edge_agent.errors import DeadlineExceeded, SupervisorGone
from edge_agent.sdk.messages import Reply
from models import package
from models.errors import InputError
from models.manifest import Role
from models.predict import Prediction, Predictor
from models.tensors import Sample
from models.twins import build_twin
from sim.loop import VirtualClock, VirtualLoop, run
from sync.runner import InlineRunner, Runner
from sync.wire import v1
from tests.local_device import TASK, easy, hard

T = TypeVar("T")


class World:
    """One device's cascade; the cloud answers after a while, with a refusal, or never."""

    def __init__(self, folder: Path, loop: VirtualLoop) -> None:
        self.clock = VirtualClock(loop)
        self.after_s: float | None = None
        self.refusal = ""
        self.asked: list[tuple[float, v1.Escalation, str]] = []
        self.unheard = 0
        """Questions nobody waited for to the end."""
        self.left: list[tuple[v1.Escalation, str, str, float]] = []
        self.weighed: list[tuple[float, int]] = []
        self.records: list[v1.Answered] = []
        self.noted: list[tuple[str, str, bool]] = []
        """Audited requests: id, the device's label, whether that is the answer."""
        self.private = False
        self.pipe_broken = False
        self._predictor = Predictor.load(
            package.read(build_twin(TASK, "3", folder / "twin"), Role.EDGE), clock_ns=lambda: 0
        )
        self.cascade = self.use(InlineRunner())

    def use(self, runner: Runner) -> Cascade:
        """From now on the model runs there."""
        engine = Engine(
            self._predictor, digest="ab" * 32, runner=runner, clock=self.clock, typical_s=0.0001
        )
        self.cascade = Cascade(
            engine=engine,
            ask=self,
            records=self,
            clock=self.clock,
            device="bench-1",
            privacy=self,
            audits=self,
        )
        return self.cascade

    def leaving(self, request: InferRequest, prediction: Prediction) -> Leaving | None:
        return None if self.private else Everything().leaving(request, prediction)

    def chosen(self, request_id: str) -> bool:
        return request_id.startswith("audited")

    def audited(self, request_id: str, label: str, score: float | None, *, local: bool) -> None:
        assert score is not None
        self.noted.append((request_id, label, local))

    def ask(self, escalation: v1.Escalation, client: str, until: float) -> Awaitable[CloudReply]:
        return self._ask(escalation, client)

    async def _ask(self, escalation: v1.Escalation, client: str) -> CloudReply:
        self.asked.append((self.clock.monotonic(), escalation, client))
        if self.refusal:
            return v1.Refused(self.refusal, "", permanent=False)
        try:
            await asyncio.sleep(3600 if self.after_s is None else self.after_s)
        except asyncio.CancelledError:
            self.unheard += 1
            raise
        return v1.Escalated(escalation.request_id, TASK, "middle", 0.9, "7", 100)

    def weigh(self, worth: float, cost: int) -> None:
        self.weighed.append((worth, cost))

    def leave(
        self, question: v1.Escalation, client: str, *, kind: Literal["later", "audit"], value: float
    ) -> None:
        self.left.append((question, client, kind, value))

    def put(self, record: v1.Answered) -> None:
        if self.pipe_broken:
            raise SupervisorGone("nobody reads")
        self.records.append(record)

    async def infer(self, sample: Sample, *, deadline_ms: int = 300, id: str = "q") -> Reply:
        now = self.clock.monotonic()
        return await self.cascade.answer(
            InferRequest(
                id=id,
                client="shop",
                dtype=str(sample.dtype),
                shape=sample.shape,
                data=sample.tobytes(),
                deadline_ms=deadline_ms,
                received=now,
                until=now + deadline_ms / 1000,
            )
        )


Story = Callable[[World], Coroutine[object, object, None]]


@pytest.fixture
def tell(tmp_path: Path) -> Callable[[Story], None]:
    """Runs a story in a world of its own."""

    def tell(story: Story) -> None:
        async def told(loop: VirtualLoop) -> None:
            await story(World(tmp_path, loop))

        run(told)

    return tell


Tell = Callable[[Story], None]


def test_an_easy_input_takes_no_time_and_asks_nobody(tell: Tell) -> None:
    async def story(world: World) -> None:
        reply = await world.infer(easy(2))
        assert (reply.label, reply.source, reply.final) == ("right", "edge", True)
        assert world.clock.monotonic() == 0.0
        assert world.asked == []
        (record,) = world.records
        assert (record.route, record.hard, record.wait_us) == ("edge", False, 0)

    tell(story)


def test_a_hard_input_is_answered_the_moment_the_cloud_is(tell: Tell) -> None:
    async def story(world: World) -> None:
        world.after_s = 0.12
        reply = await world.infer(hard())
        assert world.clock.monotonic() == pytest.approx(0.12)
        assert (reply.label, reply.source, reply.version) == ("middle", "cloud", "7")
        assert reply.timings.wait_us == pytest.approx(120_000, abs=1)
        ((at, question, client),) = world.asked
        assert (at, question.timeout_ms, client) == (0.0, 240, "shop")
        (record,) = world.records
        assert (record.version, record.digest) == ("3", "ab" * 6), "the worker's own"

    tell(story)


@pytest.mark.parametrize(
    ("deadline_ms", "answered_ms"), [(300, 240), (1000, 920), (100, 80), (20, 5)]
)
def test_a_silent_cloud_is_waited_for_until_the_reserve_begins(
    tell: Tell, deadline_ms: int, answered_ms: int
) -> None:
    async def story(world: World) -> None:
        reply = await world.infer(hard(), deadline_ms=deadline_ms)
        assert world.clock.monotonic() == pytest.approx(answered_ms / 1000)
        assert (reply.label, reply.final, reply.reason) == ("left", False, "deadline")
        await asyncio.sleep(0)
        assert world.unheard == 1, "it is not waited for any more"

    tell(story)


def test_a_hard_input_with_no_time_left_is_still_handed_over(tell: Tell) -> None:
    async def story(world: World) -> None:
        reply = await world.infer(hard(), deadline_ms=10)
        assert world.clock.monotonic() == 0.0
        assert (reply.final, reply.reason) == (False, "deadline")
        ((question, client, kind, _),) = world.left
        assert (question.timeout_ms, client, kind) == (0, "shop", "later")

    tell(story)


@pytest.mark.parametrize("reason", ["link_down", "refused"])
def test_a_cloud_that_declines_is_not_waited_for(tell: Tell, reason: str) -> None:
    async def story(world: World) -> None:
        world.refusal = reason
        reply = await world.infer(hard())
        assert world.clock.monotonic() == 0.0
        assert (reply.final, reply.reason) == (False, reason)
        (record,) = world.records
        assert (record.final, record.hard, record.route) == (False, True, "edge")

    tell(story)


def test_hard_inputs_wait_side_by_side(tell: Tell) -> None:
    async def story(world: World) -> None:
        world.after_s = 0.2
        replies = await asyncio.gather(*(world.infer(hard(), id=f"q{n}") for n in range(50)))
        assert world.clock.monotonic() == pytest.approx(0.2)
        assert [reply.id for reply in replies] == [f"q{n}" for n in range(50)]

    tell(story)


def test_without_a_record_there_is_no_answer(tell: Tell) -> None:
    async def story(world: World) -> None:
        world.pipe_broken = True
        with pytest.raises(SupervisorGone):
            await world.infer(easy())

    tell(story)


def test_a_bad_input_leaves_no_record(tell: Tell) -> None:
    async def story(world: World) -> None:
        with pytest.raises(InputError):
            await world.infer(easy().reshape(2, 3))
        assert world.records == []
        assert world.asked == []

    tell(story)


class Held:
    """A runner whose calls never end."""

    def submit(self, call: Callable[[], T]) -> Awaitable[T]:
        return asyncio.get_running_loop().create_future()

    def close(self) -> None:
        """Nothing runs."""


def test_a_model_that_says_nothing_is_waited_for_until_the_deadline_and_no_longer(
    tell: Tell,
) -> None:
    async def story(world: World) -> None:
        world.use(Held())
        for number in range(3):
            with pytest.raises(DeadlineExceeded, match="had said nothing of request"):
                await world.infer(easy(), deadline_ms=300, id=f"q{number}")
            assert world.clock.monotonic() == pytest.approx(0.3 * (number + 1))
        assert world.records == [], "what was not answered is not recorded as an answer"

    tell(story)


def test_with_a_budget_an_input_not_worth_its_bytes_is_answered_at_once_and_weighed(
    tell: Tell,
) -> None:
    async def story(world: World) -> None:
        world.cascade.weather = weather(up=True, round_trips=(0.1,), left=10**6, price=1.0)
        reply = await world.infer(hard())
        assert (reply.source, reply.final, reply.reason) == ("edge", True, "budget")
        assert (reply.degraded, reply.hard) == (True, True)
        assert (world.asked, world.left) == ([], [])
        (record,) = world.records
        assert (record.degraded, record.reason, record.sent_bytes) == (True, "budget", 0)
        ((worth, cost),) = world.weighed
        assert cost == hard().nbytes
        assert 0 < worth < 1

    tell(story)


def test_an_audited_answer_of_the_device_s_own_becomes_a_question_nobody_waits_for(
    tell: Tell,
) -> None:
    async def story(world: World) -> None:
        reply = await world.infer(easy(2), id="audited-1")
        assert (reply.source, reply.final, world.clock.monotonic()) == ("edge", True, 0.0)
        assert world.noted == [("audited-1", "right", True)]
        ((question, client, kind, value),) = world.left
        assert (question.request_id, client, kind, value) == ("audited-1", "shop", "audit", 0.0)
        (record,) = world.records
        assert record.audited
        await world.infer(easy(2), id="q-2")
        assert len(world.left) == len(world.noted) == 1
        assert not world.records[-1].audited

    tell(story)


def test_an_audited_input_the_cloud_is_asked_about_anyway_needs_no_second_question(
    tell: Tell,
) -> None:
    async def story(world: World) -> None:
        world.after_s = 0.1
        await world.infer(hard(), id="audited-1")
        assert world.noted == [("audited-1", "left", False)]
        assert [question.request_id for _, question, _ in world.asked] == ["audited-1"]
        assert world.left == []
        assert world.records[0].audited

    tell(story)


def test_what_may_not_leave_is_not_audited(tell: Tell) -> None:
    async def story(world: World) -> None:
        world.private = True
        await world.infer(easy(2), id="audited-1")
        assert (world.noted, world.left) == ([], [])
        assert not world.records[0].audited

    tell(story)


def test_in_safe_mode_the_terms_decide_what_is_hard_and_answers_say_why(tell: Tell) -> None:
    async def story(world: World) -> None:
        world.refusal = "link_down"
        world.cascade.terms = Terms(None, "c-1", None, None, "9 of 40 audits differ")
        reply = await world.infer(easy(2), id="audited-1")
        assert (reply.source, reply.hard, reply.degraded) == ("edge", True, True)
        assert (reply.certified_risk, reply.uncertified) == (None, "9 of 40 audits differ")
        assert world.noted == [("audited-1", "right", False)]

    tell(story)
