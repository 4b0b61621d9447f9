"""Features looked up by a key before the model runs: a customer's last month, a machine's age.

1. A kept row younger than its time to live is given at once (a *hit*). Else the source is asked.
2. A source that is out, or has not answered within its timeout, costs an answer nothing more than
   that: the declared default is given, and for `rest_s` the source is not asked again.
3. A row that comes too late for the request that asked is kept for the next.
4. One row is fetched once however many ask for it together (single flight); the others wait.
5. A key the source does not have is the default too, and remembered as long as a row.
6. A single feature the source has not (null, NaN, beyond float32) is the default's.
7. Every answer says where its features are from, how old they are and what was filled in.

A source is asked in the caller's own thread, and then it alone keeps to its timeout. `InPool` says
that it does not: it is asked in threads the program brings, and held to its timeout.
"""

import math
import threading
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import Executor
from typing import Literal, NamedTuple, Protocol

import numpy as np
from msgspec import Struct
from msgspec.structs import replace

from models.errors import FeatureSourceOut, FieldInvalid, FieldMissing, WrongDtype
from models.pipeline.values import Floats, Value
from sync.clock import Clock

Key = str | int
MOST_FLIGHTS = 64
"""A source that never comes back holds as many threads or waits at most."""
_MOST = float(np.finfo(np.float32).max)


class Row(NamedTuple):
    """What a source has for one key."""

    values: tuple[float | None, ...]
    """In the order of the names asked for; None where it has none."""
    age_s: float = 0.0
    """How long ago the oldest of them was true, as far as the source knows."""


class FeatureSource(Protocol):
    """Where features come from."""

    def read(self, key: Key, names: tuple[str, ...], timeout_s: float) -> Row | None:
        """The row of a key, None for a key it does not have. Raises `FeatureSourceOut`."""
        ...


class Features(NamedTuple):
    """What the model is given, and how good it is."""

    values: Floats
    """float32 [k], read only."""
    origin: Literal["source", "cache", "default"]
    age_s: float | None
    """Since the values were true at their source; None for the default."""
    filled: tuple[str, ...] = ()
    """Names whose value is the default's."""
    why: str | None = None
    """Why it is the default."""


class Counts(Struct):
    """Since the program began. Every lookup is a hit or a miss; a default is counted beside it."""

    hits: int = 0
    misses: int = 0
    defaults: int = 0
    late: int = 0
    """Times the source did not answer in time."""
    failures: int = 0
    """Times the source was out."""


Fetch = Callable[[], "_Kept"]


class InPool:
    """A source that keeps to no timeout, and the threads in which it is asked."""

    def __init__(self, source: FeatureSource, pool: Executor) -> None:
        self._source = source
        self._pool = pool

    def read(self, key: Key, names: tuple[str, ...], timeout_s: float) -> Row | None:
        return self._source.read(key, names, timeout_s)

    def ask(self, fetch: Fetch, timeout_s: float) -> "_Kept":
        """What takes longer goes on in its thread and is kept when it comes.

        Raises `TimeoutError`, `FeatureSourceOut`.
        """
        try:
            answer = self._pool.submit(fetch)
        except RuntimeError as error:
            raise FeatureSourceOut("the pool that asks the source is shut down") from error
        return answer.result(timeout_s)


