"""Finds and reads the zoo's training data: raw arrays, split into train, held-out and test.

Rules:
1. The folder is `LONGSTOP_DATA`, or `../shared/data` beside the repository. Nothing is downloaded.
2. A file is used only if its SHA-256 is the one in the folder's `SHA256SUMS`.
3. Arrays are raw, as a device sees them: preparation is declared in a manifest and runs elsewhere.
4. Held-out data choose temperatures, thresholds and which seed ships; test data choose nothing.
5. `digits` comes with scikit-learn and is always there; a missing other set is `DataMissing`.
6. `vibration`, `tickets` and `fraud` are generated (`generated.py`) and need no file.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from models.errors import ModelsError, UnknownTask

Raw = npt.NDArray[np.uint8] | npt.NDArray[np.int16] | npt.NDArray[np.object_]
"""Samples [n, ...]. Texts and records are objects, one a sample."""
Labels = npt.NDArray[np.int64]

APPAREL_LABELS = (
    "T-shirt/top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
)
APPAREL_HELD_FROM = 55_000
ACTIVITY_TRAIN, ACTIVITY_HELD, ACTIVITY_TEST = 0, 1, 2
ACTIVITY_PHONE = 0
DIGITS_SPLIT_SEED = 0
DIGITS_HELD, DIGITS_TEST = 360, 360


class DataMissing(ModelsError):
    """A data set is not on this machine, or not the file its checksum names."""

    code = "data_missing"


@dataclass(frozen=True)
class Dataset:
    """One task's data; `*_groups` number the persons behind the samples, where they are known."""

    name: str
    label_names: tuple[str, ...]
    train_x: Raw
    train_y: Labels
    held_x: Raw
    held_y: Labels
    test_x: Raw
    test_y: Labels
    train_groups: Labels | None
    held_groups: Labels | None
    test_groups: Labels | None
    sha256: str
    """Of the file; for digits and generated sets, of samples and labels."""


def data_folders() -> tuple[Path, ...]:
    """Where the data may be, best first."""
    beside = Path(__file__).resolve().parents[2].parent / "shared" / "data"
    named = os.environ.get("LONGSTOP_DATA")
    return (Path(named), beside) if named else (beside,)


def find_data(folders: Sequence[Path] | None = None) -> Path | None:
    """The first of `folders` (by default `data_folders()`) that holds data sets, or None."""
    for folder in data_folders() if folders is None else folders:
        if (folder / "SHA256SUMS").is_file():
            return folder
    return None


def load(task: str, *, folders: Sequence[Path] | None = None) -> Dataset:
    """Reads `apparel`, `activity` or `digits`; makes `vibration`, `tickets` or `fraud`.

    Raises:
        DataMissing: the set is not on this machine, or its file is not the expected one.
        UnknownTask: the zoo has no such task.
    """
    reader = _READERS.get(task)
    if reader is None:
        raise UnknownTask(f"task {task!r} is unknown; the zoo has {', '.join(_READERS)}")
    return reader(data_folders() if folders is None else folders)


def _checked_file(task: str, file_name: str, folders: Sequence[Path]) -> tuple[Path, str]:
    """The file's path and SHA-256, or `DataMissing` with what to do."""
    folder = find_data(folders)
    if folder is None or not (folder / file_name).is_file():
        looked = " and ".join(str(candidate) for candidate in folders)
        raise DataMissing(
            f"data for {task!r} ({file_name}) are not on this machine: looked in {looked}; "
            f"set LONGSTOP_DATA to the folder that holds {file_name} and SHA256SUMS"
        )
    sums = _sums(folder / "SHA256SUMS")
    found = hashlib.sha256((folder / file_name).read_bytes()).hexdigest()
    if sums.get(file_name) != found:
        raise DataMissing(
            f"{file_name} in {folder} has SHA-256 {found}, and SHA256SUMS says "
            f"{sums.get(file_name, 'nothing')}; copy the file again"
        )
    return folder / file_name, found


