"""A package as one file: a canonical tar inside one zstd frame.

Rules:
1. Canonical: ustar, files only, flat names, sorted, mode 0644, owner 0, time 0. The same files
   give the same bytes. `tar --zstd -tf` can list it.
2. Reading refuses what packing would not have written: links, folders, devices, paths, a name
   twice, names out of order, extended headers. So nothing in an archive names a place outside its
   folder.
3. Bounds come first: `MAX_PACKED`, the unpacked size that the frame declares (`MAX_UNPACKED`),
   `MAX_FILES`. A frame that declares no size, or another than it holds, is damaged.
4. The frame carries a checksum, the tar header one of its own; what fails either is damaged.

Reading has its own parser because `tarfile` follows many formats, and each is a way in.
"""

import io
import re
import tarfile
from collections.abc import Sequence
from typing import NamedTuple, NoReturn

import zstandard

from models.errors import ArchiveDamaged, ArchiveTooLarge

MAX_PACKED = 64 << 20
MAX_UNPACKED = 64 << 20
MAX_FILES = 256
_LEVEL = 19
_BLOCK = 512
_END = bytes(_BLOCK)
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}\Z")
_KINDS = {
    b"1": "a hard link",
    b"2": "a symbolic link",
    b"3": "a device",
    b"4": "a device",
    b"5": "a folder",
    b"6": "a pipe",
}


class Entry(NamedTuple):
    """One file of an archive."""

    name: str
    data: bytes


def pack(entries: Sequence[Entry]) -> bytes:
    """The archive of these files. Raises `ArchiveTooLarge`."""
    plain = io.BytesIO()
    with tarfile.open(fileobj=plain, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for name, data in sorted(entries):
            header = tarfile.TarInfo(name)
            header.size = len(data)
            tar.addfile(header, io.BytesIO(data))
    if len(entries) > MAX_FILES or plain.tell() > MAX_UNPACKED:
        raise ArchiveTooLarge(
            f"{len(entries)} files of {plain.tell()} bytes are over the limits of an archive "
            f"({MAX_FILES} files, {MAX_UNPACKED} bytes); ship smaller models"
        )
    return zstandard.ZstdCompressor(level=_LEVEL, write_checksum=True).compress(plain.getvalue())


def unpack(archive: bytes) -> tuple[Entry, ...]:
    """The files of an archive. Raises `ArchiveDamaged`, `ArchiveTooLarge`."""
    plain = _decompress(archive)
    entries: list[Entry] = []
    at = 0
    while (header := plain[at : at + _BLOCK]) != _END:
        if len(header) < _BLOCK:
            _damaged("it ends inside a header")
        name, size = _read_header(header)
        if entries and name <= entries[-1].name:
            _damaged(f"file {name!r} is there twice or out of order")
        if len(entries) == MAX_FILES:
            raise ArchiveTooLarge(f"archive holds more than {MAX_FILES} files; do not use it")
        data = plain[at + _BLOCK : at + _BLOCK + size]
        if len(data) < size:
            _damaged(f"it ends inside file {name!r}")
        entries.append(Entry(name, data))
        ends = at + _BLOCK + size
        at += _BLOCK + -(-size // _BLOCK) * _BLOCK
        if any(plain[ends:at]):
            _damaged(f"something hides behind file {name!r}")
    if plain.count(0, at) != len(plain) - at:
        _damaged("something follows its end")
    return tuple(entries)


def _decompress(archive: bytes) -> bytes:
    if len(archive) > MAX_PACKED:
        raise ArchiveTooLarge(
            f"archive has {len(archive)} bytes, over the limit of {MAX_PACKED}; do not use it"
        )
    try:
        size = zstandard.frame_content_size(archive)
        if size > MAX_UNPACKED:
            raise ArchiveTooLarge(
                f"archive unpacks to {size} bytes, over the limit of {MAX_UNPACKED}; do not use it"
            )
        if size <= 0:
            _damaged("its frame does not say how much it holds")
        return zstandard.ZstdDecompressor().decompress(
            archive, max_output_size=size, allow_extra_data=False
        )
    except zstandard.ZstdError as error:
        raise ArchiveDamaged(
            f"archive of {len(archive)} bytes is no whole zstd frame ({error}); fetch it again"
        ) from error


def _read_header(header: bytes) -> tuple[str, int]:
    """Name and size from one ustar header."""
    summed = sum(header) - sum(header[148:156]) + 8 * ord(" ")
    if header[257:263] != b"ustar\0" or _octal(header[148:156]) != summed:
        _damaged("a header is not ustar or its sum is wrong")
    raw_name = header[:100].rstrip(b"\0")
    name = raw_name.decode("ascii", errors="backslashreplace")
    kind = header[156:157]
    if kind != b"0":
        _damaged(
            f"{name!r} is {_KINDS.get(kind, 'no plain file')}; a package holds plain files only"
        )
    if header[345:500].strip(b"\0") or not _NAME.match(name):
        _damaged(f"{name!r} is no plain file name; a package is one flat folder")
    return name, _octal(header[124:136])


def _octal(field: bytes) -> int:
    digits = field.strip(b"\0 ")
    if not re.fullmatch(rb"[0-7]{1,11}", digits):
        _damaged("a header holds no octal number where one belongs")
    return int(digits, 8)


def _damaged(why: str) -> NoReturn:
    raise ArchiveDamaged(f"archive is damaged or was not made by Longstop: {why}; fetch it again")
