"""Scores a file or folder with a package, in chunks, so that a run killed anywhere goes on.

1. A batch of samples is `batch_rows` rows of one chunk; chunks begin at fixed rows. So a run that
   was interrupted computes the same batches, and the output has the same bytes.
2. A folder is listed when the run begins: what arrives later is for the next run.
3. With `since`, a file is new when it was not there at the last run or has another size or time;
   a row of a table when it is beyond the last count, or has a value no row had. What the output
   held is kept, except rows scored again.
4. Rows that cannot be read or prepared are written with the code of their error.
"""

import time
from collections.abc import Callable, Iterator
from itertools import count, islice
from pathlib import Path
from typing import NamedTuple

import msgspec
from msgspec import Struct

from models import package
from models.batch.journal import Identity, Journal, Seen
from models.batch.output import form_of, read_output
from models.batch.progress import Counts, Progress
from models.batch.score import Cascade, Opening, Scored
from models.batch.work import Work, open_work
from models.data.rows import Columns, Row, hash_of
from models.errors import DataEmpty, TargetUnwritable
from models.manifest import Role

CHUNK_ROWS = 1024
BATCH_ROWS = 32
Tell = Callable[[Progress], None]


class BatchOptions(Struct, frozen=True):
    """What is scored by what into what."""

    input: Path
    output: Path
    """Ends in .csv, .jsonl, .npz or .parquet."""
    package: Path
    opening: Opening = Opening()
    columns: Columns = Columns()
    """Columns of a table that are no part of the sample."""
    since: bool = False
    """Score only what arrived since the last run into this output."""
    chunk_rows: int = CHUNK_ROWS
    """How many rows a killed run may lose."""
    batch_rows: int = BATCH_ROWS
    """How many rows run together, and so how many samples are in memory."""


class BatchReport(Struct, frozen=True):
    """What a run did."""

    output: Path
    counts: Counts
    """Of the rows that were to be scored, those an interrupted run had finished among them."""
    resumed: int
    """How many of them an interrupted run had finished."""
    kept: int
    """Rows of the earlier output that stand in this one."""
    seconds: float
    notes: tuple[str, ...]
    """What a person should know: no certificate here, an earlier run thrown away."""


def run_batch(
    options: BatchOptions,
    *,
    tell: Tell | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> BatchReport:
    """Score a file or folder. `tell` hears of every batch of rows.

    Raises `DataError`, `InputError` for a file of another type or shape than the package takes,
    `PackageError` (`TargetUnwritable` among it), `RuntimeFailed`, `ExtraMissing`.
    """
    _check(options)
    form = form_of(options.output)
    read = package.read(options.package, Role.EDGE)
    cascade = Cascade.load(read, options.opening)
    with Journal(options.output) as journal:
        last = journal.seen() if options.since else None
        work = open_work(options.input, read.manifest.input, options.columns, last)
        begun = journal.begin(
            _identity(options, cascade, work, last), work.files, still_there=work.holds
        )
        work.take(begun.files)
        before = _Finished.of(journal)
        started = clock()
        counts = before.counts
        rows = work.rows(skip=counts.rows)
        for number in count(before.chunks):
            chunk: list[Scored] = []
            for batch in _batches(rows, options):
                scored = cascade.score(batch)
                chunk += scored
                counts = counts.plus(scored)
                if tell is not None:
                    done, spent = counts.rows - before.counts.rows, clock() - started
                    tell(Progress(counts, work.expected, done / max(spent, 1e-9)))
            if chunk:
                journal.add(number, chunk)
            if len(chunk) < options.chunk_rows:
                break
        if counts.rows == 0 and last is None:
            raise DataEmpty(f"{options.input} holds no rows; write some")
        whole = _Whole(options.output if last is not None else None, journal)
        journal.finish(lambda file: form.write(file, whole.chunks), work.seen(read.manifest_sha256))
    return BatchReport(
        output=options.output,
        counts=counts,
        resumed=before.counts.rows,
        kept=whole.kept,
        seconds=clock() - started,
        notes=tuple(_notes(options, cascade, last, discarded=begun.discarded)),
    )


class _Finished(NamedTuple):
    """What an interrupted run left."""

    chunks: int
    counts: Counts

    @classmethod
    def of(cls, journal: Journal) -> "_Finished":
        chunks, counts = 0, Counts()
        for chunk in journal.chunks():
            chunks, counts = chunks + 1, counts.plus(chunk)
        return cls(chunks, counts)


class _Whole:
    """All rows of the output: what an earlier one held and was not scored again, then the new."""

    def __init__(self, earlier: Path | None, journal: Journal) -> None:
        self._earlier = earlier if earlier is not None and earlier.exists() else None
        self._journal = journal
        self._again: frozenset[int] = frozenset()
        self.kept = 0
        if self._earlier is not None:
            self._again = frozenset(
                hash_of(one.name) for chunk in journal.chunks() for one in chunk
            )

    def chunks(self) -> Iterator[list[Scored]]:
        """Pieces of one size, whatever sizes they were scored in: the same rows, the same bytes."""
        rows = self._rows()
        while piece := list(islice(rows, CHUNK_ROWS)):
            yield piece

    def _rows(self) -> Iterator[Scored]:
        self.kept = 0
        if self._earlier is not None:
            for piece in read_output(self._earlier):
                for one in piece:
                    if hash_of(one.name) not in self._again:
                        self.kept += 1
                        yield one
        for chunk in self._journal.chunks():
            yield from chunk


def _batches(rows: Iterator[Row], options: BatchOptions) -> Iterator[list[Row]]:
    """The batches of one chunk."""
    left = options.chunk_rows
    while left and (batch := list(islice(rows, min(options.batch_rows, left)))):
        left -= len(batch)
        yield batch


def _check(options: BatchOptions) -> None:
    if options.chunk_rows < 1 or options.batch_rows < 1:
        raise ValueError(
            f"chunk_rows and batch_rows are at least 1, not {options.chunk_rows} and "
            f"{options.batch_rows}"
        )
    if options.output.is_dir() or options.output.resolve() == options.input.resolve():
        raise TargetUnwritable(
            f"{options.output} is the input or a folder; name a new file to write to"
        )


def _identity(options: BatchOptions, cascade: Cascade, work: Work, last: Seen | None) -> Identity:
    asked = (options.opening, options.columns, options.chunk_rows, options.batch_rows)
    seen = "" if last is None else package.digest(msgspec.msgpack.encode(last))
    return Identity(
        package=cascade.edge.package.manifest_sha256,
        runtimes=cascade.runtimes,
        options=msgspec.json.encode(asked).decode(),
        source=work.source,
        seen=seen,
    )


def _notes(
    options: BatchOptions, cascade: Cascade, last: Seen | None, *, discarded: bool
) -> Iterator[str]:
    if cascade.uncertified is not None:
        yield (f"no certificate holds on this machine, so every row is hard: {cascade.uncertified}")
    elif cascade.threshold is None:
        yield "the package is not calibrated, so every row is hard"
    if discarded:
        yield "what a run with other inputs, package or options had left unfinished is discarded"
    if options.since and last is None:
        yield "there was no earlier run, so every row is new"
    if last is not None and last.package != cascade.edge.package.manifest_sha256:
        yield "rows kept from earlier runs were scored with another package"
