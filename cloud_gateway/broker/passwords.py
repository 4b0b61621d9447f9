"""Passwords as mosquitto keeps them, and what each user may do. Pure but for the salt.

The password of a device is its token: 256 random bits, so the stretching is mosquitto's habit and
no protection anybody relies on.
"""

import base64
import hashlib
import hmac
import secrets
from collections.abc import Mapping
from typing import Literal

from sync.wire.topics import TENANT

GATEWAY = "_gateway"
"""The gateway's own user; no device name begins with an underscore."""

Action = Literal["publish", "subscribe", "receive"]
_ITERATIONS = 101
_SALT_BYTES = 12


def hash_password(password: str) -> str:
    """`$7$iterations$salt$hash`: PBKDF2-HMAC-SHA512, as mosquitto_passwd writes it."""
    salt = secrets.token_bytes(_SALT_BYTES)
    found = hashlib.pbkdf2_hmac("sha512", password.encode(), salt, _ITERATIONS)
    return f"$7${_ITERATIONS}${_text(salt)}${_text(found)}"


def matches(password: str, hashed: str) -> bool:
    """Whether this is the password; false for a hash that is none."""
    try:
        empty, kind, iterations, salt, wanted = hashed.split("$")
        if (empty, kind) != ("", "7"):
            return False
        found = hashlib.pbkdf2_hmac(
            "sha512", password.encode(), base64.b64decode(salt), int(iterations)
        )
        return hmac.compare_digest(found, base64.b64decode(wanted))
    except ValueError:
        return False


def password_file(hashes: Mapping[str, str]) -> str:
    """The file both brokers read: one user per line."""
    return "".join(f"{name}:{hashed}\n" for name, hashed in sorted(hashes.items()))


def read_password_file(text: str) -> dict[str, str]:
    lines = (line.partition(":") for line in text.splitlines() if line)
    return {name: hashed for name, _, hashed in lines}


def access_file() -> str:
    """The rules in mosquitto's words. `may` says the same for amqtt; one suite holds both to it."""
    return (
        f"user {GATEWAY}\n"
        "topic read v1/+/up/#\n"
        "topic write v1/+/dn/#\n"
        "\n"
        f"pattern write v1/{TENANT}/up/%u/#\n"
        f"pattern read v1/{TENANT}/dn/%u/#\n"
    )


def may(user: str, action: Action, topic: str) -> bool:
    """Whether a user may do this to a topic, or to a topic filter when it subscribes."""
    levels = topic.split("/")
    if len(levels) < 5 or levels[0] != "v1":
        return False
    wanted = "up" if action == "publish" else "dn"
    if user == GATEWAY:
        return levels[2] == ("dn" if action == "publish" else "up")
    return levels[1:4] == [TENANT, wanted, user]


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")
