"""The port through which a shell gets blocking work off its event loop.

One real thread anywhere makes virtual time lie, so every shell is handed a `Runner`: `ThreadRunner`
in a program, `InlineRunner` in the simulator.
"""

import asyncio
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol, TypeVar

T = TypeVar("T")


class Runner(Protocol):
    """Runs a blocking call somewhere and lets the caller await its result."""

    def submit(self, call: Callable[[], T]) -> Awaitable[T]: ...

    def close(self) -> None: ...


class ThreadRunner:
    """Threads of its own; with one thread, calls run one after another in the order they came."""

    def __init__(self, name: str, *, threads: int = 1) -> None:
        self._pool = ThreadPoolExecutor(max_workers=threads, thread_name_prefix=name)

    def submit(self, call: Callable[[], T]) -> Awaitable[T]:
        return asyncio.get_running_loop().run_in_executor(self._pool, call)

    def close(self) -> None:
        """Wait for what has begun, drop what has not."""
        self._pool.shutdown(wait=True, cancel_futures=True)


class InlineRunner:
    """The twin: runs the call at once in the caller's own thread."""

    def submit(self, call: Callable[[], T]) -> Awaitable[T]:
        future: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        try:
            future.set_result(call())
        except Exception as error:  # noqa: BLE001 - handed to whoever awaits, like a thread pool does
            future.set_exception(error)
        return future

    def close(self) -> None:
        """Nothing runs, so nothing is left to end."""
