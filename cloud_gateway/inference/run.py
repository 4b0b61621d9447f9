"""Cloud models loaded, swapped and asked.

1. A new version is loaded and warm before it takes over; requests in the old one end there.
2. A version that does not load leaves the old one serving, and says why; without an old one the
   task answers `model_unavailable`.
3. A short model runs in the event loop, a longer one in a thread of its own: the hand-over to a
   thread and back costs about as much as a run of half a millisecond.
4. At most `max_waiting` requests wait for one model; what would wait longer is refused at once.
"""

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from msgspec import Struct

from cloud_gateway.errors import BadRequest, ModelUnavailable, Overloaded, UnknownTask
from cloud_gateway.inference.engines.base import Engine, Open, Wanted
from models.errors import ModelsError, WrongShape
from models.manifest import TensorSpec
from models.pipeline.kinds import RAW
from models.pipeline.values import Value
from models.predict import Prediction
from models.tensors import check_input, dtype_of
from sync.runner import InlineRunner, Runner
from sync.wire import v1
from sync.wire.elements import unpack_bytes

MAX_SAMPLES = 64
_log = logging.getLogger(__name__)


class Timings(Protocol):
    """Where models say how long they took."""

    def model_ran(self, task: str, samples: int, run_us: int) -> None: ...


class Answers(Struct, frozen=True):
    """What the cloud model says to one request."""

    task: str
    version: str
    predictions: tuple[Prediction, ...]
    batched: bool
    """Whether the input had a batch axis, so that the outputs want one, too."""


class ModelFacts(Struct, frozen=True):
    """A task's model as the outside may know it; without `version` none is loaded."""

    task: str
    version: str | None
    given: TensorSpec | None
    labels: tuple[str, ...]
    classifies: bool
    """Whether it chooses one of the labels, from logits."""
    provider: str | None
    problem: str | None


class _Instance:
    """One loaded engine, the thread it runs in, and how many wait for it."""

    def __init__(self, wanted: Wanted, engine: Engine, runner: Runner) -> None:
        self.wanted = wanted
        self.engine = engine
        self.runner = runner
        self.waiting = 0
        self.retired = False

    def retire(self) -> None:
        """Take no more requests; end the thread once the last one has its answer."""
        self.retired = True
        if not self.waiting:
            self.runner.close()


