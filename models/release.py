"""A release: which archives an operator has vouched for, signed with ed25519.

Rules:
1. What is signed is `DOMAIN` and then the release as canonical JSON (keys sorted, no spaces), so a
   signature over anything else Longstop signs can never pass for one over a release.
2. The document is JSON a person can read: the release, the key's id, the signature in hexadecimal.
   Spaces and the order of keys do not matter, every value does.
3. The key id is a hint for people. Who checks has the public key already, never from the document.
4. Signing happens on the operator's side; the gateway stores and a device checks.
"""

from pathlib import Path
from typing import Annotated, Literal

import msgspec
from msgspec import Meta, Struct

from models import package
from models.errors import HashMismatch, ReleaseInvalid, SignatureInvalid, UnknownFormat
from models.manifest import Manifest, Name, Role, Version, decode
from models.pipeline.files import Sha256

TYPE_CHECKING = False
if TYPE_CHECKING:
    from sync.trust.keys import PrivateKey, PublicKey

FORMAT: Literal[1] = 1
DOMAIN = b"longstop-release-v1\n"
MAX_DOCUMENT = 64 << 10


class ArchiveRef(Struct, frozen=True, forbid_unknown_fields=True):
    """One archive by hash and size."""

    sha256: Sha256
    size: Annotated[int, Meta(ge=1)]


class Release(Struct, frozen=True, forbid_unknown_fields=True):
    """One version of one task's package."""

    format: Literal[1]
    task: Name
    name: Name
    version: Version
    edge: ArchiveRef
    cloud: ArchiveRef
    manifest_sha256: Sha256
    """Binds an unpacked folder, whose archive is gone, to the release."""

    def archive(self, role: Role) -> ArchiveRef:
        return self.edge if role is Role.EDGE else self.cloud


class SignedRelease(Struct, frozen=True, forbid_unknown_fields=True):
    """The document that travels."""

    release: Release
    key_id: str
    signature: Annotated[str, Meta(pattern=r"^[0-9a-f]{128}\Z")]


class Packed(Struct, frozen=True):
    """Everything a publisher uploads."""

    release: Release
    edge: bytes
    cloud: bytes


class _FormatOnly(Struct):
    format: int


class _Outer(Struct):
    release: _FormatOnly


def prepare(folder: Path) -> Packed:
    """Both archives of a package folder and the release that names them. Raises as `pack` does."""
    edge, cloud = package.pack(folder, Role.EDGE), package.pack(folder, Role.CLOUD)
    found = package.read(folder, Role.EDGE)
    release = Release(
        format=FORMAT,
        task=found.manifest.task,
        name=found.manifest.name,
        version=found.manifest.version,
        edge=ArchiveRef(package.digest(edge), len(edge)),
        cloud=ArchiveRef(package.digest(cloud), len(cloud)),
        manifest_sha256=found.manifest_sha256,
    )
    return Packed(release, edge, cloud)


def message(release: Release) -> bytes:
    """The bytes that are signed."""
    return DOMAIN + msgspec.json.encode(release, order="sorted")


def sign(release: Release, private_key: "PrivateKey") -> bytes:
    """The document, ready to publish."""
    from sync.trust import keys

    signed = SignedRelease(
        release, keys.key_id(private_key), keys.sign(private_key, message(release)).hex()
    )
    return msgspec.json.format(msgspec.json.encode(signed), indent=1) + b"\n"


def open_signed(data: bytes, public_key: "PublicKey") -> Release:
    """The release this key has signed.

    Raises `SignatureInvalid`, `ReleaseInvalid`, `UnknownFormat`.
    """
    from sync.errors import BadSignature
    from sync.trust import keys

    signed = _parse(data)
    try:
        keys.verify(public_key, message(signed.release), bytes.fromhex(signed.signature))
    except BadSignature as error:
        raise SignatureInvalid(
            f"release of {signed.release.task} {signed.release.version} is not signed by key "
            f"{keys.key_id(public_key)} (it names {signed.key_id[:16]!r}), or was altered since; "
            "do not install it, and ask the publisher which key is right"
        ) from error
    return signed.release


def check_archive(data: bytes, release: Release, role: Role) -> None:
    """Return if these bytes are the archive the release names. Raises `HashMismatch`."""
    ref, found = release.archive(role), package.digest(data)
    if (len(data), found) != (ref.size, ref.sha256):
        raise HashMismatch(
            f"{role.value} archive of {release.task} {release.version} has {len(data)} bytes and "
            f"SHA-256 {found[:12]}…, the release says {ref.size} and {ref.sha256[:12]}…; "
            "do not install it, fetch it again"
        )


def check_manifest(data: bytes, release: Release) -> Manifest:
    """The manifest in these bytes, if the release names it. Raises `HashMismatch`."""
    if package.digest(data) != release.manifest_sha256:
        raise HashMismatch(
            f"manifest.json is not the one of release {release.task} {release.version} "
            f"({release.manifest_sha256[:12]}…); unpack the released archive again"
        )
    return decode(data)


def _parse(data: bytes) -> SignedRelease:
    if len(data) > MAX_DOCUMENT:
        raise ReleaseInvalid(
            f"release document of {len(data)} bytes is over the limit of {MAX_DOCUMENT}; "
            "do not use it"
        )
    try:
        found = msgspec.json.decode(data, type=_Outer).release.format
        if found != FORMAT:
            raise UnknownFormat(
                f"release has format {found}, this Longstop reads format {FORMAT}; "
                "update Longstop on this machine"
            )
        return msgspec.json.decode(data, type=SignedRelease)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ReleaseInvalid(
            f"not a signed release: {error}; fetch it again or publish the package again"
        ) from error
