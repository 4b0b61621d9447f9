"""The demo ends what it starts, also when the ending is interrupted."""

import asyncio
import os
import sys
from pathlib import Path

import pytest

from sim.demo import programs
from sim.demo.programs import DemoError, Programs, until

DEAF = """
import signal, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
print("up", flush=True)
time.sleep(60)
"""


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_a_stop_that_is_interrupted_leaves_the_program_to_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(programs, "_PATIENCE_S", 0.3)

    async def story() -> None:
        running = Programs(tmp_path)
        await running.start("deaf", sys.executable, "-c", DEAF)

        async def up() -> bool:
            return "up" in running.tail("deaf")

        await until("the deaf one is up", up, timeout_s=10)
        pid = running._running["deaf"].pid
        stopping = asyncio.create_task(running.stop("deaf"))
        await asyncio.sleep(0.05)
        stopping.cancel()
        await asyncio.gather(stopping, return_exceptions=True)
        assert alive(pid)
        await running.stop_all()
        assert not alive(pid)

    asyncio.run(story())


def test_a_command_that_fails_says_what_it_said(tmp_path: Path) -> None:
    async def story() -> None:
        with pytest.raises(DemoError, match="no such luck"):
            await Programs(tmp_path).finish(
                "luck", sys.executable, "-c", "raise SystemExit('no such luck')"
            )

    asyncio.run(story())
