"""What a simulated fleet promises, and how its world changes so that the promise breaks.

The twins' promise is 2 % of answers given alone otherwise than by the cloud. After the change some
inputs are wrong with a confidence that had been enough, though less than that of the right ones: so
a tighter threshold keeps the promise, and audits can find it.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from msgspec.structs import replace

from edge_agent.cascade.ports import Terms as CascadeTerms
from edge_agent.cascade.run import Cascade
from edge_agent.risk.job import Order, Outcome
from edge_agent.risk.recalibrate import perform
from edge_agent.risk.watch import Terms
from models.calibrate.by_hand import by_hand
from models.calibrate.certificate import Certificate
from models.calibrate.certify import named
from models.calibrate.curve import Curve
from sim.invariants import Asked, Known

EPS = 0.02


def promise(threshold: float) -> Certificate:
    """As if the twins had been calibrated."""
    made = by_hand(note="a twin that promises", threshold=threshold, method="by hand")
    return named(
        replace(
            made,
            promise="teacher",
            eps=EPS,
            feasible=True,
            upper_bound=0.018,
            n=1000,
            k=10,
            curve=Curve((threshold, 0.9), (0.018, 0.004)),
        )
    )


async def calibrate(order: Order) -> Outcome:
    """In this process: virtual time has no other."""
    return perform(order)


def teller(cascade: Cascade) -> Callable[[Terms], None]:
    """Sets the cascade's terms, as a worker does that is told some."""

    def tell(said: Terms) -> None:
        cascade.terms = CascadeTerms(
            threshold=said.threshold,
            certificate=said.certificate,
            certified_risk=said.certified_risk,
            curve=said.curve,
            uncertified=said.why if said.mode == "safe" else None,
        )

    return tell


@dataclass(frozen=True)
class Turn:
    """A turn of one device's live risk, in virtual seconds."""

    device: str
    kind: str
    at: float


def differing(
    asked: Iterable[Asked], known: Known, span: Callable[[Asked], bool]
) -> tuple[int, int]:
    """Requests of a span that were answered alone otherwise than by the cloud, and all of it."""
    within = [one for one in asked if one.answered_at is not None and span(one)]
    alone = [one for one in within if one.source == "edge" and one.final]
    return sum(one.label != known.cloud[one.sample] for one in alone), len(within)


def first(turns: Iterable[Turn], kind: str) -> Mapping[str, float]:
    """When each device first took such a turn."""
    found: dict[str, float] = {}
    for turn in turns:
        if turn.kind == kind:
            found.setdefault(turn.device, turn.at)
    return found
