"""The outbox under a clock that begins in 1970, is set, jumps ten years and is set back."""

import asyncio
import random
from pathlib import Path

import pytest

from sim.loop import VirtualClock, VirtualLoop, run
from sync.outbox.run import Outbox
from sync.runner import InlineRunner
from sync.transport.memory import MemoryTransport
from sync.wire import codec, v1
from tests.records import answered, revised

TEN_YEARS_S = 10 * 365 * 86400.0
TO_1970 = -VirtualClock.EPOCH


class SetClock(VirtualClock):
    """A wall clock somebody sets."""

    def set(self, offset_s: float) -> None:
        self._offset_s = offset_s


async def opened(folder: Path, clock: VirtualClock) -> Outbox:
    return await Outbox.open(folder, clock=clock, runner=InlineRunner(), chance=random.Random(3))


JUMPS = [(TO_1970, 0.0), (0.0, TEN_YEARS_S), (TEN_YEARS_S, 0.0), (0.0, TO_1970)]


@pytest.mark.parametrize(("before", "after"), JUMPS)
def test_no_jump_of_the_clock_ends_a_revision_or_a_number(
    tmp_path: Path, before: float, after: float
) -> None:
    async def story(loop: VirtualLoop) -> None:
        clock = SetClock(loop, offset_s=before)
        outbox = await opened(tmp_path, clock)
        assert await outbox.put(answered("r1")) == 1
        assert await outbox.put(revised("r1"), revision_for="app") == 2
        clock.set(after)
        assert await outbox.put(answered("r2")) == 3
        assert await outbox.put(revised("r2"), revision_for="app") == 4
        waiting = [one.request_id for one in await outbox.revisions("app", 10)]
        assert waiting == ["r1", "r2"]
        await outbox.close()
        again = await opened(tmp_path, clock)
        waiting = [one.request_id for one in await again.revisions("app", 10)]
        assert waiting == ["r1", "r2"], "nor does a restart after it"
        assert (await again.ledger()).pending == 4
        await again.close()

    run(story)


def test_a_revision_still_ends_a_day_after_it_was_kept(tmp_path: Path) -> None:

    async def story(loop: VirtualLoop) -> None:
        clock = SetClock(loop, offset_s=TO_1970)
        outbox = await opened(tmp_path, clock)
        await outbox.put(revised("r1"), revision_for="app")
        clock.set(0.0)
        await asyncio.sleep(23 * 3600.0)
        assert len(await outbox.revisions("app", 10)) == 1
        await asyncio.sleep(2 * 3600.0)
        assert await outbox.revisions("app", 10) == ()
        await outbox.close()

    run(story)


@pytest.mark.parametrize(("before", "after"), JUMPS)
def test_what_is_sent_is_sent_again_after_the_same_pause_whatever_the_clock_says(
    tmp_path: Path, before: float, after: float
) -> None:

    async def story(loop: VirtualLoop) -> None:
        clock = SetClock(loop, offset_s=before)
        outbox = await opened(tmp_path, clock)
        heard: list[float] = []

        async def carry(data: bytes) -> bytes:
            heard.append(loop.time())
            clock.set(after)
            message = codec.decode_up(data)
            assert isinstance(message, v1.Batch)
            if len(heard) < 3:
                refusal = v1.Refused("busy", "later", permanent=False, retry_after_s=5.0)
                return codec.encode(refusal)
            return codec.encode(
                v1.BatchAck(message.incarnation, message.lo, message.hi, "committed")
            )

        transport = MemoryTransport(carry)
        await transport.open(lambda _: None)
        await outbox.put(answered("r1"))
        stop = asyncio.Event()
        sending = asyncio.create_task(outbox.deliver(transport, stop, device="bench-1"))
        async with asyncio.timeout(600.0):
            while (await outbox.ledger()).pending:  # noqa: ASYNC110 - a ledger has no event
                await asyncio.sleep(1.0)
        stop.set()
        await sending
        assert heard[-1] < 300.0
        await outbox.close()

    run(story)
