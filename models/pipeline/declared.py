"""The pipeline as a manifest declares it: a graph of nodes from the input to one output.

Rules:
1. A *reference* names a value: the input, a node, or one output of a node with several
   (`detector.boxes`). A node may stand anywhere in the list; what it needs decides the order.
2. There is no way back: a cycle is refused with the names on it.
3. Values are of one sample, without a batch axis. A list of arrays (crops, windows) is *many*: a
   step is done to each, a model runs them as one batch.
4. A switch computes the branch it takes and not the other.
5. Files are in the package, named by their hash. Two nodes may share one.

What a step means stands in `ops` and `compute`; what kinds a graph holds, `plan` finds out.
"""

from typing import Annotated, Literal

from msgspec import Meta, Struct

from models.pipeline.files import FileRef
from models.pipeline.kinds import Dtype
from models.pipeline.ops.families import Step

Form = Literal["onnx", "twin"]
NodeId = Annotated[str, Meta(pattern=r"^[a-z][a-z0-9_]{0,31}\Z")]
Ref = Annotated[str, Meta(pattern=r"^[a-z0-9][a-z0-9._-]{0,95}\Z")]
Side = Annotated[int, Meta(ge=1, le=1 << 24)]


class Gives(Struct, frozen=True, forbid_unknown_fields=True):
    """One output of a node that only its file can tell: what it is for one sample."""

    name: NodeId
    shape: tuple[Side | None, ...]
    """None where only a sample can tell."""
    dtype: Dtype = "float32"


class Steps(Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="steps"):
    """Does steps to one value, one after the other."""

    id: NodeId
    after: Ref
    steps: tuple[Step, ...]


class Model(Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="model"):
    """Runs a model file; its inputs are the values of `after`, in the file's own order."""

    id: NodeId
    after: Annotated[tuple[Ref, ...], Meta(min_length=1, max_length=8)]
    file: FileRef
    gives: Annotated[tuple[Gives, ...], Meta(min_length=1, max_length=8)]
    """The file's outputs in its own order; the first is what the node's bare name means."""
    form: Form = "onnx"
    """What kind of file it is; `runtimes.choose` knows which runtimes read it."""


class Tokenise(Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="tokenise"):
    """A text as token numbers: outputs `ids` and `mask`, both int64 [length]."""

    id: NodeId
    after: Ref
    file: FileRef
    """The tokeniser as the `tokenizers` library saves it."""
    length: Annotated[int, Meta(ge=1, le=4096)]


class Join(Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="join"):
    """Puts arrays of one type behind each other along an axis."""

    id: NodeId
    after: Annotated[tuple[Ref, ...], Meta(min_length=2, max_length=16)]
    axis: Annotated[int, Meta(ge=0, le=7)] = 0


class Ensemble(Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="ensemble"):
    """Several models' outputs of one shape as one.

    `mean` and `weighted` average them. `vote` counts, for each class of the last axis, the shares
    of members that rate it highest, so the output are shares and not logits.
    """

    id: NodeId
    after: Annotated[tuple[Ref, ...], Meta(min_length=2, max_length=16)]
    how: Literal["mean", "vote", "weighted"] = "mean"
    weights: tuple[float, ...] = ()
    """For `weighted`, one per member, positive."""


class Switch(Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="switch"):
    """One of two values, by a number: `then` where `on` is at least `at_least`, else `otherwise`.

    `on` is an array of one element, or logits of which the top probability counts
    (`by = "confidence"`). A number that is NaN takes `otherwise`.
    """

    id: NodeId
    on: Ref
    at_least: float
    then: Ref
    otherwise: Ref
    by: Literal["value", "confidence"] = "value"


class Nms(Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="nms"):
    """Boxes [n, 4] and class scores [n, K] as candidates: float32 [?, 6], best first.

    A row is x1, y1, x2, y2 in pixels of the picture the detector saw, score, class. Kept is what
    survives non-maximum suppression within its class and scores at least `floor`.
    """

    id: NodeId
    boxes: Ref
    scores: Ref
    iou: Annotated[float, Meta(gt=0, le=1)] = 0.5
    floor: Annotated[float, Meta(ge=0, lt=1)] = 0.05
    limit: Annotated[int, Meta(ge=1, le=1000)] = 100
    form: Literal["xyxy", "cxcywh"] = "xyxy"
    normalised: tuple[Side, Side] | None = None
    """Height and width of the picture, where boxes are shares of it; None where they are pixels."""


class Crop(Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="crop"):
    """Cuts each candidate [?, 6] out of a picture and resizes it: many pictures of one size."""

    id: NodeId
    image: Ref
    boxes: Ref
    height: Side
    width: Side


class Unletterbox(
    Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="unletterbox"
):
    """Moves candidates found on a letterboxed picture back onto the picture it was made from."""

    id: NodeId
    boxes: Ref
    image: Ref
    """The picture before the letterbox."""
    height: Side
    width: Side


class Relabel(Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="relabel"):
    """Gives each candidate the class its own logits say, and multiplies the two certainties."""

    id: NodeId
    boxes: Ref
    logits: Ref


class Features(Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="features"):
    """Looks numbers up by a key: float32, one per name. Settings of device and gateway say where.

    Output `age_s`, float32 [1]: how old they are; NaN for the default.
    """

    id: NodeId
    key: Ref
    """A text, or a record's field `field` of it."""
    source: NodeId
    names: Annotated[tuple[str, ...], Meta(min_length=1, max_length=256)]
    default: tuple[float, ...]
    """One per name, for when the source is out."""
    ttl_s: Annotated[float, Meta(ge=0)] = 60.0
    field: str = ""


class Custom(Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="custom"):
    """A function of a Python module in the package; runs only where the settings allow it."""

    id: NodeId
    after: Annotated[tuple[Ref, ...], Meta(min_length=1, max_length=8)]
    file: FileRef
    function: Annotated[str, Meta(pattern=r"^[a-z_][a-z0-9_]{0,63}\Z")]
    gives: Gives


Node = (
    Steps
    | Model
    | Tokenise
    | Join
    | Ensemble
    | Switch
    | Nms
    | Crop
    | Unletterbox
    | Relabel
    | Features
    | Custom
)


class Pipeline(Struct, frozen=True, forbid_unknown_fields=True):
    """From the input to one output, whose meaning the manifest's head declares."""

    nodes: Annotated[tuple[Node, ...], Meta(min_length=1, max_length=64)]
    output: Ref

    @property
    def models(self) -> tuple[Model, ...]:
        """In the order they are declared."""
        return tuple(node for node in self.nodes if isinstance(node, Model))

    @property
    def files(self) -> tuple[FileRef, ...]:
        """Every file the nodes name, each once."""
        with_files = (node for node in self.nodes if isinstance(node, Model | Tokenise | Custom))
        return tuple(dict.fromkeys(node.file for node in with_files))
