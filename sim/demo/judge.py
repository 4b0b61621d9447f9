"""From what the witnesses saw to the demo's figures and whether each promise was kept. Pure.

Nothing here asks an agent or the gateway how it did. Answers, deadlines and drops come from the
callers' books, bytes from the proxy's meters, records from both databases read after the programs
stopped, accuracies from running the shipped files again on the same inputs.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from sim.books import DeviceFiles, size
from sim.demo.book import Entry, Revised, Sent
from sim.demo.figures import (
    CutFigures,
    Figures,
    RecordFigures,
    TaskFigures,
    UpdateFigures,
)
from sim.demo.plan import FIRST, LATE_MS, UPDATED, Device
from sim.meter import Tally
from sync.wire import v1


@dataclass(frozen=True)
class Reference:
    """What the truth and the shipped files say, by index into a task's test split."""

    truth: Mapping[int, str]
    edge: Mapping[int, str]
    cloud: Mapping[int, str]


@dataclass(frozen=True)
class Ledger:
    """One device's records, each column read from where it lives and none computed from another."""

    issued: int
    delivered: int
    lost: int
    pending: int
    answered_ids: Sequence[str]
    """Request ids of the answer records in both databases, repetitions included."""
    answers_counted: int
    """Sum of the gateway's aggregates for this device."""


def ledger_of(files: DeviceFiles) -> Ledger:
    """The ledger as the databases hold it."""
    return Ledger(
        issued=files.issued,
        delivered=size(files.delivered),
        lost=size(files.lost),
        pending=size(files.pending),
        answered_ids=[r.request_id for r in files.records if isinstance(r, v1.Answered)],
        answers_counted=files.counted,
    )


@dataclass(frozen=True)
class Witness:
    """All that was seen of one device."""

    device: Device
    book: Sequence[Entry]
    tally: Tally
    ledger: Ledger
    serving: str
    """Version the agent said it served when the streams had ended."""
    refusal: str
    """The reason the agent and the gateway both give for refusing the altered package, or empty."""


@dataclass(frozen=True)
class Windows:
    """Moments on this machine's monotonic clock, in seconds."""

    cut: float
    repair: float
    update: float
    updated: float


@dataclass(frozen=True)
class Promise:
    """One sentence that must be true at the end of the demo."""

    text: str
    kept: bool
    found: str


def hard(sent: Sent) -> bool:
    """Whether the device judged this input hard: the cloud answered it, or its answer is owed."""
    return not sent.error and (sent.source == "cloud" or not sent.final)


def in_time(sent: Sent) -> bool:
    """Whether its caller had an answer by the deadline and its grace."""
    return not sent.error and sent.took_ms <= LATE_MS


def task_figures(
    name: str, witnesses: Sequence[Witness], ref: Reference, w: Windows
) -> TaskFigures:
    """The row of one task, over all devices that ran it."""
    sent = [entry for witness in witnesses for entry in _sent(witness)]
    last = {e.request_id: e.label for e in sent if not e.error}
    for witness in witnesses:
        last.update({e.request_id: e.label for e in witness.book if isinstance(e, Revised)})
    outside = [e for e in sent if not w.cut <= e.sent_at < w.repair]
    edge_ms = [e.took_ms for e in outside if e.source == "edge" and e.final]
    cloud_ms = [e.took_ms for e in outside if e.source == "cloud"]
    escalations = sum(witness.tally.escalations for witness in witnesses)
    sent_bytes = sum(witness.tally.escalation_bytes for witness in witnesses)
    return TaskFigures(
        name=name,
        inputs=len(sent),
        edge_accuracy=_share(ref.edge[e.sample] == ref.truth[e.sample] for e in sent),
        cloud_accuracy=_share(ref.cloud[e.sample] == ref.truth[e.sample] for e in sent),
        system_accuracy=_share(last.get(e.request_id) == ref.truth[e.sample] for e in sent),
        escalated=_share(hard(e) for e in sent),
        bytes_sent=sent_bytes,
        bytes_if_all_sent=round(sent_bytes / escalations * len(sent)) if escalations else None,
        p50_ms_edge=_percentile(edge_ms, 0.50),
        p99_ms_edge=_percentile(edge_ms, 0.99),
        p50_ms_cloud=_percentile(cloud_ms, 0.50),
        p99_ms_cloud=_percentile(cloud_ms, 0.99),
        unanswered=sum(1 for e in sent if e.error),
    )


