"""The hard ledger: what may be spent in this hour, whatever happens to the process. (core)

Rules:
1. Nothing is granted before it is written: what stands on disk as spent is never less than what is
   granted. So that not every question waits for a disk, it is written ahead, a share at a time;
   what a crash leaves unused of a share is not given back.
2. An hour is one of the clock that does not jump. When it is over the next one begins, on a whole
   number of hours after the first, and with it a whole new budget. Nothing is carried over.
3. After a restart within one boot the hour goes on. After another boot nobody knows how long the
   device was off, so the hour goes on from where it was last written down; a clock that is behind
   what is written counts as another boot. `Woke` writes progress down, so that even a device that
   boots often gets its next hour.
4. A ledger that cannot be read is spent, for one hour. One that was kept for another unit is void:
   a person has changed the settings.
5. A disk that does not take the ledger stops the spending, not the device: questions are refused,
   and writing is tried again `RETRY_S` later.
"""

from msgspec import Struct
from msgspec.structs import replace

HOUR_S = 3600.0
SHARES = 64
RETRY_S = 1.0
PROGRESS_S = 300.0


class Page(Struct, frozen=True):
    """What is written down."""

    boot: str
    unit: str
    began: float
    at: float
    """Both by the clock of that boot."""
    spent: int
    """At most: what was written ahead counts."""
    price: float = 0.0


class Waiting(Struct, frozen=True):
    """A question whose units are not written down yet."""

    id: str
    cost: int


class Ledger(Struct, frozen=True):
    """One budget of so many units for each hour."""

    limit: int
    unit: str
    boot: str
    began: float
    spent: int = 0
    """Granted in this hour, and what a crash left of a share."""
    written: int = 0
    """What the disk says is spent in this hour."""
    writing: Page | None = None
    waiting: tuple[Waiting, ...] = ()
    retry_at: float = 0.0

    @property
    def left(self) -> int:
        return max(self.limit - self.spent, 0)

    @property
    def ends(self) -> float:
        return self.began + HOUR_S


class Asked(Struct, frozen=True):
    """Somebody wants to spend."""

    id: str
    cost: int


class Returned(Struct, frozen=True):
    """So many of the units granted in the hour that began then were not used after all."""

    units: int
    began: float


class Looked(Struct, frozen=True):
    """Somebody wants to know how it stands."""


class Written(Struct, frozen=True):
    """The page under way is on disk."""


class NotWritten(Struct, frozen=True):
    """It is not."""


class Woke(Struct, frozen=True):
    """Some minutes have passed."""


Event = Asked | Returned | Looked | Written | NotWritten | Woke


class Grant(Struct, frozen=True):
    id: str


class Refuse(Struct, frozen=True):
    id: str


class Write(Struct, frozen=True):
    """Write this page, whole or not at all; answer with `Written` or `NotWritten`."""

    page: Page


Effect = Grant | Refuse | Write


class Step(Struct, frozen=True):
    state: Ledger
    effects: tuple[Effect, ...] = ()


def opened(limit: int, unit: str, boot: str, page: Page | None, now: float) -> Ledger:
    """The ledger as it goes on after a start; no page: the first start ever."""
    if page is None or page.unit != unit:
        return Ledger(limit, unit, boot, began=now)
    elapsed = min(max(page.at - page.began, 0.0), HOUR_S)
    began = page.began if page.boot == boot and page.at <= now else now - elapsed
    return _turned(Ledger(limit, unit, boot, began, page.spent, page.spent), now)


def damaged(limit: int, unit: str, boot: str, now: float) -> Ledger:
    """The ledger after a page that cannot be read."""
    return Ledger(limit, unit, boot, began=now, spent=limit, written=0)


def step(state: Ledger, event: Event, now: float) -> Step:
    """The table."""
    state = _turned(state, now)
    match event:
        case Asked(id, cost):
            if cost > state.limit - _promised(state):
                return Step(state, (Refuse(id),))
            if not state.waiting and state.spent + cost <= state.written:
                return _ahead(replace(state, spent=state.spent + cost), now, Grant(id))
            if now < state.retry_at:
                return Step(state, (Refuse(id),))
            return _write(replace(state, waiting=(*state.waiting, Waiting(id, cost))), now)
        case Returned(units, began):
            # What was spent in an hour that is over leaves this one as it is.
            back = units if began == state.began else 0
            return Step(replace(state, spent=max(state.spent - back, 0)))
        case Written() if state.writing is not None:
            page = state.writing
            # A page of an hour that is over says nothing about this one.
            written = page.spent if page.began == state.began else 0
            state = replace(state, writing=None, written=max(state.written, written))
            return _served(state, now)
        case NotWritten():
            refused = tuple(Refuse(each.id) for each in state.waiting)
            return Step(replace(state, writing=None, waiting=(), retry_at=now + RETRY_S), refused)
        case Woke() if state.writing is None:
            page = _page(state, max(state.written, state.spent), now)
            return Step(replace(state, writing=page), (Write(page),))
        case Looked() | Written() | Woke():
            return Step(state)


def _turned(state: Ledger, now: float) -> Ledger:
    """Rule 2."""
    if now < state.ends:
        return state
    hours = (now - state.began) // HOUR_S
    began = state.began + hours * HOUR_S
    return replace(state, began=began, spent=0, written=0)


def _promised(state: Ledger) -> int:
    return state.spent + sum(each.cost for each in state.waiting)


def _served(state: Ledger, now: float) -> Step:
    """Grant what is now written down, and write for the rest."""
    effects: list[Effect] = []
    for at, each in enumerate(state.waiting):
        if state.spent + each.cost > state.limit:  # the limit can only be reached in a new hour
            effects.append(Refuse(each.id))
        elif state.spent + each.cost <= state.written:
            state = replace(state, spent=state.spent + each.cost)
            effects.append(Grant(each.id))
        else:
            return _write(replace(state, waiting=state.waiting[at:]), now, *effects)
    return _ahead(replace(state, waiting=()), now, *effects)


def _ahead(state: Ledger, now: float, *effects: Effect) -> Step:
    """Half a share before the end of one, the next is written."""
    low = state.written - state.spent < state.limit // SHARES // 2
    if low and state.written < state.limit and now >= state.retry_at:
        return _write(state, now, *effects)
    return Step(state, effects)


def _write(state: Ledger, now: float, *effects: Effect) -> Step:
    if state.writing is not None:
        return Step(state, effects)  # what is missing then is written when this one is done
    wanted = _promised(state) + max(state.limit // SHARES, 1)
    page = _page(state, min(wanted, state.limit), now)
    return Step(replace(state, writing=page), (*effects, Write(page)))


def _page(state: Ledger, spent: int, now: float) -> Page:
    return Page(state.boot, state.unit, state.began, now, spent)
