"""`longstop-models batch`: a package's own cascade over a file or a folder."""

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from models.commands.saying import print_json, tell

if TYPE_CHECKING:
    from models.batch.progress import Progress

WHAT = "Answer every row of a file or folder, by the cascade a device and its gateway make."


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "input", type=Path, metavar="INPUT", help=".npz, .csv, .parquet, .jsonl or a folder"
    )
    parser.add_argument(
        "output", type=Path, metavar="OUTPUT", help=".parquet, .csv, .jsonl or .npz to write"
    )
    parser.add_argument("--package", type=Path, required=True, metavar="DIR", help="package folder")
    parser.add_argument(
        "--since", action="store_true", help="score only what arrived after the last run"
    )
    parser.add_argument(
        "--edge-only", action="store_true", help="mark hard rows instead of asking the cloud half"
    )
    parser.add_argument("--label", metavar="COLUMN", help="column that is no part of the input")
    parser.add_argument("--group", metavar="COLUMN", help="another one")
    parser.add_argument("--name", metavar="COLUMN", help="column with each row's name")
    parser.add_argument("--runtime", help="runtime to use (default: the model's own)")
    parser.add_argument("--provider", default="cpu", help="cpu, cuda, auto, … (default: cpu)")
    parser.add_argument(
        "--allow-custom",
        action="store_true",
        help="run the package's own Python code",
    )


def run(given: argparse.Namespace) -> None:
    from models.batch.run import BatchOptions, run_batch
    from models.batch.score import Opening
    from models.data.rows import Columns

    report = run_batch(
        BatchOptions(
            input=given.input,
            output=given.output,
            package=given.package,
            opening=Opening(
                edge_only=given.edge_only,
                runtime=given.runtime,
                provider=given.provider,
                allow_custom=given.allow_custom,
            ),
            columns=Columns(label=given.label, group=given.group, name=given.name),
            since=given.since,
        ),
        tell=_Meter(),
    )
    for note in report.notes:
        tell(note)
    if given.json:
        print_json(report)
        return
    counts = report.counts
    print(
        f"{report.output}: {counts.rows:,} rows in {report.seconds:.1f} s, {counts.edge:,} "
        f"answered by the edge half, {counts.cloud:,} by the cloud half, {counts.errors:,} not"
        + (f"; {report.kept:,} kept from before" if report.kept else "")
        + (f"; {report.resumed:,} were done by an interrupted run" if report.resumed else "")
    )


class _Meter:
    """One line that is written over on a terminal, one line every some seconds elsewhere."""

    def __init__(self) -> None:
        self._told_at = 0

    def __call__(self, progress: "Progress") -> None:
        if sys.stderr.isatty():
            print(f"\r{progress.line():<78}", end="", file=sys.stderr, flush=True)
        elif progress.counts.rows >= 2 * self._told_at:
            self._told_at = max(1000, progress.counts.rows)
            tell(progress.line())
