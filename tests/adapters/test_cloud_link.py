"""CloudLink with the shipped outbox and the shipped twin of a transport, on virtual time."""

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from msgspec.structs import replace

from edge_agent.cloud.circuit import Pace
from edge_agent.cloud.link import CloudLink, DeviceReport, LinkSettings
from sim.loop import VirtualClock, VirtualLoop, run
from sync.errors import LinkDown
from sync.outbox.run import Outbox
from sync.runner import InlineRunner
from sync.transport.memory import MemoryTransport
from sync.wire import codec, v1
from tests.records import answered

SETTINGS = LinkSettings(pace=Pace(beat_s=10), reply_timeout_s=3)


class Gateway:
    """What a gateway does with each message, and a link to it that can be cut."""

    def __init__(self) -> None:
        self.records: dict[int, v1.Record] = {}
        self.lost: dict[int, str] = {}
        self.asked: Counter[str] = Counter()
        self.beats: list[v1.Beat] = []
        self.desired: tuple[v1.Desired, ...] = ()
        self.takes_s: Callable[[], float] = lambda: 0.01
        self.swallows = False
        self.drops: Callable[[], bool] = lambda: False
        self.refuses: tuple[type[v1.Up], ...] = ()
        self.refusal = v1.Refused("", "", permanent=True)

    async def carry(self, data: bytes) -> bytes:
        if self.swallows:
            await asyncio.Event().wait()
        if self.drops():
            raise LinkDown("dropped on the way there")
        reply = codec.encode(self.hear(codec.decode_up(data)))
        await asyncio.sleep(self.takes_s())
        if self.swallows:
            await asyncio.Event().wait()
        if self.drops():
            raise LinkDown("dropped on the way back")
        return reply

    def hear(self, message: v1.Up) -> v1.Down:
        if isinstance(message, self.refuses):
            return self.refusal
        match message:
            case v1.Beat():
                self.beats.append(message)
                return v1.BeatReply(0.0, self.desired)
            case v1.Escalation(request_id=request_id, task=task):
                self.asked[request_id] += 1
                return v1.Escalated(request_id, task, f"cloud-{request_id}", 0.9, "1.0.0", 500)
            case v1.Batch(incarnation=incarnation, lo=lo, hi=hi, body=body):
                records = codec.unpack_records(body)
                self.records.update(zip(range(lo, hi + 1), records, strict=True))
                return v1.BatchAck(incarnation, lo, hi, "committed")
            case v1.LossReport(incarnation=incarnation, losses=losses):
                for loss in losses:
                    self.lost.update(dict.fromkeys(range(loss.lo, loss.hi + 1), loss.reason))
                return v1.LossAck(incarnation, losses)

    def answered(self) -> Counter[str]:
        return Counter(
            record.request_id for record in self.records.values() if isinstance(record, v1.Answered)
        )

    def revised(self) -> Counter[str]:
        return Counter(
            record.request_id for record in self.records.values() if isinstance(record, v1.Revised)
        )


class Device:
    """A device's control half, and a worker that keeps deadlines."""

    def __init__(self, loop: VirtualLoop, gateway: Gateway, outbox: Outbox, seed: int) -> None:
        self.loop = loop
        self.gateway = gateway
        self.outbox = outbox
        self.desired: list[tuple[v1.Desired, ...]] = []
        self.revised_clients: list[str] = []
        self.storing: Awaitable[object] = loop.create_future()
        self.transport = MemoryTransport(gateway.carry)
        self.link = CloudLink(
            device="bench-1",
            agent_version="0",
            transport=self.transport,
            outbox=outbox,
            clock=VirtualClock(loop),
            chance=random.Random(seed),
            settings=SETTINGS,
            report=lambda: DeviceReport(tasks=(v1.TaskState("apparel", "1", "d", "serving"),)),
            on_desired=self.desired.append,
            on_revision=self.revised_clients.append,
        )

    async def infer(self, request_id: str, deadline_s: float = 0.3) -> v1.Answered:
        """One hard request, as a worker handles it."""
        began = self.loop.time()
        asked = self.link.escalate("app", question(request_id, int(deadline_s * 1000)))
        reason, label, final = "deadline", "edge", False
        try:
            match await asyncio.wait_for(asked, deadline_s):
                case v1.Escalated(label=label):
                    reason, final = "escalated", True
                case v1.Refused(code):
                    reason = code
        except TimeoutError:
            pass
        record = answered(
            request_id,
            route="cloud" if final else "edge",
            final=final,
            reason=reason,
            label=label,
            hard=True,
            total_us=round((self.loop.time() - began) * 1e6),
        )
        self.storing = self.link.record(record)
        return record


