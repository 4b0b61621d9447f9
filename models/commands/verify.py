"""`longstop-models verify`: is a package whole, does it answer here as it says, who signed it."""

import argparse
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from msgspec import Struct

from models import package
from models.commands.opening import opened
from models.commands.saying import print_json, read_file
from models.errors import FileMissing, HashMismatch, RuntimeFailed, RuntimeMissing, UnknownRuntime
from models.manifest import Role

if TYPE_CHECKING:
    from models.predict import Predictor

WHAT = "Check a package: hashes, golden answers on this machine and, if asked, the signature."


class HalfVerified(Struct, frozen=True):
    """One half that is whole and answers as its package says."""

    half: str
    files: int
    golden: int
    runtime: str
    provider: str
    others: tuple["OtherRuntime", ...] = ()
    """Further runtimes on this machine."""


class OtherRuntime(Struct, frozen=True):
    """A runtime the certificate was not made on, asked the same golden inputs."""

    name: str
    agrees: bool
    why: str


class EditionVerified(Struct, frozen=True):
    """An edition beside the main one, asked its golden inputs on what it is made to run on."""

    name: str
    runtime: str
    provider: str
    precision: str
    agrees: bool | None
    """None where its runtime is not here."""
    why: str


class Verified(Struct, frozen=True):
    """What was found in order."""

    task: str
    version: str
    halves: tuple[HalfVerified, ...]
    signed_by: str | None
    editions: tuple[EditionVerified, ...] = ()


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("path", type=Path, metavar="PATH", help="package folder or archive")
    parser.add_argument(
        "--key", metavar="ed25519:…", help="public key the release must be signed by"
    )
    parser.add_argument("--release", type=Path, metavar="FILE", help="signed release document")
    parser.add_argument(
        "--allow-custom",
        action="store_true",
        help="run the package's own Python code",
    )


def wrong_usage(given: argparse.Namespace) -> str | None:
    """Why the arguments do not go together."""
    if (given.key is None) != (given.release is None):
        return "--key and --release belong together"
    return None


def run(given: argparse.Namespace) -> None:
    halves = []
    editions: tuple[EditionVerified, ...] = ()
    with opened(given.path) as (folder, manifest):
        for role in package.roles(folder):
            found = package.read(folder, role)
            predictor = _as_certified(found, allow_custom=given.allow_custom)
            predictor.check_golden()
            halves.append(
                HalfVerified(
                    half=role.value,
                    files=len(manifest.files(role)) + 1,
                    golden=manifest.golden.count,
                    runtime=_each_once(one.name for one in predictor.graph.runtimes),
                    provider=_each_once(one.provider for one in predictor.graph.runtimes),
                    others=_others(found, predictor, allow_custom=given.allow_custom),
                )
            )
            if role is Role.EDGE:
                editions = _editions(found, allow_custom=given.allow_custom)
        if not halves:
            raise FileMissing(f"{given.path} holds neither half's model; fetch or build it again")
        signed_by = None
        if given.key is not None and given.release is not None:
            signed_by = _signed_by(given.path, folder, given.key, given.release)
    verified = Verified(manifest.task, manifest.version, tuple(halves), signed_by, editions)
    if given.json:
        print_json(verified)
        return
    print(f"{verified.task} {verified.version} is whole")
    for half in halves:
        print(
            f"  {half.half}: {half.files} files match, {half.golden} golden inputs agree "
            f"({half.runtime} on {half.provider})"
        )
        for other in half.others:
            print(f"    {other.name}: {'agrees' if other.agrees else f'differs, {other.why}'}")
    for edition in editions:
        where = f"{edition.runtime} on {edition.provider}"
        print(f"  edition {edition.name} ({where}): {_verdict(edition)}")
    print(f"  signed by {signed_by}" if signed_by else "  signature not checked (--key, --release)")


def _as_certified(found: package.Package, *, allow_custom: bool) -> "Predictor":
    """A half on what its certificate was made on, where that is known."""
    from models.calibrate.binding import runs_of
    from models.predict import Predictor
    from models.runtimes.wish import AS_DECLARED

    edge = found.role is Role.EDGE
    on = runs_of(found.manifest.certificate) if edge else AS_DECLARED
    return Predictor.load(
        found,
        runtime=on.runtime,
        provider=on.provider,
        precision=on.precision,
        allow_custom=allow_custom,
    )


def _others(
    found: package.Package, own: "Predictor", *, allow_custom: bool
) -> tuple[OtherRuntime, ...]:
    """What else could run these files here, and whether it answers the same."""
    from models.predict import Predictor
    from models.runtimes.choose import installed

    if any(node.form == "twin" for node in found.pipeline.models):
        return ()
    used = {"twin", *(one.name for one in own.graph.runtimes)}
    others = []
    for name in (one for one in installed() if one not in used):
        try:
            other = Predictor.load(found, runtime=name, allow_custom=allow_custom)
            why = other.golden_difference()
        except RuntimeFailed as error:
            why = str(error)
        others.append(OtherRuntime(name, why is None, why or ""))
    return tuple(others)


def _editions(found: package.Package, *, allow_custom: bool) -> tuple[EditionVerified, ...]:
    """Each edition beside the main one; one that differs here is no fault of the package."""
    from models.predict import Predictor

    verified = []
    for one in found.manifest.editions:
        agrees: bool | None
        why = ""
        try:
            predictor = Predictor.load(
                found.in_edition(one.name),
                runtime=one.runtime,
                provider=one.provider,
                precision=one.precision,
                allow_custom=allow_custom,
            )
            why = predictor.golden_difference() or ""
            agrees = not why
        except RuntimeMissing as error:
            agrees, why = None, str(error)
        except (RuntimeFailed, UnknownRuntime) as error:
            agrees, why = False, str(error)
        verified.append(
            EditionVerified(one.name, one.runtime, one.provider, one.precision, agrees, why)
        )
    return tuple(verified)


def _verdict(edition: EditionVerified) -> str:
    if edition.agrees is None:
        return f"not asked, {edition.why}"
    return "agrees" if edition.agrees else f"differs, {edition.why}"


def _each_once(names: Iterable[str]) -> str:
    return ", ".join(dict.fromkeys(names))


def _signed_by(path: Path, folder: Path, key: str, document: Path) -> str:
    from models import release
    from sync.trust import keys

    public = keys.load_public(key)
    opened_release = release.open_signed(read_file(document), public)
    release.check_manifest((folder / package.MANIFEST).read_bytes(), opened_release)
    if path.is_file():
        data = path.read_bytes()
        if package.digest(data) not in (opened_release.edge.sha256, opened_release.cloud.sha256):
            raise HashMismatch(
                f"{path} is neither archive of release {opened_release.task} "
                f"{opened_release.version}; do not install it, fetch it again"
            )
    return keys.key_id(public)
