"""What a package's certificate is bound to, and what the package would run on here.

`python -m edge_agent.commands.checks.bound` reads a `Bound` as JSON from standard input and writes
a `Looked`. A process of its own, because it loads the runtimes, and those may kill it.
"""

import os
import sys
from pathlib import Path

import msgspec
from msgspec import Struct

from edge_agent.workplace import RuntimeSettings


class Bound(Struct, frozen=True):
    """Which package, and the device's wish for its runtime."""

    package: str
    wish: RuntimeSettings


class Looked(Struct, frozen=True):
    """What was found; `trouble` where the certificate says nothing of this device."""

    words: str = ""
    trouble: str = ""


def look(order: Bound) -> Looked:
    """Compare without running a model. Raises `models.errors.ModelsError`."""
    from models import package, placement
    from models.editions import binding_difference
    from models.manifest import MAIN, Role
    from models.runtimes.wish import RuntimeWish

    whole = package.read(Path(order.package), Role.EDGE)
    wish = msgspec.convert(order.wish, RuntimeWish, from_attributes=True)
    places = placement.first_places(whole, wish, os.cpu_count() or 1)
    whole = placement.serving(whole, places)
    certificate = whole.manifest.certificate
    where = "; ".join(f"{place.model} on {place.reason}" for place in places)
    if not certificate.feasible:
        return Looked(f"promises nothing, so it is bound to nothing; runs as {where}")
    bound = certificate.bound
    if bound is None:
        return Looked(f"is bound to no runtime; runs as {where}")
    opener = placement.Opener(whole, places, None)
    runtimes = [opener(node) for node in whole.pipeline.models]
    if (difference := binding_difference(whole, runtimes)) is not None:
        return Looked(trouble=difference)
    words = f"is bound to {bound.runtime} on {bound.provider} in {bound.precision}, as it runs here"
    return Looked(words if whole.edition == MAIN else f"in edition {whole.edition} {words}")


def main() -> int:
    from models.errors import ModelsError

    order = msgspec.json.decode(sys.stdin.buffer.read(), type=Bound)
    try:
        looked = look(order)
    except ModelsError as error:
        looked = Looked(trouble=f"{error.code}: {error}")
    sys.stdout.buffer.write(msgspec.json.encode(looked))
    return 0


if __name__ == "__main__":
    sys.exit(main())