class Models:
    """The cloud models by task."""

    def __init__(
        self,
        open_engine: Open,
        runners: Callable[[str], Runner],
        timings: Timings,
        *,
        inline_below_us: int,
        max_waiting: int,
    ) -> None:
        self._open = open_engine
        self._runners = runners
        self._timings = timings
        self._inline_below_us = inline_below_us
        self._max_waiting = max_waiting
        self._loader = runners("load")
        self._loading = asyncio.Lock()
        self._instances: dict[str, _Instance] = {}
        self._problems: dict[str, str] = {}

    async def serve(self, wanted: Mapping[str, Wanted]) -> None:
        """Load what is wanted and not loaded yet. Never raises: see `facts` for what went wrong."""
        async with self._loading:
            for task, one in wanted.items():
                before = self._instances.get(task)
                if before is not None and before.wanted == one:
                    self._problems.pop(task, None)  # of a version nobody wants any more
                else:
                    await self._load(one, before)

    async def answer(self, task: str, inputs: Sequence[v1.Tensor]) -> Answers:
        """Ask a task's model.

        Raises `UnknownTask`, `ModelUnavailable`, `Overloaded`, `BadRequest`, and `InputError`s.
        """
        instance = self._instance(task)
        samples, batched = _samples(instance.engine.given, inputs)
        if instance.waiting >= self._max_waiting:
            raise Overloaded(
                f"{instance.waiting} requests wait for the cloud model of {task!r}; "
                "try again later, or keep the device's answer"
            )
        instance.waiting += 1
        try:
            predictions = await instance.runner.submit(lambda: instance.engine.answer(samples))
        finally:
            instance.waiting -= 1
            if instance.retired and not instance.waiting:
                instance.runner.close()
        self._timings.model_ran(task, len(samples), predictions[0].run_us)
        return Answers(task, instance.wanted.version, tuple(predictions), batched)

    def facts(self, task: str) -> ModelFacts:
        """What may be said about a task's model. Raises `UnknownTask`."""
        instance = self._instances.get(task)
        problem = self._problems.get(task)
        if instance is None:
            if problem is None:
                raise _unknown(task)
            return ModelFacts(task, None, None, (), False, None, problem)
        engine = instance.engine
        version = instance.wanted.version
        return ModelFacts(
            task,
            version,
            engine.given,
            engine.labels,
            engine.classifies,
            engine.provider,
            problem,
        )

    def problems(self) -> dict[str, str]:
        """By task, why the version that should serve does not."""
        return dict(self._problems)

    def close(self) -> None:
        """End the threads; what still waits in them is dropped."""
        for instance in self._instances.values():
            instance.runner.close()
        self._loader.close()

    async def _load(self, wanted: Wanted, before: _Instance | None) -> None:
        name = f"{wanted.task} {wanted.version}"
        try:
            engine = await self._loader.submit(lambda: self._open(wanted))
        except (ModelsError, OSError) as error:
            _log.error("models.not_loaded model=%r reason=%s", name, error)
            self._problems[wanted.task] = str(error)
            return
        self._problems.pop(wanted.task, None)
        inline = engine.warm_run_us < self._inline_below_us
        runner = InlineRunner() if inline else self._runners(f"model-{wanted.task}")
        self._instances[wanted.task] = _Instance(wanted, engine, runner)
        if before is not None:
            before.retire()
        _log.info(
            "models.loaded model=%r provider=%s run_us=%d inline=%s",
            name,
            engine.provider,
            engine.warm_run_us,
            inline,
        )

    def _instance(self, task: str) -> _Instance:
        found = self._instances.get(task)
        if found is not None:
            return found
        if problem := self._problems.get(task):
            raise ModelUnavailable(f"the cloud model of {task!r} does not load: {problem}")
        raise _unknown(task)


def _samples(given: TensorSpec, inputs: Sequence[v1.Tensor]) -> tuple[list[Value], bool]:
    """The samples of a request: one as it is, or several along a leading axis."""
    if len(inputs) != 1:
        raise BadRequest(f"{len(inputs)} inputs came; this model takes one, {given.name!r}")
    (tensor,) = inputs
    dtype = dtype_of(tensor.datatype, given)
    if given.dtype in RAW:
        if not 1 <= len(tensor.shape) <= 2 or tensor.datatype != "BYTES":
            raise WrongShape(
                f"input {given.name!r} is {given.dtype}, which goes as BYTES of shape [n], not "
                f"{tensor.datatype} {list(tensor.shape)}"
            )
        elements = list(unpack_bytes(tensor.data))
        if not 1 <= len(elements) <= MAX_SAMPLES:
            raise WrongShape(
                f"input {given.name!r} has {len(elements)} elements; send 1 to {MAX_SAMPLES}"
            )
        samples = [check_input(given, dtype, (len(one),), one) for one in elements]
        return samples, len(samples) > 1
    batched = len(tensor.shape) == len(given.shape) + 1 and tensor.shape[1:] == given.shape
    if not batched:
        return [check_input(given, dtype, tensor.shape, tensor.data)], False
    count = tensor.shape[0]
    if not 1 <= count <= MAX_SAMPLES or len(tensor.data) % count:
        raise WrongShape(
            f"input {given.name!r} has shape {list(tensor.shape)} and {len(tensor.data)} bytes; "
            f"send 1 to {MAX_SAMPLES} whole samples of {list(given.shape)}"
        )
    size = len(tensor.data) // count
    data = memoryview(tensor.data)
    return [
        check_input(given, dtype, given.shape, data[at * size : (at + 1) * size])
        for at in range(count)
    ], True


def _unknown(task: str) -> UnknownTask:
    return UnknownTask(
        f"no package was published for task {task[:80]!r}; "
        "`longstop-gateway package list` shows those there are"
    )
