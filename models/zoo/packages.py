"""The zoo's packages: for each task what its input is; the recipe's files say the rest.

Preparation and labels come from `figures.json`, the promise from `certificate.json`: what the
recipe measured with is what ships. A task whose folder holds a `package.toml` is built from that.
"""

from pathlib import Path
from typing import TypeVar

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from models.archive import Entry
from models.build import Chosen, Drawn, Half, Parts, build, content, file_ref, one_model
from models.calibrate.binding import binding_of
from models.calibrate.by_hand import by_hand
from models.calibrate.certificate import Certificate
from models.calibrate.certify import named
from models.errors import FileMissing, ManifestInvalid, UnknownTask
from models.manifest import Role, TensorSpec
from models.pipeline.declared import Gives, Model, Pipeline, Tokenise
from models.pipeline.heads import Classify
from models.pipeline.ops.families import Step
from models.recipe import read_recipe
from models.zoo.figures import ZOO

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

    Raises `UnknownTask` and as `build` does.
    """
    parts = zoo_parts(task, zoo=zoo)
    certificate = _read(zoo / task / "certificate.json", Certificate)
    bound = binding_of(parts.edge.pipeline, "onnx", "cpu", "f32")
    return build(
        replace(parts, certificate=named(replace(certificate, bound=bound))), version, into
    )


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