def cut_figures(witnesses: Sequence[Witness], w: Windows) -> CutFigures:
    """What happened to the requests sent while the proxy swallowed everything."""
    inside = [e for witness in witnesses for e in _sent(witness) if w.cut <= e.sent_at < w.repair]
    revised = {
        e.request_id for witness in witnesses for e in witness.book if isinstance(e, Revised)
    }
    return CutFigures(
        seconds=round(w.repair - w.cut, 2),
        requests=len(inside),
        hard=sum(1 for e in inside if hard(e)),
        answered=sum(1 for e in inside if not e.error),
        missed_deadline=sum(1 for e in inside if not in_time(e)),
        revised=sum(1 for e in inside if hard(e) and e.request_id in revised),
    )


def promises(figures: Figures, witnesses: Sequence[Witness], w: Windows) -> list[Promise]:
    """Every promise of the demo, kept or not, with what was found."""
    sent = [entry for witness in witnesses for entry in _sent(witness)]
    late = [e for e in sent if not in_time(e)]
    cut, records, update = figures.cut, figures.records, figures.update
    least_hard = 20 if figures.data == "digits" else 100
    inside = [e for e in sent if w.cut <= e.sent_at < w.repair]
    unexplained = [e for e in inside if hard(e) and (e.final or not e.reason)]
    owed = {e.request_id for e in sent if not e.error and not e.final}
    revised = {e.request_id for x in witnesses for e in x.book if isinstance(e, Revised)}
    found = [
        Promise(
            "every request is answered within its deadline, cut or no cut",
            not late,
            f"{len(sent) - len(late)} of {len(sent)} in time"
            + (f"; first late: {late[0].request_id} {_why_late(late[0])}" if late else ""),
        ),
        Promise(
            f"at least {least_hard} hard inputs fell into the cut",
            cut.hard >= least_hard,
            f"{cut.hard} of {cut.requests}",
        ),
        Promise(
            "hard inputs in the cut were answered provisionally, with a reason",
            not unexplained,
            f"{cut.hard - len(unexplained)} of {cut.hard}",
        ),
        Promise(
            "every provisional answer was revised by the cloud",
            owed <= revised and cut.revised == cut.hard,
            f"{len(owed & revised)} of {len(owed)}, {cut.revised} of {cut.hard} from the cut",
        ),
        Promise(
            "issued = delivered + lost + pending",
            all(_balances(x.ledger) for x in witnesses),
            f"{records.issued} = {records.delivered} + {records.lost} + {records.pending}",
        ),
        Promise("nothing was lost", records.lost == 0, f"{records.lost} lost"),
        Promise("nothing is left behind", records.pending == 0, f"{records.pending} pending"),
        _counted_once(witnesses),
        Promise(
            f"every device moved from {update.from_} to {update.to}",
            update.devices == len(witnesses),
            f"{update.devices} of {len(witnesses)}",
        ),
        Promise(
            "no request was dropped by the update",
            update.dropped_requests == 0,
            f"{update.dropped_requests} dropped",
        ),
        Promise(
            "every device refused the altered package and said why",
            update.bad_signature_refused == len(witnesses),
            "; ".join(sorted({x.refusal for x in witnesses if x.refusal})) or "nobody did",
        ),
    ]
    return found + [p for task in figures.tasks for p in _accuracy(task, figures.data)]


