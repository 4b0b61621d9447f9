"""Which files of a folder are whole, judged from listings and what the kernel tells. No I/O.

1. A name that begins with a dot or ends in `.part` or `.tmp` is somebody's unfinished file.
2. A file is whole when two looks in a row saw the same size and time, or at once when it was seen
   under an unfinished name before: it was renamed in.
3. A file the kernel has seen written to is whole when it is closed or renamed in, at once, and not
   before, however long its size stands still.
4. A file is given out once, and again when its size or time has changed.
"""

from collections.abc import Iterable
from typing import NamedTuple

_UNFINISHED = (".part", ".tmp")


class Seen(NamedTuple):
    """One file in one listing."""

    name: str
    size: int
    mtime_ns: int
    inode: int


class Watch:
    """Remembers what the looks before have seen."""

    def __init__(self) -> None:
        self._before: dict[str, Seen] = {}
        self._unfinished: frozenset[int] = frozenset()
        self._given: dict[str, Seen] = {}
        self._writing: set[str] = set()

    def written_to(self, name: str) -> None:
        """Somebody writes this file, and has it open."""
        self._writing.add(name)

    def finished(self, name: str, seen: Seen | None) -> list[Seen]:
        """This file was closed or renamed in; None where it has gone since."""
        self._writing.discard(name)
        if seen is None or is_unfinished(name) or self._given.get(name) == seen:
            return []
        self._given[name] = seen
        return [seen]

    def forget_writers(self) -> None:
        """The kernel's word was lost: only listings count again."""
        self._writing.clear()

    @property
    def unsettled(self) -> bool:
        """Whether another look soon would tell more."""
        return any(
            self._given.get(name) != seen and name not in self._writing
            for name, seen in self._before.items()
        )

    def look(self, listing: Iterable[Seen]) -> list[Seen]:
        """The files that are whole and have not been given out, by name."""
        named = {seen.name: seen for seen in listing}
        finished = {name: seen for name, seen in named.items() if not is_unfinished(name)}
        whole = [
            seen
            for name, seen in sorted(finished.items())
            if self._given.get(name) != seen
            and name not in self._writing
            and (self._before.get(name) == seen or seen.inode in self._unfinished)
        ]
        self._before = finished
        self._unfinished = frozenset(named[name].inode for name in named.keys() - finished.keys())
        self._writing &= named.keys()
        self._given = {name: seen for name, seen in self._given.items() if name in finished}
        self._given.update((seen.name, seen) for seen in whole)
        return whole

    def again(self, seen: Seen) -> None:
        """Give this file out once more: it could not be dealt with."""
        self._given.pop(seen.name, None)


def is_unfinished(name: str) -> bool:
    return name.startswith(".") or name.endswith(_UNFINISHED)
