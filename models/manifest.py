"""manifest.json: what a package is, typed, checked on reading, with the path of what is wrong.

Rules:
1. `format` is read first: another number is `UnknownFormat`, whatever else the file holds.
2. Unknown keys are refused. A key a newer version needs comes with a new format number.
3. Reading checks everything that can be checked without the files: names, kinds followed through
   both graphs, the head against what the graphs end in, the certificate's numbers, the golden
   answers.
4. Bytes written by `encode` are the same for the same manifest.
5. A manifest may come from anybody, so its size is bounded before it is read, and what it asks for
   when its golden inputs are made.
"""

import math
from enum import Enum
from typing import Annotated, Literal, NoReturn

import msgspec
from msgspec import Meta, Struct
from msgspec.structs import replace

from models.calibrate.certificate import Certificate
from models.errors import ManifestInvalid, UnknownEdition, UnknownFormat
from models.pipeline.declared import Model, NodeId, Pipeline
from models.pipeline.files import FileRef
from models.pipeline.heads import Classify, Detect, Head, Search, accepts
from models.pipeline.kinds import RAW, Dtype, Kind, Raw
from models.pipeline.ops.tensor import Dim
from models.pipeline.plan import Refused, classes_of, plan
from models.runtimes.wish import Precision, Provider, Runs

FORMAT: Literal[2] = 2
MAX_BYTES = 4 << 20
"""Of manifest.json: room for a hundred thousand labels."""
MAX_ELEMENTS = 1 << 24
MAX_GOLDEN = 64
MAX_GOLDEN_ELEMENTS = 1 << 26
"""In all golden inputs together."""
MAIN = "main"
"""The edition a package has in any case."""
MAX_EDITIONS = 8
Name = Annotated[str, Meta(pattern=r"^[a-z0-9][a-z0-9._-]{0,62}\Z")]
Version = Annotated[str, Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,62}\Z")]
Share = Annotated[float, Meta(gt=0, lt=1)]
Drawn = Annotated[float, Meta(ge=-1e15, le=1e15)]
"""A limit of golden values: whole numbers are drawn in 64 bits."""


class Role(Enum):
    """Which half of a package: what the device gets, or what the gateway keeps."""

    EDGE = "edge"
    CLOUD = "cloud"


class TensorSpec(Struct, frozen=True, forbid_unknown_fields=True):
    """The input, a single sample without batch axis."""

    name: Name
    dtype: Dtype | Raw
    """A numpy type; or `bytes`, `text`, `record` for what is no array yet."""
    shape: Annotated[tuple[Dim, ...], Meta(max_length=8)] = ()
    """Empty for what is no array yet."""
    layout: str = ""
    """One letter per axis: H height, W width, C channel, T time, K class."""

    @property
    def kind(self) -> Kind:
        return Kind(self.dtype, self.shape)


class Said(Struct, frozen=True, forbid_unknown_fields=True):
    """What a pipeline answered to one golden input."""

    label: str
    confidence: float | None


class Golden(Struct, frozen=True, forbid_unknown_fields=True):
    """Inputs every machine can make or finds in the package, and what both halves said to them."""

    seed: Annotated[int, Meta(ge=0, le=(1 << 63) - 1)]
    count: Annotated[int, Meta(ge=1, le=MAX_GOLDEN)]
    low: Drawn
    high: Drawn
    """Values drawn from the seed (see `golden`) are spread over low..high, ends included."""
    edge: tuple[Said, ...]
    cloud: tuple[Said, ...]
    tolerance: Share
    """How far the confidence may be off on another machine."""
    samples: FileRef | None = None
    """Where the inputs are no arrays: the inputs themselves, a msgpack list of bytes."""


class OtherFile(Struct, frozen=True, forbid_unknown_fields=True):
    """What one model of the edge half is in an edition."""

    model: NodeId
    file: FileRef