def question(request_id: str, timeout_ms: int = 300) -> v1.Escalation:
    tensor = v1.Tensor("x", "FP32", (1,), b"\0\0\0\0")
    return v1.Escalation("bench-1", request_id, "apparel", "1.0.0", timeout_ms, (tensor,))


@asynccontextmanager
async def device(
    loop: VirtualLoop, folder: Path, gateway: Gateway, seed: int = 1
) -> AsyncIterator[Device]:
    outbox = await Outbox.open(
        folder, clock=VirtualClock(loop), runner=InlineRunner(), chance=random.Random(seed)
    )
    it = Device(loop, gateway, outbox, seed)
    await it.link.start()
    await asyncio.sleep(0.1)
    try:
        yield it
    finally:
        await it.link.close()
        await outbox.close()


def play(story: Callable[[VirtualLoop], Coroutine[object, object, None]]) -> None:
    run(story)


def test_a_live_answer_is_final_and_nothing_is_left(tmp_path: Path) -> None:
    async def story(loop: VirtualLoop) -> None:
        gateway = Gateway()
        async with device(loop, tmp_path, gateway) as it:
            record = await it.infer("r1")
            assert (record.final, record.label) == (True, "cloud-r1")
            await asyncio.sleep(5)
            ledger = await it.outbox.ledger()
            assert (ledger.issued, ledger.pending, ledger.escalations_waiting) == (1, 0, 0)
        assert gateway.answered() == {"r1": 1}
        assert gateway.revised() == {}

    play(story)


def test_a_late_answer_becomes_a_revision_for_its_client(tmp_path: Path) -> None:
    async def story(loop: VirtualLoop) -> None:
        gateway = Gateway()
        async with device(loop, tmp_path, gateway) as it:
            gateway.takes_s = lambda: 1.0
            record = await it.infer("r1")
            assert (record.final, record.reason) == (False, "deadline")
            await asyncio.sleep(5)
            (revision,) = await it.outbox.revisions("app", 10)
            assert (revision.request_id, revision.label) == ("r1", "cloud-r1")
            assert it.revised_clients == ["app"]
        assert gateway.asked == {"r1": 1}
        assert gateway.revised() == {"r1": 1}

    play(story)


def test_a_cut_is_told_at_once_and_every_hard_case_is_revised_after_it(tmp_path: Path) -> None:
    async def story(loop: VirtualLoop) -> None:
        gateway = Gateway()
        async with device(loop, tmp_path, gateway) as it:
            gateway.swallows = True
            early = await it.infer("early")
            assert early.reason == "deadline"
            await asyncio.sleep(7)  # its question and the heartbeat after it meet silence
            late = [await it.infer(f"r{number}") for number in range(20)]
            assert {record.reason for record in late} == {"link_down"}
            assert max(record.total_us for record in late) < 1000
            await asyncio.sleep(0.5)
            assert (await it.outbox.ledger()).escalations_waiting == 21
            gateway.swallows = False
            await asyncio.sleep(60)
            ledger = await it.outbox.ledger()
            assert (ledger.escalations_waiting, ledger.pending, ledger.lost) == (0, 0, 0)
        everybody = {"early": 1, **{f"r{number}": 1 for number in range(20)}}
        assert gateway.answered() == everybody
        assert gateway.revised() == everybody

    play(story)


def test_what_was_owed_before_a_restart_is_revised_after_it(tmp_path: Path) -> None:
    async def story(loop: VirtualLoop) -> None:
        gateway = Gateway()
        async with device(loop, tmp_path, gateway) as it:
            gateway.swallows = True
            for number in range(5):
                await it.infer(f"r{number}")
            await asyncio.sleep(1)
        gateway.swallows = False
        async with device(loop, tmp_path, gateway, seed=2) as it:
            await asyncio.sleep(60)
            assert len(await it.outbox.revisions("app", 10)) == 5
            assert (await it.outbox.ledger()).escalations_waiting == 0
        assert set(gateway.revised().values()) == {1}

    play(story)


