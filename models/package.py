"""A package on disk: a flat folder with manifest.json and the files it names.

Rules:
1. `read` believes nothing: every file of the role is there, has its size and its SHA-256.
2. A folder holds both halves where it was built; an archive holds one, with the same manifest.
3. `unpack` is atomic: everything is written and synced beside the target, checked, then renamed. A
   power cut leaves the target absent or whole, and perhaps a `.part` folder that `sweep` removes.
4. Unpacking again over a whole package changes nothing; over a damaged one it replaces it.

No numpy here: a program that only fetches packages stays small.
"""

import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterable
from pathlib import Path

from msgspec import Struct
from msgspec.structs import replace

from models import archive
from models.archive import Entry
from models.errors import ArchiveDamaged, FileMissing, HashMismatch, PackageError, TargetExists
from models.manifest import MAIN, Manifest, Role, decode
from models.pipeline.declared import Pipeline
from models.pipeline.files import FileRef

MANIFEST = "manifest.json"


class Package(Struct, frozen=True):
    """A package that has been read and found whole, for one role."""

    manifest: Manifest
    folder: Path
    role: Role
    manifest_sha256: str
    edition: str = MAIN
    """Which edition of the edge half this is; the manifest is then as it has it."""

    def in_edition(self, name: str) -> "Package":
        """The package as one of its editions and no other. Raises `UnknownEdition`."""
        return replace(self, manifest=self.manifest.as_edition(name), edition=name)

    @property
    def every_edition(self) -> tuple["Package", ...]:
        """The package as each of its editions, the main one first."""
        names = (self.edition, *(one.name for one in self.manifest.editions))
        return tuple(self.in_edition(name) for name in names) if names[1:] else (self,)

    @property
    def pipeline(self) -> Pipeline:
        return self.manifest.pipeline(self.role)

    @property
    def first_model(self) -> Path:
        """The file of the first model declared; most packages have no other."""
        return self.path(self.pipeline.models[0].file)

    def path(self, ref: FileRef) -> Path:
        """Where a file the manifest names is."""
        return self.folder / ref.path


def digest(data: bytes) -> str:
    """SHA-256 as 64 hexadecimal digits: the name of an archive."""
    return hashlib.sha256(data).hexdigest()


def read(folder: Path, role: Role) -> Package:
    """The package in a folder, every file of the role checked.

    Raises `FileMissing`, `HashMismatch`, `ManifestInvalid`, `UnknownFormat`.
    """
    data = _read_file(folder / MANIFEST)
    manifest = decode(data)
    for ref in manifest.files(role):
        _check_file(ref, _read_file(folder / ref.path), folder)
    return Package(manifest, folder, role, digest(data))


def roles(folder: Path) -> tuple[Role, ...]:
    """Which halves a folder holds. Raises as `read` does for a manifest that is none."""
    manifest = decode(_read_file(folder / MANIFEST))
    return tuple(
        role
        for role in Role
        if all((folder / ref.path).exists() for ref in manifest.pipeline(role).files)
    )


def pack(folder: Path, role: Role) -> bytes:
    """The archive of one half. Raises as `read` does, and `ArchiveTooLarge`."""
    package = read(folder, role)
    names = [MANIFEST, *(ref.path for ref in package.manifest.files(role))]
    return archive.pack([Entry(name, _read_file(folder / name)) for name in names])


def unpack(packed: bytes, into: Path) -> Path:
    """Make the folder `into` from an archive, whole or not at all, and return it.

    Raises `ArchiveDamaged`, `ArchiveTooLarge`, `HashMismatch`, `ManifestInvalid`, `UnknownFormat`.
    """
    entries = archive.unpack(packed)
    _check_entries(entries)
    if _holds(into, entries):
        return into
    write_folder(into, entries, replace=True)
    return into


def write_folder(into: Path, entries: Iterable[Entry], *, replace: bool = False) -> None:
    """Write files as a new folder in one step. Raises `TargetExists` unless it may replace."""
    if into.exists() and not replace:
        raise TargetExists(f"{into} exists already; choose another place or remove it first")
    into.parent.mkdir(parents=True, exist_ok=True)
    part = Path(tempfile.mkdtemp(prefix=f".{into.name}.", suffix=".part", dir=into.parent))
    old = part.with_suffix(".old.part")
    try:
        for entry in entries:
            with (part / entry.name).open("xb") as file:
                file.write(entry.data)
                file.flush()
                os.fsync(file.fileno())
        part.chmod(0o755)
        _sync_folder(part)
        if into.exists():
            # Two renames cannot be one: a power cut between them leaves no target, and the caller
            # unpacks again.
            into.rename(old)
        part.rename(into)
        _sync_folder(into.parent)
    finally:
        shutil.rmtree(part, ignore_errors=True)
        shutil.rmtree(old, ignore_errors=True)


def sweep(folder: Path) -> None:
    """Remove what a power cut during `unpack` left in a folder of packages; for start-up only."""
    for left in folder.glob(".*.part"):
        shutil.rmtree(left, ignore_errors=True)


def _check_entries(entries: tuple[Entry, ...]) -> None:
    held = {entry.name: entry.data for entry in entries}
    if MANIFEST not in held:
        raise ArchiveDamaged(f"archive holds no {MANIFEST}; it is no package")
    manifest = decode(held.pop(MANIFEST))
    known = {ref.path: ref for role in Role for ref in manifest.files(role)}
    for name, data in held.items():
        if name not in known:
            raise ArchiveDamaged(f"archive holds {name!r}, which its manifest does not name")
        _check_file(known[name], data, None)
    if not any(all(ref.path in held for ref in manifest.files(role)) for role in Role):
        raise ArchiveDamaged("archive holds the files of neither half; fetch it again")


def _holds(folder: Path, entries: tuple[Entry, ...]) -> bool:
    try:
        there = {path.name for path in folder.iterdir()}
        return there == {entry.name for entry in entries} and all(
            (folder / entry.name).read_bytes() == entry.data for entry in entries
        )
    except OSError:
        return False


def _check_file(ref: FileRef, data: bytes, folder: Path | None) -> None:
    found = digest(data)
    if len(data) != ref.size or found != ref.sha256:
        where = "in the archive" if folder is None else f"in {folder}"
        raise HashMismatch(
            f"{ref.path} {where} has {len(data)} bytes and SHA-256 {found[:12]}…, "
            f"the manifest says {ref.size} and {ref.sha256[:12]}…; fetch or build the package again"
        )


def _read_file(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError as error:
        raise FileMissing(f"{path} is not there; fetch or build the package again") from error
    except OSError as error:
        raise PackageError(f"{path} cannot be read: {error.strerror}") from error


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
