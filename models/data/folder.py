"""A folder of files, one sample each: flat, or in a folder for each label.

`cats/1.png` has the label `cats`; `cats/home-3/1.png` is also of the group `home-3`. Names that
begin with a dot are passed over, and so is every file of another suffix.
"""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import numpy as np

from models.data.rows import Columns, Row, hash_of
from models.data.values import array_of
from models.errors import ColumnUnknown, DataEmpty, DataUnreadable, ModelsError, RowUnreadable
from models.manifest import TensorSpec
from models.pipeline.values import Value
from models.tensors import check_input

SUFFIXES = {
    "bytes": (".jpg", ".jpeg", ".png", ".wav"),
    "text": (".txt",),
    "record": (".json",),
}
"""By what a package takes in; arrays are `.npy` files."""
_ARRAYS = (".npy",)


class Listed(NamedTuple):
    """One file as it was when the folder was looked through."""

    name: str
    """Its path inside the folder, with `/`."""
    size: int
    mtime_ns: int


def list_folder(root: Path, spec: TensorSpec) -> tuple[Listed, ...]:
    """Every file of a folder that can be a sample, in the order of names; a file alone is one."""
    suffixes = SUFFIXES.get(spec.dtype, _ARRAYS)
    if root.is_file():
        return (_listed(root.parent, root),)
    found: list[Listed] = []
    for where, folders, names in os.walk(root):
        folders[:] = [name for name in folders if not name.startswith(".")]
        found += [
            _listed(root, Path(where, name))
            for name in names
            if not name.startswith(".") and name.lower().endswith(suffixes)
        ]
    return tuple(sorted(found))


def _listed(root: Path, path: Path) -> Listed:
    state = path.stat()
    return Listed(path.relative_to(root).as_posix(), state.st_size, state.st_mtime_ns)


class FolderSource:
    """The files of a folder, or those of them that are wanted."""

    def __init__(
        self,
        root: Path,
        spec: TensorSpec,
        wanted: Columns,
        files: Sequence[Listed] | None = None,
    ) -> None:
        """Raises `DataEmpty`, and `ColumnUnknown` for columns, which folders do not have."""
        self._root = root.parent if root.is_file() else root
        self._spec = spec
        self.files = list_folder(root, spec) if files is None else tuple(files)
        if not self.files and files is None:
            suffixes = ", ".join(SUFFIXES.get(spec.dtype, _ARRAYS))
            raise DataEmpty(f"{root} holds no files {suffixes}, as the package takes {spec.dtype}")
        if any(wanted):
            named = next(name for name in wanted if name is not None)
            raise ColumnUnknown(
                f"{root} is a folder and has no column {named!r}; its folders are its labels"
            )
        depths = {len(PurePosixPath(file.name).parts) for file in self.files}
        self.columns = Columns(
            label="folder" if max(depths, default=1) > 1 else None,
            group="folder in folder" if depths == {3} else None,
        )

    @property
    def expected(self) -> int | None:
        return len(self.files)

    def rows(self) -> Iterator[Row]:
        for number, file in enumerate(self.files, start=1):
            label, group = self.about(file)
            try:
                value = self.read(file.name)
            except ModelsError as error:
                yield Row(number, file.name, error, hash_of(file.name), label, group)
            else:
                yield Row(number, file.name, value, hash_of(value), label, group)

    def about(self, file: Listed) -> tuple[str | None, str | None]:
        """Label and group of a file, where its folders say them."""
        parts = PurePosixPath(file.name).parts
        label = parts[0] if self.columns.label is not None and len(parts) > 1 else None
        return label, parts[1] if self.columns.group is not None else None

    def read(self, name: str) -> Value:
        """What is in a file. Raises `RowUnreadable`, `InputError`."""
        path = self._root / name
        try:
            if self._spec.dtype not in SUFFIXES:
                return array_of(self._spec, np.load(path, allow_pickle=False))
            data = path.read_bytes()
        except OSError as error:
            raise RowUnreadable(f"{path} cannot be read: {error.strerror or error}") from error
        except (ValueError, EOFError) as error:
            raise RowUnreadable(f"{path} is no array: {error}; write it with numpy.save") from error
        return check_input(self._spec, self._spec.dtype, (len(data),), data)


def refuse_unfit(path: Path, spec: TensorSpec) -> None:
    """Raises `DataUnreadable` for a file whose suffix is of no form that is read."""
    suffixes = SUFFIXES.get(spec.dtype, _ARRAYS)
    if path.suffix.lower() not in suffixes:
        raise DataUnreadable(
            f"{path} is of no form that is read: give a folder, .npz, .csv, .parquet, .jsonl, or "
            f"one file {', '.join(suffixes)}"
        )
