"""The kernel's word on a folder's files, through libc: the standard library has none.

Files that are being written to, that were closed after it, that were renamed in. What the kernel
had no room to tell (`OVERFLOW`) it says was lost; a folder that goes takes the watch with it
(`GONE`). The library is loaded when a watch is made, never before.
"""

import ctypes
import os
import struct
from collections.abc import Iterator
from enum import Enum
from pathlib import Path
from typing import NamedTuple, Self

_MODIFY, _CLOSE_WRITE, _MOVED_TO = 0x2, 0x8, 0x80
_DELETE_SELF, _MOVE_SELF = 0x400, 0x800
_UNMOUNT, _Q_OVERFLOW, _IGNORED, _ONLYDIR = 0x2000, 0x4000, 0x8000, 0x01000000
_FINISHED = _CLOSE_WRITE | _MOVED_TO
_GONE = _DELETE_SELF | _MOVE_SELF | _UNMOUNT | _IGNORED
_WATCHED = _MODIFY | _FINISHED | _DELETE_SELF | _MOVE_SELF | _ONLYDIR
_HEAD = struct.Struct("iIII")
_READ_BYTES = 64 << 10


class What(Enum):
    """What a notice tells."""

    WRITING = "writing"
    FINISHED = "finished"
    OVERFLOW = "overflow"
    GONE = "gone"


class Notice(NamedTuple):
    """One thing that happened; `name` of a file for the first two."""

    what: What
    name: str


class FolderNotices:
    """A watch on one folder. Raises `OSError` where the kernel gives none: no folder, no room."""

    def __init__(self, folder: Path) -> None:
        libc = ctypes.CDLL(None, use_errno=True)
        self.descriptor = _checked(libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC), folder)
        try:
            _checked(libc.inotify_add_watch(self.descriptor, os.fsencode(folder), _WATCHED), folder)
        except OSError:
            os.close(self.descriptor)
            raise

    def read(self) -> list[Notice]:
        """What has happened since; empty for nothing."""
        try:
            return list(parse(os.read(self.descriptor, _READ_BYTES)))
        except BlockingIOError:
            return []

    def close(self) -> None:
        os.close(self.descriptor)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def parse(data: bytes) -> Iterator[Notice]:
    """The notices in what the kernel wrote."""
    start = 0
    while start + _HEAD.size <= len(data):
        _, mask, _, length = _HEAD.unpack_from(data, start)
        start += _HEAD.size
        name = os.fsdecode(data[start : start + length].rstrip(b"\0"))
        start += length
        if mask & _Q_OVERFLOW:
            yield Notice(What.OVERFLOW, "")
        elif mask & _GONE:
            yield Notice(What.GONE, "")
        elif name and mask & _FINISHED:
            yield Notice(What.FINISHED, name)
        elif name and mask & _MODIFY:
            yield Notice(What.WRITING, name)


def _checked(result: int, folder: Path) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), str(folder))
    return result
