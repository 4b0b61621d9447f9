"""The rows a search compares with, from the file of a package."""

import zipfile
import zlib
from pathlib import Path

from models.archive import MAX_UNPACKED
from models.errors import FileMissing, ManifestInvalid
from models.npy import Header, read_header, read_values
from models.pipeline.heads import Search
from models.pipeline.reading import References, references_of

_PACKED = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
_FAILURES = (ValueError, IndexError, EOFError, zipfile.BadZipFile, zlib.error, RuntimeError)
"""The last for an entry with a password."""


def read_references(head: Search, path: Path, size: int | None) -> References:
    """The references of a search for embeddings [size]; None where only a sample can tell.

    Nothing is read that is not a float matrix of one row for each label, and no more than an
    archive may hold. Raises `FileMissing`, `ManifestInvalid`.
    """
    try:
        with zipfile.ZipFile(path) as held:
            entry = held.infolist()[0]
            if entry.compress_type not in _PACKED:
                raise ValueError("it is packed otherwise than numpy packs")
            with held.open(entry) as stream:
                header = read_header(stream)
                _check(header, len(head.labels))
                matrix = read_values(stream, header)
        return references_of(head, matrix, size or matrix.shape[1])
    except OSError as error:
        raise FileMissing(
            f"{path.name} cannot be read: {error}; fetch the package again"
        ) from error
    except _FAILURES as error:
        raise ManifestInvalid(
            f"{path.name} does not hold one row for each label: {error}; build the package again"
        ) from error


def _check(header: Header, labels: int) -> None:
    match header.shape:
        case (rows, side) if rows == labels and side > 0 and header.dtype.kind == "f":
            pass
        case _:
            raise ValueError(f"{header.dtype} {list(header.shape)} are no floats [{labels}, d]")
    if header.size > MAX_UNPACKED:
        raise ValueError(f"its rows take {header.size} bytes, {MAX_UNPACKED} is the limit")
