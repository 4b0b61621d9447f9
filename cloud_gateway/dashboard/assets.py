"""The files the page is made of, read once when the gateway starts and served from memory.

So no request ever names a path on disk, and serving a style sheet starts no thread. An asset's
address carries a piece of its hash: browsers may keep it for ever, and a new version is a new name.
"""

import hashlib
from collections.abc import Mapping
from pathlib import Path

from msgspec import Struct

FOLDER = Path(__file__).with_name("static")
TYPES: Mapping[str, str] = {
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
"""What is served; anything else in the folder (licences, the manifest) is not."""


class Asset(Struct, frozen=True):
    """One file as it goes out."""

    body: bytes
    media_type: str
    tag: str


def read_assets(folder: Path = FOLDER) -> dict[str, Asset]:
    """Every servable file below `folder`, by its path from there."""
    found: dict[str, Asset] = {}
    for path in sorted(folder.rglob("*")):
        media_type = TYPES.get(path.suffix)
        if media_type is not None:
            body = path.read_bytes()
            tag = hashlib.sha256(body).hexdigest()[:12]
            found[path.relative_to(folder).as_posix()] = Asset(body, media_type, tag)
    return found


def addresses(assets: Mapping[str, Asset]) -> dict[str, str]:
    """Where a page finds each asset."""
    return {name: f"/static/{name}?v={asset.tag}" for name, asset in assets.items()}