class Edition(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Another way to run the edge half, with a promise of its own.

    The graph, the input and the answer are the main edition's; so are the files it does not name.
    """

    name: Name
    runtime: str
    provider: Provider = "cpu"
    precision: Precision = "f32"
    certificate: Certificate
    golden: tuple[Said, ...]
    files: tuple[OtherFile, ...] = ()

    @property
    def runs(self) -> Runs:
        """What it is made to run on."""
        return Runs(self.runtime, self.provider, self.precision)


class Manifest(Struct, frozen=True, forbid_unknown_fields=True):
    """All a program needs to know about a package before it opens a model file."""

    format: Literal[2]
    name: Name
    version: Version
    task: Name
    input: TensorSpec
    answer: Head
    """What both pipelines' outputs mean."""
    edge: Pipeline
    cloud: Pipeline
    certificate: Certificate
    golden: Golden
    figures: FileRef | None = None
    """What the recipe measured, as JSON for a person."""
    editions: Annotated[tuple[Edition, ...], Meta(max_length=MAX_EDITIONS)] = ()
    """Beside the main one, which is everything above."""

    @property
    def labels(self) -> tuple[str, ...]:
        """The names the answer chooses from; empty where it is a number or an alarm."""
        match self.answer:
            case Classify(labels) | Detect(labels) | Search(labels):
                return labels
            case _:
                return ()

    def golden_answers(self, role: Role) -> tuple[Said, ...]:
        return self.golden.edge if role is Role.EDGE else self.golden.cloud

    def pipeline(self, role: Role) -> Pipeline:
        return self.edge if role is Role.EDGE else self.cloud

    def files(self, role: Role) -> tuple[FileRef, ...]:
        """The files of one half, without manifest.json, each once; those of all its editions."""
        reference = self.answer.reference if isinstance(self.answer, Search) else None
        shared = (self.figures, self.golden.samples, reference)
        editions = self.editions if role is Role.EDGE else ()
        named = (
            *self.pipeline(role).files,
            *(one.file for edition in editions for one in edition.files),
            *(ref for ref in shared if ref is not None),
        )
        return tuple(dict.fromkeys(named))

    def as_edition(self, name: str) -> "Manifest":
        """The manifest of a package that is that edition and no other. Raises `UnknownEdition`."""
        if name == MAIN:
            return replace(self, editions=())
        edition = self.edition(name)
        files = {one.model: one.file for one in edition.files}
        nodes = tuple(
            replace(node, file=files.get(node.id, node.file)) if isinstance(node, Model) else node
            for node in self.edge.nodes
        )
        return replace(
            self,
            edge=replace(self.edge, nodes=nodes),
            certificate=edition.certificate,
            golden=replace(self.golden, edge=edition.golden),
            editions=(),
        )

    def edition(self, name: str) -> Edition:
        """One beside the main one. Raises `UnknownEdition`."""
        for edition in self.editions:
            if edition.name == name:
                return edition
        known = ", ".join((MAIN, *(one.name for one in self.editions)))
        raise UnknownEdition(
            f"{self.name} {self.version} has no edition {name!r}; choose one of {known}"
        )


class _FormatOnly(Struct):
    format: int


def encode(manifest: Manifest) -> bytes:
    """The bytes of manifest.json: indented, keys in the order of this file."""
    return msgspec.json.format(msgspec.json.encode(manifest), indent=1) + b"\n"


def decode(data: bytes) -> Manifest:
    """A manifest that holds together. Raises `UnknownFormat`, `ManifestInvalid`."""
    if len(data) > MAX_BYTES:
        raise ManifestInvalid(
            f"manifest.json has {len(data)} bytes, the limit is {MAX_BYTES}; do not use the package"
        )
    try:
        found = msgspec.json.decode(data, type=_FormatOnly).format
        if found != FORMAT:
            raise UnknownFormat(
                f"manifest.json has format {found}, this Longstop reads format {FORMAT}; "
                "install the Longstop that made it, or build the package again with this one"
            )
        manifest = msgspec.json.decode(data, type=Manifest)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ManifestInvalid(
            f"manifest.json is not a manifest: {error}; build the package again"
        ) from error
    _check(manifest)
    return manifest


def _check(manifest: Manifest) -> None:
    _check_input(manifest.input)
    for role in Role:
        _check_pipeline(manifest, role)
    files = {ref for role in Role for ref in manifest.files(role)}
    names = ["manifest.json", *(ref.path for ref in files)]
    if len(set(names)) != len(names):
        _refuse("$", f"two files share a name among {', '.join(sorted(names))}")
    if manifest.certificate.feasible and manifest.certificate.threshold is None:
        _refuse("$.certificate.threshold", "a certificate that keeps its promise has a threshold")
    _check_golden(manifest)
    _check_editions(manifest)


def _check_input(given: TensorSpec) -> None:
    if given.dtype in RAW:
        if given.shape or given.layout:
            _refuse("$.input.shape", f"{given.dtype} has neither shape nor layout")
        return
    if not given.shape:
        _refuse("$.input.shape", "an array has at least one axis")
    if len(given.layout) != len(given.shape):
        _refuse("$.input.layout", f"{given.layout!r} names not each axis of {list(given.shape)}")
    if math.prod(given.shape) > MAX_ELEMENTS:
        _refuse("$.input.shape", f"one sample holds more than {MAX_ELEMENTS} values")


def _check_pipeline(manifest: Manifest, role: Role) -> None:
    pipeline = manifest.pipeline(role)
    try:
        found = plan(pipeline, manifest.input.name, manifest.input.kind)
        accepts(manifest.answer, found.kind_of(pipeline.output))
        if isinstance(manifest.answer, Detect):
            _check_classes(manifest.answer, classes_of(found, pipeline.output))
    except Refused as refused:
        raise ManifestInvalid(
            f"manifest.json, pipeline {role.value}: {refused}; correct the declaration"
        ) from refused
    except ValueError as error:
        raise ManifestInvalid(
            f"manifest.json, pipeline {role.value}: node {pipeline.output!r}: {error} "
            "- at `$.output`; correct the declaration"
        ) from error


def _check_classes(head: Detect, told: frozenset[int]) -> None:
    """A class without a label would make every answer that holds it mean nothing."""
    for classes in told:
        if classes != len(head.labels):
            raise ValueError(
                f"candidates of {classes} classes cannot have {len(head.labels)} labels"
            )


def _check_golden(manifest: Manifest) -> None:
    golden = manifest.golden
    if not golden.low < golden.high:
        _refuse("$.golden.high", "high must be above low")
    if (manifest.input.dtype in RAW) and golden.samples is None:
        _refuse("$.golden.samples", f"golden inputs of {manifest.input.dtype} are a file")
    if golden.samples is None and golden.count * math.prod(manifest.input.shape) > (
        MAX_GOLDEN_ELEMENTS
    ):
        _refuse("$.golden.count", f"golden inputs hold more than {MAX_GOLDEN_ELEMENTS} values")
    for name, said in (("edge", golden.edge), ("cloud", golden.cloud)):
        if len(said) != golden.count:
            _refuse(f"$.golden.{name}", f"{len(said)} answers for {golden.count} golden inputs")


def _check_editions(manifest: Manifest) -> None:
    names = [MAIN, *(one.name for one in manifest.editions)]
    if len(set(names)) != len(names):
        _refuse("$.editions", f"two editions share a name among {', '.join(names)}")
    models = {node.id for node in manifest.edge.models if node.form == "onnx"}
    for at, edition in enumerate(manifest.editions):
        path = f"$.editions[{at}]"
        if strange := [one.model for one in edition.files if one.model not in models]:
            _refuse(f"{path}.files", f"{strange[0]} is no ONNX model of the edge pipeline")
        if len({one.model for one in edition.files}) != len(edition.files):
            _refuse(f"{path}.files", "a model has two files")
        if len(edition.golden) != manifest.golden.count:
            _refuse(f"{path}.golden", f"{len(edition.golden)} answers for the golden inputs")
        if edition.certificate.feasible and edition.certificate.threshold is None:
            _refuse(f"{path}.certificate.threshold", "a kept promise has a threshold")


def _refuse(path: str, why: str) -> NoReturn:
    raise ManifestInvalid(f"manifest.json: {why} - at `{path}`; build the package again")