def test_a_request_asked_and_recorded_twice_counts_once(tmp_path: Path) -> None:
    async def story(loop: VirtualLoop) -> None:
        gateway = Gateway()
        async with device(loop, tmp_path, gateway) as it:
            first, second = await asyncio.gather(it.infer("r1"), it.infer("r1"))
            assert first.final
            assert second.final
            third = await it.infer("r1")
            assert third.label == "cloud-r1"
            await it.link.record(answered("easy"))
            await it.link.record(answered("easy"))
            await asyncio.sleep(5)
            assert (await it.outbox.ledger()).issued == 2
        assert gateway.asked == {"r1": 1}
        assert gateway.answered() == {"r1": 1, "easy": 1}

    play(story)


def test_a_refusal_for_good_is_counted_as_lost_with_its_reason(tmp_path: Path) -> None:
    async def story(loop: VirtualLoop) -> None:
        gateway = Gateway()
        async with device(loop, tmp_path, gateway) as it:
            gateway.refuses = (v1.Escalation,)
            gateway.refusal = v1.Refused("unknown_task", "never heard of it", permanent=True)
            record = await it.infer("r1")
            assert (record.final, record.reason) == (False, "refused")
            await asyncio.sleep(1)
            gateway.refuses = ()
            await asyncio.sleep(120)
            ledger = await it.outbox.ledger()
            assert (ledger.issued, ledger.pending, ledger.escalations_waiting) == (2, 0, 0)
        assert gateway.answered() == {"r1": 1}
        assert gateway.lost == {2: "escalation_unknown_task"}

    play(story)


def test_a_gateway_that_asks_to_be_left_alone_is_and_answers_come_early(tmp_path: Path) -> None:
    async def story(loop: VirtualLoop) -> None:
        gateway = Gateway()
        async with device(loop, tmp_path, gateway) as it:
            gateway.refuses = (v1.Escalation,)
            gateway.refusal = v1.Refused("overloaded", "later", permanent=False, retry_after_s=20)
            first = await it.infer("r0")
            assert first.reason == "overloaded"
            gateway.refuses = ()
            for number in range(1, 15):
                early = await it.infer(f"r{number}")
                assert (early.reason, early.total_us) == ("overloaded", 0)
                await asyncio.sleep(1)
            assert gateway.asked == {}, "neither live nor from the backlog"
            await asyncio.sleep(30)
            assert (await it.infer("after")).final
            assert (await it.outbox.ledger()).escalations_waiting == 0
        assert gateway.revised() == {f"r{number}": 1 for number in range(15)}

    play(story)


def test_a_cloud_whose_models_hang_is_left_although_its_heartbeats_are_answered(
    tmp_path: Path,
) -> None:
    async def story(loop: VirtualLoop) -> None:
        gateway = Gateway()
        hear = gateway.carry

        async def carry(data: bytes) -> bytes:
            if isinstance(codec.decode_up(data), v1.Escalation):
                gateway.asked["hung"] += 1
                await asyncio.Event().wait()
            return await hear(data)

        async with device(loop, tmp_path, gateway) as it:
            it.transport._carry = carry
            reasons = Counter[str]()
            for number in range(200):
                reasons[(await it.infer(f"r{number}")).reason] += 1
                await asyncio.sleep(0.2)
            assert reasons["link_down"] > 3 * reasons["deadline"], reasons
            assert gateway.asked["hung"] < 40, "few questions find out that nothing has changed"
            it.transport._carry = hear
            await asyncio.sleep(120)
            assert (await it.outbox.ledger()).escalations_waiting == 0
            assert (await it.infer("after")).final
        assert set(gateway.revised().values()) == {1}
        assert len(gateway.revised()) == 200

    play(story)


def test_an_answer_to_another_request_is_none(tmp_path: Path) -> None:
    async def story(loop: VirtualLoop) -> None:
        gateway = Gateway()
        hear = gateway.carry

        async def carry(data: bytes) -> bytes:
            reply = codec.decode_down(await hear(data))
            if isinstance(reply, v1.Escalated):
                reply = replace(reply, request_id="of somebody else")
            return codec.encode(reply)

        async with device(loop, tmp_path, gateway) as it:
            it.transport._carry = carry
            record = await it.infer("r1")
            assert (record.final, record.reason, record.label) == (False, "odd_reply", "edge")
            it.transport._carry = hear
            await asyncio.sleep(60)
            (revision,) = await it.outbox.revisions("app", 10)
            assert (revision.request_id, revision.label) == ("r1", "cloud-r1")
        assert gateway.revised() == {"r1": 1}

    play(story)


