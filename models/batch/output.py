"""Scored rows as a file: CSV, JSON lines, Parquet or npz, by suffix, written and read in pieces.

The same rows give the same bytes. What is missing is an empty cell, null, or in npz an empty text
and NaN.
"""

import csv
import io
import math
import zipfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import IO, Any, BinaryIO, NamedTuple

import msgspec
import numpy as np
from msgspec.structs import replace

from models.batch.score import Scored
from models.errors import DataUnreadable, ExtraMissing, TargetUnwritable

Chunks = Callable[[], Iterable[Sequence[Scored]]]
"""Gives all rows, some at a time, as often as it is called."""
FIELDS = Scored.__struct_fields__
_TEXTS = tuple(name for name in FIELDS if name not in ("confidence", "hard"))
_PIECE = 1024


class Form(NamedTuple):
    """One form of file."""

    write: Callable[[BinaryIO, Chunks], None]
    read: Callable[[Path], Iterator[list[Scored]]]


def form_of(output: Path) -> Form:
    """The form a file's suffix asks for. Raises `TargetUnwritable`."""
    form = FORMS.get(output.suffix.lower())
    if form is None:
        raise TargetUnwritable(
            f"{output} has no suffix that says how to write it; use one of {', '.join(FORMS)}"
        )
    return form


def read_output(output: Path) -> Iterator[list[Scored]]:
    """The rows of an earlier output. Raises `DataUnreadable`."""
    try:
        yield from form_of(output).read(output)
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, csv.Error) as error:
        raise DataUnreadable(
            f"{output} cannot be read as an earlier output: {error}; move it away, and the next "
            "one holds the new rows"
        ) from error


# CSV


def _write_csv(file: BinaryIO, chunks: Chunks) -> None:
    text = io.TextIOWrapper(file, "utf-8", newline="", write_through=True)
    try:
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(FIELDS)
        for chunk in chunks():
            writer.writerows([_cell(getattr(one, name)) for name in FIELDS] for one in chunk)
    finally:
        text.detach()  # or it would close what is not its own


def _cell(value: str | float | None) -> str:
    match value:
        case None:
            return ""
        case bool():
            return "true" if value else "false"
        case _:
            return str(value)


def _read_csv(path: Path) -> Iterator[list[Scored]]:
    with path.open(newline="", encoding="utf-8") as file:
        rows = csv.DictReader(file)
        for row in rows:
            texts = {name: row[name] or None for name in _TEXTS}
            given = {
                **texts,
                "name": row["name"],
                "confidence": float(row["confidence"]) if row["confidence"] else None,
                "hard": row["hard"] == "true",
            }
            yield [msgspec.convert(given, Scored)]


# JSON lines


class _Line(msgspec.Struct, frozen=True):
    """A line: the answer as JSON itself, and not as a text that holds JSON."""

    name: str
    label: str | None
    confidence: float | None
    source: str | None
    reason: str | None
    hard: bool
    answer: msgspec.Raw
    error: str | None


def _write_lines(file: BinaryIO, chunks: Chunks) -> None:
    for chunk in chunks():
        for one in chunk:
            answer = msgspec.Raw(b"null" if one.answer is None else one.answer.encode())
            given = {name: getattr(one, name) for name in FIELDS} | {"answer": answer}
            file.write(msgspec.json.encode(_Line(**given)) + b"\n")


def _read_lines(path: Path) -> Iterator[list[Scored]]:
    with path.open("rb") as file:
        for text in file:
            line = msgspec.json.decode(text, type=_Line)
            answer = bytes(line.answer).decode()
            given = {name: getattr(line, name) for name in FIELDS}
            given["answer"] = None if answer == "null" else answer
            yield [Scored(**given)]


# Parquet


def _parquet() -> Any:
    try:
        from pyarrow import parquet  # type: ignore[import-untyped]
    except ModuleNotFoundError as error:
        raise ExtraMissing(
            f"{error}; Parquet needs the extra `models`: install longstop[models]"
        ) from error
    return parquet


def _write_parquet(file: BinaryIO, chunks: Chunks) -> None:
    parquet = _parquet()
    import pyarrow

    kinds = {"confidence": pyarrow.float64(), "hard": pyarrow.bool_()}
    schema = pyarrow.schema([(name, kinds.get(name, pyarrow.string())) for name in FIELDS])
    with parquet.ParquetWriter(file, schema, compression="zstd") as writer:
        for chunk in chunks():
            columns = {name: [getattr(one, name) for one in chunk] for name in FIELDS}
            writer.write_table(pyarrow.table(columns, schema=schema))


def _read_parquet(path: Path) -> Iterator[list[Scored]]:
    with _parquet().ParquetFile(path) as file:
        for batch in file.iter_batches(_PIECE):
            yield [msgspec.convert(row, Scored) for row in batch.to_pylist()]


# npz


def _write_npz(file: BinaryIO, chunks: Chunks) -> None:
    """One column after the other: a column's width has to be known before its first value."""
    count, widths = 0, dict.fromkeys(_TEXTS, 1)
    for chunk in chunks():
        count += len(chunk)
        for name in _TEXTS:
            longest = max((len(getattr(one, name) or "") for one in chunk), default=0)
            widths[name] = max(widths[name], longest)
    with zipfile.ZipFile(file, "w") as held:
        for name in FIELDS:
            member = zipfile.ZipInfo(f"{name}.npy")  # of 1980, as every other
            member.compress_type = zipfile.ZIP_DEFLATED
            kind = np.dtype({"confidence": "<f8", "hard": "?"}.get(name) or f"<U{widths[name]}")
            with held.open(member, "w", force_zip64=True) as out:
                _write_header(out, kind, count)
                for chunk in chunks():
                    out.write(np.array([_plain(one, name) for one in chunk], kind).tobytes())


def _write_header(out: IO[bytes], kind: np.dtype[Any], count: int) -> None:
    np.lib.format.write_array_header_1_0(
        out, {"descr": kind.str, "fortran_order": False, "shape": (count,)}
    )


def _plain(one: Scored, name: str) -> str | float:
    value: str | float | None = getattr(one, name)
    if value is None:
        return math.nan if name == "confidence" else ""
    return value


def _read_npz(path: Path) -> Iterator[list[Scored]]:
    with np.load(path, allow_pickle=False) as held:
        columns = {name: held[name] for name in FIELDS}
    for begun in range(0, len(columns["name"]), _PIECE):
        piece = [columns[name][begun : begun + _PIECE].tolist() for name in FIELDS]
        yield [_from_plain(Scored(*row)) for row in zip(*piece, strict=True)]


def _from_plain(one: Scored) -> Scored:
    missing = {name: None for name in _TEXTS if name != "name" and not getattr(one, name)}
    nothing = one.confidence is None or math.isnan(one.confidence)
    return replace(one, **missing, confidence=None if nothing else one.confidence)


FORMS = {
    ".csv": Form(_write_csv, _read_csv),
    ".jsonl": Form(_write_lines, _read_lines),
    ".npz": Form(_write_npz, _read_npz),
    ".parquet": Form(_write_parquet, _read_parquet),
}
