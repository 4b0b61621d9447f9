"""What a node makes of the kinds it is given, or why it cannot take them. Nothing is computed."""

import math
from typing import assert_never

from models.pipeline.declared import (
    Crop,
    Custom,
    Ensemble,
    Features,
    Gives,
    Join,
    Model,
    Nms,
    Node,
    Relabel,
    Steps,
    Switch,
    Tokenise,
    Unletterbox,
)
from models.pipeline.kinds import RAW, Kind
from models.pipeline.ops.families import after_step
from models.pipeline.ops.tensor import FLOATS

CANDIDATES = Kind("float32", (None, 6))
"""Rows x1, y1, x2, y2, score, class, as `Nms` makes them."""
_CHANNELS = ((), (1,), (3,))


def outputs(node: Node, taken: list[Kind]) -> dict[str, Kind]:
    """The kinds a node adds, by reference, from those of all it needs. Raises `ValueError`."""
    match node:
        case Steps():
            kind = taken[0]
            for at, step in enumerate(node.steps):
                try:
                    kind = after_step(step, kind)
                except ValueError as error:
                    raise ValueError(f"step {at}: {error}") from error
            return {node.id: kind}
        case Model():
            return _model(node, taken)
        case Tokenise():
            if taken[0].dtype != "text":
                raise ValueError(f"a text is wanted, {node.after!r} is {taken[0].words()}")
            ids = Kind("int64", (node.length,))
            return {node.id: ids, f"{node.id}.ids": ids, f"{node.id}.mask": ids}
        case Join():
            return {node.id: _joined(node, taken)}
        case Ensemble():
            return {node.id: _ensemble(node, taken)}
        case Switch():
            return {node.id: _switched(node, taken)}
        case Nms():
            boxes, scores = taken
            _check_rows("boxes", boxes, 4)
            _check_rows("scores", scores, None)
            if None not in (boxes.shape[0], scores.shape[0]) and boxes.shape[0] != scores.shape[0]:
                raise ValueError(f"{boxes.shape[0]} boxes and the scores of {scores.shape[0]}")
            return {node.id: CANDIDATES}
        case Crop():
            _check_picture(taken[0])
            _check_candidates(taken[1])
            return {node.id: Kind("uint8", (node.height, node.width, *taken[0].shape[2:]), True)}
        case Unletterbox():
            _check_candidates(taken[0])
            _check_picture(taken[1])
            return {node.id: CANDIDATES}
        case Relabel():
            _check_candidates(taken[0])
            if not taken[1].many or len(taken[1].shape) != 1 or taken[1].dtype not in FLOATS:
                raise ValueError(f"logits of each crop are wanted, not {taken[1].words()}")
            return {node.id: CANDIDATES}
        case Features():
            return {node.id: _features(node, taken[0]), f"{node.id}.age_s": Kind("float32", (1,))}
        case Custom():
            return {node.id: _given(node.gives)}
        case _:
            assert_never(node)


def _model(node: Model, taken: list[Kind]) -> dict[str, Kind]:
    for ref, kind in zip(node.after, taken, strict=True):
        if kind.dtype in RAW:
            raise ValueError(f"a model takes arrays, {ref!r} is {kind.words()}")
    many = {kind.many for kind in taken}
    if len(many) > 1:
        raise ValueError(
            "lists and single arrays cannot go into one model: "
            + ", ".join(
                f"{ref!r} is {kind.words()}" for ref, kind in zip(node.after, taken, strict=True)
            )
        )
    names = [gives.name for gives in node.gives]
    if len(set(names)) != len(names):
        raise ValueError(f"two outputs share a name among {', '.join(names)}")
    lists = many.pop()
    found = {f"{node.id}.{gives.name}": _given(gives, many=lists) for gives in node.gives}
    return {node.id: _given(node.gives[0], many=lists), **found}


def _given(gives: Gives, *, many: bool = False) -> Kind:
    return Kind(gives.dtype, gives.shape, many)


