"""How commands speak: results on stdout, progress and trouble on stderr."""

import sys
from pathlib import Path

import msgspec
from msgspec import Struct

from models.archive import MAX_PACKED
from models.errors import ArchiveTooLarge, FileMissing


def print_json(value: Struct) -> None:
    """One line, for a script."""
    print(msgspec.json.encode(value, enc_hook=str).decode())  # paths are all it does not know


def shown(text: str) -> str:
    """A stranger's words for a terminal: what would steer it is spelt out and not obeyed."""
    return "".join(
        one if one == "\n" or one.isprintable() else one.encode("unicode_escape").decode()
        for one in text
    )


def tell(words: str) -> None:
    """Progress, for a person who waits."""
    print(f"longstop-models: {words}", file=sys.stderr, flush=True)


def read_file(path: Path) -> bytes:
    """A package's file or archive. Raises `FileMissing`, `ArchiveTooLarge`."""
    try:
        if path.stat().st_size > MAX_PACKED:
            raise ArchiveTooLarge(f"{path} is over the limit of {MAX_PACKED} bytes; do not use it")
        return path.read_bytes()
    except OSError as error:
        raise FileMissing(f"{path} cannot be read: {error.strerror}; check the path") from error
