"""Releases: what an operator signed is what a device installs, and nothing else passes."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

from models import package, release
from models.errors import (
    HashMismatch,
    PackageError,
    ReleaseInvalid,
    SignatureInvalid,
    UnknownFormat,
)
from models.manifest import Role
from models.release import Packed, Release
from sync.trust import keys
from sync.trust.keys import PrivateKey
from tests.tiny_models import build_tiny


class Published(NamedTuple):
    folder: Path
    packed: Packed
    key: PrivateKey
    document: bytes


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Published:
    folder = build_tiny(tmp_path_factory.mktemp("tiny"))
    packed, key = release.prepare(folder), keys.generate()
    return Published(folder, packed, key, release.sign(packed.release, key))


def opened(published: Published, document: bytes) -> Release:
    return release.open_signed(document, published.key.public_key())


def test_a_signed_release_opens_with_its_key(published: Published) -> None:
    found = opened(published, published.document)
    assert found == published.packed.release
    assert (found.task, found.name, found.version) == ("shades", "tiny", "1")
    assert found.edge.sha256 == package.digest(published.packed.edge)
    assert found.cloud.size == len(published.packed.cloud)


def test_what_is_signed_is_the_same_on_every_machine(published: Published) -> None:
    found = release.message(published.packed.release)
    domain, _, body = found.partition(b"\n")
    assert domain == b"longstop-release-v1"
    document = json.loads(published.document)
    assert body == json.dumps(document["release"], sort_keys=True, separators=(",", ":")).encode()
    # ed25519 has no chance in it: the same key and release give the same document.
    assert release.sign(published.packed.release, published.key) == published.document


def test_spaces_and_order_do_not_matter(published: Published) -> None:
    document = json.loads(published.document)
    reordered = {key: document[key] for key in sorted(document, reverse=True)}
    reordered["release"] = dict(sorted(document["release"].items(), reverse=True))
    assert opened(published, json.dumps(reordered, indent=7).encode()) == published.packed.release


def test_the_archives_of_a_release_pass_and_swapped_ones_do_not(published: Published) -> None:
    packed = published.packed
    release.check_archive(packed.edge, packed.release, Role.EDGE)
    release.check_archive(packed.cloud, packed.release, Role.CLOUD)
    for data, role in (
        (packed.cloud, Role.EDGE),
        (packed.edge, Role.CLOUD),
        (packed.edge[:-1], Role.EDGE),
        (packed.edge + b"\0", Role.EDGE),
        (packed.edge[:-1] + bytes([packed.edge[-1] ^ 1]), Role.EDGE),
        (b"", Role.EDGE),
    ):
        with pytest.raises(
            HashMismatch, match=rf"{role.value} archive of shades 1 .* fetch it"
        ) as caught:
            release.check_archive(data, packed.release, role)
        assert caught.value.code == "hash_mismatch"


def test_an_unpacked_folder_is_bound_to_its_release(published: Published, tmp_path: Path) -> None:
    unpacked = package.unpack(published.packed.edge, tmp_path / "p")
    data = (unpacked / "manifest.json").read_bytes()
    assert release.check_manifest(data, published.packed.release).version == "1"
    with pytest.raises(HashMismatch, match="unpack the released archive again"):
        release.check_manifest(data.replace(b"0.7", b"0.1"), published.packed.release)


def inside(**fields: object) -> Callable[[bytes], bytes]:
    """Changes fields of the release and leaves the signature alone."""

    def alter(document: bytes) -> bytes:
        read = json.loads(document)
        read["release"].update(fields)
        return json.dumps(read).encode()

    return alter


def around(**fields: object) -> Callable[[bytes], bytes]:
    """Changes fields beside the release; None takes one away."""

    def alter(document: bytes) -> bytes:
        read = {**json.loads(document), **fields}
        kept = {key: value for key, value in read.items() if value is not None}
        return json.dumps(kept).encode()

    return alter


def swap_halves(document: bytes) -> bytes:
    halves = json.loads(document)["release"]
    return inside(edge=halves["cloud"], cloud=halves["edge"])(document)


OTHER = keys.generate()

BAD_RELEASES: dict[str, tuple[Callable[[bytes], bytes], type[PackageError], str, str]] = {
    "another version": (
        inside(version="2"),
        SignatureInvalid,
        "signature_invalid",
        "release of shades 2 is not signed by key",
    ),
    "another archive": (
        inside(edge={"sha256": "0" * 64, "size": 9}),
        SignatureInvalid,
        "signature_invalid",
        "ask the publisher",
    ),
    "halves swapped": (
        swap_halves,
        SignatureInvalid,
        "signature_invalid",
        "do not install it",
    ),
    "another task": (
        inside(task="activity"),
        SignatureInvalid,
        "signature_invalid",
        "release of activity 1",
    ),
    "a signature of zeros": (
        around(signature="00" * 64),
        SignatureInvalid,
        "signature_invalid",
        "was altered since",
    ),
    "a signature cut short": (
        around(signature="ab"),
        ReleaseInvalid,
        "release_invalid",
        "`$.signature`",
    ),
    "no signature": (
        around(signature=None),
        ReleaseInvalid,
        "release_invalid",
        "missing required field `signature`",
    ),
    "an unknown key": (
        inside(mandatory=True),
        ReleaseInvalid,
        "release_invalid",
        "unknown field `mandatory` - at `$.release`",
    ),
    "an unknown outer key": (
        around(also={}),
        ReleaseInvalid,
        "release_invalid",
        "unknown field `also`",
    ),
    "a newer format": (
        inside(format=2, news=1),
        UnknownFormat,
        "unknown_format",
        "release has format 2, this Longstop reads format 1; update Longstop",
    ),
    "a way up": (
        inside(version="../../etc"),
        ReleaseInvalid,
        "release_invalid",
        "`$.release.version`",
    ),
    "half a document": (
        lambda document: document[: len(document) // 2],
        ReleaseInvalid,
        "release_invalid",
        "publish the package again",
    ),
    "nested without end": (
        lambda _: b'{"also":' + b"[" * 50_000,
        ReleaseInvalid,
        "release_invalid",
        "not a signed release: maximum recursion depth",
    ),
    "nothing": (lambda _: b"", ReleaseInvalid, "release_invalid", "not a signed release"),
    "no text": (lambda _: b"\xff\xfe", ReleaseInvalid, "release_invalid", "not a signed release"),
    "too long": (
        lambda document: document + b" " * release.MAX_DOCUMENT,
        ReleaseInvalid,
        "release_invalid",
        "over the limit of 65536",
    ),
}


@pytest.mark.parametrize("name", BAD_RELEASES)
def test_a_bad_release_gets_its_own_error(published: Published, name: str) -> None:
    spoil, error, code, says = BAD_RELEASES[name]
    with pytest.raises(error) as caught:
        opened(published, spoil(published.document))
    assert caught.value.code == code
    assert says in str(caught.value)


def test_somebody_elses_signature_names_both_keys(published: Published) -> None:
    document = release.sign(published.packed.release, OTHER)
    with pytest.raises(SignatureInvalid) as caught:
        opened(published, document)
    assert keys.key_id(published.key) in str(caught.value)
    assert keys.key_id(OTHER) in str(caught.value)


def test_a_forged_key_id_opens_nothing(published: Published) -> None:
    fields = json.loads(release.sign(published.packed.release, OTHER))
    fields["key_id"] = keys.key_id(published.key)
    with pytest.raises(SignatureInvalid):
        opened(published, json.dumps(fields).encode())


def test_a_signature_without_the_domain_is_worth_nothing(published: Published) -> None:
    body = release.message(published.packed.release).removeprefix(release.DOMAIN)
    fields = json.loads(published.document)
    fields["signature"] = keys.sign(published.key, body).hex()
    with pytest.raises(SignatureInvalid):
        opened(published, json.dumps(fields).encode())
