"""How a figure is written: by the unit at the end of its name, as many digits as it deserves."""

from __future__ import annotations

from models.evaluate.sections import Evaluation

NOTHING = "–"
SPACE = "\u00a0"
"""Does not let a unit go to the next line."""
SURE = 0.0001


def value_at(evaluation: Evaluation, path: str) -> object:
    """What stands at a path such as `parts.classes.0.edge_percent`."""
    found: object = evaluation
    for step in path.split("."):
        found = found[int(step)] if isinstance(found, tuple) else getattr(found, step)
    return found


def shown(name: str, value: object) -> str:
    """The value as a reader sees it, unit included; a dash for what is not known."""
    if value is None:
        return NOTHING
    if isinstance(value, bool) or not isinstance(value, int | float):
        return str(value)
    return _number(name, value).replace("-", "−")


def _number(name: str, value: float) -> str:
    if name.endswith("p_ratio") and value < SURE:
        return f"<{SPACE}{SURE:.4f}"
    match name.rsplit("_", 1)[-1]:
        case "percent":
            return f"{_digits(value)}{SPACE}%"
        case "points":
            return f"{value:+.2f}{SPACE}points"
        case "count":
            return f"{value:,.0f}"
        case "ms":
            return f"{value:,.1f}{SPACE}ms" if value >= 10 else f"{value:.2f}{SPACE}ms"
        case "bytes":
            return _bytes(value)
        case "cost":
            return f"{value:.4g}"
        case "nats":
            return f"{value:.4f}"
        case _:
            return f"{value:.4g}"


def _digits(percent: float) -> str:
    """Two digits after the point; four for what would be lost in them."""
    if percent and abs(percent) < 0.01:
        return f"{percent:.4f}"
    return f"{percent:.2f}"


def _bytes(value: float) -> str:
    for unit, size in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if value >= size:
            return f"{value / size:.1f}{SPACE}{unit}"
    return f"{value:.0f}{SPACE}B"
