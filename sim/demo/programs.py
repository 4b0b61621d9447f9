"""Child processes of the demo: started with a log each, ended all together, none left behind."""

import asyncio
import contextlib
import os
import signal
import socket
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path

_PATIENCE_S = 10.0


class DemoError(Exception):
    """The demo cannot go on; the message says which program failed and what it said last."""


def installed(program: str) -> str:
    """Path of one of our console scripts, beside the running interpreter."""
    return str(Path(sys.executable).with_name(program))


def free_port() -> int:
    """A port nobody uses on loopback just now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class Programs:
    """Every process the demo starts. Each leads a session of its own, so that ending it ends what
    it started, and a Ctrl-C at the terminal reaches the demo alone."""

    def __init__(self, logs: Path) -> None:
        self._logs = logs
        self._logs.mkdir(parents=True, exist_ok=True)
        self._running: dict[str, asyncio.subprocess.Process] = {}

    async def start(
        self,
        name: str,
        *argv: str,
        told: bytes | None = None,
    ) -> None:
        """Start a program that stays; what it prints goes to its log.

        One that is `told` something can be told more with `tell`.
        """
        with (self._logs / f"{name}.log").open("ab") as log:
            process = await asyncio.create_subprocess_exec(
                *argv,
                stdin=asyncio.subprocess.DEVNULL if told is None else asyncio.subprocess.PIPE,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self._running[name] = process
        if told is not None:
            await self.tell(name, told)

    async def tell(self, name: str, line: bytes) -> None:
        """Write one line to a program's standard input."""
        stdin = self._running[name].stdin
        if stdin is not None:
            stdin.write(line + b"\n")
            await stdin.drain()

    async def finish(self, name: str, *argv: str) -> bytes:
        """Run a program to its end and return what it printed. Raises `DemoError`."""
        process = await asyncio.create_subprocess_exec(
            *argv,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            start_new_session=True,
        )
        self._running[name] = process
        out, err = await process.communicate()
        del self._running[name]
        with (self._logs / f"{name}.log").open("ab") as log:
            log.write(out + err)
        if process.returncode:
            raise DemoError(f"{' '.join(argv[:3])} … failed: {err.decode(errors='replace')[-800:]}")
        return out

    def tail(self, name: str, characters: int = 800) -> str:
        """The end of a program's log."""
        log = self._logs / f"{name}.log"
        return log.read_text(errors="replace")[-characters:] if log.exists() else ""

    def ended(self, name: str) -> bool:
        """Whether a program that should stay has ended."""
        process = self._running.get(name)
        return process is None or process.returncode is not None

    async def wait(self, name: str, timeout_s: float) -> int:
        """Wait for a program to end by itself and return its exit status. Raises `DemoError`."""
        try:
            return await asyncio.wait_for(self._running[name].wait(), timeout_s)
        except TimeoutError as error:
            raise DemoError(f"{name} did not end within {timeout_s:.0f} s") from error

    async def stop(self, *names: str) -> None:
        """Ask programs to end, and make them if they do not."""
        processes = {name: self._running[name] for name in names if name in self._running}
        for process in processes.values():
            _signal(process, signal.SIGTERM)
        for name, process in processes.items():
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(process.wait(), _PATIENCE_S)
            # The whole session: a program that died must not leave children behind.
            _signal(process, signal.SIGKILL)
            await process.wait()
            # Only now: one whose stopping was interrupted must be found by the next to stop it.
            self._running.pop(name, None)

    async def stop_all(self) -> None:
        """End everything, the youngest first."""
        for name in reversed(list(self._running)):
            await self.stop(name)


def _signal(process: asyncio.subprocess.Process, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        if number is signal.SIGTERM:
            process.send_signal(number)
        else:
            os.killpg(process.pid, number)


async def until(
    what: str, happened: Callable[[], Awaitable[bool]], *, timeout_s: float, every_s: float = 0.1
) -> None:
    """Wait for something to become true. Raises `DemoError` naming it when it does not."""
    ends = asyncio.get_running_loop().time() + timeout_s
    while not await happened():
        if asyncio.get_running_loop().time() > ends:
            raise DemoError(f"waited {timeout_s:.0f} s in vain: {what}")
        await asyncio.sleep(every_s)
