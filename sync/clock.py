"""The two clocks a program is handed, so that the simulator can hand it others."""

import time
from typing import Protocol


class Clock(Protocol):
    """Time as the program sees it."""

    def monotonic(self) -> float:
        """Seconds that never jump; only differences mean something."""
        ...

    def wall(self) -> float:
        """Seconds since 1970 as this machine believes; may be wrong and may jump."""
        ...


class SystemClock:
    """The clocks of this machine. CLOCK_BOOTTIME counts time asleep, which deadlines must too."""

    def monotonic(self) -> float:
        return time.clock_gettime(time.CLOCK_BOOTTIME)

    def wall(self) -> float:
        return time.time()