class CachedFeatures:
    """Features of one node. Safe to use from several threads."""

    def __init__(
        self,
        source: FeatureSource,
        clock: Clock,
        *,
        names: tuple[str, ...],
        default: tuple[float, ...],
        ttl_s: float,
        timeout_s: float = 0.05,
        rest_s: float = 1.0,
        most_rows: int = 10_000,
    ) -> None:
        if not names or len(default) != len(names):
            raise ValueError(f"{len(default)} defaults for {len(names)} features {list(names)}")
        if not all(map(math.isfinite, default)):
            raise ValueError(f"defaults {list(default)} are not all finite")
        if ttl_s < 0 or timeout_s <= 0 or rest_s < 0 or most_rows < 1:
            raise ValueError("ttl_s and rest_s are at least 0, timeout_s above it, most_rows 1")
        self._source = source
        self._clock = clock
        self._names = names
        self._default = _frozen(default)
        self._ttl_s = ttl_s
        self._timeout_s = timeout_s
        self._rest_s = rest_s
        self._most_rows = most_rows
        self._ask = source.ask if isinstance(source, InPool) else _at_once
        self._lock = threading.Lock()
        self._rows: OrderedDict[Key, _Kept] = OrderedDict()
        self._flights: dict[Key, _Flight] = {}
        self._rests_until = -math.inf
        self._counts = Counts()

    @property
    def counts(self) -> Counts:
        """How it went so far; a copy."""
        with self._lock:
            return replace(self._counts)

    def get(self, key: Key) -> Features:
        """The features of a key. Raises nothing of the source's."""
        now = self._clock.monotonic()
        with self._lock:
            kept = self._rows.get(key)
            if kept is not None and now - kept.read_at < self._ttl_s:
                self._rows.move_to_end(key)
                self._counts.hits += 1
                return self._answer(kept, now, "cache")
            self._counts.misses += 1
            if now < self._rests_until:
                return self._no("the source is out and rests")
            flight = self._flights.get(key)
            leads = flight is None
            if flight is None:
                if len(self._flights) >= MOST_FLIGHTS:
                    return self._no(f"{MOST_FLIGHTS} rows are on their way already")
                flight = self._flights[key] = _Flight()
        try:
            kept = self._ask_for(key, flight) if leads else flight.wait(self._timeout_s)
            if self._clock.monotonic() - now > self._timeout_s:
                raise TimeoutError
        except FeatureSourceOut as error:
            return self._out(str(error), failures=int(leads))
        except TimeoutError:
            return self._out(f"no answer within {self._timeout_s:g} s", late=int(leads))
        with self._lock:
            return self._answer(kept, self._clock.monotonic(), "source")

    def _ask_for(self, key: Key, flight: "_Flight") -> "_Kept":
        try:
            return self._ask(lambda: self._fetch(key, flight), self._timeout_s)
        except FeatureSourceOut as error:
            self._land(key, flight, str(error))  # for an `ask` that never came to fetch
            raise

    def _fetch(self, key: Key, flight: "_Flight") -> "_Kept":
        """Read one row, keep it, and tell those who wait; whatever happens, the flight ends."""
        why = "the source failed"
        try:
            read_at = self._clock.monotonic()
            row = self._source.read(key, self._names, self._timeout_s)
            flight.kept = kept = self._kept(row, read_at)
            with self._lock:
                self._rows[key] = kept
                self._rows.move_to_end(key)
                if len(self._rows) > self._most_rows:
                    self._rows.popitem(last=False)
        except FeatureSourceOut as error:
            why = str(error)
            raise
        finally:
            self._land(key, flight, why)
        return kept

    def _land(self, key: Key, flight: "_Flight", why: str) -> None:
        with self._lock:
            if self._flights.get(key) is flight:
                del self._flights[key]
                flight.why = why
        flight.landed.set()

    def _kept(self, row: Row | None, read_at: float) -> "_Kept":
        if row is None:
            return _Kept(None, (), read_at, 0.0)
        if len(row.values) != len(self._names):
            raise FeatureSourceOut(f"{len(row.values)} values for {len(self._names)} features")
        for name, value in zip(self._names, row.values, strict=True):
            if not isinstance(value, int | float | None):
                raise FeatureSourceOut(f"feature {name!r} is a {type(value).__name__}, no number")
        usable = [value is not None and abs(value) <= _MOST for value in row.values]
        values = [
            float(value) if good and value is not None else float(default)
            for value, good, default in zip(row.values, usable, self._default, strict=True)
        ]
        filled = tuple(name for name, good in zip(self._names, usable, strict=True) if not good)
        return _Kept(_frozen(values), filled, read_at, max(0.0, row.age_s))

    def _answer(self, kept: "_Kept", now: float, origin: Literal["source", "cache"]) -> Features:
        if kept.values is None:
            return self._no("the source does not have this key")
        age_s = kept.age_s + max(0.0, now - kept.read_at)
        return Features(kept.values, origin, age_s, kept.filled)

    def _out(self, why: str, *, late: int = 0, failures: int = 0) -> Features:
        with self._lock:
            self._counts.late += late
            self._counts.failures += failures
            if late or failures:
                self._rests_until = self._clock.monotonic() + self._rest_s
            return self._no(why)

    def _no(self, why: str) -> Features:
        self._counts.defaults += 1
        return Features(self._default, "default", None, self._names, why)


def key_of(value: Value, field: str | None = None) -> Key:
    """The key in a value of a pipeline: a text, an array of one whole number, a record's `field`.

    Raises `FieldMissing`, `FieldInvalid`, `WrongDtype`.
    """
    match value:
        case str():
            return value
        case np.ndarray() if value.size == 1 and value.dtype.kind in "iu":
            return int(value.item())
        case np.ndarray() | bytes():
            raise WrongDtype("a key is a text or one whole number; this value is neither")
    found = value.get(field or "")
    if found is None:
        raise FieldMissing(f"field {field!r}, the key of features, is missing; send it")
    if isinstance(found, bool) or not isinstance(found, str | int):
        raise FieldInvalid(f"field {field!r}, the key of features, is no text or whole number")
    return found


def _at_once(fetch: Fetch, timeout_s: float) -> "_Kept":
    """Ask in the caller's thread, which the source alone can hold to its timeout."""
    return fetch()


class _Kept(NamedTuple):
    """A row as it is kept; without values it says that the source does not have the key."""

    values: Floats | None
    filled: tuple[str, ...]
    read_at: float
    age_s: float


class _Flight:
    """One row on its way."""

    def __init__(self) -> None:
        self.landed = threading.Event()
        self.kept: _Kept | None = None
        self.why = ""

    def wait(self, timeout_s: float) -> _Kept:
        """What it brought. Raises `TimeoutError`, or `FeatureSourceOut` if it brought nothing."""
        if not self.landed.wait(timeout_s):
            raise TimeoutError
        if self.kept is None:
            raise FeatureSourceOut(self.why)
        return self.kept


def _frozen(values: list[float] | tuple[float, ...]) -> Floats:
    made = np.array(values, np.float32)
    made.flags.writeable = False
    return made
