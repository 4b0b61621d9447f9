"""Empties a record pipe as a supervisor does, by the supervisor's own reader.

python -P -m tests.bench.record_reader < PIPE
"""

import asyncio
import os

from edge_agent.upkeep.records import PipeReader


async def main() -> None:
    ended = asyncio.Event()
    PipeReader(os.dup(0), lambda data: None, ended.set)
    await ended.wait()


if __name__ == "__main__":
    asyncio.run(main())
