"""What questions to the cloud may cost: the ledger and the price at work.

1. A question is paid for before it is sent, as often as a transport may send it; what was not sent
   twice after all is given back in memory. Records, heartbeats and updates cost nothing here.
2. The file is written whole or not at all, in a thread, with its checksum. What cannot be read is a
   spent hour, and says so.
3. What is left for new inputs is what the ledger has, less what already waits to be sent.
"""

import asyncio
import logging
import os
import zlib
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Annotated, Literal

import msgspec
from msgspec import Meta, Struct

from edge_agent.cloud import ledger, price
from edge_agent.cloud.ledger import Ledger, Page
from edge_agent.cloud.price import Market, Weighed
from sync.clock import Clock
from sync.runner import Runner
from sync.wire import v1

log = logging.getLogger(__name__)

FILE = "budget.json"
ENVELOPE = 1500
"""Bytes of a question and its answer beside the input itself: heads, names, the label."""
MOST_SENDS = 3
"""Of one question in one exchange: over one way, and twice over the other."""
BILLION = 1_000_000_000
_MEGABYTE = 1_000_000


class BudgetSettings(Struct, frozen=True, forbid_unknown_fields=True):
    """What asking the cloud may cost in an hour, and what answers are worth."""

    bytes_per_hour: Annotated[int, Meta(ge=0)] | None = None
    """None: no limit."""
    money_per_hour: Annotated[float, Meta(ge=0)] | None = None
    """In whatever currency the two below are; None: no limit."""
    money_per_call: Annotated[float, Meta(ge=0)] = 0.0
    money_per_mb: Annotated[float, Meta(ge=0)] = 0.0
    revision_worth: Annotated[float, Meta(ge=0, le=1)] = 0.5
    """What an answer of the cloud is worth that comes after the deadline, beside one in time."""
    wait_cost: Annotated[float, Meta(ge=0)] = 0.02
    """What a second of waiting costs, in right answers."""


