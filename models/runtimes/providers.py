"""Which provider a model runs on: the wanted ones in their order, and why one was passed over.

1. A list is tried from its first name on; `auto` stands for all a runtime knows, best first.
2. A provider that cannot serve is passed over with its reason, which the opened runtime keeps.
3. Nothing that was not asked for is taken: `cuda` alone fails where there is none, `cuda,cpu` does
   not.
"""

from collections.abc import Callable
from typing import TypeVar

from models.errors import ProviderUnavailable
from models.runtimes.base import Skipped
from models.runtimes.wish import Provider

Opened = TypeVar("Opened")


class Unavailable(Exception):
    """Raised by an attempt: this provider does not serve, the next one may."""


def in_order(wanted: Provider, best_first: tuple[str, ...]) -> tuple[str, ...]:
    """The names to try, each once."""
    names: list[str] = []
    for name in (part.strip().lower() for part in wanted.split(",")):
        names += best_first if name == "auto" else [name]
    return tuple(dict.fromkeys(names))


def first_that_opens(
    wanted: Provider, best_first: tuple[str, ...], attempt: Callable[[str], Opened]
) -> tuple[Opened, tuple[Skipped, ...]]:
    """What the first attempt that does not raise `Unavailable` gives, and what was passed over.

    Raises `ProviderUnavailable` when none is left, and whatever else an attempt raises.
    """
    skipped: list[Skipped] = []
    for name in in_order(wanted, best_first):
        try:
            if name not in best_first:
                raise Unavailable(f"unknown here; there are {', '.join(best_first)} and auto")
            return attempt(name), tuple(skipped)
        except Unavailable as reason:
            skipped.append(Skipped(name, str(reason)))
    reasons = "; ".join(f"{name}: {reason}" for name, reason in skipped)
    raise ProviderUnavailable(f"nothing that was asked for computes here ({reasons}); allow cpu")
