"""The pipeline as a manifest declares it.

Rules:
1. A node comes after an input or after an earlier node, named by `after`; so a graph has no cycles.
2. For now a pipeline is one `Prepare` followed by one `Model`, and its output is the model's.
3. Steps see one sample without a batch axis. What a step means is written in `steps`.
"""

from typing import Annotated, Literal

from msgspec import Meta, Struct

Dtype = Literal[
    "bool",
    "uint8",
    "uint16",
    "uint32",
    "uint64",
    "int8",
    "int16",
    "int32",
    "int64",
    "float32",
    "float64",
]
Form = Literal["onnx", "twin"]
NodeId = Annotated[str, Meta(pattern=r"^[a-z][a-z0-9_]{0,31}\Z")]
FileName = Annotated[str, Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}\Z")]
Sha256 = Annotated[str, Meta(pattern=r"^[0-9a-f]{64}\Z")]
Dim = Annotated[int, Meta(ge=1, le=1 << 24)]


class Cast(Struct, frozen=True, forbid_unknown_fields=True, tag_field="op", tag="cast"):
    """Convert every value to `dtype`."""

    dtype: Dtype


class Scale(Struct, frozen=True, forbid_unknown_fields=True, tag_field="op", tag="scale"):
    """Multiply by one number, or by one per element of the last axis."""

    by: tuple[float, ...]


class Normalise(Struct, frozen=True, forbid_unknown_fields=True, tag_field="op", tag="normalise"):
    """Subtract `mean`, divide by `std`: one number, or one per element of the last axis."""

    mean: tuple[float, ...]
    std: tuple[float, ...]


class Transpose(Struct, frozen=True, forbid_unknown_fields=True, tag_field="op", tag="transpose"):
    """Reorder the axes: axis `axes[i]` of the input becomes axis i."""

    axes: tuple[int, ...]


class Reshape(Struct, frozen=True, forbid_unknown_fields=True, tag_field="op", tag="reshape"):
    """Read the values, row by row, in another shape of the same size."""

    shape: tuple[Dim, ...]


Step = Cast | Scale | Normalise | Transpose | Reshape


class FileRef(Struct, frozen=True, forbid_unknown_fields=True):
    """A file of the package. Packages are flat: a path is a name."""

    path: FileName
    sha256: Sha256
    size: Annotated[int, Meta(ge=0)]


class Prepare(Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="prepare"):
    """Turns a raw sample into what the model takes."""

    id: NodeId
    after: str
    steps: tuple[Step, ...]


class Model(Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="model"):
    """Runs a model file over a batch of prepared samples."""

    id: NodeId
    after: str
    file: FileRef
    form: Form = "onnx"
    """What kind of file it is; `runtimes.choose` knows which runtimes read it."""


Node = Prepare | Model


class Pipeline(Struct, frozen=True, forbid_unknown_fields=True):
    """From the declared inputs to one output."""

    nodes: Annotated[tuple[Node, ...], Meta(max_length=16)]
    output: NodeId

    @property
    def prepare(self) -> Prepare:
        """The one preparation (rule 2)."""
        return next(node for node in self.nodes if isinstance(node, Prepare))

    @property
    def model(self) -> Model:
        """The one model (rule 2)."""
        return next(node for node in self.nodes if isinstance(node, Model))
