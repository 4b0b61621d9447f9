"""Records as a device makes them, for tests that care for one or two of their values."""

from typing import Literal

from sync.wire import v1


def answered(
    request_id: str = "r1",
    *,
    route: Literal["edge", "cloud"] = "edge",
    final: bool = True,
    reason: str = "confident",
    label: str = "shirt",
    hard: bool = False,
    total_us: int = 400,
    at: float = 125.0,
) -> v1.Answered:
    """An answer the device was sure of, unless told otherwise."""
    return v1.Answered(
        request_id,
        "app",
        "apparel",
        "1.0.0",
        "0123456789ab",
        route,
        final,
        reason,
        label,
        confidence=0.5 if hard else 0.9,
        hard=hard,
        deadline_ms=300,
        prepare_us=10,
        run_us=200,
        wait_us=0,
        total_us=total_us,
        at=at,
    )


def revised(request_id: str = "r1", *, label: str = "coat") -> v1.Revised:
    """What the cloud made of it."""
    return v1.Revised(request_id, "app", "apparel", label, 0.9, "1.0.0", 125.0)


def feedback(*, request_id: str = "r-1", label: str = "coat", at: float = 125.0) -> v1.Feedback:
    """Somebody knows better, unless told otherwise."""
    return v1.Feedback(request_id, "app", "apparel", label, at)


def health(
    *, level: v1.HealthLevel = "normal", at: float = 125.0, celsius: float | None = 47.0
) -> v1.Health:
    """A device at its ease, unless told otherwise."""
    return v1.Health(
        at=at,
        level=level,
        why="" if level == "normal" else "93 °C",
        cpu_share=0.25,
        supervisor_bytes=30 << 20,
        worker_bytes=70 << 20,
        workers=1,
        disk_bytes=9 << 20,
        disk_free_bytes=1 << 30,
        uplink_bytes=5000,
        flash_bytes=70_000,
        celsius=celsius,
        over=() if level == "normal" else ("cpu", "uplink"),
    )


def skipped(
    *,
    source: str = "directory",
    reason: str = "rate_limited",
    count: int = 1,
    first_id: str = "a.npy",
    last_id: str = "c.npy",
    at: float = 125.0,
) -> v1.Skipped:
    """Inputs a watched folder had too many of, unless told otherwise."""
    return v1.Skipped("apparel", source, reason, count, first_id, last_id, at)
