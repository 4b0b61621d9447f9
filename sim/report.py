"""What a run on virtual time tells its user, and the digest that says two runs were the same."""

import hashlib
from collections.abc import Iterable

import msgspec

from sim.invariants import Asked


class RiskFigures(msgspec.Struct, frozen=True):
    """How the promise of the packages fared. Shares are of all requests of their time."""

    alarms: int
    """Devices that found their promise broken, ..."""
    recalibrated: int
    """... and that made themselves another one."""
    differ_at_first: float
    """Answered alone otherwise than by the cloud, until the world changes, ..."""
    differ_drifting: float
    """... from then to the alarm, ..."""
    differ_after: float
    """... and from the alarm to the end."""


class Result(msgspec.Struct, frozen=True):
    """The outcome of one scenario."""

    scenario: str
    seed: int
    devices: int
    hours: float
    virtual_s: float
    requests: int
    answered: int
    late: int
    from_edge: int
    from_cloud: int
    provisional: int
    revised: int
    issued: int
    delivered: int
    lost: int
    pending: int
    messages_carried: int
    messages_swallowed: int
    messages_repeated: int
    digest: str
    broken: str | None
    """The first invariant that was not true, in words; None when all were."""
    risk: RiskFigures | None = None
    """None where nothing was promised."""


def digest(asked: Iterable[Asked]) -> str:
    """SHA-256 over every request in order: when asked, when answered, by whom, with what."""
    summing = hashlib.sha256()
    for request in asked:
        summing.update(
            f"{request.request_id} {request.sample} {request.at:.6f} {request.answered_at} "
            f"{request.source} {request.final} {request.reason} {request.label}\n".encode()
        )
    return summing.hexdigest()


def replay_command(result: Result) -> str:
    """The command that runs this very run again."""
    return (
        f"./just sim {result.scenario} --seed {result.seed} --devices {result.devices} "
        f"--hours {result.hours:g}"
    )


def text(result: Result) -> str:
    """The result for a person."""
    r = result
    lines = [
        f"{r.scenario}, seed {r.seed}: {r.devices} devices, {r.virtual_s / 3600:.1f} virtual hours",
        f"  requests  {r.requests:,} asked, {r.answered:,} answered, {r.late:,} late",
        f"  answers   {r.from_edge:,} edge, {r.from_cloud:,} cloud, {r.provisional:,} provisional",
        f"  revised   {r.revised:,} of the provisional ones, later",
        f"  records   {r.issued:,} issued and {r.delivered:,} delivered",
        f"            {r.lost:,} lost, {r.pending:,} pending",
        f"  carried   {r.messages_carried:,} messages, {r.messages_swallowed:,} swallowed",
        f"  repeated  {r.messages_repeated:,} messages",
        f"  digest    {r.digest[:16]}",
    ]
    if r.risk is not None:
        fared = r.risk
        lines += [
            f"  risk      {fared.alarms} alarms, {fared.recalibrated} new certificates",
            f"  differ    {fared.differ_at_first:.2%} of answers given alone, at first",
            f"            {fared.differ_drifting:.2%} drifting, {fared.differ_after:.2%} alarmed",
        ]
    if result.broken is None:
        lines.append("  every invariant held")
    else:
        lines += [f"  BROKEN    {result.broken}", f"  replay    {replay_command(result)}"]
    return "\n".join(lines)
