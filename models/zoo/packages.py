"""The zoo's packages: for each task what its input is; the recipe's files say the rest.

Preparation and labels come from `figures.json`, the promise from `certificate.json`: what the
recipe measured with is what ships. A task whose folder holds a `package.toml` is built from that.
"""

import logging
from pathlib import Path
from typing import TypeVar

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from models.archive import Entry
from models.build import (
    Chosen,
    Drawn,
    EditionParts,
    Half,
    Parts,
    build,
    content,
    file_ref,
    one_model,
)
from models.calibrate.binding import binding_of
from models.calibrate.by_hand import by_hand
from models.calibrate.certificate import Certificate
from models.calibrate.certify import named
from models.errors import FileMissing, ManifestInvalid, UnknownTask
from models.manifest import OtherFile, Role, TensorSpec
from models.pipeline.declared import Gives, Model, Pipeline, Tokenise
from models.pipeline.heads import Classify
from models.pipeline.ops.families import Step
from models.recipe import read_recipe
from models.runtimes.choose import installed
from models.zoo.figures import ZOO

_log = logging.getLogger(__name__)
T = TypeVar("T")
GOLDEN_COUNT = 8


class Measured(Struct, frozen=True):
    """What a package needs of `figures.json`."""

    label_names: tuple[str, ...]
    preparation: tuple[Step, ...] = ()
    """Of both halves, unless each has its own."""
    edge_preparation: tuple[Step, ...] = ()
    cloud_preparation: tuple[Step, ...] = ()
    tokens: int | None = None
    """How many tokens of a text the nets take."""


class RawInput(Struct, frozen=True):
    """One task's input as a device sees it, and the range its values take."""

    spec: TensorSpec
    low: float = 0.0
    high: float = 1.0
    cloud_of: str | None = None
    """The task whose cloud file it shares."""


class ZooEdition(Struct, frozen=True):
    """An edition beside the INT8 file on onnxruntime; `edition-<name>.json` is its certificate."""

    name: str
    runtime: str
    file: str | None = None
    """Beside the recipe; None is the same file."""


EDITIONS = {
    # FP32 is the quicker one on so small a net; OpenVINO may be where onnxruntime has no VNNI.
    "digits": (ZooEdition("fp32", "onnx", "edge-fp32.onnx"), ZooEdition("openvino", "openvino")),
}
PICTURE = TensorSpec("image", "uint8", (28, 28), "HW")
RAW_INPUTS = {
    "apparel": RawInput(PICTURE, 0, 255),
    "apparel-xs": RawInput(PICTURE, 0, 255, cloud_of="apparel"),
    "apparel-l": RawInput(PICTURE, 0, 255, cloud_of="apparel"),
    # Counts of the sensors: 8000 are 20 m/s^2 or 5.3 rad/s.
    "activity": RawInput(TensorSpec("window", "int16", (64, 6), "TC"), -8000, 8000),
    "digits": RawInput(TensorSpec("image", "uint8", (8, 8), "HW"), 0, 16),
    "vibration": RawInput(TensorSpec("window", "int16", (2048,), "T"), -16000, 16000),
    "tickets": RawInput(TensorSpec("message", "text")),
    "fraud": RawInput(TensorSpec("payment", "record")),
}


def build_zoo(task: str, version: str, into: Path, *, zoo: Path = ZOO) -> Path:
    """Make the new package folder `into` and return it.

    An edition whose runtime is not installed here is left out: its golden answers cannot be taken.
    Raises `UnknownTask` and as `build` does.
    """
    parts = zoo_parts(task, zoo=zoo)
    certificate = _read(zoo / task / "certificate.json", Certificate)
    bound = binding_of(parts.edge.pipeline, "onnx", "cpu", "f32")
    editions = tuple(
        _certified(one, _read(zoo / task / f"edition-{one.name}.json", Certificate), parts)
        for one in edition_parts(task, zoo=zoo)
        if (zoo / task / f"edition-{one.name}.json").exists()
    )
    certified = named(replace(certificate, bound=bound))
    return build(replace(parts, certificate=certified, editions=editions), version, into)


def edition_parts(task: str, *, zoo: Path = ZOO) -> tuple[EditionParts, ...]:
    """The editions of a task that can be built here, not calibrated. Raises `FileMissing`."""
    found = []
    for one in EDITIONS.get(task, ()):
        if one.runtime not in installed():
            _log.info("zoo.edition_left_out task=%s edition=%s", task, one.name)
            continue
        files: tuple[OtherFile, ...] = ()
        entries: tuple[Entry, ...] = ()
        if one.file is not None:
            path = zoo / task / one.file
            if not path.exists():
                continue
            entries = (Entry(one.file, content(path)),)
            files = (OtherFile("model", file_ref(entries[0])),)
        bare = by_hand(note="not calibrated yet")
        found.append(EditionParts(one.name, one.runtime, bare, files=files, entries=entries))
    return tuple(found)


