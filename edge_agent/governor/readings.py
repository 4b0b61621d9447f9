"""What the kernel says of this device: `/proc`, `/sys`, the file system. Nothing here raises.

Processes that have ended take their last bytes and seconds with them: what they used since the look
before is not seen. A look costs some file reads and no more, so that an idle device stays idle.
"""

import contextlib
import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from msgspec import Struct

_PAGE = os.sysconf("SC_PAGE_SIZE")
_TICK = os.sysconf("SC_CLK_TCK")
_LONGEST = 16 << 10


class Use(Struct, frozen=True):
    """What one process has used since it began, and holds now."""

    cpu_s: float = 0.0
    written_bytes: int = 0
    """What it sent towards the disk."""
    rss_bytes: int = 0


class Machine(Struct, frozen=True):
    """What the whole machine has done since it began, in the same unit, and how warm it is."""

    busy: float
    total: float
    celsius: float | None


class Kernel:
    """Reads below `root`, which is `/` but in tests."""

    def __init__(self, root: Path = Path("/")) -> None:
        self._proc = f"{root}/proc"
        self._zones = f"{root}/sys/class/thermal"
        self._chips = f"{root}/sys/class/hwmon"

    def process(self, pid: int) -> Use | None:
        """None for one that is gone or not ours to see."""
        folder = f"{self._proc}/{pid}"
        try:
            fields = _text(f"{folder}/stat").rpartition(")")[2].split()
            used = (int(fields[11]) + int(fields[12])) / _TICK
            rss = int(_text(f"{folder}/statm").split()[1]) * _PAGE
        except (OSError, ValueError, IndexError):
            return None
        written = _named(f"{folder}/io", "write_bytes:") or 0
        return Use(used, written, rss)

    def machine(self) -> Machine:
        """Of all cores together."""
        busy = total = 0.0
        with contextlib.suppress(OSError, ValueError, IndexError):
            line = _text(f"{self._proc}/stat").partition("\n")[0]
            spent = [int(number) for number in line.split()[1:9]]
            total = float(sum(spent))
            busy = total - spent[3] - spent[4]  # idle, and waiting for a disk
        return Machine(busy, total, self._celsius())

    def _celsius(self) -> float | None:
        degrees = []
        for sensor in self._sensors():
            with contextlib.suppress(OSError, ValueError):
                degrees.append(int(_text(sensor)) / 1000)
        # A sensor that is not there says -273, or nothing a device could live in.
        return max((one for one in degrees if -40 < one < 150), default=None)

    def _sensors(self) -> Iterator[str]:
        """Looked for each time: drivers come late, and pathlib's glob costs more than all else."""
        for zone in _names(self._zones):
            if zone.startswith("thermal_zone"):
                yield f"{self._zones}/{zone}/temp"
        for chip in _names(self._chips):
            for name in _names(f"{self._chips}/{chip}"):
                if name.startswith("temp") and name.endswith("_input"):
                    yield f"{self._chips}/{chip}/{name}"


def _names(folder: str) -> list[str]:
    with contextlib.suppress(OSError):
        return os.listdir(folder)
    return []


def folder_bytes(folder: Path) -> int:
    """What a folder takes on its disk."""
    total = 0
    for place, _, names in os.walk(folder):
        for name in names:
            with contextlib.suppress(OSError):
                total += os.lstat(os.path.join(place, name)).st_blocks * 512
    return total


def free_bytes(folder: Path) -> int:
    """What is left on its disk; 0 where nobody can say."""
    try:
        found = os.statvfs(folder)
    except OSError:
        return 0
    return found.f_bavail * found.f_frsize


def gained(before: dict[int, Use], now: dict[int, Use]) -> Use:
    """What processes have used since the look before; a new one since it began."""
    used = [(before.get(pid, Use()), use) for pid, use in now.items()]
    return Use(
        cpu_s=sum(max(0.0, use.cpu_s - old.cpu_s) for old, use in used),
        written_bytes=sum(max(0, use.written_bytes - old.written_bytes) for old, use in used),
        rss_bytes=sum(use.rss_bytes for use in now.values()),
    )


def share(before: Machine, now: Machine) -> float | None:
    """How busy all cores were in between; None where the kernel does not say."""
    passed = now.total - before.total
    return None if passed <= 0 else min(1.0, max(0.0, (now.busy - before.busy) / passed))


def _text(file: str) -> str:
    """A small file, without what `open` does for large ones: the kernel gives it in one piece."""
    handle = os.open(file, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return os.read(handle, _LONGEST).decode(errors="replace")
    finally:
        os.close(handle)


def _named(file: str, name: str) -> int | None:
    with contextlib.suppress(OSError, ValueError, IndexError):
        for line in _text(file).splitlines():
            if line.startswith(name):
                return int(line.split()[1])
    return None


def uses(kernel: Kernel, pids: Iterable[int]) -> dict[int, Use]:
    """Of all that are there."""
    found = ((pid, kernel.process(pid)) for pid in pids)
    return {pid: use for pid, use in found if use is not None}
