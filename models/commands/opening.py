"""A package from wherever a command is pointed at: a folder, or an archive."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from models import package
from models.commands.saying import read_file
from models.manifest import Manifest, decode


@contextmanager
def opened(path: Path) -> Iterator[tuple[Path, Manifest]]:
    """A folder with the package, unpacked for as long as needed where `path` is an archive."""
    if path.is_dir():
        yield path, decode(read_file(path / package.MANIFEST))
        return
    with tempfile.TemporaryDirectory(prefix="longstop-models.") as temporary:
        folder = package.unpack(read_file(path), Path(temporary) / "package")
        yield folder, decode(read_file(folder / package.MANIFEST))
