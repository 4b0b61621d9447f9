"""Programs that ask by way of the supervisor: over HTTP, or on a local broker.

1. What they ask goes the way of every program: through the SDK to the task's socket. So deadline,
   record, escalation and revision are the same.
2. Bounded: of the names they ask under, one that nobody uses now makes room for a new one.
"""

from collections import Counter, OrderedDict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import NamedTuple, Protocol

import msgspec
from msgspec import Struct

from edge_agent.sdk import AsyncClient
from edge_agent.sdk.errors import AgentUnavailable, Overloaded, UndecodableInput, UnknownTask
from edge_agent.workplace import Given

MOST_CLIENTS = 32
DTYPES = {
    "BOOL": "bool",
    "UINT8": "uint8",
    "UINT16": "uint16",
    "UINT32": "uint32",
    "UINT64": "uint64",
    "INT8": "int8",
    "INT16": "int16",
    "INT32": "int32",
    "INT64": "int64",
    "FP16": "float16",
    "FP32": "float32",
    "FP64": "float64",
}
"""Names of the Open Inference Protocol to numpy's."""
DATATYPES = {dtype: datatype for datatype, dtype in DTYPES.items()}
_record = msgspec.json.Decoder(dict[str, float | int | str | bool | None])


class Served(Struct, frozen=True):
    """One task that has a worker."""

    version: str
    given: Given | None


class Facts(Protocol):
    """What the device serves."""

    def served(self, task: str) -> Served | None:
        """None for a task it does not serve now."""
        ...

    def tasks(self) -> tuple[str, ...]:
        """Those it serves, now or after its worker is replaced."""
        ...


class Sample(NamedTuple):
    """What the SDK is handed."""

    value: object
    dtype: str | None = None
    shape: tuple[int, ...] | None = None


class Inputs:
    """What tasks take, also while a worker has died and the next one is not there yet.

    Whoever asks then waits for it within the own deadline, as every caller of the SDK does.
    """

    def __init__(self, facts: Facts) -> None:
        self._facts = facts
        self._seen: dict[str, Given | None] = {}

    def of(self, task: str) -> Given | None:
        """None where the package does not say. Raises `UnknownTask`, `AgentUnavailable`."""
        served = self._facts.served(task)
        if served is not None:
            self._seen[task] = served.given
            return served.given
        if task not in self._facts.tasks():
            raise unknown(self._facts, task)
        if task not in self._seen:
            raise AgentUnavailable(f"the worker of {task} is starting; ask again in a moment")
        return self._seen[task]


def unknown(facts: Facts, task: str) -> UnknownTask:
    """The error for a task the device does not serve."""
    tasks = ", ".join(facts.tasks()) or "none yet"
    return UnknownTask(f"no task {task[:80]!r}; there are: {tasks}")


def whole(data: bytes, kind: str) -> Sample:
    """An encoded file, a text or a JSON record. Raises `UndecodableInput`."""
    try:
        match kind:
            case "text":
                return Sample(data.decode())
            case "record":
                return Sample(_record.decode(data))
            case _:
                return Sample(data)
    except (UnicodeDecodeError, msgspec.DecodeError) as error:
        raise UndecodableInput(f"the input is no {kind}: {error}") from error


class Callers:
    """A client of the SDK for each task and name."""

    def __init__(self, run_folder: Path) -> None:
        self._folder = run_folder
        self._clients: OrderedDict[tuple[str | None, str], AsyncClient] = OrderedDict()
        self._in_use: Counter[tuple[str | None, str]] = Counter()

    @asynccontextmanager
    async def client(self, task: str | None, name: str) -> AsyncIterator[AsyncClient]:
        """The client of this name, kept for the next time. Raises `BadArgument`, `Overloaded`."""
        key = task, name
        if key not in self._clients:
            made = AsyncClient(task, name=name, run=self._folder)
            await self._make_room()
            self._clients[key] = made
        self._clients.move_to_end(key)
        self._in_use[key] += 1
        try:
            yield self._clients[key]
        finally:
            self._in_use[key] -= 1

    async def close(self) -> None:
        for client in self._clients.values():
            await client.close()

    async def _make_room(self) -> None:
        if len(self._clients) < MOST_CLIENTS:
            return
        idle = next((key for key in self._clients if not self._in_use[key]), None)
        if idle is None:
            raise Overloaded(f"{MOST_CLIENTS} names of clients are in use; ask under one of them")
        del self._in_use[idle]
        await self._clients.pop(idle).close()
