"""How somebody wants models to be run."""

from typing import Literal, NamedTuple

from msgspec import Struct

Precision = Literal["f32", "bf16", "f16"]
"""In what a float32 graph is computed; integer layers stay integer."""
Provider = str
"""What should compute: a name, several in order of preference (`cuda,cpu`), or `auto`."""


class Runs(NamedTuple):
    """What a half is to run on, exactly; no runtime means the one its form names."""

    runtime: str | None = None
    provider: Provider = "cpu"
    precision: Precision = "f32"


AS_DECLARED = Runs()


class RuntimeWish(Struct, frozen=True):
    """What a device's settings say of it."""

    choose: bool = True
    """Measure what there is when a package is new here, and take the fastest that is fit."""
    provider: Provider = "auto"
    precision: Precision = "f32"
    threads: int = 1
    """Of one model. Where it is 1 and the device has more than two cores, 2 are tried as well."""
    avoid: tuple[str, ...] = ()
    """Runtimes and providers never to be used; `*` for all but a model's own on the processor."""
