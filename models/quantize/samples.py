"""Prepared samples from an .npz file, divided into those that make ranges and those that judge.

Rules:
1. An array per input of the model, under the input's name, [n, ...]; a model with one input takes
   an array `x` as well. Labels are `y`, int [n].
2. With 200 samples or more, every other one makes ranges, 1,000 at most; the others judge. Every
   other, because files are often sorted by class.
3. With fewer, all of them do both, and the comparison says so.
"""

import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
import onnx

from models.errors import CalibrationUnfit, FileMissing, LabelsUnfit, ModelUnreadable
from models.quantize.feeds import ENOUGH
from models.quantize.options import Array, Labels
from models.quantize.reading import real_inputs

MOST = 1000
"""Samples that ranges are taken from; more of them hardly move a range."""


class Samples(NamedTuple):
    """What `QuantizeOptions` wants of one file; arrays in the order of the model's inputs."""

    calibration: tuple[Array, ...]
    evaluation: tuple[Array, ...]
    """Empty where the calibration samples judge as well."""
    labels: Labels | None
    """Of those that judge."""


def read_samples(file: Path, model: Path, *, labelled: bool) -> Samples:
    """The samples in `file` for the inputs of `model`.

    Raises `FileMissing`, `CalibrationUnfit`, `LabelsUnfit`, `ModelUnreadable`.
    """
    found = _arrays(file)
    names = _inputs(model)
    if not names:
        raise ModelUnreadable(f"{model} has no input; export it with one")
    arrays = tuple(_named(found, name, names, file) for name in names)
    counts = sorted({len(each) for each in arrays})
    if len(counts) > 1:
        raise CalibrationUnfit(
            f"the inputs in {file} have {', '.join(map(str, counts))} samples; sample i of every "
            "input belongs together, so their numbers must be equal"
        )
    labels = found.get("y") if labelled else None
    if labelled and (labels is None or len(labels) != counts[0]):
        raise LabelsUnfit(
            f"{file} has {'no array y' if labels is None else f'{len(labels)} labels'} for "
            f"{counts[0]} samples; put the true classes into y, int [n]"
        )
    if counts[0] < 2 * ENOUGH:
        return Samples(arrays, (), labels)
    return Samples(
        tuple(each[::2][:MOST] for each in arrays),
        tuple(each[1::2] for each in arrays),
        None if labels is None else labels[1::2],
    )


def _arrays(file: Path) -> Mapping[str, Array]:
    if not file.exists():
        raise FileMissing(f"{file} is not there; check the path")
    if file.is_file() and not zipfile.is_zipfile(file):
        # Of other files numpy says that they might be opened unsafely.
        raise CalibrationUnfit(
            f"{file} cannot be read as .npz: it is none, or cut off; write it with numpy.savez,"
            " without objects"
        )
    try:
        # numpy leaves a file of its own open when the archive in it is torn
        with file.open("rb") as raw, np.load(raw, allow_pickle=False) as opened:
            found = {name: opened[name] for name in opened.files}
    except (OSError, ValueError, EOFError, TypeError, zipfile.BadZipFile, zlib.error) as error:
        raise CalibrationUnfit(
            f"{file} cannot be read as .npz: {error}; write it with numpy.savez, without objects"
        ) from error
    scalars = sorted(name for name, array in found.items() if array.ndim == 0)
    if scalars:
        raise CalibrationUnfit(f"{scalars[0]!r} in {file} is one value; arrays [n, ...] are wanted")
    return found


def _named(found: Mapping[str, Array], name: str, names: list[str], file: Path) -> Array:
    array = found.get(name)
    if array is None and len(names) == 1:
        array = found.get("x")
    if array is None:
        raise CalibrationUnfit(
            f"{file} holds {', '.join(sorted(found)) or 'nothing'} and the model takes "
            f"{', '.join(names)}; name the arrays as the inputs"
        )
    return array


def _inputs(model: Path) -> list[str]:
    try:
        return [
            value.name
            for value in real_inputs(onnx.load(str(model), load_external_data=False).graph)
        ]
    except Exception as error:  # protobuf's and onnx's own share no base
        raise ModelUnreadable(f"{model} cannot be read as ONNX: {error}; check the path") from error
