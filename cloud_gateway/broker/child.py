"""One broker process: started, watched, started again, told to read its files again, ended."""

import asyncio
import contextlib
import logging
import signal
import socket
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from cloud_gateway.errors import BrokerFailed
from sync.backoff import Backoff, delay_s

_READY_WITHIN_S = 15.0
_LOOK_EVERY_S = 0.02
_END_WITHIN_S = 5.0
_STEADY_S = 30.0
_log = logging.getLogger(__name__)


class Child:
    """A broker that runs as long as `running` does."""

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        *,
        address: tuple[str, int],
        log: Path,
        backoff: Backoff,
        chance: Callable[[], float],
        started: Callable[[], None],
    ) -> None:
        self._name = name
        self._command = command
        self._address = address
        self._log = log
        self._backoff = backoff
        self._chance = chance
        self._started = started
        self._process: asyncio.subprocess.Process | None = None
        self.up = False
        """Whether it accepts connections, as far as is known."""

    @property
    def pid(self) -> int | None:
        return None if self._process is None else self._process.pid

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """The broker accepts connections inside. Raises `BrokerFailed`."""
        watching: asyncio.Task[None] | None = None
        try:
            await self._start()
            watching = asyncio.create_task(self._watch())
            yield
        finally:
            if watching is not None:
                watching.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await watching
            await self._end()

    def read_again(self) -> None:
        """Have it read its password and access files; it drops who is no longer in them."""
        self._signal(signal.SIGHUP)

    async def _watch(self) -> None:
        """Start it again whenever it has ended by itself."""
        loop = asyncio.get_running_loop()
        attempt = 0
        while True:
            if self._process is not None:
                since = loop.time()
                code = await self._process.wait()
                self.up = False
                attempt = 0 if loop.time() - since > _STEADY_S else attempt
                _log.error(
                    "broker.died broker=%s code=%s said=%r", self._name, code, self._last_words()
                )
            wait_s = delay_s(self._backoff, attempt, self._chance())
            attempt += 1
            await asyncio.sleep(wait_s)
            try:
                await self._start()
                _log.warning("broker.restarted broker=%s after_s=%.2f", self._name, wait_s)
            except BrokerFailed as error:
                _log.error("broker.not_started broker=%s reason=%s", self._name, error)
                await self._end()

    async def _start(self) -> None:
        with self._log.open("wb") as log:
            self._process = await asyncio.create_subprocess_exec(
                *self._command,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                # Ctrl-C in a terminal reaches the gateway alone, which ends its broker in order.
                start_new_session=True,
            )
        deadline = asyncio.get_running_loop().time() + _READY_WITHIN_S
        while not await _accepts(self._address):
            if self._process.returncode is not None:
                raise BrokerFailed(
                    f"{self._name} ended with code {self._process.returncode} as it started: "
                    f"{self._last_words() or 'it said nothing'}"
                )
            if asyncio.get_running_loop().time() > deadline:
                raise BrokerFailed(
                    f"{self._name} accepts no connection on {self._address[0]}:{self._address[1]} "
                    f"after {_READY_WITHIN_S:.0f} s; its words are in {self._log}"
                )
            await asyncio.sleep(_LOOK_EVERY_S)
        self.up = True
        self._started()

    async def _end(self) -> None:
        process, self._process, self.up = self._process, None, False
        if process is None or process.returncode is not None:
            return
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
        try:
            async with asyncio.timeout(_END_WITHIN_S):
                await process.wait()
        except TimeoutError:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()

    def _signal(self, number: signal.Signals) -> None:
        if self._process is not None and self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                self._process.send_signal(number)

    def _last_words(self) -> str:
        try:
            return self._log.read_text(encoding="utf-8", errors="replace")[-500:].strip()
        except OSError:
            return ""


def python_module(name: str, *arguments: str) -> Sequence[str]:
    """How to start one of our own modules with this interpreter."""
    return [sys.executable, "-P", "-m", name, *arguments]


def free_port(host: str) -> int:
    """A port nobody listens on now."""
    with socket.socket() as probe:
        probe.bind((host, 0))
        return int(probe.getsockname()[1])


def is_free(host: str, port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
        return True


async def _accepts(address: tuple[str, int]) -> bool:
    try:
        async with asyncio.timeout(1.0):
            _, writer = await asyncio.open_connection(*address)
    except (OSError, TimeoutError):
        return False
    writer.close()
    with contextlib.suppress(OSError):
        await writer.wait_closed()
    return True
