"""Memory: is there room for two workers at once, as a change of packages needs?"""

from collections.abc import Iterator
from pathlib import Path

from edge_agent.commands.checks.finding import Finding, Patient, ok, warning

RUNTIME_BYTES = 60 << 20
"""What a worker needs beside its model: interpreter, numpy, the runtime."""
SPARE_BYTES = 32 << 20


def memory(patient: Patient) -> Iterator[Finding]:
    """What is free against the largest worker, there or to come."""
    free = available(Path("/proc/meminfo").read_text())
    if free is None:
        return
    largest = max((_worker(patient, folder) for folder in _packages(patient.data)), default=0)
    told = f"{free >> 20} MB available; the largest worker takes about {largest >> 20} MB"
    if free < largest + SPARE_BYTES:
        yield warning(
            "memory",
            f"{told}: it does not allow two workers at once",
            "updates stop the old worker before they start the new one, and requests wait"
            " meanwhile; free some memory if that is too long",
        )
    else:
        yield ok("memory", told)


def available(meminfo: str) -> int | None:
    """Bytes that programs may still take, by `/proc/meminfo`."""
    for line in meminfo.splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) << 10
    return None


def _packages(data: Path) -> Iterator[Path]:
    for state in (data / "packages").glob("*/state.json"):
        yield from (path for path in state.parent.iterdir() if path.is_dir())


def _worker(patient: Patient, folder: Path) -> int:
    """Resident bytes of the worker that runs this package; by its size where none does."""
    for task in patient.status.tasks if patient.status is not None else ():
        if task.pid is not None and task.digest == folder.name:
            try:
                pages = int(Path(f"/proc/{task.pid}/statm").read_text().split()[1])
            except (OSError, ValueError):
                break
            return pages * 4096
    files = sum(path.stat().st_size for path in folder.iterdir() if path.is_file())
    return RUNTIME_BYTES + 2 * files
