"""Who runs on the model and when: requests are admitted, take turns, and run alone or together.

1. A request that could not be done by its deadline is refused before it begins, by the time the
   ones before it are going to take. A late answer helps nobody and delays the next.
2. The ones that wait take turns by client, see `turns`. A deadline that passes meanwhile ends the
   waiting.
3. While the model is busy the ones that wait may share its next run, where that gives what single
   runs give. A batch that fails is run again one by one: one bad input spoils no other's answer.
"""

import asyncio
import logging
import math
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from typing import Protocol

from edge_agent.errors import DeadlineExceeded, Overloaded
from edge_agent.turns import Turns
from models.errors import ModelsError
from models.pipeline.values import Value
from models.predict import Prediction
from sync.clock import Clock
from sync.runner import InlineRunner, Runner

log = logging.getLogger(__name__)

LONGEST_INLINE_S = 0.1
"""A model that once took longer gets a thread of its own: nobody else could be answered meanwhile,
not even told that time is up. A busy machine takes a process away for less."""
_REMEMBERED = 256
"""Runs whose 99th percentile is told."""
_WEIGHT = 0.1
"""Of the newest run in the typical one."""
_HICCUP = 5
"""A run this many times slower than the typical one says more about the machine's other work."""

Outcome = Prediction | ModelsError


class Predicts(Protocol):
    """A loaded package."""

    def predict(self, sample: Value) -> Prediction: ...

    def predict_batch(self, samples: Sequence[Value]) -> tuple[Prediction, ...]: ...


class _Waiting:
    """One request."""

    def __init__(self, sample: Value, until: float) -> None:
        self.sample = sample
        self.until = until
        self.said: asyncio.Future[Prediction] = asyncio.get_running_loop().create_future()


class Admission:
    """The way to one model, asked from one event loop."""

    def __init__(
        self,
        model: Predicts,
        *,
        task: str,
        runner: Runner,
        clock: Clock,
        typical_s: float,
        queue: int,
        batch: int,
        thread: Callable[[], Runner] | None = None,
    ) -> None:
        self.typical_s = typical_s
        self._model = model
        self._task = task
        self._runner = runner
        self._thread = thread
        self.inline = isinstance(runner, InlineRunner)
        """Whether it runs in the caller's thread, where nobody ever waits."""
        self._clock = clock
        self._batch = batch
        self._turns: Turns[_Waiting] = Turns(queue - 1)
        self._running = 0
        self._begun: float | None = None
        self._took: deque[float] = deque((typical_s,), maxlen=_REMEMBERED)

    @property
    def running_s(self) -> float:
        """How long the model has been on the run it is on; 0 for none."""
        begun = self._begun
        return 0.0 if begun is None else max(0.0, self._clock.monotonic() - begun)

    @property
    def p99_s(self) -> float:
        """What all but one of a hundred of its last runs took."""
        took = sorted(self._took)
        return took[max(0, math.ceil(0.99 * len(took)) - 1)]

    def run_now(self, sample: Value, until: float) -> Prediction:
        """In the caller's thread. Raises as `run` does."""
        if until <= (now := self._clock.monotonic()):
            raise self._too_late(now - until)
        self._begun = now
        try:
            prediction = self._model.predict(sample)
        finally:
            self._begun = None
        self._learn((prediction,))
        if self._clock.monotonic() - now > LONGEST_INLINE_S and self._thread is not None:
            log.warning("engine.to_a_thread task=%s why=a_run_held_up_the_others", self._task)
            self._runner, self.inline = self._thread(), False
        return prediction

    def close(self) -> None:
        """End its runner."""
        self._runner.close()

    async def run(self, sample: Value, until: float, client: str) -> Prediction:
        """In its turn.

        Raises `Overloaded`, `DeadlineExceeded`, `models.errors.RuntimeFailed`, `InputError`.
        """
        if self.inline:
            return self.run_now(sample, until)
        ahead = self._running + self._turns.ahead(client)
        left_s = until - self._clock.monotonic()
        if left_s <= 0:
            raise self._too_late(-left_s)
        # An idle model always begins while time is left: were it to refuse by its memory of one
        # slow run, it would never learn better.
        if ahead and (ahead + 1) * self.typical_s > left_s:
            raise self._overloaded(ahead, left_s)
        one = _Waiting(sample, until)
        if self._running:
            gone = self._turns.join(client, one)
            if gone is not None and not gone.said.done():
                gone.said.set_exception(self._overloaded(self._running + len(self._turns), left_s))
        else:
            self._start([one])
        return await one.said

    def _start(self, ready: list[_Waiting]) -> None:
        """Have the runner at it; it is at nothing else."""
        self._running = len(ready)
        samples = tuple(one.sample for one in ready)
        running = asyncio.ensure_future(self._runner.submit(partial(self._run, samples)))
        running.add_done_callback(partial(self._ran, ready))

    def _ran(self, ready: list[_Waiting], running: "asyncio.Future[tuple[Outcome, ...]]") -> None:
        self._running = 0
        if running.cancelled():
            for one in ready:
                one.said.cancel()
            return None
        if (error := running.exception()) is not None:
            for one in ready:
                if not one.said.done():
                    one.said.set_exception(error)
            return self._next()
        outcomes = running.result()
        self._learn(outcomes)
        for one, outcome in zip(ready, outcomes, strict=True):
            if one.said.done():
                continue  # its caller has gone
            if isinstance(outcome, Prediction):
                one.said.set_result(outcome)
            else:
                one.said.set_exception(outcome)
        return self._next()

    def _next(self) -> None:
        """Whose turn it is; who has gone or has no time left is passed over."""
        ready: list[_Waiting] = []
        while not ready and len(self._turns):
            now = self._clock.monotonic()
            for one in self._turns.take(self._batch):
                if one.said.done():
                    continue
                if one.until <= now:
                    one.said.set_exception(self._overloaded(len(self._turns), 0.0))
                else:
                    ready.append(one)
        if ready:
            self._start(ready)

    def _run(self, samples: tuple[Value, ...]) -> tuple[Outcome, ...]:
        self._begun = self._clock.monotonic()
        try:
            if len(samples) > 1:
                try:
                    return self._model.predict_batch(samples)
                except ModelsError:
                    pass  # Rule 3.
            return tuple(map(self._run_one, samples))
        finally:
            self._begun = None

    def _run_one(self, sample: Value) -> Outcome:
        try:
            return self._model.predict(sample)
        except ModelsError as error:
            return error

    def _learn(self, outcomes: tuple[Outcome, ...]) -> None:
        for outcome in outcomes[:1]:  # a batch says the same of all
            if isinstance(outcome, Prediction):
                took_s = (outcome.prepare_us + outcome.run_us) / 1e6
                self._took.append(took_s)
                each_s = min(took_s / len(outcomes), _HICCUP * self.typical_s)
                self.typical_s += _WEIGHT * (each_s - self.typical_s)

    def _too_late(self, late_s: float) -> DeadlineExceeded:
        return DeadlineExceeded(
            f"the request reached the model of task {self._task!r} {late_s * 1000:.1f} ms after its"
            " deadline; allow more time"
        )

    def _overloaded(self, ahead: int, left_s: float) -> Overloaded:
        needed_s = (ahead + 1) * self.typical_s
        return Overloaded(
            f"task {self._task!r} has {ahead} inputs waiting and needs about"
            f" {needed_s * 1000:.1f} ms for one more, {max(left_s, 0) * 1000:.1f} ms are left;"
            " ask less often, or allow more time"
        )
