"""How the demo tells what it found: a table for a person, one JSON line for a program."""

from collections.abc import Sequence

from sim.demo.figures import Figures, TaskFigures
from sim.demo.judge import Promise

_ROWS: tuple[tuple[str, str], ...] = (
    ("inputs", "inputs sent"),
    ("edge_accuracy", "edge model alone"),
    ("cloud_accuracy", "cloud model alone"),
    ("system_accuracy", "the system, revisions included"),
    ("escalated", "judged hard and escalated"),
    ("bytes_sent", "bytes escalated"),
    ("bytes_if_all_sent", "bytes, had all been sent"),
    ("p50_ms_edge", "answer from the device, p50 ms"),
    ("p99_ms_edge", "                        p99 ms"),
    ("p50_ms_cloud", "answer from the cloud, p50 ms"),
    ("p99_ms_cloud", "                       p99 ms"),
    ("unanswered", "unanswered"),
)
_SHARES = {"edge_accuracy", "cloud_accuracy", "system_accuracy", "escalated"}


def table(figures: Figures, promises: Sequence[Promise]) -> str:
    """The whole account in about forty lines."""
    width = max(len(text) for _, text in _ROWS)
    lines = ["", " " * width + "".join(f"{task.name:>14}" for task in figures.tasks)]
    lines += [
        f"{text:<{width}}" + "".join(f"{_cell(task, key):>14}" for task in figures.tasks)
        for key, text in _ROWS
    ]
    cut, records, update = figures.cut, figures.records, figures.update
    lines += [
        "",
        (
            f"cut      {cut.seconds:.1f} s without a byte: {cut.requests} requests, {cut.answered} "
            f"answered, {cut.missed_deadline} late; {cut.hard} hard, {cut.revised} revised later"
        ),
        (
            f"records  {records.issued} issued = {records.delivered} delivered "
            f"+ {records.lost} lost + {records.pending} pending"
        ),
        (
            f"update   {update.from_} -> {update.to} on {update.devices} devices, "
            f"{update.dropped_requests} requests dropped; altered package refused by "
            f"{update.bad_signature_refused}"
        ),
        f"broker   {figures.broker}        data   {figures.data}",
        "",
    ]
    lines += [f"{'kept  ' if p.kept else 'BROKEN'}  {p.text}  ({p.found})" for p in promises]
    broken = sum(1 for p in promises if not p.kept)
    lines += [
        "",
        f"{broken} of {len(promises)} promises broken" if broken else "Every promise kept.",
    ]
    return "\n".join(lines)


def _cell(task: TaskFigures, key: str) -> str:
    value: str | int | float | None = getattr(task, key)
    if value is None:
        return "unknown"
    if key in _SHARES:
        return f"{float(value):.2%}"
    if isinstance(value, int):
        return f"{value:,}"
    return f"{value:.1f}" if isinstance(value, float) else value
