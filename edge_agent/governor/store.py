"""What a day has used, kept across restarts: `<data>/day.json`.

A restart of the agent alone is told by the kernel's own count of time, which does not jump. After a
restart of the machine there is only the wall clock: what it says has passed counts, between nothing
and a day. A file that cannot be read is a new day.
"""

import contextlib
import logging
import os
from pathlib import Path

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from edge_agent.governor.limits import DAY_S, Day
from sync.clock import Clock

log = logging.getLogger(__name__)

FILE = "day.json"
_BOOT = Path("/proc/sys/kernel/random/boot_id")


class Kept(Struct, frozen=True):
    """A day, and when that was."""

    day: Day
    boot: str
    monotonic: float
    wall: float


class DayFile:
    """The file of one data folder."""

    def __init__(self, data: Path, clock: Clock, boot: str | None = None) -> None:
        self._path = data / FILE
        self._clock = clock
        self._boot = _boot_id() if boot is None else boot

    def load(self) -> Day:
        """The day as it stands now, with the time the agent was away."""
        try:
            kept = msgspec.json.decode(self._path.read_bytes(), type=Kept)
        except (OSError, msgspec.DecodeError):
            return Day()
        if kept.boot and kept.boot == self._boot:
            away_s = self._clock.monotonic() - kept.monotonic
        else:
            away_s = self._clock.wall() - kept.wall
        elapsed_s = kept.day.elapsed_s + min(max(0.0, away_s), DAY_S)
        return Day() if elapsed_s >= DAY_S else replace(kept.day, elapsed_s=elapsed_s)

    def save(self, day: Day) -> None:
        """Write it down; what a power cut takes is what was used since."""
        kept = Kept(day, self._boot, self._clock.monotonic(), self._clock.wall())
        new = self._path.with_name(f"{FILE}.new")
        try:
            new.write_bytes(msgspec.json.encode(kept))
            os.replace(new, self._path)
        except OSError as error:
            log.warning("governor.day_not_kept why=%s", error.strerror)
            with contextlib.suppress(OSError):
                new.unlink(missing_ok=True)


def _boot_id() -> str:
    try:
        return _BOOT.read_text().strip()
    except OSError:
        return ""
