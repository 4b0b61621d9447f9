"""Windows over the samples of one sensor. No I/O; time is the sensor's own.

1. A window is `size` samples in a row; the next begins `stride` samples later. With a stride below
   the size they overlap, with one above it samples between them belong to none.
2. No window spans a hole: a pause longer than `gap_s`, a lost connection, a message that could not
   be read. What had been collected for a window that cannot be finished is left out (`gap`).
3. A sample that is not younger than the one before is left out (`out_of_order`). One that is older
   by more than `BACK_S` says that the sensor's clock was set: what follows begins anew.
"""

from typing import NamedTuple

from edge_agent.sources.samples import Sample

BACK_S = 5.0


class Window(NamedTuple):
    """One input. `first` and `last` are the times or, without them, the places of its samples."""

    first: float
    last: float
    rows: tuple[tuple[float, ...], ...]


class Left(NamedTuple):
    """Samples that are in no window, and why."""

    reason: str
    first: float
    last: float


class Windows:
    """Collects the samples of one sensor. `gap_s` 0: no pause is too long."""

    def __init__(self, size: int, stride: int, gap_s: float) -> None:
        self._size = size
        self._stride = stride
        self._gap_s = gap_s
        self._rows: list[Sample] = []
        self._fresh = 0
        """Of the rows, those that were in no window yet."""
        self._skip = 0
        self._seen = 0
        self._last: float | None = None

    def add(self, sample: Sample) -> list[Window | Left]:
        """What this sample completes."""
        found: list[Window | Left] = []
        if sample.at is not None and self._last is not None:
            if sample.at <= self._last and sample.at >= self._last - BACK_S:
                return [Left("out_of_order", sample.at, sample.at)]
            paused = bool(self._gap_s) and sample.at - self._last > self._gap_s
            if paused or sample.at < self._last:
                found += self.broken()
        self._last = sample.at
        place = sample.at if sample.at is not None else float(self._seen)
        self._seen += 1
        if self._skip:
            self._skip -= 1
            return found
        self._rows.append(Sample(place, sample.values))
        self._fresh += 1
        if len(self._rows) == self._size:
            first, last = self._rows[0].at or 0.0, place
            found.append(Window(first, last, tuple(row.values for row in self._rows)))
            self._rows = self._rows[self._stride :]
            self._skip = max(0, self._stride - self._size)
            self._fresh = 0
        return found

    def broken(self) -> list[Window | Left]:
        """There is a hole: the next window begins after it."""
        fresh = self._rows[len(self._rows) - self._fresh :]
        self._rows, self._fresh, self._skip, self._last = [], 0, 0, None
        if not fresh:
            return []
        return [Left("gap", fresh[0].at or 0.0, fresh[-1].at or 0.0)]
