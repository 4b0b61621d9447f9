"""Ed25519 keys: made, kept, written down, used.

The only file that imports `cryptography`. A public key travels as text, `ed25519:<64 hex digits>`;
a private key lives in a PEM file (PKCS 8, mode 0600) that is never overwritten. Names in messages
are key ids, never key material.
"""

import hashlib
import os
import re
from pathlib import Path

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)

from sync.errors import BadKey, BadSignature

PrivateKey = Ed25519PrivateKey
PublicKey = Ed25519PublicKey
_TEXT = re.compile(r"ed25519:([0-9a-f]{64})\Z")


def generate() -> PrivateKey:
    """A new signing key."""
    return Ed25519PrivateKey.generate()


def save_private(key: PrivateKey, path: Path) -> None:
    """Write the key to a new file that only its owner can read. Raises `BadKey` if it cannot."""
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    try:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError as error:
        raise BadKey(f"{path} exists already; a signing key is never overwritten") from error
    except OSError as error:
        raise _unwritable(path, error) from error
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(pem)
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        path.unlink(missing_ok=True)  # half a key would stand in the way of the next
        raise _unwritable(path, error) from error


def load_private(path: Path) -> PrivateKey:
    """The signing key in a file `save_private` made. Raises `BadKey`."""
    try:
        key = load_pem_private_key(path.read_bytes(), password=None)
    except OSError as error:
        raise BadKey(f"signing key {path} cannot be read: {error.strerror}") from error
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise BadKey(f"{path} holds no unencrypted private key in PEM: {error}") from error
    if not isinstance(key, Ed25519PrivateKey):
        raise BadKey(f"{path} holds a key of another kind; an ed25519 key is needed")
    return key


def load_public(text: str) -> PublicKey:
    """The key that `public_text` wrote down. Raises `BadKey`."""
    found = _TEXT.match(text.strip())
    if found is None:
        raise BadKey(
            f"{text[:80]!r} is no public key; it is written ed25519: and 64 hexadecimal digits"
        )
    try:
        return Ed25519PublicKey.from_public_bytes(bytes.fromhex(found[1]))
    except ValueError as error:
        raise BadKey(f"{text[:80]!r} is no point of the curve: {error}") from error


def public_text(key: PrivateKey | PublicKey) -> str:
    """The public half as text; given a private key, the half that may be shown."""
    return f"ed25519:{_public_bytes(key).hex()}"


def key_id(key: PrivateKey | PublicKey) -> str:
    """A short name for a key: 16 hexadecimal digits of its hash."""
    return hashlib.sha256(_public_bytes(key)).hexdigest()[:16]


def sign(key: PrivateKey, message: bytes) -> bytes:
    """The 64 bytes that only the holder of the key can make for this message."""
    return key.sign(message)


def verify(key: PublicKey, message: bytes, signature: bytes) -> None:
    """Return if the signature belongs to message and key; raise `BadSignature` if not."""
    try:
        key.verify(signature, message)
    except InvalidSignature as error:
        raise BadSignature(
            f"signature does not match the message under key {key_id(key)}; do not use the message"
        ) from error


def _unwritable(path: Path, error: OSError) -> BadKey:
    return BadKey(
        f"signing key {path} cannot be written: {error.strerror}; "
        "choose a file in a folder that exists and lets you write"
    )


def _public_bytes(key: PrivateKey | PublicKey) -> bytes:
    public = key.public_key() if isinstance(key, Ed25519PrivateKey) else key
    return public.public_bytes(Encoding.Raw, PublicFormat.Raw)