class Tariff(Struct, frozen=True):
    """The unit of a budget, and what a question costs in it."""

    unit: Literal["bytes", "money"]
    limit: int
    call_cost: int
    byte_cost: float

    def cost(self, size: int) -> int:
        """Of a question whose input has so many bytes."""
        return self.call_cost + -int(-self.byte_cost * size // 1)


class BudgetState(Struct, frozen=True):
    """The budget as a person wants to see it: bytes, or money."""

    unit: Literal["bytes", "money"]
    limit: float
    spent: float
    left: float
    price: float | None
    """Right answers that a unit must bring; None: nothing is spent any more."""
    ends_in_s: float


class _File(Struct, frozen=True):
    crc: int
    page: msgspec.Raw


def tariff(settings: BudgetSettings) -> Tariff | None:
    """What a device's settings make of it; None where nothing is limited. Raises `ValueError`."""
    if settings.bytes_per_hour is not None:
        if settings.money_per_hour is not None:
            raise ValueError("budget has bytes_per_hour and money_per_hour; set one of them")
        return Tariff("bytes", settings.bytes_per_hour, ENVELOPE, 1.0)
    if settings.money_per_hour is None:
        return None
    each, per_byte = settings.money_per_call, settings.money_per_mb / _MEGABYTE
    if not (each or per_byte):
        raise ValueError(
            "budget.money_per_hour buys questions without end: set money_per_call or money_per_mb"
        )
    call = round((each + per_byte * ENVELOPE) * BILLION)
    limit = round(settings.money_per_hour * BILLION)
    return Tariff("money", limit, call, per_byte * BILLION)


class Budget:
    """One device's. Made by `open`, used from one event loop.

    Args:
        resent: How often a transport has sent a question again by itself, ever.
        on_change: Called when the price has, or what is left.
    """

    def __init__(
        self,
        terms: Tariff,
        file: Path,
        *,
        clock: Clock,
        runner: Runner,
        boot: str,
        resent: Callable[[], int],
        on_change: Callable[[], None],
    ) -> None:
        self.terms = terms
        self._file = file
        self._clock = clock
        self._runner = runner
        self._resent = resent
        self._on_change = on_change
        self._asking: dict[str, asyncio.Future[bool]] = {}
        self._asked = 0
        self._promised: dict[str, int] = {}
        self._writing: set[asyncio.Task[None]] = set()
        self._wake: asyncio.TimerHandle | None = None
        now = clock.monotonic()
        self._ledger, known = _opened(terms, file, boot, now)
        self._market = Market(price=known, began=now)

    def start(self) -> None:
        """Write progress down, now and every few minutes."""
        self._tell(ledger.Woke())
        self._wake = asyncio.get_running_loop().call_later(ledger.PROGRESS_S, self.start)

    async def close(self) -> None:
        """Wait until what is being written is."""
        if self._wake is not None:
            self._wake.cancel()
        while self._writing:
            await asyncio.wait(self._writing)

    # -- spending

    def cost(self, question: v1.Escalation) -> int:
        """Units of sending this once."""
        return self.terms.cost(sum(len(tensor.data) for tensor in question.inputs))

    def never(self, question: v1.Escalation) -> bool:
        """Whether no hour's budget would do; then it is promised no longer."""
        never = self.cost(question) * MOST_SENDS > self.terms.limit
        if never:
            self._promised.pop(question.request_id, None)
        return never

    def promise(self, question: v1.Escalation) -> None:
        """This one will be sent when it suits."""
        self._promised[question.request_id] = self.cost(question)

    async def spend(self, question: v1.Escalation) -> "Spent | None":
        """Pay for one exchange; None where that cannot be paid in this hour."""
        cost = self.cost(question)
        self._asked += 1
        name = str(self._asked)
        granted = self._asking[name] = asyncio.get_running_loop().create_future()
        self._tell(ledger.Asked(name, cost * MOST_SENDS))
        if not await granted:
            return None
        self._promised.pop(question.request_id, None)
        return Spent(cost * (MOST_SENDS - 1), self._ledger.began, self._resent())

    def ended(self, spent: "Spent") -> None:
        """The exchange is over."""
        if self._resent() == spent.resent:
            self._tell(ledger.Returned(spent.spare, spent.hour))

    # -- the price

    def considered(self, inputs: tuple[Weighed, ...]) -> None:
        """Hard inputs came."""
        self._turn()
        ends = self._ledger.ends
        event = price.Considered(inputs, self.left, ends)
        self._market = price.step(self._market, event, self._clock.monotonic()).state
        self._on_change()

    @property
    def left(self) -> int:
        """Units for inputs to come."""
        self._turn()
        return max(self._ledger.left - sum(self._promised.values()), 0)

    @property
    def most(self) -> int:
        """What sending one question once may cost now."""
        return self.left // MOST_SENDS

    @property
    def price(self) -> float:
        """Right answers that a unit must bring."""
        return self._market.price

    def pause_s(self) -> float:
        """How long until there may be more."""
        return max(self._ledger.ends - self._clock.monotonic(), 0.0)

    def state(self) -> BudgetState:
        self._turn()
        scale = BILLION if self.terms.unit == "money" else 1
        return BudgetState(
            unit=self.terms.unit,
            limit=self.terms.limit / scale,
            spent=self._ledger.spent / scale,
            left=self._ledger.left / scale,
            price=None if self._market.price >= price.DEAREST else self._market.price * scale,
            ends_in_s=self.pause_s(),
        )

    # -- performing

    def _turn(self) -> None:
        """Take note of a new hour."""
        if self._clock.monotonic() >= self._ledger.ends:
            self._tell(ledger.Looked())

    def _tell(self, event: ledger.Event) -> None:
        now, before = self._clock.monotonic(), self._ledger
        step = ledger.step(before, event, now)
        self._ledger = step.state
        if step.state.began != before.began:
            self._promised.clear()  # the backlog goes first in the new hour, and pays then
            began = price.HourBegan(self.left, step.state.ends)
            self._market = price.step(self._market, began, now).state
        for effect in step.effects:
            match effect:
                case ledger.Grant(name):
                    self._say(name, granted=True)
                case ledger.Refuse(name):
                    self._say(name, granted=False)
                case ledger.Write(page):
                    writing = asyncio.create_task(self._write(page))
                    self._writing.add(writing)
                    writing.add_done_callback(self._writing.discard)
        if step.state.left != before.left:
            self._on_change()

    def _say(self, name: str, *, granted: bool) -> None:
        asking = self._asking.pop(name)
        if not asking.done():  # whoever asked may have been ended meanwhile
            asking.set_result(granted)

    async def _write(self, page: Page) -> None:
        priced = msgspec.structs.replace(page, price=self._market.price)
        try:
            await self._runner.submit(partial(write, self._file, priced))
        except OSError as error:
            log.error("budget.not_written path=%s why=%s", self._file, error)
            self._tell(ledger.NotWritten())
        else:
            self._tell(ledger.Written())


class Spent(Struct, frozen=True):
    """Paid for one exchange."""

    spare: int
    hour: float
    resent: int


def write(file: Path, page: Page) -> None:
    """Make this the page, durably. Raises `OSError`."""
    body = msgspec.json.encode(page)
    new = file.with_suffix(".new")
    with new.open("wb") as out:
        out.write(msgspec.json.encode(_File(zlib.crc32(body), msgspec.Raw(body))))
        out.flush()
        os.fsync(out.fileno())
    new.replace(file)
    handle = os.open(file.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def read(data: bytes) -> Page:
    """The page in these bytes. Raises `ValueError` (msgspec's errors are)."""
    file = msgspec.json.decode(data, type=_File)
    if zlib.crc32(bytes(file.page)) != file.crc:
        raise ValueError("its checksum does not hold")
    return msgspec.json.decode(file.page, type=Page)


def _opened(terms: Tariff, file: Path, boot: str, now: float) -> tuple[Ledger, float]:
    """The ledger, and the price it was left with."""
    try:
        page = read(file.read_bytes())
    except FileNotFoundError:
        return ledger.opened(terms.limit, terms.unit, boot, None, now), 0.0
    except (OSError, ValueError) as error:
        log.error("budget.damaged path=%s why=%s next=nothing_is_spent_for_one_hour", file, error)
        return ledger.damaged(terms.limit, terms.unit, boot, now), 0.0
    known = page.price if page.unit == terms.unit else 0.0
    return ledger.opened(terms.limit, terms.unit, boot, page, now), known


def boot_id() -> str:
    """This boot of the machine; another each time where the machine does not say."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return os.urandom(8).hex()
