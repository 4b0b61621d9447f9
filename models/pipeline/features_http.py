"""Features from the gateway, over HTTP.

The question is a POST of `{"key": ..., "names": [...]}`, the answer
`{"values": [number or null, ...] or null, "age_s": seconds}`; `values` is null for a key that is
not there, so that a 404 can mean what it says: there is no such table. How a POST gets there is
handed in. `over_connections` is the usual way: connections that are kept, each question under its
timeout, no answer above 64 KiB.
"""

import time
from collections.abc import Callable
from typing import NamedTuple
from urllib.parse import urlsplit

import msgspec

from models.errors import FeatureSourceOut
from models.pipeline.features import Key, Row
from sync.errors import LinkError, MalformedMessage
from sync.transport import tls
from sync.transport.kept import KeptConnections, Request
from sync.transport.tls import TlsFiles

MAX_ANSWER = 64 << 10


class Reply(NamedTuple):
    """What came back."""

    status: int
    body: bytes


Post = Callable[[str, bytes, float], Reply]
"""Path, body and seconds; raises `LinkError` or `OSError` when nothing comes back in time."""


class Question(msgspec.Struct, frozen=True):
    """What is asked of the gateway."""

    key: Key
    names: tuple[str, ...]


class Answer(msgspec.Struct, frozen=True):
    """What it answers; fields of a later version are not looked at."""

    values: tuple[float | None, ...] | None
    age_s: float = 0.0


class HttpFeatures:
    """One table of features at the path of a server."""

    def __init__(self, post: Post, path: str) -> None:
        self._post = post
        self._path = path

    def read(self, key: Key, names: tuple[str, ...], timeout_s: float) -> Row | None:
        """The row of a key. Raises `FeatureSourceOut`."""
        try:
            body = msgspec.json.encode(Question(key, names))
        except UnicodeEncodeError:
            return None  # no JSON holds such a key, so no table does
        try:
            reply = self._post(self._path, body, timeout_s)
        except (LinkError, MalformedMessage, OSError) as error:
            raise FeatureSourceOut(f"features at {self._path}: {error}") from error
        if reply.status != 200:
            raise FeatureSourceOut(f"features at {self._path}: answered with {reply.status}")
        if len(reply.body) > MAX_ANSWER:
            raise FeatureSourceOut(f"features at {self._path}: answer of {len(reply.body)} bytes")
        try:
            answer = msgspec.json.decode(reply.body, type=Answer)
        except msgspec.MsgspecError as error:
            raise FeatureSourceOut(f"features at {self._path}: {error}") from error
        return None if answer.values is None else Row(answer.values, answer.age_s)


def over_connections(address: str, token: str, files: TlsFiles | None = None) -> Post:
    """POST to `http://host:port` or `https://…`, on connections that are kept.

    Raises `ValueError` for an address that is none, `SettingsError` for a file of TLS.
    """
    parts = urlsplit(address)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError(f"address {address!r} is not of the form http://host:port")
    secured = tls.context(files or TlsFiles()) if parts.scheme == "https" else None
    connections = KeptConnections(
        parts.hostname,
        parts.port or (443 if secured else 80),
        max_reply=MAX_ANSWER,
        secured=secured,
    )
    prefix = parts.path.rstrip("/")
    headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}

    def post(path: str, body: bytes, timeout_s: float) -> Reply:
        request = Request(prefix + path, headers, body)
        reply = connections.ask(request, time.monotonic() + timeout_s)
        return Reply(reply.status, reply.body)

    return post
