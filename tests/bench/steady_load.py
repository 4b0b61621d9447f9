"""Programs that ask a device one input after the other, while something happens to it."""

import statistics
import threading
import time
from collections.abc import Callable
from typing import NamedTuple

from edge_agent.sdk import Client
from edge_agent.sdk.errors import LongstopError
from models.tensors import Sample
from tests.bench.setting import NotMeasured

DEADLINE_MS = 30_000
_LEAST = 200
"""Answers below which a p99 says nothing."""


class Asked(NamedTuple):
    """One request; both in seconds of `time.perf_counter`."""

    begun: float
    took_s: float


class SteadyLoad:
    """So many callers inside the block, each with a short pause between its requests."""

    def __init__(
        self, client: Callable[[], Client], raw: Sample, *, callers: int, pause_s: float
    ) -> None:
        self._client = client
        self._raw = raw
        self._pause_s = pause_s
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._ask) for _ in range(callers)]
        self.asked: list[Asked] = []
        self.errors: list[LongstopError] = []
        """What some of them ended in."""

    def __enter__(self) -> "SteadyLoad":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    @property
    def failed(self) -> int:
        """Requests without an answer."""
        return len(self.errors)

    def p99_ms(self, since: float, to: float) -> float:
        """Of the requests begun in between. Raises `NotMeasured`."""
        took = [one.took_s for one in self.asked if since <= one.begun < to]
        if len(took) < _LEAST:
            raise NotMeasured(f"{len(took)} answers are too few for a p99")
        return round(statistics.quantiles(took, n=100)[98] * 1000, 3)

    def _ask(self) -> None:
        with self._client() as client:
            while not self._stop.wait(self._pause_s):
                begun = time.perf_counter()
                try:
                    client.infer(self._raw, deadline_ms=DEADLINE_MS)
                except LongstopError as error:
                    self.errors.append(error)
                self.asked.append(Asked(begun, time.perf_counter() - begun))
