"""The zoo's packages: for each task what its input is; the recipe's files say the rest.

Preparation and labels come from `figures.json`, the threshold from `decision.json`: what the recipe
measured with is what ships.
"""

from pathlib import Path
from typing import TypeVar

import msgspec
from msgspec import Struct

from models.build import Parts, build
from models.errors import FileMissing, ManifestInvalid, UnknownTask
from models.manifest import Decision, TensorSpec
from models.pipeline.declared import Step
from models.zoo.figures import ZOO

T = TypeVar("T")


class Measured(Struct, frozen=True):
    """What a package needs of `figures.json`."""

    label_names: tuple[str, ...]
    preparation: tuple[Step, ...]


class RawInput(Struct, frozen=True):
    """One task's input as a device sees it, and the range its values take."""

    spec: TensorSpec
    low: float
    high: float


RAW_INPUTS = {
    "apparel": RawInput(TensorSpec("image", "uint8", (28, 28), "HW"), 0, 255),
    # Counts of the sensors: 8000 are 20 m/s^2 or 5.3 rad/s.
    "activity": RawInput(TensorSpec("window", "int16", (64, 6), "TC"), -8000, 8000),
    "digits": RawInput(TensorSpec("image", "uint8", (8, 8), "HW"), 0, 16),
}


def build_zoo(task: str, version: str, into: Path, *, zoo: Path = ZOO) -> Path:
    """Make the new package folder `into` and return it.

    Raises `UnknownTask` and as `build` does.
    """
    if task not in RAW_INPUTS:
        raise UnknownTask(f"the zoo has no task {task!r}; choose one of {', '.join(RAW_INPUTS)}")
    raw, folder = RAW_INPUTS[task], zoo / task
    figures = _read(folder / "figures.json", Measured)
    parts = Parts(
        name=f"zoo-{task}",
        task=task,
        given=raw.spec,
        steps=figures.preparation,
        labels=figures.label_names,
        decision=_read(folder / "decision.json", Decision),
        edge=folder / "edge.onnx",
        cloud=folder / "cloud.onnx",
        low=raw.low,
        high=raw.high,
        figures=folder / "figures.json",
    )
    return build(parts, version, into)


def _read(path: Path, kind: type[T]) -> T:
    try:
        return msgspec.json.decode(path.read_bytes(), type=kind)
    except OSError as error:
        raise FileMissing(
            f"{path} cannot be read: {error.strerror}; ./just train {path.parent.name} makes it"
        ) from error
    except msgspec.DecodeError as error:
        raise ManifestInvalid(f"{path} does not have its fields: {error}; train again") from error
