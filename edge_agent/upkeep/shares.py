"""What one task may take of the device, so that it cannot starve another. (pure)

1. Weights of the processor are relative: the task with the largest runs as any other program, each
   other one politer than it. A weight is worth what `nice` makes of it: a quarter more per step.
2. A worker over its memory is replaced by a fresh one beside it, without dropping a request; one
   far over it is killed. Without a limit of its own a task has half the device's memory.
3. Two workers at once need the room for it: what the serving one takes and a fifth more.
"""

import math
from typing import Annotated, Literal

from msgspec import Meta, Struct

SwapWay = Literal["auto", "side_by_side", "one_at_a_time"]

MOST_NICE = 19
_STEP = 1.25
_FAR_OVER = 1.5
_ROOM = 1.2
_UNKNOWN_BYTES = 100 << 20
"""What a worker takes that has not said so yet."""


class TaskSettings(Struct, frozen=True, forbid_unknown_fields=True):
    """One task's share; the same for all where nothing is said."""

    cpu_share: Annotated[float, Meta(ge=0.01, le=100.0)] = 1.0
    """Its weight of the processor beside other tasks'."""
    memory_mb: Annotated[int, Meta(ge=0)] = 0
    """Of its worker; 0 for half of what the device has."""
    concurrency: Annotated[int, Meta(ge=1, le=65536)] = 64
    """Requests of it in the worker at once; more are refused as `overloaded`."""


class Shares(Struct, frozen=True):
    """All tasks that have one of their own."""

    tasks: dict[str, TaskSettings]

    def of(self, task: str) -> TaskSettings:
        return self.tasks.get(task, _DEFAULT)

    def nice(self, task: str) -> int:
        """How polite its worker is: 0 for the heaviest."""
        heaviest = max([1.0, *(one.cpu_share for one in self.tasks.values())])
        return min(MOST_NICE, round(math.log(heaviest / self.of(task).cpu_share, _STEP)))

    def memory_bytes(self, task: str, total_bytes: int) -> int:
        """How much its worker may take on a device with so much."""
        own = self.of(task).memory_mb << 20
        return own or total_bytes // 2


def over(rss_bytes: int, limit_bytes: int) -> Literal["no", "renew", "kill"]:
    """What to do with a worker that takes so much."""
    if limit_bytes <= 0 or rss_bytes <= limit_bytes:
        return "no"
    return "kill" if rss_bytes > _FAR_OVER * limit_bytes else "renew"


def why_not_beside(way: SwapWay, available_bytes: int, rss_bytes: int) -> str | None:
    """Why two workers of a task do not run at once during a swap; None: they do."""
    if way == "side_by_side":
        return None
    if way == "one_at_a_time":
        return "the settings say one_at_a_time"
    needed = round(_ROOM * (rss_bytes or _UNKNOWN_BYTES))
    if available_bytes >= needed:
        return None
    return f"{available_bytes >> 20} MB of memory are free, a second worker needs {needed >> 20}"


_DEFAULT = TaskSettings()
