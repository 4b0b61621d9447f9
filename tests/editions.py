"""Tiny packages with several certified editions."""

from pathlib import Path

from msgspec.structs import replace

from models.archive import Entry
from models.build import EditionParts, Half, Parts, build, file_ref
from models.calibrate.binding import binding_of
from models.calibrate.certificate import Certificate
from models.calibrate.certify import named
from models.manifest import Golden, OtherFile
from models.pipeline.declared import Ensemble, Model, Pipeline
from tests.tiny_models import CERTIFICATE, EDGE_WEIGHTS, tiny_parts, write_matrix

EDITION_THRESHOLD, EDITION_RISK = 0.61, 0.012


def build_editions(folder: Path, *, other_file: bool = False, models: int = 1) -> Path:
    """The tiny package on onnx, and an edition `openvino` with a promise of its own.

    With `other_file` that one has another model file; with two models both are in both editions.
    """
    folder.mkdir(parents=True, exist_ok=True)
    parts = tiny_parts(folder)
    if models == 2:
        parts = _with_second(parts)
    files: tuple[OtherFile, ...] = ()
    entries: tuple[Entry, ...] = ()
    edge = parts.edge.pipeline
    if other_file:
        wide = write_matrix(folder / "wide.onnx", EDGE_WEIGHTS * 1.5)
        entry = Entry("wide.onnx", wide.read_bytes())
        files, entries = (OtherFile("model", file_ref(entry)),), (entry,)
        nodes = tuple(
            replace(node, file=file_ref(entry)) if isinstance(node, Model) else node
            for node in edge.nodes
        )
        edge = replace(edge, nodes=nodes)
    other = named(
        replace(
            _bound(CERTIFICATE, edge, "openvino"),
            threshold=EDITION_THRESHOLD,
            upper_bound=EDITION_RISK,
        )
    )
    edition = EditionParts("openvino", "openvino", other, files=files, entries=entries)
    main = named(_bound(CERTIFICATE, parts.edge.pipeline, "onnx"))
    return build(replace(parts, certificate=main, editions=(edition,)), "1", folder / "package-1")


def turned(golden: Golden) -> Golden:
    """As if this machine computed something else."""
    return replace(golden, edge=tuple(replace(one, label="another") for one in golden.edge))


def _bound(certificate: Certificate, edge: Pipeline, runtime: str) -> Certificate:
    return replace(certificate, bound=binding_of(edge, runtime, "cpu", "f32"))


def _with_second(parts: Parts) -> Parts:
    (prepare, model), files = parts.edge.pipeline.nodes, parts.edge.files
    assert isinstance(model, Model)
    both = Ensemble("both", ("model", "second"))
    pipeline = Pipeline((prepare, model, replace(model, id="second"), both), "both")
    return replace(parts, edge=Half(pipeline, files))
