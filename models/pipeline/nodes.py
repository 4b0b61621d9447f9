"""What nodes compute that are neither steps, models nor switches: from values to outputs.

Each becomes one function of the values it is declared to need, in that order. What a node needs
from outside the package (a source of features, leave to run custom code) comes in `Resources`.
"""

import math
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import NamedTuple, assert_never

import numpy as np
from msgspec import Struct

from models.calibrate.scores import confidence_of
from models.errors import FeatureSourceOut
from models.pipeline.compute import boxes
from models.pipeline.compute.custom import compile_custom
from models.pipeline.compute.text import compile_tokenise
from models.pipeline.declared import (
    Crop,
    Custom,
    Ensemble,
    Features,
    Join,
    Nms,
    Relabel,
    Switch,
    Tokenise,
    Unletterbox,
)
from models.pipeline.features import CachedFeatures, FeatureSource, Key, Row, key_of
from models.pipeline.kinds import Kind
from models.pipeline.plan import Plan
from models.pipeline.values import Array, Floats, Value, array, text
from sync.clock import Clock, SystemClock

Plain = Tokenise | Join | Ensemble | Nms | Crop | Unletterbox | Relabel | Features | Custom
Computed = Callable[[tuple[Value, ...]], tuple[Value, ...]]


class Resources(Struct, frozen=True):
    """What a pipeline may use beside its own files."""

    folder: Path
    """Where the package's files are."""
    allow_custom: bool = False
    sources: Mapping[str, FeatureSource] = {}
    """Where features come from, by the name a package uses. One it names and nobody has is out."""
    clock: Clock = SystemClock()


def compile_node(node: Plain, plan: Plan, resources: Resources) -> Computed:
    """One node as a function. Raises `ModelsError` for a file that does not load."""
    match node:
        case Join():
            axis = node.axis + plan.kind_of(node.id).many
            return lambda values: (_joined(values, axis),)
        case Ensemble():
            return lambda values: (_ensemble(node, values),)
        case Nms():
            return partial(_suppressed, node)
        case Crop():
            return lambda values: (
                boxes.crop_resize(array(values[0]), array(values[1]), node.height, node.width),
            )
        case Unletterbox():
            return partial(_unletterboxed, node)
        case Relabel():
            return lambda values: (boxes.relabel(array(values[0]), array(values[1])),)
        case Tokenise():
            return _tokeniser(node, resources)
        case Features():
            return _features(node, resources)
        case Custom():
            return _custom(node, resources)
        case _:
            assert_never(node)


def takes(node: Switch, on: Value) -> bool:
    """Whether a switch goes `then`."""
    values = array(on)
    if node.by == "value":
        return bool(values.reshape(-1)[0] >= node.at_least)
    sure = confidence_of(values, 1.0)
    return sure is not None and sure >= node.at_least


def _tokeniser(node: Tokenise, resources: Resources) -> Computed:
    tokenise = compile_tokenise((resources.folder / node.file.path).read_bytes(), node.length)

    def computed(values: tuple[Value, ...]) -> tuple[Value, ...]:
        tokens = tokenise(text(values[0]))
        return tokens.ids, tokens.mask

    return computed


class _NoSource(NamedTuple):
    """What a package asks for and no setting names."""

    name: str

    def read(self, key: Key, names: tuple[str, ...], timeout_s: float) -> Row | None:
        raise FeatureSourceOut(
            f"no source of features is called {self.name!r} here; name it in the settings"
        )


def _features(node: Features, resources: Resources) -> Computed:
    kept = CachedFeatures(
        resources.sources.get(node.source, _NoSource(node.source)),
        resources.clock,
        names=node.names,
        default=node.default,
        ttl_s=node.ttl_s,
    )

    def computed(values: tuple[Value, ...]) -> tuple[Value, ...]:
        found = kept.get(key_of(values[0], node.field or None))
        return found.values, np.array([np.nan if found.age_s is None else found.age_s], np.float32)

    return computed


def _custom(node: Custom, resources: Resources) -> Computed:
    gives = node.gives
    source = b""
    if resources.allow_custom:  # else nothing of it is even read
        source = (resources.folder / node.file.path).read_bytes()
    return compile_custom(
        source,
        file=node.file.path,
        function=node.function,
        gives=(Kind(gives.dtype, gives.shape),),
        allow_custom=resources.allow_custom,
    )


def _suppressed(node: Nms, values: tuple[Value, ...]) -> tuple[Floats]:
    height, width = node.normalised or (1, 1)
    found = boxes.corners(
        array(values[0]),
        node.form,
        normalised=node.normalised is not None,
        height=height,
        width=width,
    )
    scores = array(values[1])
    return (boxes.nms(found, scores, iou=node.iou, floor=node.floor, limit=node.limit),)


def _unletterboxed(node: Unletterbox, values: tuple[Value, ...]) -> tuple[Floats]:
    high, wide = array(values[1]).shape[:2]
    return (boxes.unletterbox(array(values[0]), high, wide, node.height, node.width),)


def _joined(values: tuple[Value, ...], axis: int) -> Array:
    joined: Array = np.concatenate([array(value) for value in values], axis=axis)
    return joined


def _ensemble(node: Ensemble, values: tuple[Value, ...]) -> Floats:
    with np.errstate(over="ignore", invalid="ignore"):  # broken members make a broken whole
        members = np.stack([array(value) for value in values]).astype(np.float32, copy=False)
        match node.how:
            case "mean":
                mean: Floats = members.mean(axis=0, dtype=np.float32)
                return mean
            case "weighted":
                weights = np.array(node.weights, np.float32) / np.float32(math.fsum(node.weights))
                weighted: Floats = np.tensordot(weights, members, axes=1).astype(np.float32)
                return weighted
            case "vote":
                return _vote(members)


def _vote(members: Floats) -> Floats:
    """Shares of the members [m, ..., K] that rate each class highest."""
    top = members.max(axis=-1)
    votes = members.argmax(axis=-1)[..., None] == np.arange(members.shape[-1])
    shares: Floats = votes.mean(axis=0, dtype=np.float32)
    # A member that is not finite, or rates all classes the same, has no vote worth counting: left
    # to itself it would vote for the first class. Without it the whole has none either.
    mute = ~np.isfinite(members).all(axis=-1) | (top == members.min(axis=-1))
    shares[mute.any(axis=0)] = np.nan
    return shares
