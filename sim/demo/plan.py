"""What the demo does and when: values only, no I/O."""

from dataclasses import dataclass

DEADLINE_MS = 300
LATE_MS = 310
"""An answer the caller has after this is late: the deadline and ten milliseconds' grace."""
FIRST, UPDATED, TAMPERED = "1.0.0", "1.1.0", "1.2.0"
"""Package versions in the order they are published; the last is altered on the gateway's disk."""


@dataclass(frozen=True)
class Device:
    """One agent of the demo and the stream its application sends."""

    name: str
    task: str
    link: str


@dataclass(frozen=True)
class Timeline:
    """Seconds after the streams begin."""

    update: float
    cut: float
    repair: float
    tamper: float
    end: float


def timeline(seconds: float) -> Timeline:
    """Spread the story over a run of `seconds`; the cut itself always lasts ten seconds."""
    cut = 0.42 * seconds
    return Timeline(
        update=0.12 * seconds,
        cut=cut,
        repair=cut + 10,
        tamper=max(0.72 * seconds, cut + 12),
        end=seconds,
    )


def devices(tasks: tuple[str, ...]) -> tuple[Device, ...]:
    """Two image devices and one sensor device where the data allow it, else three of digits."""
    first, second = tasks[0], tasks[-1]
    return (
        Device(f"{first}-1", first, "mqtt"),
        Device(f"{first}-2", first, "http"),
        Device(f"{second}-{1 if second != first else 3}", second, "mqtt"),
    )
