"""Who may speak: device tokens and the admin token.

1. A device's token is shown once, when it is made; the database and this file hold its SHA-256.
   A token is 256 random bits, so a plain hash is enough: there is nothing to guess.
2. Removing a device shuts the door at the next request; no session outlives it.
3. The admin token lies in a file only the owner of the data folder can read.
"""

import contextlib
import hashlib
import hmac
import os
import secrets
from pathlib import Path

from cloud_gateway.errors import Forbidden, TokenRevoked, Unauthorised

_BEARER = "bearer "


def new_token() -> str:
    """A secret that says whose it is, and never begins with a dash: it stands on a command line."""
    return f"lt_{secrets.token_urlsafe(32)}"


def token_hash(token: str) -> bytes:
    return hashlib.sha256(token.encode()).digest()


class Door:
    """Answers "who is this?" from memory; whoever changes devices tells it after the commit."""

    def __init__(self, admin_token: str) -> None:
        self._admin = token_hash(admin_token)
        self._names: dict[bytes, str] = {}
        self._hashes: dict[str, bytes] = {}
        self._revoked: dict[bytes, str] = {}

    def admit(self, name: str, token_sha256: bytes) -> None:
        """Let a device in by this token, and by no other."""
        self.forget(name)
        self._names[token_sha256] = name
        self._hashes[name] = token_sha256

    def revoke(self, name: str, token_sha256: bytes) -> None:
        """Shut out a device, and remember its token to say why."""
        self.forget(name)
        self._revoked[token_sha256] = name

    def forget(self, name: str) -> None:
        if old := self._hashes.pop(name, None):
            del self._names[old]

    def knows(self, name: str) -> bool:
        return name in self._hashes

    def device(self, authorization: str | None) -> str:
        """The device behind an Authorization header.

        Raises `Unauthorised`, `TokenRevoked`, `Forbidden`.
        """
        found = token_hash(_token(authorization))
        if name := self._names.get(found):
            return name
        if name := self._revoked.get(found):
            raise TokenRevoked(
                f"the token of device {name!r} was revoked; add the device again "
                "(longstop-gateway device add) and enrol it with the new token"
            )
        if hmac.compare_digest(found, self._admin):
            raise Forbidden("this is the admin token; devices speak with a token of their own")
        raise Unauthorised(
            "nobody gave out this token; enrol with the line that `device add` printed"
        )

    def admin(self, authorization: str | None) -> None:
        """Return if this is the admin. Raises `Unauthorised`, `Forbidden`."""
        found = token_hash(_token(authorization))
        if hmac.compare_digest(found, self._admin):
            return
        if found in self._names:
            raise Forbidden("a device's token opens no admin route; use <data>/admin.token")
        raise Unauthorised("this is not the admin token; it is in <data>/admin.token")


def admin_token(path: Path) -> str:
    """The token in `path`, made there on the first call, readable by its owner alone."""
    with contextlib.suppress(FileNotFoundError):
        if known := path.read_text(encoding="ascii").strip():
            return known
    token = new_token()
    # Under its name only when it is whole: an empty file would be an empty token.
    part = path.with_name(f".{path.name}.part")
    part.unlink(missing_ok=True)
    handle = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(handle, "w", encoding="ascii") as file:
        file.write(token + "\n")
        file.flush()
        os.fsync(file.fileno())
    part.rename(path)
    return token


def _token(authorization: str | None) -> str:
    if authorization is None or authorization[: len(_BEARER)].lower() != _BEARER:
        raise Unauthorised("no token came with the request; send Authorization: Bearer TOKEN")
    token = authorization[len(_BEARER) :].strip()
    if not token:
        raise Unauthorised("the Authorization header holds no token; send Bearer TOKEN")
    return token
