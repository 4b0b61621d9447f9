"""FP32 and INT8 side by side: what the integers cost and what they bring, on this machine.

Every file runs on every runtime that is installed. Quality is against the FP32 file on the first
runtime; time is against the FP32 file on the same one.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
from msgspec import Struct

from models.errors import LabelsUnfit, ModelsError, RuntimeFailed
from models.quantize import latency
from models.quantize.agree import Likeness, agreement, has_classes, likeness
from models.quantize.feeds import Feeds
from models.quantize.options import Array, Labels
from models.runtimes.base import Runtime
from models.runtimes.choose import open_model

Precision = Literal["FP32", "INT8"]


class FileRow(Struct, frozen=True):
    """One file's quality, on the first runtime."""

    precision: Precision
    file: str
    size: int
    """Bytes, external data included."""
    accuracy: float | None
    """None without labels or without classes."""
    agreement: float | None
    """Share of samples with the FP32 file's label."""
    rank_correlation: float | None
    """Spearman's, of the confidence."""
    confidence_shift: float | None
    relative_error: float


class RuntimeRow(Struct, frozen=True):
    """One file on one runtime."""

    precision: Precision
    runtime: str
    provider: str
    median_us: float
    """Of one sample, one thread, in microseconds."""
    ratio: float
    """Times as long as the FP32 file on this runtime."""
    agreement: float | None
    """With the FP32 file on the first runtime."""
    confidence_shift: float | None
    across: float | None
    """Share of samples with the label this same file gives on the first runtime."""


class Table(NamedTuple):
    """What was measured."""

    files: tuple[FileRow, ...]
    runs: tuple[RuntimeRow, ...]
    skipped: tuple[str, ...]
    """Runtimes that were asked for and did not run, with the reason."""


class Candidate(NamedTuple):
    """One file to measure."""

    precision: Precision
    path: Path
    shown: str
    """Name in the table; the float file may be a copy."""
    size: int


class _Run(NamedTuple):
    candidate: Candidate
    runtime: Runtime
    outputs: Array


def compare(
    candidates: Sequence[Candidate],
    feeds: Feeds,
    labels: Labels | None,
    *,
    runtimes: Sequence[str],
    seconds: float,
    tell: Callable[[str], None],
) -> Table:
    """Measure `candidates`, the FP32 file first, on the samples of `feeds`.

    Raises `LabelsUnfit`; `RuntimeFailed` when no runtime runs them all.
    """
    runs: list[_Run] = []
    skipped: list[str] = []
    for name in runtimes:
        try:
            runs += [_run(each, name, feeds) for each in candidates]
        except (ModelsError, ImportError) as error:
            skipped.append(f"{name}: {error}")
            tell(f"{name} is skipped: {error}")
    if not runs:
        raise RuntimeFailed(f"no runtime here runs the files: {'; '.join(skipped)}")
    reference = runs[0].outputs
    if labels is not None:
        check_labels(labels, reference)
    found = [likeness(run.outputs, reference, labels) for run in runs]
    firsts = runs[: len(candidates)]
    files = [_file_row(run.candidate, like) for run, like in zip(firsts, found, strict=False)]
    tell(f"measuring {len(runs)} files and runtimes in turns, {seconds:g} s each")
    sample = feeds.sample(0)
    # Bound now: a loop's name would mean the last runtime in every call.
    calls = [lambda runtime=run.runtime: runtime.run(sample) for run in runs]
    times = latency.measure(calls, seconds)
    rows = []
    for at, (run, like) in enumerate(zip(runs, found, strict=True)):
        float_at = at - at % len(candidates)
        rows.append(
            RuntimeRow(
                run.candidate.precision,
                run.runtime.name,
                run.runtime.provider,
                times[at].median_us,
                times[at].over(times[float_at]),
                like.agreement,
                like.confidence_shift,
                agreement(run.outputs, firsts[at % len(candidates)].outputs),
            )
        )
    return Table(tuple(files), tuple(rows), tuple(skipped))


def outputs_of(path: Path, runtime: str, feeds: Feeds) -> Array:
    """The first output of a file [n, ...] for every sample. Raises `RuntimeFailed`."""
    return _all(open_model(path, runtime), feeds)


def check_labels(labels: Labels, outputs: Array) -> None:
    """Raises `LabelsUnfit` unless there is one class of `outputs` [n, K] for each sample."""
    if not has_classes(outputs):
        raise LabelsUnfit(
            f"the model gives {outputs.dtype} {list(outputs.shape[1:])} per sample and no scores "
            "of classes; leave the labels out"
        )
    if labels.ndim != 1 or labels.dtype.kind not in "iu" or len(labels) != len(outputs):
        raise LabelsUnfit(
            f"labels are {labels.dtype} {list(labels.shape)} for {len(outputs)} samples; "
            "give one whole number for each sample"
        )
    wrong = np.flatnonzero((labels < 0) | (labels >= outputs.shape[1]))
    if wrong.size:
        raise LabelsUnfit(
            f"label {labels[wrong[0]]} of sample {wrong[0]} is none of the model's "
            f"{outputs.shape[1]} classes (0 to {outputs.shape[1] - 1}); {wrong.size} are outside; "
            "correct them"
        )


def _run(candidate: Candidate, name: str, feeds: Feeds) -> _Run:
    runtime = open_model(candidate.path, name)
    return _Run(candidate, runtime, _all(runtime, feeds))


def _all(runtime: Runtime, feeds: Feeds) -> Array:
    return np.concatenate([runtime.run(batch)[0] for batch in feeds.batches()])[: feeds.n]


def _file_row(candidate: Candidate, like: Likeness) -> FileRow:
    return FileRow(
        candidate.precision,
        candidate.shown,
        candidate.size,
        like.accuracy,
        like.agreement,
        like.rank_correlation,
        like.confidence_shift,
        like.relative_error,
    )
