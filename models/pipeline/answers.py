"""Answers as programs, records and the wire know them, and when two of them are the same.

Answers are values without arrays: `msgspec.json.encode` gives the JSON that a caller sees. A number
that could not be computed is null, never NaN. No numpy here.
"""

from typing import Annotated, assert_never

from msgspec import Meta, Struct

from models.pipeline.heads import Anomaly, Classify, Detect, Head, Regress, Search

Box = tuple[float, float, float, float]
"""x1, y1, x2, y2 in pixels of the picture, x to the right and y down."""


class Ranked(Struct, frozen=True, forbid_unknown_fields=True):
    """A class and its probability."""

    label: str
    probability: Annotated[float, Meta(ge=0, le=1)]


class Classified(
    Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="classified"
):
    """The class with the largest logit."""

    label: str
    index: int
    top: tuple[Ranked, ...] = ()
    """The most probable classes, best first; empty when the logits mean nothing."""


class Seen(Struct, frozen=True, forbid_unknown_fields=True):
    """One object."""

    label: str
    score: float
    box: Box


class Detected(Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="detected"):
    """Every object, best score first."""

    objects: tuple[Seen, ...]


class Estimated(Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="estimated"):
    """A number between two others; null where the model gave none."""

    value: float | None
    low: float | None
    high: float | None


class Flagged(Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="flagged"):
    """Whether a window is anomalous, and the score that decided."""

    anomalous: bool
    score: float | None


class Found(Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="found"):
    """The label of the nearest reference, and the cosine similarity to it."""

    label: str
    similarity: float | None


Answer = Classified | Detected | Estimated | Flagged | Found


def same_answer(head: Head, one: Answer, other: Answer) -> bool:
    """Whether two answers of one head agree; which of them is the truth makes no difference.

    A class or a nearest label: the same. Objects: they can be paired so that in each pair the label
    is the same and the boxes overlap by at least `match_iou`, and none is left over. A number: at
    most `tolerance` apart, or both missing. An alarm: both or neither. Answers of another head
    never agree.
    """
    match head, one, other:
        case Classify(), Classified(), Classified():
            return one.label == other.label
        case Detect(match_iou=least), Detected(), Detected():
            return _paired(one.objects, other.objects, least)
        case Regress(tolerance=tolerance), Estimated(), Estimated():
            if one.value is None or other.value is None:
                return one.value is other.value
            return abs(one.value - other.value) <= tolerance
        case Anomaly(), Flagged(), Flagged():
            return one.anomalous == other.anomalous
        case Search(), Found(), Found():
            return one.label == other.label
        case ((Classify() | Detect() | Regress() | Anomaly() | Search()), _, _):
            return False
        case _:
            assert_never(head)


def short(head: Head, answer: Answer) -> str:
    """One short text for a record: `boot`, `2 bag, 1 shoe`, `nothing`, `12.3 kWh`, `anomalous`."""
    match answer:
        case Classified(label) | Found(label):
            return label
        case Detected(objects):
            return _counted(head, objects)
        case Estimated(value):
            unit = head.unit if isinstance(head, Regress) else ""
            return "no value" if value is None else f"{value:.4g} {unit}".rstrip()
        case Flagged(anomalous):
            return "anomalous" if anomalous else "normal"
        case _:
            assert_never(answer)


def _counted(head: Head, objects: tuple[Seen, ...]) -> str:
    """How many of each label, in the order of the head's labels."""
    counts: dict[str, int] = {}
    for seen in objects:
        counts[seen.label] = counts.get(seen.label, 0) + 1
    order = head.labels if isinstance(head, Detect) else tuple(sorted(counts))
    return ", ".join(f"{counts[name]} {name}" for name in order if name in counts) or "nothing"


def _paired(ones: tuple[Seen, ...], others: tuple[Seen, ...], least: float) -> bool:
    """Whether a perfect matching exists, by augmenting paths (Kuhn 1955).

    Taking the best overlap first would make agreement depend on who is asked first.
    """
    if len(ones) != len(others):
        return False
    near = [[at for at, other in enumerate(others) if _matches(one, other, least)] for one in ones]
    held_by: dict[int, int] = {}
    holds: dict[int, int] = {}
    return all(_placed(one, near, held_by, holds) for one in range(len(ones)))


def _placed(
    first: int, near: list[list[int]], held_by: dict[int, int], holds: dict[int, int]
) -> bool:
    """Give `first` a partner, others changing theirs if need be; False if there is no way."""
    reached: dict[int, int] = {}
    waiting = [first]
    for one in waiting:
        for at in near[one]:
            if at in reached:
                continue
            reached[at] = one
            if at not in held_by:
                _hand_over(at, reached, held_by, holds)
                return True
            waiting.append(held_by[at])
    return False


def _hand_over(
    free: int, reached: dict[int, int], held_by: dict[int, int], holds: dict[int, int]
) -> None:
    """Back along the path that reached a free one: each takes what the next gives up."""
    at: int | None = free
    while at is not None:
        one = reached[at]
        at_before = holds.get(one)
        held_by[at], holds[one] = one, at
        at = at_before


def _matches(one: Seen, other: Seen, least: float) -> bool:
    return one.label == other.label and (
        one.box == other.box or _overlap(one.box, other.box) >= least
    )


def _overlap(one: Box, other: Box) -> float:
    """Intersection over union; 0 where neither box has an area."""
    across = min(one[2], other[2]) - max(one[0], other[0])
    down = min(one[3], other[3]) - max(one[1], other[1])
    if across <= 0 or down <= 0:
        return 0.0
    shared = across * down
    whole = _area(one) + _area(other) - shared
    return shared / whole if whole > 0 else 0.0


def _area(box: Box) -> float:
    return (box[2] - box[0]) * (box[3] - box[1])
