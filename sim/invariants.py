"""What must be true of the whole fleet, read from outside: applications' books and the databases.

Nothing here shares code with what it judges but the codec of packed records. Which inputs are hard
is known before the run, from the shipped file's own confidences; what the cloud should say, from
the shipped cloud file.

1. *Every request is answered by its deadline.*
2. *issued = delivered + lost + pending.* On the way a record may be delivered and pending at once,
   while its acknowledgement travels, so there the three must cover every number; at the end, when
   all is quiet, they must add up.
3. *Nothing is counted twice*: one record per answered request, aggregates as large as the records.
4. *Every hard input ends with the cloud's answer, or stands as lost or pending*, or was not worth
   its bytes to a device with a budget, which then said so.
5. *No device sends more bytes of questions in an hour than its budget allows.*
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from sim.books import DeviceFiles, Ranges, size
from sync.wire import v1


class InvariantBroken(AssertionError):
    """One of the five sentences above is not true; the message says of whom and how."""


@dataclass(frozen=True)
class Asked:
    """One request as its application remembers it. Times are virtual seconds."""

    request_id: str
    device: str
    sample: int
    at: float
    until: float
    answered_at: float | None = None
    label: str = ""
    source: str = ""
    final: bool = False
    reason: str = ""


@dataclass(frozen=True)
class Known:
    """What is true of each sample, whatever agents and gateway make of it."""

    hard: Sequence[bool]
    cloud: Sequence[str]


def answered_in_time(asked: Iterable[Asked], now: float) -> None:
    """Invariant 1. A microsecond is allowed for floating-point sums."""
    for request in asked:
        late = request.answered_at is None or request.answered_at > request.until + 1e-6
        if request.until < now and late:
            raise InvariantBroken(
                f"{request.request_id} was due at {request.until:.3f} s and was answered at "
                f"{request.answered_at}"
            )


def covered(device: str, files: DeviceFiles) -> None:
    """Invariant 2 on the way: no number is missing, and none was delivered and lost."""
    _disjoint(device, files.delivered + files.lost)
    expected = 1
    for lo, hi in sorted(files.delivered + files.lost + files.pending):
        if lo > expected:
            raise InvariantBroken(f"{device}: numbers {expected}..{lo - 1} are nowhere")
        expected = max(expected, hi + 1)
    if expected <= files.issued:
        raise InvariantBroken(f"{device}: numbers {expected}..{files.issued} are nowhere")


def balanced(device: str, files: DeviceFiles) -> None:
    """Invariant 2 at the end."""
    covered(device, files)
    delivered, lost, pending = map(size, (files.delivered, files.lost, files.pending))
    if files.issued != delivered + lost + pending:
        raise InvariantBroken(
            f"{device}: {files.issued} issued, but {delivered} delivered + {lost} lost + "
            f"{pending} pending"
        )


def counted_once(device: str, asked: Sequence[Asked], files: DeviceFiles) -> None:
    """Invariant 3."""
    answers = [r for r in files.records if isinstance(r, v1.Answered)]
    times = Counter(record.request_id for record in answers)
    again = [request_id for request_id, n in times.items() if n > 1]
    if again:
        raise InvariantBroken(f"{device}: {len(again)} requests recorded twice, as {again[0]}")
    revised = Counter(r.request_id for r in files.records if isinstance(r, v1.Revised))
    if revised and max(revised.values()) > 1:
        raise InvariantBroken(f"{device}: {revised.most_common(1)[0][0]} was revised twice")
    if not files.lost and len(times) != sum(1 for r in asked if r.answered_at is not None):
        raise InvariantBroken(f"{device}: {len(asked)} answers, {len(times)} records of them")
    if not files.pending and files.counted != len(times):
        raise InvariantBroken(
            f"{device}: the aggregates count {files.counted} answers, the records are {len(times)}"
        )


def hard_ends_in_cloud(
    asked: Iterable[Asked], known: Known, files: Mapping[str, DeviceFiles]
) -> None:
    """Invariant 4."""
    revised = {
        record.request_id: record.label
        for held in files.values()
        for record in held.records
        if isinstance(record, v1.Revised)
    }
    excused: Counter[str] = Counter()
    for request in asked:
        if not known.hard[request.sample]:
            continue
        if request.final and request.reason == "budget":
            continue  # its caller was told
        held = files[request.device]
        label = revised.get(request.request_id)
        if label is None and request.source == "cloud" and request.final:
            label = request.label
        if label is None:
            if request.request_id in held.waiting:
                continue
            # Nobody can say which request a lost number was: each excuses one, and no more.
            if excused[request.device] < size(held.lost):
                excused[request.device] += 1
                continue
            raise InvariantBroken(
                f"{request.request_id} was hard, has no answer of the cloud and waits nowhere "
                f"(answered by {request.source or 'nobody'}, reason {request.reason!r})"
            )
        if label != known.cloud[request.sample]:
            raise InvariantBroken(
                f"{request.request_id} ended with {label!r}; the cloud model says "
                f"{known.cloud[request.sample]!r}"
            )


def within_budget(device: str, by_hour: Mapping[int, int], limit: int) -> None:
    """Invariant 5."""
    for hour, sent in by_hour.items():
        if sent > limit:
            raise InvariantBroken(
                f"{device} sent {sent} bytes of questions in hour {hour}, {limit} were allowed"
            )


def _disjoint(device: str, ranges: Ranges) -> None:
    end = 0
    for lo, hi in sorted(ranges):
        if lo <= end:
            raise InvariantBroken(f"{device}: number {lo} is delivered or lost twice")
        end = hi
