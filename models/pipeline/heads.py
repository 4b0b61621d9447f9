"""What the output of a pipeline means: a class, objects, a number, an alarm, a nearest neighbour.

Declared in the manifest, one head per pipeline. `accepts` says which kinds of output a head can
read, `reading` reads them. No numpy here.

Every head gives a confidence in [0, 1], or none for output that is NaN, infinite or malformed;
what has none is hard. None of them is a probability of being right: calibration makes a promise of
it. The temperature of a certificate scales the logits of `Classify`, where it changes the ranking
of answers. On the other heads it has no effect: their outputs are no logits.
"""

from typing import Annotated, Literal, assert_never

from msgspec import Meta, Struct

from models.pipeline.files import FileRef
from models.pipeline.kinds import Kind
from models.pipeline.ops.tensor import FLOATS

Label = Annotated[str, Meta(min_length=1, max_length=200)]
Share = Annotated[float, Meta(ge=0, le=1)]
Amount = Annotated[float, Meta(gt=0, le=1e30)]


class Classify(Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="classify"):
    """One of K classes, from logits [K].

    Confidence: the top probability or the margin to the second, as the certificate's score says.
    """

    labels: Annotated[tuple[Label, ...], Meta(min_length=2)]
    top: Annotated[int, Meta(ge=1, le=100)] = 1
    """How many classes the answer ranks."""


class Detect(Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="detect"):
    """Objects, from candidates [?, 6] of `nms`: x1, y1, x2, y2 in pixels, score, class.

    Confidence: the smaller of the lowest score kept and 1 - the highest score not kept. So an empty
    result is as sure as its best candidate was poor, and is judged like any other.
    """

    labels: Annotated[tuple[Label, ...], Meta(min_length=1)]
    threshold: Annotated[float, Meta(gt=0, le=1)]
    """Candidates at or above it are objects."""
    match_iou: Annotated[float, Meta(gt=0, le=1)] = 0.5
    """Two answers agree on an object when class and, by this overlap, place agree."""
    floor: Share | None = None
    """The score below which a model that suppresses by itself shows no candidate: output without
    any then has confidence 1 - floor. None: such output has no confidence, for nobody knows how
    near to an object it was."""


class Regress(Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="regress"):
    """A number with an interval, from [3] or from the members of an ensemble [m].

    Confidence: 1 / (1 + width / tolerance), with the width of the interval.
    """

    tolerance: Amount
    """An error of this much is still right; at an interval this wide the confidence is 1/2."""
    unit: Annotated[str, Meta(max_length=20)] = ""
    form: Literal["interval", "members"] = "interval"
    """`interval`: low, value, high. `members`: their mean, from the least to the greatest."""


class Anomaly(Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="anomaly"):
    """An alarm, from anomaly scores [w]: `needed` of `of` scores in a row reach the threshold.

    Confidence: 1 - exp(-|d| / scale), where d is how far the score that decides, the `needed`-th
    largest of a window, is from the threshold. Of several windows the one nearest to an alarm
    decides.
    """

    threshold: Annotated[float, Meta(ge=-1e30, le=1e30)]
    scale: Amount
    """A distance that is far: the spread of the scores of normal samples."""
    needed: Annotated[int, Meta(ge=1, le=1 << 16)] = 1
    of: Annotated[int, Meta(ge=1, le=1 << 16)] = 1


class Search(Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="search"):
    """The label of the nearest reference, from an embedding [d], by cosine similarity.

    Confidence: half the margin between the best similarity and the best of another label.
    """

    labels: Annotated[tuple[Label, ...], Meta(min_length=2)]
    """One for each row of the reference, in its order."""
    reference: FileRef
    """npz with one float array [rows, d]."""


Head = Classify | Detect | Regress | Anomaly | Search


def accepts(head: Head, kind: Kind) -> None:
    """Return if the head can read outputs of this kind. Raises `ValueError`, saying why not."""
    if kind.dtype not in FLOATS:
        raise ValueError(
            f"a head reads floats, not {kind.words()}; cast or dequantise the output before it"
        )
    match head:
        case Classify(labels, top):
            _check_each_once(labels)
            if top > len(labels):
                raise ValueError(f"top {top} of {len(labels)} labels cannot be ranked")
            if kind.many or kind.shape != (len(labels),):
                raise ValueError(
                    f"{len(labels)} labels need logits [{len(labels)}], not {kind.words()}"
                )
        case Detect(labels):
            _check_each_once(labels)
            if kind.many or len(kind.shape) != 2 or kind.shape[1] != 6:
                raise ValueError(f"detect reads candidates [?, 6] of nms, not {kind.words()}")
        case Regress(form="interval"):
            if kind.many or kind.shape != (3,):
                raise ValueError(f"an interval is low, value, high: [3], not {kind.words()}")
        case Regress():
            if kind.many or len(kind.shape) != 1 or kind.shape == (1,):
                raise ValueError(f"members are two or more: [m], not {kind.words()}")
        case Anomaly(needed=needed, of=of):
            _check_window(needed, of, kind)
        case Search(labels):
            if len(set(labels)) < 2:
                raise ValueError("a search over references of one label has nothing to find")
            if kind.many or len(kind.shape) != 1:
                raise ValueError(f"search reads an embedding [d], not {kind.words()}")
        case _:
            assert_never(head)


def _check_each_once(labels: tuple[str, ...]) -> None:
    seen: set[str] = set()
    for label in labels:
        if label in seen:
            raise ValueError(f"label {label!r} is there more than once")
        seen.add(label)


def _check_window(needed: int, of: int, kind: Kind) -> None:
    if needed > of:
        raise ValueError(f"{needed} of {of} scores can never reach the threshold")
    match kind:
        case Kind(many=False, shape=(count,)) if count is None or count >= of:
            return
        case Kind(many=True, shape=() | (1,)):
            return
        case _:
            raise ValueError(
                f"a window of {of} scores needs [{of}] or more, or a list of single scores, "
                f"not {kind.words()}"
            )
