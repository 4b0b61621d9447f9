"""From parts to a package folder: two model files, a declaration, a decision, what was measured.

The same parts give the same bytes. Golden outputs are computed here, by the runtime that will run
the files, from the first seed at which no golden input is a near tie: which label wins a tie says
nothing about another machine.
"""

from pathlib import Path

import numpy as np
from msgspec import Struct
from msgspec.structs import replace

from models import package
from models.archive import Entry
from models.calibrate.scores import confidence
from models.errors import FileMissing, PackageError, TargetUnwritable
from models.golden import golden_inputs
from models.manifest import FORMAT, Decision, Golden, Manifest, Role, TensorSpec, decode, encode
from models.pipeline.declared import FileRef, Form, Model, Pipeline, Prepare, Step
from models.pipeline.graph import Graph
from models.runtimes.base import Floats
from models.runtimes.choose import open_model

TOLERANCE = 0.01
_MARGIN = 0.05
_SEEDS = range(1, 501)


class Parts(Struct, frozen=True):
    """All a package is made of, except its version."""

    name: str
    task: str
    given: TensorSpec
    steps: tuple[Step, ...]
    labels: tuple[str, ...]
    decision: Decision
    edge: Path
    cloud: Path
    low: float
    high: float
    """Golden inputs are drawn from low..high."""
    figures: Path | None = None
    form: Form = "onnx"
    golden_count: int = 8


def build(parts: Parts, version: str, into: Path) -> Path:
    """Make the new package folder `into` and return it.

    Raises `TargetExists`, `TargetUnwritable`, `FileMissing`, `ManifestInvalid`, `RuntimeFailed`.
    """
    ending = "onnx" if parts.form == "onnx" else "json"
    edge = Entry(f"edge.{ending}", _content(parts.edge))
    cloud = Entry(f"cloud.{ending}", _content(parts.cloud))
    figures = () if parts.figures is None else (Entry("figures.json", _content(parts.figures)),)
    nothing = (0.0,) * len(parts.labels)
    draft = Manifest(
        format=FORMAT,
        name=parts.name,
        version=version,
        task=parts.task,
        inputs=(parts.given,),
        outputs=(TensorSpec("logits", "float32", (len(parts.labels),), "K"),),
        edge=_pipeline(parts, edge),
        cloud=_pipeline(parts, cloud),
        labels=parts.labels,
        decision=parts.decision,
        golden=Golden(0, 1, parts.low, parts.high, (nothing,), (nothing,), TOLERANCE),
        figures=_ref(figures[0]) if figures else None,
    )
    draft = decode(encode(draft))  # What cannot be read is refused before anything runs.
    manifest = encode(replace(draft, golden=_golden(draft, parts)))
    try:
        package.write_folder(into, [Entry(package.MANIFEST, manifest), edge, cloud, *figures])
    except OSError as error:
        raise TargetUnwritable(
            f"{into} cannot be written: {error.strerror}; choose a folder on a disk that has room"
            " and lets you write"
        ) from error
    return into


def _golden(draft: Manifest, parts: Parts) -> Golden:
    spec = draft.inputs[0]
    graphs = [
        Graph(draft.pipeline(role), spec, len(draft.labels), open_model(file, parts.form))
        for role, file in ((Role.EDGE, parts.edge), (Role.CLOUD, parts.cloud))
    ]
    for seed in _SEEDS:
        golden = replace(draft.golden, seed=seed, count=parts.golden_count)
        inputs = golden_inputs(spec, golden)
        edge, cloud = (graph.run_batch(inputs) for graph in graphs)
        if _clear(edge, draft.temperature(Role.EDGE)) and _clear(cloud, 1.0):
            return replace(golden, edge_logits=_rows(edge), cloud_logits=_rows(cloud))
    raise PackageError(
        f"{parts.task}: none of {len(_SEEDS)} seeds gives {parts.golden_count} golden inputs that "
        "both models label clearly; check that the models answer at all, or ask for fewer inputs"
    )


def _clear(logits: Floats, temperature: float) -> bool:
    """Whether every row has a confidence and a winner by more than `_MARGIN`."""
    top = confidence(logits, temperature)
    without_top = logits.copy()
    np.put_along_axis(without_top, logits.argmax(axis=1)[:, None], -np.inf, axis=1)
    gap = (logits.max(axis=1) - without_top.max(axis=1)).astype(np.float64)
    return bool((top * (1 - np.exp(-gap / temperature)) > _MARGIN).all())


def _rows(logits: Floats) -> tuple[tuple[float, ...], ...]:
    return tuple(tuple(float(value) for value in row) for row in logits)


def _pipeline(parts: Parts, file: Entry) -> Pipeline:
    return Pipeline(
        nodes=(
            Prepare("prepare", parts.given.name, parts.steps),
            Model("model", "prepare", _ref(file), parts.form),
        ),
        output="model",
    )


def _ref(file: Entry) -> FileRef:
    return FileRef(file.name, package.digest(file.data), len(file.data))


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise FileMissing(
            f"{path} cannot be read: {error.strerror}; train the model first"
        ) from error
