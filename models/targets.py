"""Where a long command will write, looked at before its work and not after it."""

import os
from pathlib import Path

from models.errors import TargetExists, TargetUnwritable


def refuse_existing(folder: Path) -> None:
    """For a folder that is to be made. Raises `TargetExists`."""
    if folder.exists():
        raise TargetExists(f"{folder} exists already; choose another place or remove it first")


def refuse_unwritable(file: Path) -> None:
    """For a file, which may be there. Raises `TargetUnwritable`."""
    if file.is_dir():
        raise TargetUnwritable(f"{file} is a folder; name the file to write")
    if not file.parent.is_dir():
        raise TargetUnwritable(
            f"{file} cannot be written: there is no folder {file.parent}; make it first"
        )
    if not os.access(file.parent, os.W_OK):
        raise TargetUnwritable(
            f"{file} cannot be written: {file.parent} may not be written to; choose another folder"
        )
