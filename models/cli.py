"""`longstop-models`: look at packages, check them, build the zoo's.

Exit codes: 0 done, 1 refused (the reason and its code on stderr), 2 wrong usage, 130 interrupted.
"""

import argparse
import os
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import msgspec
from msgspec import Struct

from models import package
from models.archive import MAX_PACKED
from models.errors import ArchiveTooLarge, FileMissing, HashMismatch, ModelsError
from models.manifest import Manifest, decode
from sync.errors import SyncError


class HalfVerified(Struct, frozen=True):
    """One half that is whole and answers as its package says."""

    half: str
    files: int
    golden: int
    runtime: str
    provider: str


class Verified(Struct, frozen=True):
    """What `verify` found in order."""

    task: str
    version: str
    halves: tuple[HalfVerified, ...]
    signed_by: str | None


class Failure(Struct, frozen=True):
    """What `--json` prints instead when a command refuses."""

    code: str
    message: str


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return the exit code."""
    parser = _parser()
    given = parser.parse_args(arguments)
    if given.verb == "verify" and (given.key is None) != (given.release is None):
        parser.error("--key and --release belong together")
    try:
        code = _perform(given)
        sys.stdout.flush()  # here, where a reader that left can still be answered for
    except BrokenPipeError:
        # Whoever read our output has seen enough; nothing more can be said to them.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except KeyboardInterrupt:
        return 130
    return code


def _perform(given: argparse.Namespace) -> int:
    try:
        match given.verb:
            case "inspect":
                _inspect(given.path, as_json=given.json)
            case "verify":
                _verify(given.path, given.key, given.release, as_json=given.json)
            case _:
                _build(given.task, given.version, given.out, as_json=given.json)
    except (ModelsError, SyncError) as error:
        print(f"longstop-models: {error.code}: {error}", file=sys.stderr)
        if given.json:
            _print_json(Failure(error.code, str(error)))
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="longstop-models",
        description="Look at model packages, check them, build those of the zoo.",
        epilog="exit codes: 0 done, 1 refused, 2 wrong usage, 130 interrupted",
    )
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="{inspect,verify,build}")
    inspect = _verb(verbs, "inspect", "Show what a package folder or archive holds.")
    inspect.add_argument("path", type=Path, metavar="PATH", help="package folder or archive")
    verify = _verb(
        verbs,
        "verify",
        "Check a package: hashes, golden outputs on this machine and, if asked, the signature.",
    )
    verify.add_argument("path", type=Path, metavar="PATH", help="package folder or archive")
    verify.add_argument(
        "--key", metavar="ed25519:…", help="public key the release must be signed by"
    )
    verify.add_argument("--release", type=Path, metavar="FILE", help="signed release document")
    build = _verb(verbs, "build", "Build a package of the zoo as a new folder.")
    build.add_argument("task", metavar="TASK", help="apparel, activity or digits")
    build.add_argument("--version", required=True, help="version the package will carry")
    build.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder to make")
    return parser


def _verb(
    verbs: "argparse._SubParsersAction[argparse.ArgumentParser]", name: str, what: str
) -> argparse.ArgumentParser:
    verb = verbs.add_parser(name, help=what, description=what)
    verb.add_argument("--json", action="store_true", help="print one JSON object")
    return verb


def _inspect(path: Path, *, as_json: bool) -> None:
    from models.describe import describe, to_text

    with _opened(path) as (folder, manifest):
        description = describe(folder, manifest)
    if as_json:
        _print_json(description)
    else:
        print(to_text(description))


def _verify(path: Path, key: str | None, document: Path | None, *, as_json: bool) -> None:
    from models.predict import Predictor

    halves = []
    with _opened(path) as (folder, manifest):
        for role in package.roles(folder):
            found = package.read(folder, role)
            predictor = Predictor.load(found)
            predictor.check_golden()
            halves.append(
                HalfVerified(
                    half=role.value,
                    files=len(manifest.files(role)) + 1,
                    golden=manifest.golden.count,
                    runtime=predictor.graph.runtime.name,
                    provider=predictor.graph.runtime.provider,
                )
            )
        if not halves:
            raise FileMissing(f"{path} holds neither half's model; fetch or build it again")
        signed_by = None
        if key is not None and document is not None:
            signed_by = _check_release(path, folder, key, document)
    verified = Verified(manifest.task, manifest.version, tuple(halves), signed_by)
    if as_json:
        _print_json(verified)
        return
    print(f"{verified.task} {verified.version} is whole")
    for half in halves:
        print(
            f"  {half.half}: {half.files} files match, {half.golden} golden inputs agree "
            f"({half.runtime} on {half.provider})"
        )
    print(f"  signed by {signed_by}" if signed_by else "  signature not checked (--key, --release)")


def _check_release(path: Path, folder: Path, key: str, document: Path) -> str:
    from models import release
    from sync.trust import keys

    public = keys.load_public(key)
    opened = release.open_signed(_read(document), public)
    release.check_manifest((folder / package.MANIFEST).read_bytes(), opened)
    if path.is_file():
        data = path.read_bytes()
        if package.digest(data) not in (opened.edge.sha256, opened.cloud.sha256):
            raise HashMismatch(
                f"{path} is neither archive of release {opened.task} {opened.version}; "
                "do not install it, fetch it again"
            )
    return keys.key_id(public)


def _build(task: str, version: str, out: Path, *, as_json: bool) -> None:
    from models.zoo.packages import build_zoo

    folder = build_zoo(task, version, out)
    if as_json:
        _print_json(_Built(str(folder)))
    else:
        print(f"{folder}")


class _Built(Struct, frozen=True):
    folder: str


@contextmanager
def _opened(path: Path) -> Iterator[tuple[Path, Manifest]]:
    """A folder with the package, unpacked for as long as needed where `path` is an archive."""
    if path.is_dir():
        yield path, decode(_read(path / package.MANIFEST))
        return
    with tempfile.TemporaryDirectory(prefix="longstop-models.") as temporary:
        folder = package.unpack(_read(path), Path(temporary) / "package")
        yield folder, decode(_read(folder / package.MANIFEST))


def _read(path: Path) -> bytes:
    try:
        if path.stat().st_size > MAX_PACKED:
            raise ArchiveTooLarge(f"{path} is over the limit of {MAX_PACKED} bytes; do not use it")
        return path.read_bytes()
    except OSError as error:
        raise FileMissing(f"{path} cannot be read: {error.strerror}; check the path") from error


def _print_json(value: Struct) -> None:
    print(msgspec.json.encode(value).decode())


if __name__ == "__main__":
    sys.exit(main())
