"""Packages: is each file what its manifest says, and does the certificate speak of this device?"""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import msgspec

from edge_agent.commands.checks.bound import Bound, Looked
from edge_agent.commands.checks.finding import Finding, Patient, broken, ok, warning
from edge_agent.update.activation import Installed
from edge_agent.update.store import read_state
from models import package
from models.errors import ModelsError
from models.manifest import Role

CHILD_S = 20.0
_AGAIN = "remove the folder and restart the agent: it fetches the package again"


def packages(patient: Patient) -> Iterator[Finding]:
    """Every installed package, its files against its manifest, its certificate against this CPU."""
    home = patient.data / "packages"
    for state in sorted(home.glob("*/state.json")):
        task = state.parent.name
        try:
            active = read_state(state.read_bytes()).active
        except (OSError, ValueError, msgspec.DecodeError) as error:
            yield warning(
                f"package {task}",
                f"{state} cannot be read: {error}",
                "nothing: the next start goes on from state.old.json or asks the gateway",
            )
            continue
        if active is None:
            yield warning(f"package {task}", "none is installed yet", "wait, or see the gateway")
            continue
        yield from _package(patient, task, active, state.parent / active.digest)


def _package(patient: Patient, task: str, installed: Installed, folder: Path) -> Iterator[Finding]:
    name = f"package {task}"
    try:
        package.read(folder, Role.EDGE)
    except ModelsError as error:
        yield broken(name, f"{installed.version}: {error.code}: {error}", f"{_AGAIN} ({folder})")
        return
    yield ok(
        name, f"{installed.version} ({installed.digest[:12]}): every file is what it should be"
    )
    if patient.status is None:
        yield _looked(task, bound(patient, folder))


def bound(patient: Patient, folder: Path) -> Looked:
    """What the certificate is bound to, looked up in a process of its own: runtimes may crash."""
    order = Bound(str(folder), patient.settings.runtime)
    try:
        done = subprocess.run(
            [sys.executable, "-P", "-m", "edge_agent.commands.checks.bound"],
            input=msgspec.json.encode(order),
            capture_output=True,
            timeout=CHILD_S,
            check=False,
        )
        return msgspec.json.decode(done.stdout, type=Looked)
    except (OSError, subprocess.TimeoutExpired, msgspec.DecodeError) as error:
        return Looked(trouble=f"its runtime could not be looked at: {error}")


def _looked(task: str, looked: Looked) -> Finding:
    name = f"certificate {task}"
    if looked.trouble:
        return warning(
            name,
            looked.trouble,
            "install what is missing, or calibrate the package for this device"
            " (longstop-models calibrate)",
        )
    return ok(name, looked.words)
