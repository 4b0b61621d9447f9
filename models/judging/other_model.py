"""Another model file in the place of the edge half's own: its FP32 form, a larger or a second."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from models import package
from models.calibrate.scores import Logits
from models.errors import FileMissing, ModelUnsupported
from models.manifest import Role
from models.pipeline.declared import Model
from models.pipeline.graph import Graph
from models.pipeline.heads import Classify
from models.pipeline.nodes import Resources
from models.pipeline.values import Value
from models.runtimes.base import Runtime
from models.runtimes.choose import open_model


def logits_with(folder: Path, file: Path, values: Sequence[Value], *, allow_custom: bool) -> Logits:
    """Logits [n, K] of the edge pipeline of a package with `file` as its model.

    Raises `ModelUnsupported` where the pipeline has several models or names no class, `FileMissing`
    and what opening the file raises.
    """
    if not file.exists():
        raise FileMissing(f"{file} is not there; check the path")
    held = package.read(folder, Role.EDGE)
    given, pipeline = held.manifest.input, held.pipeline
    if len(pipeline.models) != 1 or not isinstance(held.manifest.answer, Classify):
        raise ModelUnsupported(
            f"{file.name} cannot stand in: the edge pipeline has {len(pipeline.models)} models, or "
            "does not name a class; compare whole packages instead"
        )

    def open_other(node: Model) -> Runtime:
        return open_model(file, node.form)

    graph = Graph(
        pipeline, given.name, given.kind, open_other, Resources(folder, allow_custom=allow_custom)
    )
    return np.stack([graph.run(value) for value in values])
