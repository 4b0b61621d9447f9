"""Opens any file or folder of samples by what it is."""

from collections.abc import Callable
from pathlib import Path

from models.data.arrays import NpzSource
from models.data.folder import FolderSource, refuse_unfit
from models.data.rows import Columns, Source
from models.data.table import CsvSource, JsonLinesSource, ParquetSource
from models.errors import FileMissing
from models.manifest import TensorSpec

FORMS: dict[str, Callable[[Path, TensorSpec, Columns], Source]] = {
    ".csv": CsvSource,
    ".jsonl": JsonLinesSource,
    ".npz": NpzSource,
    ".parquet": ParquetSource,
}
"""By suffix. Whatever else is a folder, or one file of those a folder may hold."""


def open_source(path: Path, spec: TensorSpec, wanted: Columns) -> Source:
    """The samples in a file or folder, for a package that takes `spec`.

    Raises `FileMissing`, `DataUnreadable`, `DataEmpty`, `ColumnUnknown`, `WrongShape`,
    `WrongDtype`, `ExtraMissing`.
    """
    if not path.exists():
        raise FileMissing(f"{path} is not there; check the path")
    if path.is_dir():
        return FolderSource(path, spec, wanted)
    form = FORMS.get(path.suffix.lower())
    if form is None:
        refuse_unfit(path, spec)
        return FolderSource(path, spec, wanted)
    return form(path, spec, wanted)


def is_folder(path: Path) -> bool:
    """Whether each file is a sample, so that there is a time at which each arrived."""
    return path.suffix.lower() not in FORMS or path.is_dir()
