"""Lost ranges: which numbers stand for content that is gone, and why.

Neighbours with the same reason are one row. A number leaves when the gateway has acknowledged its
loss, or has turned out to hold its content after all. Every method runs inside its caller's
transaction.
"""

import sqlite3

from sync.wire import v1

PER_REPORT = 500


class LostRanges:
    """The table `lost`."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._run = connection.execute

    def add(self, lo: int, hi: int, reason: str) -> None:
        """Mark a range, made one with its neighbours."""
        for low, high in self._run(
            "SELECT lo, hi FROM lost WHERE reason = ? AND (hi = ? OR lo = ?)",
            (reason, lo - 1, hi + 1),
        ).fetchall():
            lo, hi = min(lo, low), max(hi, high)
            self._run("DELETE FROM lost WHERE lo = ?", (low,))
        self._run("INSERT INTO lost VALUES (?, ?, ?)", (lo, hi, reason))

    def remove(self, lo: int, hi: int) -> None:
        """Take these numbers out of every range that holds some of them."""
        for low, high, reason in self._run(
            "SELECT lo, hi, reason FROM lost WHERE lo <= ? AND hi >= ?", (hi, lo)
        ).fetchall():
            self._run("DELETE FROM lost WHERE lo = ?", (low,))
            for rest_lo, rest_hi in ((low, lo - 1), (hi + 1, high)):
                if rest_lo <= rest_hi:
                    self._run("INSERT INTO lost VALUES (?, ?, ?)", (rest_lo, rest_hi, reason))

    def report(self) -> tuple[v1.Lost, ...]:
        """The ranges to report next, lowest first."""
        found = self._run("SELECT lo, hi, reason FROM lost ORDER BY lo LIMIT ?", (PER_REPORT,))
        return tuple(v1.Lost(lo, hi, reason) for lo, hi, reason in found)

    def count(self) -> int:
        """How many numbers wait to be reported."""
        value: int = self._run("SELECT coalesce(sum(hi - lo + 1), 0) FROM lost").fetchone()[0]
        return value