def _sums(path: Path) -> dict[str, str]:
    """File name to SHA-256, as `sha256sum` writes them."""
    sums: dict[str, str] = {}
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    for number, line in enumerate(lines, start=1):
        match line.split():
            case []:
                continue
            case [sha256, name]:
                sums[name.lstrip("*")] = sha256
            case words:
                raise DataMissing(
                    f"line {number} of {path} has {len(words)} words, where a checksum and a name"
                    " belong; copy SHA256SUMS again"
                )
    return sums


def _apparel(folders: Sequence[Path]) -> Dataset:
    path, sha256 = _checked_file("apparel", "fashion_mnist.npz", folders)
    with np.load(path, allow_pickle=False) as arrays:
        train_x, train_y = arrays["x_train"], arrays["y_train"].astype(np.int64)
        test_x, test_y = arrays["x_test"], arrays["y_test"].astype(np.int64)
    return Dataset(
        name="apparel",
        label_names=APPAREL_LABELS,
        train_x=train_x[:APPAREL_HELD_FROM],
        train_y=train_y[:APPAREL_HELD_FROM],
        held_x=train_x[APPAREL_HELD_FROM:],
        held_y=train_y[APPAREL_HELD_FROM:],
        test_x=test_x,
        test_y=test_y,
        train_groups=None,
        held_groups=None,
        test_groups=None,
        sha256=sha256,
    )


def _activity(folders: Sequence[Path]) -> Dataset:
    """Windows of the telephone only, split by person as the file says."""
    path, sha256 = _checked_file("activity", "har_phone_watch.npz", folders)
    with np.load(path, allow_pickle=False) as arrays:
        phone = arrays["device"] == ACTIVITY_PHONE
        windows, labels = arrays["x"][phone], arrays["y"][phone].astype(np.int64)
        persons = arrays["subject"][phone].astype(np.int64)
        split = arrays["split"][phone]
        label_names = tuple(str(name) for name in arrays["label_names"])
    train, held, test = (split == part for part in (ACTIVITY_TRAIN, ACTIVITY_HELD, ACTIVITY_TEST))
    return Dataset(
        name="activity",
        label_names=label_names,
        train_x=windows[train],
        train_y=labels[train],
        held_x=windows[held],
        held_y=labels[held],
        test_x=windows[test],
        test_y=labels[test],
        train_groups=persons[train],
        held_groups=persons[held],
        test_groups=persons[test],
        sha256=sha256,
    )


def _digits(_folders: Sequence[Path]) -> Dataset:
    """Scikit-learn's digits in a seeded random split (the set does not say who wrote them)."""
    # Late: a program that has its data need not carry scikit-learn.
    from sklearn.datasets import load_digits

    pictures, labels = load_digits(return_X_y=True)
    pixels = np.ascontiguousarray(pictures.reshape(-1, 8, 8).astype(np.uint8))
    labels = labels.astype(np.int64)
    sha256 = hashlib.sha256(pixels.tobytes() + labels.astype("<i8").tobytes()).hexdigest()
    order = np.random.default_rng(DIGITS_SPLIT_SEED).permutation(len(labels))
    test, held, train = np.split(order, [DIGITS_TEST, DIGITS_TEST + DIGITS_HELD])
    return Dataset(
        name="digits",
        label_names=tuple(str(digit) for digit in range(10)),
        train_x=pixels[train],
        train_y=labels[train],
        held_x=pixels[held],
        held_y=labels[held],
        test_x=pixels[test],
        test_y=labels[test],
        train_groups=None,
        held_groups=None,
        test_groups=None,
        sha256=sha256,
    )


def _generated(task: str) -> Callable[[Sequence[Path]], Dataset]:
    def make(_folders: Sequence[Path]) -> Dataset:
        # Late: `generated` fills this module's types.
        from models.zoo.generated import dataset

        return dataset(task)

    return make


_READERS: dict[str, Callable[[Sequence[Path]], Dataset]] = {
    "apparel": _apparel,
    "activity": _activity,
    "digits": _digits,
    "vibration": _generated("vibration"),
    "tickets": _generated("tickets"),
    "fraud": _generated("fraud"),
    # Other sizes of edge net, the same data.
    "apparel-xs": _apparel,
    "apparel-l": _apparel,
}
