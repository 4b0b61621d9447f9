"""Answer files of a watched folder: what stands in them, and how they are read and replaced."""

from collections.abc import Iterator
from pathlib import Path

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from edge_agent.sdk.answer import Revision

SUFFIX = ".json"
NOTHING = msgspec.Raw()
"""Left out when it is written: msgspec knows the default by its identity."""


class Written(Struct, frozen=True, omit_defaults=True):
    """What stands in an answer file."""

    file: str
    size: int
    mtime_ns: int
    ok: bool
    request_id: str = ""
    label: str = ""
    confidence: float | None = None
    source: str = ""
    final: bool | None = None
    reason: str = ""
    version: str = ""
    degraded: bool = False
    certified_risk: float | None = None
    certificate: str = ""
    code: str = ""
    message: str = ""
    answer: msgspec.Raw = NOTHING
    """The whole answer as JSON, where the label does not say it all."""
    provisional: str = ""
    """The label before the cloud's answer came, after the deadline."""
    revised_at: float | None = None
    """When it came, in seconds since 1970."""


def read(path: Path) -> Written | None:
    """What an answer file says; None where there is none."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=Written)
    except (OSError, msgspec.DecodeError):
        return None


def put(path: Path, written: Written) -> None:
    """Make or replace the file at once. Raises `OSError`."""
    part = path.with_name(f".{path.name}.part")
    part.write_bytes(msgspec.json.encode(written) + b"\n")
    part.rename(path)


def provisional(folder: Path) -> Iterator[tuple[str, str]]:
    """Request id and name of each answer file that is not final. Raises `OSError`."""
    for path in folder.iterdir():
        written = read(path) if path.name.endswith(SUFFIX) else None
        if written is not None and written.final is False:
            yield written.request_id, path.name


def revise(path: Path, revision: Revision) -> None:
    """Make a provisional answer final, unless it is another's by now. Raises `OSError`."""
    written = read(path)
    if written is None or written.final or written.request_id != revision.request_id:
        return
    whole = b"" if revision.details is None else msgspec.json.encode(revision.details)
    put(
        path,
        replace(
            written,
            label=revision.label,
            confidence=revision.confidence,
            source="cloud",
            final=True,
            reason="revised",
            version=revision.version,
            degraded=False,
            certified_risk=None,
            certificate="",
            answer=msgspec.Raw(whole) if whole else NOTHING,
            provisional=written.label,
            revised_at=revision.at,
        ),
    )