def _joined(node: Join, taken: list[Kind]) -> Kind:
    first = taken[0]
    for ref, kind in zip(node.after, taken, strict=True):
        if kind.dtype in RAW or kind.dtype != first.dtype or kind.many != first.many:
            raise ValueError(f"{ref!r} is {kind.words()} and {node.after[0]!r} {first.words()}")
        if node.axis >= len(kind.shape):
            raise ValueError(f"{ref!r} is {kind.words()} and has no axis {node.axis}")
        if _without(kind.shape, node.axis) != _without(first.shape, node.axis):
            raise ValueError(
                f"{ref!r} is {kind.words()} and {node.after[0]!r} {first.words()}; "
                f"they may differ on axis {node.axis} alone"
            )
    sides = [kind.shape[node.axis] for kind in taken]
    known = [side for side in sides if side is not None]
    total = sum(known) if len(known) == len(sides) else None
    shape = (*first.shape[: node.axis], total, *first.shape[node.axis + 1 :])
    return first._replace(shape=shape)


def _without(shape: tuple[int | None, ...], axis: int) -> tuple[int | None, ...]:
    return shape[:axis] + shape[axis + 1 :]


def _ensemble(node: Ensemble, taken: list[Kind]) -> Kind:
    first = taken[0]
    for ref, kind in zip(node.after, taken, strict=True):
        if kind.dtype not in FLOATS or kind != first:
            raise ValueError(
                f"members must be floats of one shape; {ref!r} is {kind.words()} "
                f"and {node.after[0]!r} {first.words()}"
            )
    if node.how == "vote" and not first.shape:
        raise ValueError("a vote needs a class axis")
    wanted = len(node.after) if node.how == "weighted" else 0
    if len(node.weights) != wanted:
        raise ValueError(f"{node.how!r} takes {wanted} weights, not {len(node.weights)}")
    if any(not 0 < weight < float("inf") for weight in node.weights):
        raise ValueError("weights must be positive numbers")
    return first._replace(dtype="float32")


def _switched(node: Switch, taken: list[Kind]) -> Kind:
    on, then, otherwise = taken
    if on.dtype in RAW or on.many:
        raise ValueError(f"'on' must be an array, {node.on!r} is {on.words()}")
    if node.by == "value" and any(side != 1 for side in on.shape):
        raise ValueError(f"'on' must be one number, {node.on!r} is {on.words()}")
    if node.by == "confidence" and len(on.shape) != 1:
        raise ValueError(f"'on' must be logits [K], {node.on!r} is {on.words()}")
    if (then.dtype, then.many, len(then.shape)) != (
        otherwise.dtype,
        otherwise.many,
        len(otherwise.shape),
    ) or any(
        here is not None and there is not None and here != there
        for here, there in zip(then.shape, otherwise.shape, strict=True)
    ):
        raise ValueError(
            f"both ways must give the same: {node.then!r} is {then.words()}, "
            f"{node.otherwise!r} is {otherwise.words()}"
        )
    shape = tuple(
        here if here == there else None
        for here, there in zip(then.shape, otherwise.shape, strict=True)
    )
    return then._replace(shape=shape)


def _features(node: Features, key: Kind) -> Kind:
    if key.dtype not in ("text", "record"):
        raise ValueError(f"a key is a text or a record's field, {node.key!r} is {key.words()}")
    if (key.dtype == "record") != bool(node.field):
        raise ValueError("'field' names the key in a record, and only there")
    if len(node.default) != len(node.names):
        raise ValueError(f"{len(node.names)} names and {len(node.default)} defaults")
    if not all(map(math.isfinite, node.default)):
        raise ValueError(f"defaults must be finite numbers, not {list(node.default)}")
    return Kind("float32", (len(node.names),))


def _check_rows(what: str, kind: Kind, width: int | None) -> None:
    fits = kind.dtype in FLOATS and not kind.many and len(kind.shape) == 2
    if not fits or (width is not None and kind.shape[1] != width):
        wanted = f"[n, {'classes' if width is None else width}]"
        raise ValueError(f"{what} must be floats {wanted}, not {kind.words()}")


def _check_picture(kind: Kind) -> None:
    channels = kind.shape[2:]
    if kind.dtype != "uint8" or kind.many or len(kind.shape) < 2 or channels not in _CHANNELS:
        raise ValueError(f"a picture is uint8 [h, w], [h, w, 1] or [h, w, 3], not {kind.words()}")


def _check_candidates(kind: Kind) -> None:
    # A model that suppresses by itself gives as many as it always does.
    if kind._replace(shape=(None, *kind.shape[1:])) != CANDIDATES:
        raise ValueError(f"candidates as `nms` makes them are wanted, not {kind.words()}")
