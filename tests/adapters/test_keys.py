"""Keys on disk, in text, and at work."""

import resource
import signal
import stat
from pathlib import Path

import pytest

from sync.errors import BadKey, BadSignature
from sync.trust import keys


def test_a_signature_holds_for_its_message_and_key_only() -> None:
    key, other = keys.generate(), keys.generate()
    signature = keys.sign(key, b"release 7")
    public = keys.load_public(keys.public_text(key))
    keys.verify(public, b"release 7", signature)
    with pytest.raises(BadSignature, match=keys.key_id(key)):
        keys.verify(public, b"release 8", signature)
    with pytest.raises(BadSignature):
        keys.verify(keys.load_public(keys.public_text(other)), b"release 7", signature)
    with pytest.raises(BadSignature):
        keys.verify(public, b"release 7", signature[:-1])


def test_a_private_key_comes_back_from_a_file_only_its_owner_can_read(tmp_path: Path) -> None:
    key = keys.generate()
    keys.save_private(key, tmp_path / "signing.pem")
    assert stat.S_IMODE((tmp_path / "signing.pem").stat().st_mode) == 0o600
    loaded = keys.load_private(tmp_path / "signing.pem")
    assert keys.public_text(loaded) == keys.public_text(key)
    assert keys.key_id(loaded) == keys.key_id(keys.load_public(keys.public_text(key)))


def test_a_private_key_is_never_overwritten(tmp_path: Path) -> None:
    keys.save_private(keys.generate(), tmp_path / "signing.pem")
    before = (tmp_path / "signing.pem").read_bytes()
    with pytest.raises(BadKey, match="never overwritten"):
        keys.save_private(keys.generate(), tmp_path / "signing.pem")
    assert (tmp_path / "signing.pem").read_bytes() == before


@pytest.mark.parametrize("path", ["/proc/y.key", "absent/y.key", "file/y.key", "/dev/full/y.key"])
def test_a_place_that_takes_no_key_is_a_named_error(tmp_path: Path, path: str) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(BadKey, match=r"y\.key cannot be written: .*; choose a file in a folder"):
        keys.save_private(keys.generate(), tmp_path / path)


def test_a_full_disk_leaves_no_half_key_in_the_way(tmp_path: Path) -> None:
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    earlier = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (8, limit[1]))
    try:
        with pytest.raises(BadKey, match=r"cannot be written"):
            keys.save_private(keys.generate(), tmp_path / "signing.pem")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
        signal.signal(signal.SIGXFSZ, earlier)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "text", ["", "ed25519:", "ed25519:" + "0" * 63, "rsa:" + "0" * 64, "ed25519:" + "g" * 64]
)
def test_text_that_is_no_public_key_is_a_named_error(text: str) -> None:
    with pytest.raises(BadKey):
        keys.load_public(text)


def test_a_file_that_is_no_private_key_is_a_named_error(tmp_path: Path) -> None:
    (tmp_path / "noise").write_bytes(b"not a key")
    with pytest.raises(BadKey, match="noise"):
        keys.load_private(tmp_path / "noise")
    with pytest.raises(BadKey, match="missing"):
        keys.load_private(tmp_path / "missing")
