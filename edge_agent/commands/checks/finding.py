"""What a check is given, and what it says."""

from pathlib import Path
from typing import Literal

from msgspec import Struct

from edge_agent.control.messages import StatusReport
from edge_agent.settings import AgentSettings

Verdict = Literal["ok", "warning", "broken"]


class Finding(Struct, frozen=True):
    """One thing that was looked at."""

    name: str
    verdict: Verdict
    saw: str
    """What was seen, in words and figures."""
    next: str = ""
    """What to do; empty where nothing has to be done."""


class Patient(Struct, frozen=True):
    """The device that is looked at. Nothing in it need work."""

    data: Path
    run: Path
    settings: AgentSettings
    status: StatusReport | None
    """None while no agent answers."""


def ok(name: str, saw: str) -> Finding:
    """All is well here."""
    return Finding(name, "ok", saw)


def warning(name: str, saw: str, do: str) -> Finding:
    """It works, and should be looked at."""
    return Finding(name, "warning", saw, do)


def broken(name: str, saw: str, do: str) -> Finding:
    """Something the device is for does not work, or will not after the next start."""
    return Finding(name, "broken", saw, do)
