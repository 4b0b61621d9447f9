"""What the calibrating process is told, and what it says. Both are JSON on its standard streams."""

from msgspec import Struct

from models.calibrate.certificate import Certificate


class Sample(Struct, frozen=True, array_like=True):
    """One audited request: the device's confidence, and whether the cloud answered otherwise.

    A request whose audit went missing counts as answered otherwise.
    """

    score: float | None
    disagree: bool


class Order(Struct, frozen=True):
    """Make a certificate of these samples."""

    certificate: Certificate
    """The one that was found broken."""
    delta: float
    samples: tuple[Sample, ...]
    tune: tuple[float, ...]
    """Scores of other audits: they choose the thresholds that are tried."""


class Outcome(Struct, frozen=True):
    """The new certificate; None where there is none, and why."""

    certificate: Certificate | None
    why: str = ""
