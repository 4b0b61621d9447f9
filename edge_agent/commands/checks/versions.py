"""What is installed: Python, the runtimes, and the SQLite that has a bug worth a name.

SQLite 3.7.0 to 3.51.2 may corrupt a WAL that two connections write or check at the same moment
(fixed in 3.51.3, and in 3.50.7 and 3.44.6). Our outbox has one connection in one process, so the
bug cannot show unless somebody else writes to the file: that is what is looked for.
"""

import os
import sqlite3
import sys
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

from edge_agent import __version__
from edge_agent.commands.checks.finding import Finding, Patient, broken, ok

NEEDED = ("longstop", "longstop-sdk", "msgspec", "numpy", "onnxruntime", "paho-mqtt", "zstandard")
OPTIONAL = ("openvino", "tokenizers", "uvloop")
_INSTALL = "install the agent anew into an environment of its own"
_ACCESS = 0o3
"""The bits of an open file's flags that say whether it may be written."""


def versions(patient: Patient) -> Iterator[Finding]:
    """Python and what the agent needs."""
    python = ".".join(map(str, sys.version_info[:3]))
    found = {name: _version(name) for name in (*NEEDED, *OPTIONAL)}
    missing = [name for name in NEEDED if found[name] is None]
    if missing:
        yield broken("versions", f"not installed: {', '.join(missing)}", _INSTALL)
        return
    ours = {found["longstop"], found["longstop-sdk"], __version__}
    if len(ours) > 1:
        yield broken(
            "versions", f"longstop and longstop-sdk differ: {sorted(map(str, ours))}", _INSTALL
        )
        return
    listed = ", ".join(f"{name} {number}" for name, number in found.items() if number)
    yield ok("versions", f"Python {python}, {listed}")


def sqlite(patient: Patient) -> Iterator[Finding]:
    """The WAL-reset bug, and whether it could show here."""
    linked = sqlite3.sqlite_version
    if not has_wal_bug(sqlite3.sqlite_version_info):
        yield ok("sqlite", f"{linked}, without the WAL-reset bug")
        return
    writers = writers_of(patient.data / "outbox" / "outbox.db")
    if len(writers) > 1:
        yield broken(
            "sqlite",
            f"{linked} has the WAL-reset bug, and processes {', '.join(map(str, writers))} write to"
            " outbox.db at once",
            "end all of them but the agent: nobody else may write there",
        )
    else:
        yield ok(
            "sqlite",
            f"{linked} has the WAL-reset bug (fixed in 3.51.3); it needs two writers, and outbox.db"
            f" has {len(writers)}",
        )


def has_wal_bug(version: tuple[int, int, int]) -> bool:
    """Whether this SQLite may corrupt a WAL that two connections write."""
    if version[:2] == (3, 44):
        return version < (3, 44, 6)
    if version[:2] == (3, 50):
        return version < (3, 50, 7)
    return (3, 7, 0) <= version < (3, 51, 3)


def writers_of(path: Path, proc: Path = Path("/proc")) -> list[int]:
    """Processes that hold this file open for writing; those of other users are not seen."""
    try:
        wanted = path.stat()
    except OSError:
        return []
    found = []
    for folder in proc.iterdir():
        if not folder.name.isdecimal():
            continue
        try:
            if any(_writes(handle, wanted) for handle in (folder / "fd").iterdir()):
                found.append(int(folder.name))
        except OSError:
            continue  # it has ended, or is another user's
    return sorted(found)


def _writes(handle: Path, wanted: os.stat_result) -> bool:
    try:
        there = handle.stat()
        if (there.st_dev, there.st_ino) != (wanted.st_dev, wanted.st_ino):
            return False
        told = (handle.parent.parent / "fdinfo" / handle.name).read_text()
    except OSError:
        return False
    for line in told.splitlines():
        if line.startswith("flags:"):
            return int(line.split()[1], 8) & _ACCESS != os.O_RDONLY
    return False


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None
