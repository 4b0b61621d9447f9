"""How far a batch is, and how long it will take."""

from collections.abc import Iterable, Sequence

from msgspec import Struct

from models.batch.score import Scored


class Counts(Struct, frozen=True):
    """What became of the rows so far."""

    rows: int = 0
    edge: int = 0
    cloud: int = 0
    hard: int = 0
    errors: int = 0

    def plus(self, scored: Iterable[Scored]) -> "Counts":
        """With some more rows."""
        ones: Sequence[Scored] = list(scored)
        return Counts(
            self.rows + len(ones),
            self.edge + sum(one.source == "edge" for one in ones),
            self.cloud + sum(one.source == "cloud" for one in ones),
            self.hard + sum(one.hard and one.error is None for one in ones),
            self.errors + sum(one.error is not None for one in ones),
        )

    @property
    def escalated(self) -> float:
        """Share of the readable rows that are hard."""
        readable = max(1, self.rows - self.errors)
        return self.hard / readable


class Progress(Struct, frozen=True):
    """A moment of a run."""

    counts: Counts
    expected: int | None
    """Rows in all, as far as that is known; a guess for CSV and JSON lines."""
    rows_per_s: float
    """Of this run, without what an earlier one finished."""

    @property
    def eta_s(self) -> float | None:
        """Seconds still to go; None where nobody can say."""
        if self.expected is None or self.rows_per_s <= 0:
            return None
        return max(0, self.expected - self.counts.rows) / self.rows_per_s

    def line(self) -> str:
        """As a terminal shows it: `1,024 of 60,000 rows, 850/s, 8.1 % hard, 1:09 to go`."""
        of = "" if self.expected is None else f" of {self.expected:,}"
        parts = [
            f"{self.counts.rows:,}{of} rows",
            f"{self.rows_per_s:,.0f}/s",
            f"{self.counts.escalated:.1%} hard".replace("%", " %"),
        ]
        if self.counts.errors:
            parts.append(f"{self.counts.errors:,} with errors")
        if self.eta_s is not None:
            parts.append(f"{_clock(self.eta_s)} to go")
        return ", ".join(parts)


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
