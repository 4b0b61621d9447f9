"""The supervisor's end of a record pipe: nothing lost, and no waking for each record."""

import asyncio
import os

from edge_agent.upkeep.records import PipeReader


class Pipe:
    """A pipe with its reader, and what the reader brought."""

    def __init__(self) -> None:
        read_end, self.writing = os.pipe()
        self.brought: list[bytes] = []
        self.ended = asyncio.Event()
        self.reader = PipeReader(read_end, self.brought.append, self.ended.set)

    async def brings(self, wanted: bytes) -> None:
        async with asyncio.timeout(30):
            while b"".join(self.brought) != wanted:  # noqa: ASYNC110
                await asyncio.sleep(0.002)


def test_what_is_written_is_brought_in_order_and_the_end_is_told() -> None:
    async def scene() -> None:
        pipe = Pipe()
        for number in range(100):
            os.write(pipe.writing, b"%03d" % number)
            await asyncio.sleep(0)
        os.write(pipe.writing, b"last")
        os.close(pipe.writing)
        async with asyncio.timeout(30):
            await pipe.ended.wait()
        assert b"".join(pipe.brought) == b"".join(b"%03d" % n for n in range(100)) + b"last"
        assert len(pipe.brought) < 50, "a busy pipe is not read record by record"

    asyncio.run(scene())


def test_a_pipe_that_has_been_quiet_is_listened_to_again() -> None:
    async def scene() -> None:
        pipe = Pipe()
        for so_far in (b"a", b"ab", b"abc"):
            os.write(pipe.writing, so_far[-1:])
            await pipe.brings(so_far)
            await asyncio.sleep(0.06)  # more than one look later, all of them in vain
        os.close(pipe.writing)
        async with asyncio.timeout(30):
            await pipe.ended.wait()

    asyncio.run(scene())


def test_once_the_writer_is_gone_all_of_it_is_there_at_once() -> None:
    async def scene() -> None:
        pipe = Pipe()
        os.write(pipe.writing, b"first")
        await pipe.brings(b"first")
        os.write(pipe.writing, b" and last")
        os.close(pipe.writing)
        pipe.reader.look()
        pipe.reader.look()
        assert pipe.brought[-1] == b" and last"
        assert pipe.ended.is_set()
        pipe.reader.look()

    asyncio.run(scene())
