"""What a scenario file says: how many devices, what they are asked, and how bad their links are."""

from importlib import resources
from pathlib import Path
from typing import Annotated

import msgspec
from msgspec import Meta, Struct

Share = Annotated[float, Meta(ge=0, lt=1)]
Positive = Annotated[float, Meta(gt=0)]


class ScenarioError(Exception):
    """The scenario cannot be read; the message names the key."""

    code = "bad_scenario"


class Weather(Struct, frozen=True, forbid_unknown_fields=True):
    """One device's link. Outages come and go at random with these mean lengths."""

    up_s: Positive
    down_s: Annotated[float, Meta(ge=0)]
    """0 for a link that never goes down."""
    delay_ms: Positive
    """Median delay one way."""
    jitter: Share
    """Delays spread log-uniformly over delay / (1 - jitter) and delay * (1 - jitter)."""
    loss: Share
    """Share of messages swallowed, each way."""
    duplicate: Share
    """Share of messages the gateway gets a second time, later."""


class Traffic(Struct, frozen=True, forbid_unknown_fields=True):
    """What applications ask."""

    every_s: Positive
    """Mean time between two requests of one device; arrivals are a Poisson process."""
    deadline_ms: Annotated[int, Meta(gt=0)]


class Tuning(Struct, frozen=True, forbid_unknown_fields=True):
    """The agent's own settings that a long run wants otherwise than a demo."""

    beat_s: Positive
    linger_ms: Annotated[int, Meta(ge=0)]
    retry_base_s: Positive
    retry_cap_s: Positive
    """Bounds of the wait before a device tries a dead link again."""


class RiskStory(Struct, frozen=True, forbid_unknown_fields=True):
    """A package that promises something, and a world that changes."""

    audit_share: Share
    drift_at_h: Annotated[float, Meta(ge=0)]
    """From then on ..."""
    drift: Share
    """... this share of inputs is wrong with a confidence that had been enough. 0: no change."""


class Scenario(Struct, frozen=True, forbid_unknown_fields=True):
    """A whole run on virtual time."""

    name: str
    says: str
    devices: Annotated[int, Meta(ge=1, le=10_000)]
    hours: Annotated[float, Meta(gt=0, le=10_000)]
    settle_s: Positive
    """Virtual time after the last request, links up, before the final count."""
    check_every_s: Positive
    """How often the invariants are checked on the way."""
    weather: Weather
    traffic: Traffic
    agent: Tuning
    bytes_per_hour: Annotated[int, Meta(ge=0)] | None = None
    """What questions of one device may take; None: no limit."""
    risk: RiskStory | None = None
    """None: the packages promise nothing, and nothing is audited."""


def shipped() -> tuple[str, ...]:
    """Names of the scenarios that come with Longstop."""
    folder = resources.files("sim") / "scenarios"
    return tuple(sorted(p.name.removesuffix(".toml") for p in folder.iterdir() if _is_toml(p.name)))


def load(name: str) -> Scenario:
    """A shipped scenario by name, or one's own by path. Raises `ScenarioError`."""
    if name in shipped():
        text = (resources.files("sim") / "scenarios" / f"{name}.toml").read_text()
    elif Path(name).is_file():
        text = _read(Path(name))
    else:
        raise ScenarioError(
            f"no scenario {name!r}; shipped are {', '.join(shipped())}, or give the path of a file"
        )
    try:
        return msgspec.toml.decode(text, type=Scenario)
    except msgspec.DecodeError as error:
        raise ScenarioError(f"scenario {name!r}: {error}") from error


def changed(scenario: Scenario, *, devices: int | None, hours: float | None) -> Scenario:
    """The same with another size or length. Raises `ScenarioError`."""
    asked = {"devices": devices, "hours": hours}
    values = {name: value for name, value in asked.items() if value is not None}
    try:
        return msgspec.convert({**msgspec.structs.asdict(scenario), **values}, Scenario)
    except msgspec.ValidationError as error:
        raise ScenarioError(f"scenario {scenario.name!r}: {error}") from error


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ScenarioError(f"scenario {str(path)!r} cannot be read: {error}") from error


def _is_toml(name: str) -> bool:
    return name.endswith(".toml")
