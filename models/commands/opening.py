"""A package from wherever a command is pointed at: a folder, or an archive."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from models import package
from models.commands.saying import read_file
from models.errors import PackageError
from models.manifest import Manifest, decode


@contextmanager
def opened(path: Path) -> Iterator[tuple[Path, Manifest]]:
    """A folder with the package, unpacked for as long as needed where `path` is an archive."""
    if path.is_dir():
        yield path, decode(read_file(path / package.MANIFEST))
        return
    packed = read_file(path)
    with tempfile.TemporaryDirectory(prefix="longstop-models.") as temporary:
        try:
            folder = package.unpack(packed, Path(temporary) / "package")
        except PackageError as error:
            raise type(error)(f"{path}: {error}") from error
        yield folder, decode(read_file(folder / package.MANIFEST))
