"""The loaded edge model of one task: checked, warm, never asked for more than it can do in time.

1. A model serves only after it has reproduced its package's golden outputs on this machine.
2. A model that takes less than `INLINE_BELOW_S` runs in the caller's thread: a thread would cost
   more than it saves. A slower one has a thread of its own, so that it holds up nobody else.
3. A request that could not be done by its deadline is refused before it begins, by the time the
   ones before it are going to take. A late answer helps nobody and delays the next.
"""

import statistics
from collections.abc import Callable
from functools import partial
from pathlib import Path

from edge_agent.errors import Overloaded
from models import package
from models.golden import golden_inputs
from models.manifest import Role
from models.predict import Prediction, Predictor
from models.tensors import Sample, check_input
from sync.clock import Clock
from sync.runner import InlineRunner, Runner

INLINE_BELOW_S = 500e-6
WARM_UPS = 30
QUEUE = 64
_WEIGHT = 0.1
"""Of the newest run in the typical one."""
_HICCUP = 5
"""A run this many times slower than the typical one says more about the machine's other work."""


class Engine:
    """One model, asked from one event loop."""

    def __init__(
        self,
        predictor: Predictor,
        *,
        digest: str,
        runner: Runner,
        clock: Clock,
        typical_s: float,
        queue: int = QUEUE,
    ) -> None:
        manifest = predictor.package.manifest
        self.task = manifest.task
        self.version = manifest.version
        self.digest = digest[:12]
        self.input_name = manifest.inputs[0].name
        self.input_dtype = manifest.inputs[0].dtype
        self.input_shape = manifest.inputs[0].shape
        self.threshold = manifest.decision.threshold
        self.typical_s = typical_s
        self._spec = manifest.inputs[0]
        self._predictor = predictor
        self._runner = runner
        self._clock = clock
        self._queue = queue
        self._waiting = 0

    @classmethod
    def load(
        cls,
        folder: Path,
        *,
        digest: str,
        clock: Clock,
        thread: Callable[[], Runner],
        inline_below_s: float = INLINE_BELOW_S,
    ) -> "Engine":
        """Open a package, warm it up and check it; blocks meanwhile.

        Raises what `models.errors` names: `PackageError`, `RuntimeFailed`, `GoldenMismatch`.
        """
        predictor = Predictor.load(package.read(folder, Role.EDGE))
        predictor.check_golden()
        typical_s = warm_up(predictor)
        runner = InlineRunner() if typical_s < inline_below_s else thread()
        return cls(predictor, digest=digest, runner=runner, clock=clock, typical_s=typical_s)

    def read(
        self, dtype: str, shape: tuple[int, ...], data: bytes | bytearray | memoryview
    ) -> Sample:
        """The sample in these bytes. Raises `models.errors.InputError`."""
        return check_input(self._spec, dtype, shape, data)

    async def predict(self, sample: Sample, *, until: float) -> Prediction:
        """Run the model. Raises `Overloaded`, `models.errors.RuntimeFailed`."""
        left_s = until - self._clock.monotonic()
        needed_s = (self._waiting + 1) * self.typical_s
        # An idle model always begins while time is left: were it to refuse by its memory of one
        # slow run, it would never learn better.
        late = left_s <= 0 or (self._waiting > 0 and needed_s > left_s)
        if late or self._waiting >= self._queue:
            raise Overloaded(
                f"task {self.task!r} has {self._waiting} inputs waiting and needs about"
                f" {needed_s * 1000:.1f} ms for one more, {max(left_s, 0) * 1000:.1f} ms are left;"
                " ask less often, or allow more time"
            )
        self._waiting += 1
        try:
            prediction = await self._runner.submit(partial(self._predictor.predict, sample))
        finally:
            self._waiting -= 1
        took_s = (prediction.prepare_us + prediction.run_us) / 1e6
        self.typical_s += _WEIGHT * (min(took_s, _HICCUP * self.typical_s) - self.typical_s)
        return prediction

    def close(self) -> None:
        self._runner.close()


def warm_up(predictor: Predictor) -> float:
    """Run a model until it is as fast as it gets; gives back what one run takes, in seconds."""
    manifest = predictor.package.manifest
    sample = golden_inputs(manifest.inputs[0], manifest.golden)[0]
    runs = (predictor.predict(sample) for _ in range(WARM_UPS))
    took = [run.prepare_us + run.run_us for run in runs]
    return statistics.median(took[WARM_UPS // 2 :]) / 1e6
