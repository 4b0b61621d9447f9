"""The device's secret for choosing audits: `<data>/audit.key`, readable by its owner alone."""

import os
import secrets
from pathlib import Path

from edge_agent.risk.audit import KEY_BYTES

FILE = "audit.key"


def read(folder: Path) -> bytes | None:
    """None where there is none, or none that is whole."""
    try:
        found = (folder / FILE).read_bytes()
    except OSError:
        return None
    return found[:KEY_BYTES] if len(found) >= KEY_BYTES else None


def read_or_make(folder: Path) -> bytes | None:
    """The one that is there, or a new one; None where it cannot be written."""
    found = read(folder)
    if found is not None:
        return found
    made = secrets.token_bytes(KEY_BYTES)
    waiting = folder / f"{FILE}.new"
    try:
        handle = os.open(waiting, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with open(handle, "wb") as file:
            file.write(made)
            file.flush()
            os.fsync(file.fileno())
        waiting.replace(folder / FILE)
    except OSError:
        return None
    return made
