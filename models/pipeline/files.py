"""A file of a package, as a manifest names it."""

from typing import Annotated

from msgspec import Meta, Struct

FileName = Annotated[str, Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}\Z")]
Sha256 = Annotated[str, Meta(pattern=r"^[0-9a-f]{64}\Z")]


class FileRef(Struct, frozen=True, forbid_unknown_fields=True):
    """A file of the package. Packages are flat: a path is a name."""

    path: FileName
    sha256: Sha256
    size: Annotated[int, Meta(ge=0)]
