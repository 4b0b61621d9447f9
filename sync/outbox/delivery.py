"""What of the outbox to send now, and what an answer to it means.

Rules:
1. At least once: a row is sent until the gateway acknowledges it, and only that settles it.
2. An acknowledgement settles exactly the row it names: same incarnation, same `lo`, same `hi`. Any
   other is stale and changes nothing but that its question counts as unanswered.
3. A settled row is never sent again by this process. After a power cut it may be, once more; the
   gateway knows its key and counts it once.
4. At most `window` questions are out at a time, each row and the loss report once; losses go first.
5. After a failure nothing is sent until a delay with full jitter has passed, growing with every
   failure in a row, and then one question alone tries the link; the first answer opens the window.
6. A refusal that time may heal is a failure, and its `retry_after_s` is the least to wait.
7. A refusal marked permanent concerns one row only: it is parked for `parked_s` and everything
   behind it goes on. It stays pending: whatever the gateway did not keep, the device still has.
8. A dead letter is an acknowledgement: the gateway keeps the row, unread, and the device lets go.

Nothing here survives a restart and nothing needs to: the rows are in the store.
"""

from typing import assert_never

from msgspec import Struct
from msgspec.structs import replace

from sync.backoff import Backoff, delay_s
from sync.wire import v1


class Row(Struct, frozen=True):
    """One batch in the store."""

    lo: int
    hi: int


class LossList(Struct, frozen=True):
    """The ranges of one loss report."""

    losses: tuple[v1.Lost, ...]


Item = Row | LossList


class Policy(Struct, frozen=True, forbid_unknown_fields=True):
    """The numbers of delivery."""

    window: int = 4
    backoff: Backoff = Backoff(base_s=1.0, cap_s=60.0)
    parked_s: float = 3600.0


class Parked(Struct, frozen=True):
    """A row the gateway refused for good, and when to ask once more."""

    row: Row
    until: float


class Delivery(Struct, frozen=True):
    """What this process knows beyond the store."""

    incarnation: str
    policy: Policy = Policy()
    rows: tuple[Row, ...] = ()
    """Rows the store held when last looked, oldest first."""
    losses: tuple[v1.Lost, ...] = ()
    out: tuple[Item, ...] = ()
    """Asked and not answered."""
    settling: tuple[Item, ...] = ()
    """Acknowledged, and perhaps not yet deleted."""
    parked: tuple[Parked, ...] = ()
    failures: int = 0
    resume_at: float = 0.0


class Looked(Struct, frozen=True):
    """The store holds this now, after every `Settled` before: its oldest rows, and its losses."""

    rows: tuple[Row, ...]
    losses: tuple[v1.Lost, ...]


class Acknowledged(Struct, frozen=True):
    """The gateway answered the question about `item` with an acknowledgement."""

    item: Item
    ack: v1.BatchAck | v1.LossAck


class Failed(Struct, frozen=True):
    """No answer, or one that is none. `chance` is drawn by the shell from [0, 1)."""

    item: Item
    chance: float


class Declined(Struct, frozen=True):
    """The gateway answered with a refusal."""

    item: Item
    permanent: bool
    retry_after_s: float
    chance: float


class Settled(Struct, frozen=True):
    """The store has let go of the item."""

    item: Item


class Vanished(Struct, frozen=True):
    """The store no longer held the item when it was to be sent: dropped for space, or damaged."""

    item: Item


class Woke(Struct, frozen=True):
    """A time asked for with `WakeAt` has come."""


Event = Looked | Acknowledged | Failed | Declined | Settled | Vanished | Woke


class Send(Struct, frozen=True):
    """Ask the gateway to take this."""

    item: Item


class Settle(Struct, frozen=True):
    """Delete this from the store: the gateway has it."""

    item: Item


class WakeAt(Struct, frozen=True):
    """Send `Woke` at this time, unless another event comes first."""

    at: float


class ReportDeadLetter(Struct, frozen=True):
    """The gateway could not read this row and keeps it for later."""

    row: Row
    reason: str


class ReportParked(Struct, frozen=True):
    """The gateway will not take this row."""

    row: Row


Effect = Send | Settle | WakeAt | ReportDeadLetter | ReportParked


class Step(Struct, frozen=True):
    """The state to keep, then the effects to perform."""

    state: Delivery
    effects: tuple[Effect, ...]


