"""A device's budget in the simulator: the shipped ledger and price, told to its cascade at once."""

from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path

from edge_agent.cascade import value
from edge_agent.cascade.run import Cascade
from edge_agent.cloud.budget import ENVELOPE, FILE, Budget, Tariff
from edge_agent.cloud.ledger import HOUR_S
from edge_agent.cloud.link import CloudLink
from sync.clock import Clock
from sync.errors import WireError
from sync.runner import InlineRunner
from sync.wire import codec, v1

Deliver = Callable[[bytes], Awaitable[bytes]]


class Counted:
    """Stands where a link begins and counts the bytes of questions, by the hour since it began."""

    def __init__(self, clock: Clock, carry: Deliver) -> None:
        self.by_hour: Counter[int] = Counter()
        self._clock = clock
        self._began = clock.monotonic()
        self._carry = carry

    async def carry(self, message: bytes) -> bytes:
        try:
            if isinstance(codec.decode_up(message), v1.Escalation):
                hour = int((self._clock.monotonic() - self._began) // HOUR_S)
                self.by_hour[hour] += len(message)
        except WireError:
            pass  # no question of ours
        return await self._carry(message)


def open_budget(
    bytes_per_hour: int, folder: Path, clock: Clock, on_change: Callable[[], None]
) -> Budget:
    """The budget of one device, in its folder."""
    return Budget(
        Tariff("bytes", bytes_per_hour, ENVELOPE, 1.0),
        folder / FILE,
        clock=clock,
        runner=InlineRunner(),
        boot="virtual",
        resent=lambda: 0,
        on_change=on_change,
    )


def tell(cascade: Cascade, budget: Budget, link: CloudLink) -> None:
    """What a supervisor tells its workers."""
    cascade.weather = value.weather(
        up=link.up,
        round_trips=link.round_trips(),
        left=budget.most,
        price=budget.price,
        call_cost=budget.terms.call_cost,
        byte_cost=budget.terms.byte_cost,
    )
