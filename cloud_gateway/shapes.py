"""What admin commands and the gateway say to each other, for both ends to read.

No framework here: a command that lists three devices must not load a server first.
"""

from typing import Annotated

from msgspec import Meta, Struct

ADDRESS = "address"
"""The file in the data folder in which a running gateway says where it is."""
PUBLISHER = "trust/publisher.pub"
"""The public key that releases are checked with, in the data folder."""


class Serving(Struct, frozen=True):
    """What is served where: the content of ADDRESS."""

    gateway: str
    page: str
    mqtt: str | None
    broker: str
    data: str
    certificate: str = ""
    """File of the gateway's own identity, where it serves HTTPS."""


class Problem(Struct, frozen=True, omit_defaults=True):
    """A problem document (RFC 9457); `code` is what programs read."""

    title: str
    status: int
    code: str
    detail: str
    permanent: bool
    """Whether sending the same again is useless."""
    retry_after_s: float = 0.0
    type: str = "about:blank"


class NewDevice(Struct, frozen=True, forbid_unknown_fields=True):
    """Body of POST /v1/admin/devices."""

    name: str


class Invitation(Struct, frozen=True):
    """All a device needs to enrol. The token is in no other answer."""

    device: str
    token: str
    gateway: str
    mqtt: str | None
    key: str | None


class ListedDevice(Struct, frozen=True):
    """One line of GET /v1/admin/devices."""

    device: str
    added_at: float


class Devices(Struct, frozen=True):
    """Answer of GET /v1/admin/devices, by name."""

    devices: tuple[ListedDevice, ...]


class DesiredVersion(Struct, frozen=True, forbid_unknown_fields=True):
    """Body of PUT /v1/admin/desired: some devices, or all of them, now and later."""

    task: str
    version: str
    devices: tuple[str, ...] = ()
    all: bool = False


class Stored(Struct, frozen=True):
    """Answer of PUT /v1/admin/blobs/{sha256}."""

    sha256: str
    size: int


class ReleaseFacts(Struct, frozen=True):
    """One release, as the operator sees it."""

    task: str
    version: str
    number: int
    name: str
    edge_sha256: str
    cloud_sha256: str
    published_at: float
    served: bool
    """Whether the cloud answers with this one."""


class Releases(Struct, frozen=True):
    """Answer of GET /v1/admin/releases, oldest first."""

    releases: tuple[ReleaseFacts, ...]


class FeatureRow(Struct, frozen=True, forbid_unknown_fields=True):
    """One row of features."""

    key: str | int
    features: dict[str, float | None]
    at: Annotated[float, Meta(ge=0)] | None = None
    """When they were true, in seconds since 1970; None: when they arrive."""


class FeatureRows(Struct, frozen=True, forbid_unknown_fields=True):
    """Body of PUT /v1/admin/features/{table}."""

    rows: tuple[FeatureRow, ...]


class ListedTable(Struct, frozen=True):
    """One line of GET /v1/admin/features."""

    table: str
    rows: int
    newest_at: float


class FeatureTables(Struct, frozen=True):
    """Answer of GET /v1/admin/features, by name."""

    tables: tuple[ListedTable, ...]
