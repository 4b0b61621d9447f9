"""The arguments by which commands are told where samples are."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from models.judging.calibrating import Source


def add(parser: argparse.ArgumentParser) -> None:
    """`--data` and the names of its columns."""
    parser.add_argument(
        "--data",
        type=Path,
        required=True,
        metavar="PATH",
        help="samples: .npz, .csv, .parquet, .jsonl or a folder of files",
    )
    parser.add_argument("--label", metavar="COLUMN", help="column with the true label")
    parser.add_argument(
        "--group", metavar="COLUMN", help="column with the person, device or clip a row is from"
    )
    parser.add_argument("--cloud", metavar="COLUMN", help="column with the cloud model's label")


def source(given: argparse.Namespace, path: Path | None = None) -> "Source":
    """The samples that were named, or others with the same columns."""
    from models.judging.calibrating import Source

    return Source(path or given.data, given.label, given.group, given.cloud)
