"""From the output of a pipeline to an answer, a label and a confidence, as its head declares.

1. Nothing raises on an output of the declared kind, whatever it holds.
2. A confidence lies in [0, 1] or is None. It is None where the output holds NaN or an infinity, or
   is malformed: logits all equal, a box inside out, a score that is no probability, an interval
   upside down, too few scores, an embedding of zeros. An answer is given with it, and means
   nothing; whoever judges it must treat it as hard.
3. The device, the gateway and calibration all read by these functions.
"""

import heapq
import math
from collections.abc import Callable
from typing import NamedTuple, assert_never

import numpy as np
import numpy.typing as npt

from models.calibrate.certificate import CertifiedScore, ScoreName
from models.calibrate.scores import ScoreOf, score, score_of
from models.pipeline.answers import (
    Answer,
    Classified,
    Detected,
    Estimated,
    Flagged,
    Found,
    Ranked,
    Seen,
    short,
)
from models.pipeline.heads import Anomaly, Classify, Detect, Head, Regress, Search
from models.pipeline.values import Array, Floats

_FEW = 64
"""Up to here plain arithmetic is quicker than numpy."""


class Read(NamedTuple):
    """What a pipeline said about one sample."""

    answer: Answer
    label: str
    confidence: float | None


class References(NamedTuple):
    """The rows a `Search` compares with, made ready once."""

    rows: Floats
    """[r, d], each of length 1."""
    codes: npt.NDArray[np.intp]
    """[r], the same number for the same label."""


Reader = Callable[[Array], Read]


def reader_of(
    head: Head,
    *,
    temperature: float = 1.0,
    score: CertifiedScore = "head",
    references: References | None = None,
) -> Reader:
    """A function that reads one output without batch axis, of a kind `heads.accepts` let pass.

    `temperature` and `score` are the certificate's, and for `Classify` only, where `head` means
    `top`; the other heads have one confidence each. `references` are for `Search`. Raises
    `ValueError` when they are missing or the temperature is not positive.
    """
    match head:
        case Classify():
            return _classifier(head, temperature, "top" if score == "head" else score)
        case Detect():
            return lambda output: _detected(head, output)
        case Regress():
            return lambda output: _estimated(head, output)
        case Anomaly():
            return lambda output: _flagged(head, output)
        case Search():
            if references is None:
                raise ValueError("search needs its references; make them by `references_of`")
            return lambda output: _found(head, output, references)
        case _:
            assert_never(head)


def read(
    head: Head,
    output: Array,
    *,
    temperature: float = 1.0,
    score: CertifiedScore = "head",
    references: References | None = None,
) -> Read:
    """Read one output once; `reader_of` for many."""
    reader = reader_of(head, temperature=temperature, score=score, references=references)
    return reader(output)


def references_of(head: Search, matrix: Array, size: int) -> References:
    """The reference matrix [r, size] ready to search. Raises `ValueError`, saying what is wrong."""
    if matrix.shape != (len(head.labels), size):
        raise ValueError(
            f"references of shape {list(matrix.shape)} are not one row of {size} for each of "
            f"{len(head.labels)} labels"
        )
    units = [_unit(row) for row in matrix]
    for at, unit in enumerate(units):
        if unit is None:
            raise ValueError(f"reference {at} ({head.labels[at]!r}) is zero or not finite")
    code = {label: at for at, label in enumerate(dict.fromkeys(head.labels))}
    rows = np.array(units, dtype=np.float32)
    return References(rows, np.array([code[label] for label in head.labels], dtype=np.intp))


def _classifier(head: Classify, temperature: float, name: ScoreName) -> Reader:
    labels, ranks, few = head.labels, head.top, len(head.labels) <= _FEW
    share_of = _scorer("top", temperature, few=few)
    sure_of = None if name == "top" else _scorer(name, temperature, few=few)

    def classify(logits: Array) -> Read:
        values: list[float] = logits.tolist()
        share = share_of(logits)
        if share is None:
            return _meaningless(labels, values)
        index = values.index(max(values))
        label = labels[index]
        top: tuple[Ranked, ...] = (Ranked(label, share),)
        if ranks > 1:
            order = heapq.nlargest(ranks, range(len(values)), key=values.__getitem__)
            best = values[index]
            top += tuple(
                Ranked(labels[at], share * math.exp((values[at] - best) / temperature))
                for at in order[1:]
            )
        sure = share if sure_of is None else sure_of(logits)
        return Read(Classified(label, index, top), label, sure)

    return classify


