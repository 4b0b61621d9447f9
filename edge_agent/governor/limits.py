"""What the device may use, and what is to be done when it uses more. (core)

Rules, each to be found again below:
1. There are four levels. `spare`: audits become rarer and nothing goes out that nobody waits for.
   `hot`: sources slow down as well. `refusing`: new inputs are refused as overloaded. Answers are
   the last to go: a level is left upwards one at a time, and not before `rise_s` in it.
2. What asks for a level is heat, the load on the whole machine, and our own share of its processor;
   the highest wish counts. A share over its budget never asks for more than `hot`: it is ours to
   lower, not the callers'.
3. A level is left downwards, one at a time, after `fall_s` in which nothing asked for it, and heat
   asks until it is `SLACK_C` below what raised it. So a device does not flap.
4. Bytes are counted over a day that ends 24 hours of monotonic time after it began, restarts
   included; what the wall clock does means nothing. Over the uplink's budget nothing goes out that
   nobody waits for. From four fifths of the flash's budget on, records share larger commits and
   audits become rarer.
5. Over the memory's budget the largest worker is replaced by a fresh one, at most every
   `RENEW_S`: a fresh one is small, unless it needs the memory, and then saying so must do.
6. What nobody can read (None) asks for nothing.
"""

from collections.abc import Iterator
from enum import IntEnum
from typing import Annotated

from msgspec import Meta, Struct
from msgspec.structs import replace

DAY_S = 86_400.0
SLACK_C = 5.0
FAR_OVER = 1.5
"""Times its budget, from which a share asks for `hot`."""
ALMOST = 0.8
RENEW_S = 600.0
WIDE_LINGER = 25
"""Times its usual length a record may wait for others when flash has to be spared."""
RARE = 0.25
"""What is left of audits when the device has to spare itself."""
SLOW = 0.25
"""What is left of the rate of sources when it is hot."""

_Bytes = Annotated[int, Meta(ge=1)]
_Celsius = Annotated[float, Meta(ge=0, le=150)]


class Level(IntEnum):
    """How much the device spares itself."""

    NORMAL = 0
    SPARE = 1
    HOT = 2
    REFUSING = 3


class LimitSettings(Struct, frozen=True, forbid_unknown_fields=True):
    """Budgets; None: there is none."""

    ram_mb: Annotated[int, Meta(ge=32)] | None = None
    """Of supervisor and workers together."""
    disk_mb: Annotated[int, Meta(ge=1)] | None = None
    """Of the data folder: packages, outbox, all of it."""
    cpu_share: Annotated[float, Meta(gt=0, le=1)] | None = None
    """Of all cores, by supervisor and workers together."""
    uplink_bytes_per_day: _Bytes | None = None
    flash_bytes_per_day: _Bytes | None = None
    load: Annotated[float, Meta(gt=0, le=1)] | None = None
    """Share of all cores busy with anything, from which the device spares itself."""
    spare_c: _Celsius = 85.0
    hot_c: _Celsius = 92.0
    refuse_c: _Celsius = 100.0
    """Temperatures of the hottest sensor from which each level is asked for."""
    rise_s: Annotated[float, Meta(ge=0)] = 20.0
    fall_s: Annotated[float, Meta(ge=0)] = 60.0
    sample_s: Annotated[float, Meta(ge=0.05)] = 10.0
    """Between two looks at all this."""
    health_s: Annotated[float, Meta(ge=0.1)] = 300.0
    """Between two records of it."""


class Reading(Struct, frozen=True):
    """What was seen in one look. Bytes and seconds are since the look before."""

    seconds: float
    cpu_s: float | None = None
    """Processor time of supervisor and workers."""
    cores: int = 1
    busy: float | None = None
    """Share of all cores that was busy with anything."""
    celsius: float | None = None
    """Of the hottest sensor."""
    rss_bytes: int | None = None
    disk_bytes: int | None = None
    """Of the data folder."""
    uplink_bytes: int = 0
    flash_bytes: int = 0


class Day(Struct, frozen=True):
    """What the day has used so far."""

    elapsed_s: float = 0.0
    uplink_bytes: int = 0
    flash_bytes: int = 0


class Governed(Struct, frozen=True):
    """What the governor knows."""

    settings: LimitSettings
    day: Day = Day()
    level: Level = Level.NORMAL
    since: float = 0.0
    """When it came to this level."""
    asked_at: float = 0.0
    """When something last asked for it."""
    renewed_at: float | None = None
    over: tuple[str, ...] = ()
    """Budgets that are overdrawn now."""
    why: str = ""
    """What asked for the level, in words."""


class Measures(Struct, frozen=True):
    """What follows for the other parts of the device."""

    level: Level = Level.NORMAL
    backlog: bool = True
    """Whether questions nobody waits for go out."""
    records: bool = True
    """Whether records go out."""
    audits: float = 1.0
    """Share of the usual audits that is made."""
    sources: float = 1.0
    """Share of their usual rate that sources may have."""
    linger: int = 1
    """Times its usual length that a record may wait to be stored."""