def test_garbage_counts_as_silence(tmp_path: Path) -> None:
    async def story(loop: VirtualLoop) -> None:
        gateway = Gateway()
        hear = gateway.carry

        async def carry(_data: bytes) -> bytes:
            return b"<html>please log in to this network</html>"

        async with device(loop, tmp_path, gateway) as it:
            it.transport._carry = carry
            first = await it.infer("r0")
            assert (first.final, first.reason) == (False, "link_down")
            await asyncio.sleep(1)
            assert not it.link.up
            it.transport._carry = hear
            await asyncio.sleep(60)
            assert it.link.up
        assert gateway.revised() == {"r0": 1}

    play(story)


def test_a_device_turned_away_keeps_what_it_owes(tmp_path: Path) -> None:
    async def story(loop: VirtualLoop) -> None:
        gateway = Gateway()
        async with device(loop, tmp_path, gateway) as it:
            gateway.refuses = (v1.Beat, v1.Escalation, v1.Batch)
            gateway.refusal = v1.Refused("token_revoked", "bench-1 was removed", permanent=True)
            record = await it.infer("r1")
            assert record.reason == "refused"
            await asyncio.sleep(60)
            status = await it.link.status()
            assert status.turned_away == "token_revoked: bench-1 was removed"
            assert status.ledger.escalations_waiting == 1
            gateway.refuses = ()
            await asyncio.sleep(7200)
            assert (await it.link.status()).turned_away is None
            assert (await it.outbox.ledger()).escalations_waiting == 0
        assert gateway.revised() == {"r1": 1}

    play(story)


def test_a_notice_and_news_are_worth_a_heartbeat(tmp_path: Path) -> None:
    async def story(loop: VirtualLoop) -> None:
        gateway = Gateway()
        async with device(loop, tmp_path, gateway) as it:
            assert len(gateway.beats) == 1
            gateway.desired = (v1.Desired("apparel", "2.0.0"),)
            it.transport.push(codec.encode(v1.Notice("desired")))
            await asyncio.sleep(0.1)
            assert it.desired == [(), gateway.desired]
            it.link.news()
            await asyncio.sleep(0.1)
            assert [beat.tasks[0].state for beat in gateway.beats] == ["serving"] * 3

    play(story)


def test_records_a_worker_lost_are_issued_as_lost(tmp_path: Path) -> None:
    async def story(loop: VirtualLoop) -> None:
        gateway = Gateway()
        async with device(loop, tmp_path, gateway) as it:
            await it.link.lose(3, "pipe_full")
            await asyncio.sleep(5)
            assert (await it.outbox.ledger()).issued == 3
        assert gateway.lost == dict.fromkeys((1, 2, 3), "pipe_full")

    play(story)


@pytest.mark.parametrize("seed", range(3))
def test_on_a_bad_link_the_ledger_balances_and_each_debt_is_paid_once(
    tmp_path: Path, seed: int
) -> None:
    chance = random.Random(seed)
    records: list[v1.Answered] = []

    async def requests(it: Device) -> None:
        async def one(request_id: str) -> None:
            records.append(await it.infer(request_id))
            if chance.random() < 0.1:
                await it.infer(request_id)  # the caller had no answer and asks again

        begun = []
        for number in range(60):
            begun.append(asyncio.ensure_future(one(f"{seed}-{number}")))
            await asyncio.sleep(chance.expovariate(3))
        await asyncio.gather(*begun)

    async def story(loop: VirtualLoop) -> None:
        gateway = Gateway()
        gateway.takes_s = lambda: chance.expovariate(5)
        gateway.drops = lambda: chance.random() < 0.15
        async with device(loop, tmp_path, gateway, seed) as it:
            asking = asyncio.ensure_future(requests(it))
            await asyncio.sleep(8)
            gateway.swallows = True
            await asyncio.sleep(8)
            gateway.swallows = False
            await asking
            gateway.drops = lambda: False
            await asyncio.sleep(200)
            ledger = await it.outbox.ledger()
            assert (ledger.pending, ledger.lost, ledger.escalations_waiting) == (0, 0, 0)
            assert ledger.issued == len(gateway.records) + len(gateway.lost)
        assert gateway.lost == {}
        assert set(gateway.answered().values()) == {1}
        assert gateway.answered().keys() == {record.request_id for record in records}
        assert set(gateway.revised().values()) == {1}
        provisional = {record.request_id for record in records if not record.final}
        assert provisional <= gateway.revised().keys()
        assert len(provisional) > 10

    play(story)