def _scorer(name: ScoreName, temperature: float, *, few: bool) -> ScoreOf:
    plain = score_of(name, temperature)
    if few:
        return plain

    def by_numpy(logits: Array) -> float | None:
        found = float(score(name, logits[None], temperature)[0])
        return None if math.isnan(found) else found

    return by_numpy


def _meaningless(labels: tuple[str, ...], values: list[float]) -> Read:
    """NaN passes for the largest in many a language; here it never chooses the label."""
    seen = [-math.inf if math.isnan(value) else value for value in values]
    index = seen.index(max(seen))
    return Read(Classified(labels[index], index), labels[index], None)


def _detected(head: Detect, candidates: Array) -> Read:
    rows: list[list[float]] = candidates.tolist()
    sound = [row for row in rows if _is_candidate(row, len(head.labels))]
    kept = sorted((row for row in sound if row[4] >= head.threshold), key=lambda row: -row[4])
    answer = Detected(
        tuple(
            Seen(head.labels[int(name)], score, (left, top, right, bottom))
            for left, top, right, bottom, score, name in kept
        )
    )
    sure: float | None = None
    if rows and len(sound) == len(rows):
        missed = max((row[4] for row in sound if row[4] < head.threshold), default=0.0)
        sure = min([row[4] for row in kept] + [1.0 - missed])
    elif not rows and head.floor is not None:
        sure = 1.0 - head.floor
    return Read(answer, short(head, answer), sure)


def _is_candidate(row: list[float], classes: int) -> bool:
    """Whether a row is a box the right way round, a probability and one of the classes."""
    left, top, right, bottom, score, name = row
    return (
        all(map(math.isfinite, row))
        and left <= right
        and top <= bottom
        and 0.0 <= score <= 1.0
        and 0 <= name < classes
        and name == int(name)
    )


def _estimated(head: Regress, output: Array) -> Read:
    values: list[float] = output.tolist()
    finite = all(map(math.isfinite, values))
    if head.form == "interval":
        low, value, high = (number if math.isfinite(number) else None for number in values)
    elif finite:
        low, high = min(values), max(values)
        value = min(high, max(low, sum(number / len(values) for number in values)))
    else:
        low = value = high = None
    answer = Estimated(value, low, high)
    sure: float | None = None
    if finite and len(values) > 1 and low is not None and value is not None and high is not None:
        sure = 1.0 / (1.0 + (high - low) / head.tolerance) if low <= value <= high else None
    return Read(answer, short(head, answer), sure)


def _flagged(head: Anomaly, output: Array) -> Read:
    scores = output.astype(np.float64).ravel()
    sound = len(scores) >= head.of and bool(np.isfinite(scores).all())
    # A score that is NaN counts as an alarm: what watches must not fall silent when it breaks.
    decided = _deciding(np.where(np.isnan(scores), np.inf, scores), head)
    answer = Flagged(decided >= head.threshold, decided if sound else None)
    away = abs(decided - head.threshold) / head.scale
    return Read(answer, short(head, answer), _within(-math.expm1(-away)) if sound else None)


def _deciding(scores: npt.NDArray[np.float64], head: Anomaly) -> float:
    """The `needed`-th largest score of the window that comes nearest to an alarm."""
    window = min(head.of, len(scores))
    if window < head.needed:
        return -math.inf
    windows = np.lib.stride_tricks.sliding_window_view(scores, window)
    return float(np.partition(windows, window - head.needed, axis=1)[:, -head.needed].max())


def _found(head: Search, output: Array, references: References) -> Read:
    unit = _unit(output)
    if unit is None:
        return Read(Found(head.labels[0], None), head.labels[0], None)
    alike = references.rows @ unit
    best = int(alike.argmax())
    others = alike[references.codes != references.codes[best]]
    similarity = float(alike[best])
    label = head.labels[best]
    margin = (similarity - float(others.max())) / 2
    return Read(Found(label, min(1.0, max(-1.0, similarity))), label, _within(margin))


def _unit(vector: Array) -> Floats | None:
    """The vector at length 1; None when it is zero or not finite."""
    wide = vector.astype(np.float64)
    largest = float(np.abs(wide).max())
    if not math.isfinite(largest) or largest == 0.0:
        return None
    scaled = wide / largest
    unit: Floats = (scaled / np.sqrt(scaled @ scaled)).astype(np.float32)
    return unit


def _within(share: float) -> float:
    """Rounding may leave [0, 1] by a last bit."""
    return min(1.0, max(0.0, share))
