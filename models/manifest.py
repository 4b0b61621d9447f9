"""manifest.json: what a package is, typed, checked on reading, with the path of what is wrong.

Rules:
1. `format` is read first: another number is `UnknownFormat`, whatever else the file holds.
2. Unknown keys are refused. A key a newer version needs comes with a new format number.
3. Reading checks everything that can be checked without the files: names, shapes followed through
   both pipelines, labels against outputs, the decision's numbers, the golden outputs.
4. Bytes written by `encode` are the same for the same manifest.
"""

import math
from enum import Enum
from typing import Annotated, Literal, NoReturn

import msgspec
from msgspec import Meta, Struct

from models.errors import ManifestInvalid, UnknownFormat
from models.pipeline.check import Kind, Refused, check
from models.pipeline.declared import Dim, Dtype, FileRef, Pipeline

FORMAT: Literal[1] = 1
MAX_ELEMENTS = 1 << 24
Name = Annotated[str, Meta(pattern=r"^[a-z0-9][a-z0-9._-]{0,62}\Z")]
Version = Annotated[str, Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,62}\Z")]
Share = Annotated[float, Meta(gt=0, lt=1)]
Row = tuple[float, ...]


class Role(Enum):
    """Which half of a package: what the device gets, or what the gateway keeps."""

    EDGE = "edge"
    CLOUD = "cloud"


class TensorSpec(Struct, frozen=True, forbid_unknown_fields=True):
    """One input or output, a single sample without batch axis."""

    name: Name
    dtype: Dtype
    shape: Annotated[tuple[Dim, ...], Meta(min_length=1, max_length=8)]
    layout: str
    """One letter per axis: H height, W width, C channel, T time, K class."""


class Decision(Struct, frozen=True, forbid_unknown_fields=True):
    """The rule between edge and cloud, and how it was chosen."""

    promise: Literal["harm"]
    """P(answered locally, edge wrong, cloud right) <= eps."""
    eps: Share
    delta: Share
    temperature: Annotated[float, Meta(gt=0)]
    threshold: Annotated[float, Meta(ge=0, le=1)] | None
    """None makes every input hard."""
    n: Annotated[int, Meta(ge=0)]
    """Calibration samples."""
    k: int | None
    """Harmed calibration samples at the threshold."""
    upper_bound: float | None
    """Exact upper confidence limit on the harm, level 1 - delta."""
    method: str
    feasible: bool
    """False when the threshold keeps no promise."""
    note: str = ""


class Golden(Struct, frozen=True, forbid_unknown_fields=True):
    """Inputs made from a seed (see `golden`), and the logits both models gave for them."""

    seed: Annotated[int, Meta(ge=0, le=(1 << 63) - 1)]
    count: Annotated[int, Meta(ge=1, le=64)]
    low: float
    high: float
    """Values are spread over low..high, ends included."""
    edge_logits: tuple[Row, ...]
    cloud_logits: tuple[Row, ...]
    tolerance: Share
    """How far the confidence may be off on another machine."""


class Manifest(Struct, frozen=True, forbid_unknown_fields=True):
    """All a program needs to know about a package before it opens a model file."""

    format: Literal[1]
    name: Name
    version: Version
    task: Name
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    edge: Pipeline
    cloud: Pipeline
    labels: tuple[str, ...]
    decision: Decision
    golden: Golden
    figures: FileRef | None = None
    """What the recipe measured, as JSON for a person."""

    def golden_logits(self, role: Role) -> tuple[Row, ...]:
        return self.golden.edge_logits if role is Role.EDGE else self.golden.cloud_logits

    def pipeline(self, role: Role) -> Pipeline:
        return self.edge if role is Role.EDGE else self.cloud

    def temperature(self, role: Role) -> float:
        """The decision's for the edge; the cloud's scores stay as they are, no rule reads them."""
        return self.decision.temperature if role is Role.EDGE else 1.0

    def files(self, role: Role) -> tuple[FileRef, ...]:
        """The files of one half, without manifest.json."""
        model = self.pipeline(role).model.file
        return (model,) if self.figures is None else (model, self.figures)


class _FormatOnly(Struct):
    format: int


def encode(manifest: Manifest) -> bytes:
    """The bytes of manifest.json: indented, keys in the order of this file."""
    return msgspec.json.format(msgspec.json.encode(manifest), indent=1) + b"\n"


def decode(data: bytes) -> Manifest:
    """A manifest that holds together. Raises `UnknownFormat`, `ManifestInvalid`."""
    try:
        found = msgspec.json.decode(data, type=_FormatOnly).format
        if found != FORMAT:
            raise UnknownFormat(
                f"manifest.json has format {found}, this Longstop reads format {FORMAT}; "
                "install the Longstop that made it, or build the package again with this one"
            )
        manifest = msgspec.json.decode(data, type=Manifest)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ManifestInvalid(
            f"manifest.json is not a manifest: {error}; build the package again"
        ) from error
    _check(manifest)
    return manifest


def _check(manifest: Manifest) -> None:
    if len(manifest.inputs) != 1 or len(manifest.outputs) != 1:
        _refuse("$.inputs", "a package has one input and one output")
    for path, spec in (("$.inputs[0]", manifest.inputs[0]), ("$.outputs[0]", manifest.outputs[0])):
        if len(spec.layout) != len(spec.shape):
            _refuse(f"{path}.layout", f"{spec.layout!r} names not each axis of {list(spec.shape)}")
    (given,), (output,) = manifest.inputs, manifest.outputs
    if math.prod(given.shape) > MAX_ELEMENTS:
        _refuse("$.inputs[0].shape", f"one sample holds more than {MAX_ELEMENTS} values")
    for role in Role:
        try:
            check(manifest.pipeline(role), given.name, Kind(given.dtype, given.shape))
        except Refused as refused:
            raise ManifestInvalid(
                f"manifest.json, pipeline {role.value}: {refused}; correct the declaration"
            ) from refused
    if (output.dtype, output.shape) != ("float32", (len(manifest.labels),)):
        _refuse("$.outputs[0]", f"one float32 per label is wanted: [{len(manifest.labels)}]")
    if len(set(manifest.labels)) != len(manifest.labels) or len(manifest.labels) < 2:
        _refuse("$.labels", "labels must be two or more, each once")
    names = [manifest.edge.model.file.path, manifest.cloud.model.file.path, "manifest.json"]
    if manifest.figures is not None:
        names.append(manifest.figures.path)
    if len(set(names)) != len(names):
        _refuse("$", f"two files share a name among {', '.join(sorted(names))}")
    if manifest.decision.feasible and manifest.decision.threshold is None:
        _refuse("$.decision.threshold", "a decision that keeps its promise has a threshold")
    _check_golden(manifest)


def _check_golden(manifest: Manifest) -> None:
    golden = manifest.golden
    if not golden.low < golden.high:
        _refuse("$.golden.high", "high must be above low")
    for name, rows in (("edge_logits", golden.edge_logits), ("cloud_logits", golden.cloud_logits)):
        if len(rows) != golden.count:
            _refuse(f"$.golden.{name}", f"{len(rows)} rows for {golden.count} golden inputs")
        for at, row in enumerate(rows):
            if len(row) != len(manifest.labels) or not all(map(math.isfinite, row)):
                _refuse(f"$.golden.{name}[{at}]", "a row is one finite logit per label")


def _refuse(path: str, why: str) -> NoReturn:
    raise ManifestInvalid(f"manifest.json: {why} - at `{path}`; build the package again")