def records(witnesses: Iterable[Witness]) -> RecordFigures:
    """The ledger summed over the fleet."""
    ledgers = [witness.ledger for witness in witnesses]
    return RecordFigures(
        issued=sum(x.issued for x in ledgers),
        delivered=sum(x.delivered for x in ledgers),
        lost=sum(x.lost for x in ledgers),
        pending=sum(x.pending for x in ledgers),
    )


def update_figures(witnesses: Sequence[Witness], w: Windows) -> UpdateFigures:
    """Who moved, who refused, and whose requests went unanswered while the fleet changed."""
    entries = [e for witness in witnesses for e in _sent(witness)]
    moved = [x for x in witnesses if any(e.version == UPDATED for e in _sent(x))]
    return UpdateFigures(
        from_=FIRST,
        to=UPDATED,
        devices=len(moved),
        dropped_requests=sum(1 for e in entries if e.error and w.update <= e.sent_at <= w.updated),
        # A device that says it refused and runs the altered package all the same does not count.
        bad_signature_refused=sum(1 for x in moved if x.refusal and x.serving == UPDATED),
    )


def _accuracy(task: TaskFigures, data: str) -> list[Promise]:
    found = [
        Promise(
            f"{task.name}: the system is at most 1.5 points below the cloud model",
            task.system_accuracy >= task.cloud_accuracy - 0.015,
            f"{task.system_accuracy:.2%} against {task.cloud_accuracy:.2%}",
        ),
        Promise(
            f"{task.name}: between 0.5 and 40 % of the inputs were escalated",
            0.005 <= task.escalated <= 0.40,
            f"{task.escalated:.1%}",
        ),
    ]
    if task.name == "apparel" and data == "shared":
        found[1] = Promise(
            "apparel: between 2 and 30 % of the inputs were escalated",
            0.02 <= task.escalated <= 0.30,
            f"{task.escalated:.1%}",
        )
        found.append(
            Promise(
                "apparel: the system is at least 0.5 points above the edge model",
                task.system_accuracy >= task.edge_accuracy + 0.005,
                f"{task.system_accuracy:.2%} against {task.edge_accuracy:.2%}",
            )
        )
    return found


def _counted_once(witnesses: Sequence[Witness]) -> Promise:
    wrong: list[str] = []
    records = 0
    for witness in witnesses:
        times = Counter(witness.ledger.answered_ids)
        records += times.total()
        sent = {e.request_id for e in _sent(witness)}
        answered = {e.request_id for e in _sent(witness) if not e.error}
        found = {
            "without a record": len(answered - set(times)),
            "recorded again": times.total() - len(times),
            "recorded and never sent": len(set(times) - sent),
            "counted wrongly": abs(witness.ledger.answers_counted - len(times)),
            "not issued": max(0, len(answered) - witness.ledger.issued),
        }
        if any(found.values()):
            said = ", ".join(f"{number} {what}" for what, number in found.items() if number)
            wrong.append(f"{witness.device.name}: {said}")
    answers = sum(1 for witness in witnesses for e in _sent(witness) if not e.error)
    return Promise(
        "every answer is recorded and counted exactly once",
        not wrong,
        "; ".join(wrong) or f"{answers} answers, {records} records",
    )


def _balances(ledger: Ledger) -> bool:
    return ledger.issued == ledger.delivered + ledger.lost + ledger.pending


def _why_late(sent: Sent) -> str:
    return sent.error or f"{sent.took_ms:.0f} ms"


def _sent(witness: Witness) -> list[Sent]:
    return [entry for entry in witness.book if isinstance(entry, Sent)]


def _share(flags: Iterable[bool]) -> float:
    values = list(flags)
    return sum(values) / len(values) if values else 0.0


def _percentile(values: Sequence[float], share: float) -> float | None:
    if not values:
        return None
    ordered = sorted(values)
    return round(ordered[min(len(ordered) - 1, int(share * len(ordered)))], 2)
