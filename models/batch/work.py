"""What there is to score: all of a file or folder, or what is new in it since the last run."""

import sys
from array import array
from bisect import bisect_left
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Protocol

from models.batch.journal import Seen
from models.data.folder import FolderSource, Listed, list_folder
from models.data.forms import is_folder, open_source
from models.data.rows import Columns, Row
from models.manifest import TensorSpec


class Work(Protocol):
    """The rows of one run, the same each time it is asked."""

    @property
    def source(self) -> str:
        """What would make it other rows: a table's size and time."""
        ...

    @property
    def files(self) -> tuple[Listed, ...]:
        """The files to score, where it is a folder."""
        ...

    @property
    def expected(self) -> int | None: ...

    def holds(self, file: Listed) -> bool:
        """Whether a file is there, and as it was."""
        ...

    def take(self, files: tuple[Listed, ...]) -> None:
        """Score these files: those a run that goes on began with."""
        ...

    def rows(self, *, skip: int) -> Iterator[Row]:
        """The rows to score after the first `skip` of them."""
        ...

    def seen(self, package: str) -> Seen:
        """What will have been seen when all of them are scored."""
        ...


def open_work(path: Path, spec: TensorSpec, columns: Columns, earlier: Seen | None) -> Work:
    """The work in a file or folder; with `earlier`, what is new since. Raises as `open_source`."""
    if is_folder(path):
        return _FolderWork(path, spec, columns, earlier)
    return _TableWork(path, spec, columns, earlier)


class _FolderWork:
    def __init__(self, path: Path, spec: TensorSpec, columns: Columns, earlier: Seen | None):
        open_source(path, spec, columns)  # says what is wrong with it
        self._path, self._spec = path, spec
        self._there = frozenset(list_folder(path, spec))
        self._before = frozenset() if earlier is None else frozenset(earlier.files) & self._there
        self.source = str(path.resolve())
        self.files = tuple(sorted(self._there - self._before))

    @property
    def expected(self) -> int | None:
        return len(self.files)

    def holds(self, file: Listed) -> bool:
        return file in self._there

    def take(self, files: tuple[Listed, ...]) -> None:
        self.files = files

    def rows(self, *, skip: int) -> Iterator[Row]:
        return FolderSource(self._path, self._spec, Columns(), self.files[skip:]).rows()

    def seen(self, package: str) -> Seen:
        return Seen(package, files=tuple(sorted(self._before | set(self.files))))


class _TableWork:
    def __init__(self, path: Path, spec: TensorSpec, columns: Columns, earlier: Seen | None):
        self._source = open_source(path, spec, columns)
        self._earlier = earlier
        self._known = _unpacked(b"" if earlier is None else earlier.hashes)
        self._hashes = array("Q")
        state = path.stat()
        self.source = f"{path.resolve()} {state.st_size} {state.st_mtime_ns}"
        self.files: tuple[Listed, ...] = ()

    @property
    def expected(self) -> int | None:
        return None if self._earlier is not None else self._source.expected

    def holds(self, file: Listed) -> bool:
        return False

    def take(self, files: tuple[Listed, ...]) -> None:
        pass  # a table has none

    def rows(self, *, skip: int) -> Iterator[Row]:
        return islice(self._new(), skip, None)

    def _new(self) -> Iterator[Row]:
        self._hashes = array("Q")
        for row in self._source.rows():
            self._hashes.append(row.hash)
            if self._earlier is None or row.number > self._earlier.count or not self._knows(row):
                yield row

    def _knows(self, row: Row) -> bool:
        at = bisect_left(self._known, row.hash)
        return at < len(self._known) and self._known[at] == row.hash

    def seen(self, package: str) -> Seen:
        return Seen(package, count=len(self._hashes), hashes=_packed(self._hashes))


def _packed(hashes: "array[int]") -> bytes:
    ordered = array("Q", sorted(hashes))
    if sys.byteorder == "big":
        ordered.byteswap()
    return ordered.tobytes()


def _unpacked(data: bytes) -> "array[int]":
    hashes = array("Q")
    hashes.frombytes(data)
    if sys.byteorder == "big":
        hashes.byteswap()
    return hashes