def step(state: Delivery, event: Event, now: float) -> Step:
    """One event."""
    effects: tuple[Effect, ...] = ()
    match event:
        case Looked(rows, losses):
            state = replace(state, rows=rows, losses=losses)
        case Acknowledged(item, ack) if item in state.out and _names(ack, item, state):
            state = replace(
                _answered(state, item), settling=(*state.settling, item), failures=0, resume_at=now
            )
            effects = (Settle(item), *_dead_letter(item, ack))
        case Acknowledged(item, _):
            state = _failed(state, item, now, wait_s=0.0, chance=1.0)
        case Failed(item, chance):
            state = _failed(state, item, now, wait_s=0.0, chance=chance)
        case Declined(Row() as row, permanent=True) if row in state.out:
            until = now + state.policy.parked_s
            state = replace(
                _answered(state, row), parked=(*state.parked, Parked(row, until)), failures=0
            )
            effects = (ReportParked(row),)
        case Declined(item, _, retry_after_s, chance):
            state = _failed(state, item, now, wait_s=retry_after_s, chance=chance)
        case Settled(item):
            state = _gone(replace(state, settling=_without(state.settling, item)), item)
        case Vanished(item):
            state = _gone(_answered(state, item), item)
        case Woke():
            pass
        case _:
            assert_never(event)
    sends, state = _fill(state, now)
    return Step(state, (*effects, *sends, *_wake(state, now)))


def _names(ack: v1.BatchAck | v1.LossAck, item: Item, state: Delivery) -> bool:
    if ack.incarnation != state.incarnation:
        return False
    match ack, item:
        case v1.BatchAck(lo=lo, hi=hi), Row():
            return (lo, hi) == (item.lo, item.hi)
        case v1.LossAck(losses=losses), LossList():
            return losses == item.losses
    return False


def _dead_letter(item: Item, ack: v1.BatchAck | v1.LossAck) -> tuple[Effect, ...]:
    match item, ack:
        case Row(), v1.BatchAck(outcome="dead_letter", reason=reason):
            return (ReportDeadLetter(item, reason),)
    return ()


def _answered(state: Delivery, item: Item) -> Delivery:
    return replace(state, out=_without(state.out, item))


def _gone(state: Delivery, item: Item) -> Delivery:
    """The last look is older than this: what it saw of the item is no longer so."""
    match item:
        case Row():
            return replace(state, rows=tuple(row for row in state.rows if row != item))
        case LossList():
            return replace(state, losses=())


def _failed(state: Delivery, item: Item, now: float, *, wait_s: float, chance: float) -> Delivery:
    if item not in state.out:
        return state
    state = _answered(state, item)
    if state.resume_at > now and state.failures:
        # Questions sent together fail together: one failure of the link, not `window` of them.
        return replace(state, resume_at=max(state.resume_at, now + wait_s))
    wait = max(wait_s, delay_s(state.policy.backoff, state.failures, chance))
    return replace(state, failures=state.failures + 1, resume_at=now + wait)


def _fill(state: Delivery, now: float) -> tuple[tuple[Send, ...], Delivery]:
    """Send what may be sent now."""
    state = replace(state, parked=tuple(one for one in state.parked if one.until > now))
    if state.resume_at > now:
        return (), state
    room = (1 if state.failures else state.policy.window) - len(state.out)
    chosen = _ready(state)[: max(room, 0)]
    return tuple(Send(item) for item in chosen), replace(state, out=(*state.out, *chosen))


def _ready(state: Delivery) -> tuple[Item, ...]:
    """What the store holds and nobody is busy with, in the order to send it."""
    busy = (*state.out, *state.settling)
    parked = {one.row for one in state.parked}
    ready: list[Item] = []
    # A second report while one is out would name the same losses.
    if state.losses and not any(isinstance(item, LossList) for item in busy):
        ready.append(LossList(state.losses))
    ready.extend(row for row in state.rows if row not in busy and row not in parked)
    return tuple(ready)


def _wake(state: Delivery, now: float) -> tuple[WakeAt, ...]:
    if state.resume_at > now:
        return (WakeAt(state.resume_at),) if _ready(state) else ()
    # Without room the next answer wakes us; without parked rows the next look does.
    waits = [one.until for one in state.parked]
    return (WakeAt(min(waits)),) if waits else ()


def _without(items: tuple[Item, ...], item: Item) -> tuple[Item, ...]:
    return tuple(one for one in items if one != item)
