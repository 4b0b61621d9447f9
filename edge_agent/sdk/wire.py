"""Frames on a local socket: 8 bytes of header, JSON, then raw bytes.

1. The header is two little-endian 32-bit lengths: of the JSON (`meta`) and of the `body`.
2. Both lengths are bounded; a header that claims more is refused before anything is read.
3. `FrameReader` does no I/O: it lends a buffer to whoever receives and is told how much was filled.
   A large body is received where it will stay, so it is never copied.
"""

import struct
from typing import NamedTuple

from edge_agent.sdk.errors import LongstopError

HEADER = struct.Struct("<II")
MAX_META = 64 << 10
MAX_BODY = 16 << 20
_SCRATCH = 16 << 10


class FrameTooLarge(LongstopError):
    """A header claims more than a frame may hold; the stream cannot be followed any further."""

    code = "frame_too_large"
    before: list["Frame"]
    """The whole frames that came with it."""


class Frame(NamedTuple):
    """One whole frame."""

    meta: bytes
    body: bytearray


def head(meta: bytes, body_size: int = 0) -> bytes:
    """Header and meta of a frame; the body, if any, follows as it is. Raises `FrameTooLarge`."""
    _check(len(meta), body_size)
    return HEADER.pack(len(meta), body_size) + meta


class FrameReader:
    """Bytes in, frames out."""

    def __init__(self) -> None:
        self._scratch = bytearray(_SCRATCH)
        self._start = 0
        self._end = 0
        self._meta = b""
        self._body: bytearray | None = None
        self._body_filled = 0
        self._spare = bytearray()

    @property
    def in_body(self) -> bool:
        """Whether the rest of a large body is on its way."""
        return self._body is not None

    def take_back(self, body: bytearray) -> None:
        """Use this body's memory for a later one of its size: making it new costs more than it."""
        if len(body) > _SCRATCH:
            self._spare = body

    def buffer(self) -> memoryview:
        """Where the next bytes go; never empty. Give it back by calling `filled`."""
        if self._body is not None:
            return memoryview(self._body)[self._body_filled :]
        if self._start == self._end:
            self._start = self._end = 0
        elif self._end == len(self._scratch):
            self._make_room()
        return memoryview(self._scratch)[self._end :]

    def filled(self, count: int) -> list[Frame]:
        """Take note of `count` new bytes and give back the frames they complete.

        Raises `FrameTooLarge`, after which the reader is of no more use.
        """
        frames: list[Frame] = []
        if self._body is None:
            self._end += count
        else:
            self._body_filled += count
            if self._body_filled < len(self._body):
                return frames
            frames.append(Frame(self._meta, self._body))
            self._body = None
        try:
            while (frame := self._next()) is not None:
                frames.append(frame)
        except FrameTooLarge as error:
            error.before = frames
            raise
        return frames

    def _next(self) -> Frame | None:
        start, end = self._start, self._end
        if end - start < HEADER.size:
            return None
        meta_size, body_size = HEADER.unpack_from(self._scratch, start)
        if meta_size > MAX_META or body_size > MAX_BODY:
            _check(meta_size, body_size)
        body_start = start + HEADER.size + meta_size
        if end < body_start:
            return None
        meta = bytes(self._scratch[start + HEADER.size : body_start])
        here = min(end - body_start, body_size)
        self._start = body_start + here
        if here == body_size:
            return Frame(meta, self._scratch[body_start : body_start + here])
        body = self._spare if len(self._spare) == body_size else bytearray(body_size)
        self._spare = bytearray()
        body[:here] = memoryview(self._scratch)[body_start:end]
        self._meta, self._body, self._body_filled = meta, body, here
        return None

    def _make_room(self) -> None:
        """Move the begun frame to the front of a buffer that holds the largest meta."""
        begun = self._scratch[self._start : self._end]
        if len(begun) == len(self._scratch):
            self._scratch = bytearray(HEADER.size + MAX_META)
        self._scratch[: len(begun)] = begun
        self._start, self._end = 0, len(begun)


def _check(meta_size: int, body_size: int) -> None:
    if meta_size > MAX_META or body_size > MAX_BODY:
        raise FrameTooLarge(
            f"a frame of {meta_size} bytes of JSON and {body_size} bytes of data is over the limits"
            f" of {MAX_META} and {MAX_BODY}; send less"
        )
