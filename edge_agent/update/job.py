"""What the supervisor asks of the short process that fetches packages, and what comes of it."""

from msgspec import Struct

from sync.transport.tls import TlsFiles


class FromGateway(Struct, frozen=True, tag="gateway"):
    """Download it."""

    url: str
    token_file: str
    public_key: str
    tls: TlsFiles = TlsFiles()


class FromFolder(Struct, frozen=True, tag="folder"):
    """Take it from a folder of this machine: unsigned, for development."""

    path: str


class Job(Struct, frozen=True):
    """What to bring, from where, and the folder that holds this task's packages."""

    task: str
    version: str
    source: FromGateway | FromFolder
    home: str
    max_bytes: int


class Fetched(Struct, frozen=True, tag="fetched"):
    """Verified and unpacked as `<home>/<digest>`."""

    version: str
    digest: str


class Refused(Struct, frozen=True, tag="refused"):
    """Not what it should be, and so it will be next time."""

    code: str
    reason: str


class Failed(Struct, frozen=True, tag="failed"):
    """Could not be had now."""

    code: str
    reason: str


Outcome = Fetched | Refused | Failed
