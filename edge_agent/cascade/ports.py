"""What the cascade is handed: a model, a way to the cloud, a place for records.

The worker hands it an engine, a socket pair and a pipe; the simulator its own.
"""

from collections.abc import Awaitable
from typing import Literal, NamedTuple, Protocol

from msgspec import Struct

from models.calibrate.curve import Curve, Gain
from models.pipeline.values import Value
from models.predict import Prediction
from sync.wire import v1

Bytes = bytes | bytearray | memoryview
CloudReply = v1.Escalated | v1.Refused


class InferRequest(Struct, frozen=True):
    """One input to answer. Both moments are of the clock the cascade was handed."""

    id: str
    client: str
    dtype: str
    shape: tuple[int, ...]
    data: Bytes
    deadline_ms: int
    received: float
    until: float
    """When the caller stops waiting."""


class Terms(Struct, frozen=True):
    """What answers are measured by: the package's own certificate, until something else is said."""

    threshold: float | None
    certificate: str
    certified_risk: float | None
    """Of answering here from `threshold` on."""
    curve: Curve | None
    uncertified: str | None
    """Why nothing is promised; None where something is."""


class Engine(Protocol):
    """The loaded edge model of one task."""

    @property
    def task(self) -> str: ...

    @property
    def version(self) -> str: ...

    @property
    def digest(self) -> str: ...

    @property
    def input_name(self) -> str: ...

    @property
    def threshold(self) -> float | None: ...

    @property
    def certified_risk(self) -> float | None:
        """What the certificate promises at the threshold."""
        ...

    @property
    def certificate(self) -> str:
        """Id of the certificate that holds here; empty where none does."""
        ...

    @property
    def curve(self) -> Curve | None:
        """What the certificate says of every other threshold."""
        ...

    @property
    def gain(self) -> Gain | None:
        """What escalating gains, by score."""
        ...

    @property
    def uncertified(self) -> str | None:
        """Why the certificate means nothing here; None where it holds."""
        ...

    def read(self, dtype: str, shape: tuple[int, ...], data: Bytes) -> Value:
        """The sample in these bytes. Raises `models.errors.InputError`."""
        ...

    def predict_now(self, sample: Value, *, until: float) -> Prediction | None:
        """As `predict`, where the model runs in the caller's thread; None where it does not."""
        ...

    async def predict(
        self, sample: Value, *, until: float, client: str = "", data: Bytes | None = None
    ) -> Prediction:
        """Run the model. Raises `Overloaded` at once when it could not be done by `until`."""
        ...


class Leaving(NamedTuple):
    """What of an input may leave the device: its shape, its bytes."""

    shape: tuple[int, ...]
    data: Bytes


class Privacy(Protocol):
    """What of an input the cloud may see. Asked before anything is written or sent."""

    def leaving(self, request: InferRequest, prediction: Prediction) -> Leaving | None:
        """The part that may leave; None where nothing may."""
        ...


class Audits(Protocol):
    """Which requests are compared with the cloud's answer, whatever theirs is."""

    def chosen(self, request_id: str) -> bool:
        """Asked before the model runs; the same for the same id."""
        ...

    def audited(self, request_id: str, label: str, score: float | None, *, local: bool) -> None:
        """What the device says to an audited request, and whether that is the answer to it."""
        ...


class Ask(Protocol):
    """The way to the cloud model."""

    def ask(self, escalation: v1.Escalation, client: str, until: float) -> Awaitable[CloudReply]:
        """The cloud's answer, or why there is none (`code`: link_down, refused, overloaded).

        Cancelled once the answer is of no more use. What has been handed over by then stays handed
        over, and its answer becomes a revision.
        """
        ...

    def leave(
        self, question: v1.Escalation, client: str, *, kind: Literal["later", "audit"], value: float
    ) -> None:
        """Hand over a question nobody waits for; `value` as in `handover.Escalate`."""
        ...

    def weigh(self, worth: float, cost: int) -> None:
        """A hard input was worth so much for each unit of the budget, and would cost so many."""
        ...


class Records(Protocol):
    """Where what happened is written down."""

    def put(self, record: v1.Answered) -> None:
        """Returns once the record survives the end of this process."""
        ...
