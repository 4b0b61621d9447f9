"""A package folder on this machine, run without a gateway's word: for development."""

from pathlib import Path

import msgspec
from msgspec import Struct

from edge_agent.errors import BadRequest


class LocalPackage(Struct, frozen=True):
    """What is to run instead of what the gateway wants. A changed folder needs a new version."""

    folder: Path
    task: str
    version: str


class _Names(Struct):
    task: str
    version: str


def local_package(folder: Path) -> LocalPackage:
    """What a package folder says it is. Raises `BadRequest`; fetch and worker check the rest."""
    folder = folder.expanduser()
    try:
        names = msgspec.json.decode((folder / "manifest.json").read_bytes(), type=_Names)
    except (OSError, msgspec.DecodeError) as error:
        raise BadRequest(
            f"{folder} is no package folder: {error}; see `longstop-models inspect {folder}`"
        ) from error
    return LocalPackage(folder, names.task, names.version)
