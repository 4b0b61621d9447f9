"""`longstop-agent doctor`: what is wrong with this device, in words, and what to do about it.

1. It runs with the agent up or down, writes nothing that stays, and changes nothing.
2. Every family of checks has a thread and a limit of its own: one that hangs on a dead disk, name
   server or network is reported as such, and holds up nobody.
3. A check that breaks is a finding, too: a doctor who faints helps nobody.
"""

import contextlib
import os
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TypeVar

import msgspec
from msgspec import Struct

from edge_agent import settings
from edge_agent.commands import status
from edge_agent.commands.checks import (
    agent,
    disk,
    identities,
    memory,
    network,
    packages,
    tls,
    versions,
)
from edge_agent.commands.checks.clock import clock
from edge_agent.commands.checks.finding import Finding, Patient, Verdict, broken, warning
from edge_agent.control.messages import StatusReport
from edge_agent.errors import DataFolderUnusable
from edge_agent.sdk.errors import LongstopError
from edge_agent.settings import AgentSettings
from sync.errors import SettingsError

ALL_WELL, BROKEN, ONLY_WARNINGS = 0, 1, 3
"""Exit codes; 2 is a command line nobody understands."""
LIMIT_S = 25.0
STATUS_S = 4.0
NETWORK_S = 5.0
"""A name server has its own patience, longer than a connection's."""
_ORDER: dict[Verdict, int] = {"broken": 0, "warning": 1, "ok": 2}

T = TypeVar("T")
Check = Callable[[Patient], Iterable[Finding]]
Family = tuple[str, Check, float]
"""Its name, how to look, and the seconds that may take."""


class Diagnosis(Struct, frozen=True):
    """Everything that was found, worst first."""

    verdict: Verdict
    findings: tuple[Finding, ...]


def examine(data: Path, run: Path | None) -> Diagnosis:
    """Look at the device in this data folder."""
    found: list[Finding] = []
    try:
        loaded = settings.load(data, environ=os.environ)
    except (SettingsError, DataFolderUnusable) as error:
        loaded = AgentSettings()
        what = "run doctor as its owner" if isinstance(error, DataFolderUnusable) else "correct it"
        found.append(broken("settings", str(error), f"{what}: {data / settings.FILE}"))
    folder = run or settings.run_folder(loaded, data)
    patient = Patient(data, folder, loaded, _within(STATUS_S, lambda: _status(folder)))
    found += look(patient, FAMILIES)
    worst: Verdict = min((one.verdict for one in found), key=lambda one: _ORDER[one])
    return Diagnosis(worst, tuple(sorted(found, key=lambda one: _ORDER[one.verdict])))


def exit_code(diagnosis: Diagnosis) -> int:
    """What a script learns without reading."""
    return {"broken": BROKEN, "warning": ONLY_WARNINGS, "ok": ALL_WELL}[diagnosis.verdict]


def as_json(diagnosis: Diagnosis) -> str:
    return msgspec.json.encode(diagnosis).decode()


def lines(diagnosis: Diagnosis) -> Iterable[str]:
    """For a person: what is wrong first, what to do right below it."""
    wide = max(len(one.name) for one in diagnosis.findings)
    for one in diagnosis.findings:
        yield f"{one.verdict:7}  {one.name:{wide}}  {one.saw}"
        if one.next:
            yield f"{'':7}  {'':{wide}}  do: {one.next}"
    counts = [sum(one.verdict == verdict for one in diagnosis.findings) for verdict in _ORDER]
    if counts[0] or counts[1]:
        yield f"{counts[0]} broken, {counts[1]} to look at, {counts[2]} well"
    else:
        yield f"all well: {counts[2]} things looked at"


def look(patient: Patient, families: Sequence[Family]) -> list[Finding]:
    """What these checks find, side by side, each within its limit."""
    running = [(name, limit_s, _Running(check, patient)) for name, check, limit_s in families]
    began = time.monotonic()
    found: list[Finding] = []
    for name, limit_s, one in running:
        one.join(max(0.0, began + limit_s - time.monotonic()))
        if one.is_alive():
            found.append(
                broken(
                    name,
                    f"looking at it took longer than {limit_s:.0f} s",
                    "something hangs below it: a dead disk, a network mount or a name server; see"
                    " dmesg and /etc/resolv.conf",
                )
            )
        else:
            found += one.found
    return found


def _gateway_and_clock(patient: Patient) -> Iterable[Finding]:
    said = _within(NETWORK_S, lambda: network.ask_gateway(patient))
    if said is None:
        said = network.GatewaySaid(
            (broken("gateway", f"no answer within {NETWORK_S:.0f} s", network.FIREWALL),)
        )
    return (*said.findings, *clock(patient, said.at))


FAMILIES: tuple[Family, ...] = (
    ("agent", agent.agent, LIMIT_S),
    ("sockets", agent.sockets, LIMIT_S),
    ("identity", identities.identity, LIMIT_S),
    ("tls", tls.tls, LIMIT_S),
    ("gateway and clock", _gateway_and_clock, LIMIT_S),
    ("broker", network.broker, NETWORK_S),
    ("local broker", network.local_broker, NETWORK_S),
    ("disk", disk.disk, LIMIT_S),
    ("memory", memory.memory, LIMIT_S),
    ("packages", packages.packages, LIMIT_S),
    ("versions", versions.versions, LIMIT_S),
    ("sqlite", versions.sqlite, LIMIT_S),
)


class _Running(threading.Thread):
    """One family of checks at work; a daemon, so that a hung one does not keep us here."""

    def __init__(self, check: Check, patient: Patient) -> None:
        super().__init__(daemon=True)
        self.found: list[Finding] = []
        self._check = check
        self._patient = patient
        self.start()

    def run(self) -> None:
        try:
            for one in self._check(self._patient):
                self.found.append(one)  # what was found before it broke is kept
        except Exception as error:  # noqa: BLE001 - rule 3
            name = getattr(self._check, "__name__", "check").strip("_")
            self.found.append(
                warning(
                    name, f"could not be looked at: {error!r}", "run doctor as the agent's user"
                )
            )


def _status(run: Path) -> StatusReport | None:
    try:
        return status.ask(run)
    except LongstopError:
        return None


def _within(limit_s: float, look: Callable[[], T]) -> T | None:
    """What it gave back; None where it broke or took longer."""
    found: list[T] = []

    def run() -> None:
        with contextlib.suppress(Exception):
            found.append(look())

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(limit_s)
    return found[0] if found else None
