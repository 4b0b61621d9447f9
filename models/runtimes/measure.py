"""How long each candidate takes on this device: a model file on a runtime with so many threads.

1. Rounds are interleaved and begin with another candidate each time, so a busy spell of the machine
   falls on all of them. A candidate's time is the median over the rounds of a round's median.
2. A candidate that does not open, or whose answers the caller's check refuses, is not timed: it is
   unfit, with the reason.
3. Artefacts are neither used nor made: they change how a file opens, not how it runs.
4. Measuring ends after `seconds`, but never before three rounds.
5. Where there is a limit, no candidate is begun that would pass it if it took as long as the first,
   and no second round. The first candidate is always measured.
"""

import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from msgspec import Struct
from msgspec.structs import replace

from models.errors import ModelsError
from models.runtimes.base import Array, Runtime
from models.runtimes.choose import open_model
from models.runtimes.wish import Precision, Provider

Check = Callable[[Runtime, int], str | None]
"""Says why the answers of the candidate at that place are unfit, None when they will do."""
_WARM_UPS = 3
_BLOCK_NS = 2_000_000
"""What one candidate may take of a round, if it is faster than that."""
_MOST_RUNS = 50
_ROUNDS = (3, 41)


class Candidate(Struct, frozen=True):
    """One way to run a model on this device."""

    file: Path
    runtime: str
    threads: int = 1
    provider: Provider = "cpu"
    precision: Precision = "f32"

    def open(self, *, cache: Path | None = None) -> Runtime:
        """Raises what `open_model` raises."""
        return open_model(
            self.file,
            self.runtime,
            provider=self.provider,
            precision=self.precision,
            threads=self.threads,
            cache=cache,
        )


class Measured(Struct, frozen=True):
    """What was found of one candidate."""

    at: int
    """Its place among the candidates."""
    words: str
    version: str | None = None
    provider: str | None = None
    """What computes; None when it did not open."""
    run_us: float | None = None
    """One run; None when it is unfit."""
    unfit: str | None = None


class _Timed:
    """An opened candidate and its rounds."""

    def __init__(self, runtime: Runtime, feeds: Sequence[Array], clock_ns: Callable[[], int]):
        self._runtime, self._feeds, self._clock_ns = runtime, feeds, clock_ns
        took = min(self._run() for _ in range(_WARM_UPS))
        self._runs = max(1, min(_MOST_RUNS, _BLOCK_NS // max(took, 1)))
        self.rounds: list[float] = []

    def round(self) -> None:
        self.rounds.append(statistics.median(self._run() for _ in range(self._runs)))

    def _run(self) -> int:
        begun = self._clock_ns()
        self._runtime.run(self._feeds)
        return self._clock_ns() - begun


def measure(
    candidates: Sequence[Candidate],
    feeds: Sequence[Array],
    *,
    check: Check,
    seconds: float = 3.0,
    limit_s: float | None = None,
    clock_ns: Callable[[], int] = time.perf_counter_ns,
) -> tuple[Measured, ...]:
    """Every candidate in its place. `feeds` is what one run is given, as `Runtime.run` takes it.

    `limit_s` counts from the call, opening and checking included.
    """
    found: list[Measured] = []
    timed: dict[int, _Timed] = {}
    stops_ns = None if limit_s is None else clock_ns() + round(limit_s * 1e9)
    first_ns = 0
    for at, candidate in enumerate(candidates):
        facts = Measured(at, words(candidate))
        begun_ns = 0 if stops_ns is None else clock_ns()
        if stops_ns is not None and at > 0 and begun_ns + first_ns > stops_ns:
            found.append(replace(facts, unfit=f"{limit_s:g} s were too short to measure it, too"))
            continue
        try:
            runtime = candidate.open()
            facts = Measured(at, facts.words, runtime.version, runtime.provider)
            unfit = check(runtime, at)
            if unfit is None:
                timed[at] = _Timed(runtime, feeds, clock_ns)
        except ModelsError as error:
            unfit = str(error)
        found.append(replace(facts, unfit=unfit))
        if stops_ns is not None and at == 0:
            first_ns = clock_ns() - begun_ns
    ends_ns = clock_ns() + round(seconds * 1e9)
    _rounds(list(timed.values()), ends_ns=ends_ns, stops_ns=stops_ns, clock_ns=clock_ns)
    return tuple(
        replace(each, run_us=statistics.median(timed[each.at].rounds) / 1000)
        if each.at in timed
        else each
        for each in found
    )


def words(candidate: Candidate) -> str:
    """A candidate as a person reads it."""
    threads = "1 thread" if candidate.threads == 1 else f"{candidate.threads} threads"
    parts = [f"{candidate.file.name} on {candidate.runtime}", threads]
    if candidate.provider not in ("cpu", "auto"):  # what auto found is said by the runtime
        parts.append(candidate.provider)
    if candidate.precision != "f32":
        parts.append(candidate.precision)
    return ", ".join(parts)


def turns(count: int, number: int) -> tuple[int, ...]:
    """In which order so many candidates take their turns in round `number`."""
    first = number % count
    return (*range(first, count), *range(first))


def _rounds(
    timed: list[_Timed], *, ends_ns: int, stops_ns: int | None, clock_ns: Callable[[], int]
) -> None:
    least, most = _ROUNDS
    for number in range(most if timed else 0):
        if number >= least and clock_ns() >= ends_ns:
            return
        if number >= 1 and stops_ns is not None and clock_ns() >= stops_ns:
            return
        for at in turns(len(timed), number):
            timed[at].round()