class Renew(Struct, frozen=True):
    """Replace the largest worker by a fresh one."""


class Take(Struct, frozen=True):
    """These measures hold from now on; they are others than before."""

    measures: Measures
    why: str


Effect = Renew | Take


class Step(Struct, frozen=True):
    state: Governed
    effects: tuple[Effect, ...] = ()


def measures(state: Governed) -> Measures:
    """What holds in this state."""
    sparing = state.level >= Level.SPARE
    dear = "uplink" in state.over
    worn = _used(state.day.flash_bytes, state.settings.flash_bytes_per_day) >= ALMOST
    return Measures(
        level=state.level,
        backlog=not (sparing or dear),
        records=not dear,
        audits=RARE if sparing or worn else 1.0,
        sources=SLOW if state.level >= Level.HOT else 1.0,
        linger=WIDE_LINGER if worn else 1,
    )


def step(state: Governed, reading: Reading, now: float) -> Step:
    """Take note of one look."""
    before = measures(state)
    state = replace(state, day=_grown(state.day, reading))
    state = replace(state, over=tuple(_over(state, reading)))
    state = _levelled(state, reading, now)
    effects: list[Effect] = []
    if "ram" in state.over and (state.renewed_at is None or now - state.renewed_at >= RENEW_S):
        state = replace(state, renewed_at=now)
        effects.append(Renew())
    after = measures(state)
    if after != before:
        effects.append(Take(after, _words(state)))
    return Step(state, tuple(effects))


def _grown(day: Day, reading: Reading) -> Day:
    """Rule 4."""
    elapsed_s = day.elapsed_s + max(0.0, reading.seconds)
    if elapsed_s >= DAY_S:
        return Day(0.0, reading.uplink_bytes, reading.flash_bytes)
    return Day(
        elapsed_s,
        day.uplink_bytes + reading.uplink_bytes,
        day.flash_bytes + reading.flash_bytes,
    )


def _over(state: Governed, reading: Reading) -> Iterator[str]:
    settings, day = state.settings, state.day
    if _share(reading) > (settings.cpu_share or 1.0):
        yield "cpu"
    if _used(reading.rss_bytes or 0, _bytes_of(settings.ram_mb)) > 1:
        yield "ram"
    if _used(reading.disk_bytes or 0, _bytes_of(settings.disk_mb)) > 1:
        yield "disk"
    if _used(day.uplink_bytes, settings.uplink_bytes_per_day) >= 1:
        yield "uplink"
    if _used(day.flash_bytes, settings.flash_bytes_per_day) >= 1:
        yield "flash"


def _levelled(state: Governed, reading: Reading, now: float) -> Governed:
    """Rules 1 to 3."""
    wanted, why = _wanted(state, reading)
    if wanted >= state.level:
        state = replace(state, asked_at=now, why=why if wanted else "")
    steady_s = state.settings.rise_s if state.level else 0.0
    if wanted > state.level and now - state.since >= steady_s:
        return replace(state, level=Level(state.level + 1), since=now)
    if wanted < state.level and now - state.asked_at >= state.settings.fall_s:
        lower = Level(state.level - 1)
        return replace(state, level=lower, since=now, asked_at=now, why=state.why if lower else "")
    return state


def _wanted(state: Governed, reading: Reading) -> tuple[Level, str]:
    """The highest level anything asks for, and what."""
    settings = state.settings
    wishes = [(Level.NORMAL, "")]
    if (heat := reading.celsius) is not None:
        steps = (settings.spare_c, settings.hot_c, settings.refuse_c)
        for level, limit in zip((Level.SPARE, Level.HOT, Level.REFUSING), steps, strict=True):
            # Rule 3: what has risen so far asks until it is well below.
            if heat >= limit - (SLACK_C if state.level >= level else 0.0):
                wishes.append((level, f"{heat:.0f} °C"))
    if settings.load is not None and reading.busy is not None and reading.busy >= settings.load:
        wishes.append((Level.SPARE, f"the machine is {reading.busy:.0%} busy"))
        if reading.busy >= (1 + settings.load) / 2:
            wishes.append((Level.HOT, f"the machine is {reading.busy:.0%} busy"))
    if settings.cpu_share is not None and (ours := _share(reading)) > settings.cpu_share:
        level = Level.HOT if ours > FAR_OVER * settings.cpu_share else Level.SPARE
        wishes.append((level, f"the agent takes {ours:.0%} of the processor"))
    return max(wishes, key=lambda one: one[0])


def _share(reading: Reading) -> float:
    if reading.cpu_s is None or reading.seconds <= 0:
        return 0.0
    return reading.cpu_s / reading.seconds / max(1, reading.cores)


def _used(used: int, budget: int | None) -> float:
    return used / budget if budget else 0.0


def _bytes_of(megabytes: int | None) -> int | None:
    return None if megabytes is None else megabytes << 20


def _words(state: Governed) -> str:
    over = f"over its budget of {', '.join(state.over)}" if state.over else ""
    return "; ".join(part for part in (state.why, over) if part) or "all is well again"