def _certified(edition: EditionParts, certificate: Certificate, parts: Parts) -> EditionParts:
    files = {one.model: one.file for one in edition.files}
    nodes = tuple(
        replace(node, file=files.get(node.id, node.file)) if isinstance(node, Model) else node
        for node in parts.edge.pipeline.nodes
    )
    pipeline = replace(parts.edge.pipeline, nodes=nodes)
    bound = binding_of(pipeline, edition.runtime, edition.provider, edition.precision)
    return replace(edition, certificate=named(replace(certificate, bound=bound)))


def zoo_tasks(*, zoo: Path = ZOO) -> tuple[str, ...]:
    """Every task that can be built, by name."""
    certified = {path.parent.name for path in zoo.glob("*/certificate.json")}
    return tuple(
        sorted(
            task
            for task in certified
            if task in RAW_INPUTS or (zoo / task / "package.toml").exists()
        )
    )


def zoo_parts(task: str, *, zoo: Path = ZOO) -> Parts:
    """A task's parts, not calibrated. Raises `UnknownTask`, `FileMissing`, `ManifestInvalid`."""
    folder = zoo / task
    if (folder / "package.toml").exists():
        return replace(read_recipe(folder / "package.toml").parts, name=f"zoo-{task}")
    if task in RAW_INPUTS:
        return _parts(task, folder, zoo)
    known = ", ".join(sorted({*RAW_INPUTS, *zoo_tasks(zoo=zoo)}))
    raise UnknownTask(f"the zoo has no task {task!r}; choose one of {known}")


def _parts(task: str, folder: Path, zoo: Path) -> Parts:
    raw = RAW_INPUTS[task]
    shared = folder if raw.cloud_of is None else zoo / raw.cloud_of
    figures = _read(folder / "figures.json", Measured)
    golden: Drawn | Chosen = Drawn(raw.low, raw.high)
    if raw.spec.dtype in ("text", "record"):
        golden = Chosen(_generated(task))
    return Parts(
        name=f"zoo-{task}",
        task=task,
        given=raw.spec,
        answer=Classify(figures.label_names),
        edge=_half(figures, raw.spec, folder, folder / "edge.onnx", Role.EDGE),
        cloud=_half(figures, raw.spec, folder, shared / "cloud.onnx", Role.CLOUD),
        certificate=by_hand(note="not calibrated yet"),
        golden=golden,
        figures=folder / "figures.json",
    )


def _half(figures: Measured, given: TensorSpec, folder: Path, file: Path, role: Role) -> Half:
    gives = Gives("logits", (len(figures.label_names),))
    if figures.tokens is not None:
        return _on_tokens(figures.tokens, given, folder, file, gives, role)
    own = figures.edge_preparation if role is Role.EDGE else figures.cloud_preparation
    return one_model(given, own or figures.preparation, file, gives=gives, role=role)


def _on_tokens(
    length: int, given: TensorSpec, folder: Path, file: Path, gives: Gives, role: Role
) -> Half:
    """Tokens of a text, then a model that takes their ids and their mask."""
    tokenizer = Entry("tokenizer.json", content(folder / "tokenizer.json"))
    net = Entry(f"{role.value}.onnx", content(file))
    nodes = (
        Tokenise("tokens", given.name, file_ref(tokenizer), length),
        Model("model", ("tokens.ids", "tokens.mask"), file_ref(net), (gives,)),
    )
    return Half(Pipeline(nodes, "model"), (tokenizer, net))


def _generated(task: str) -> tuple[bytes, ...]:
    """Golden inputs of a generated task: its first test samples, which are nobody's."""
    from models.zoo.generated import part

    samples = part(task, "test").x[:GOLDEN_COUNT]
    return tuple(
        one.encode() if isinstance(one, str) else msgspec.json.encode(one) for one in samples
    )


def _read(path: Path, kind: type[T]) -> T:
    try:
        return msgspec.json.decode(path.read_bytes(), type=kind)
    except OSError as error:
        raise FileMissing(
            f"{path} cannot be read: {error.strerror}; ./just train {path.parent.name} makes it"
        ) from error
    except msgspec.DecodeError as error:
        raise ManifestInvalid(f"{path} does not have its fields: {error}; train again") from error
