"""What the zoo's shipped cascades answer to data that trained neither of their nets.

Rules:
1. A task is a folder of the zoo with an edge file or a `package.toml`. `build_zoo` makes its
   package, and package, preparation and runtime are what a device and a gateway would run.
2. The data are the held-out and the test part together. The official test pictures of apparel are
   harder than its held-out ones, so neither part speaks for the other.
3. A task without data of its own name has those whose hash its figures name: three sizes of an edge
   net share one data set. What was answered once is not asked again within a run.
"""

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt
from msgspec import Struct

from models import package
from models.calibrate.outcomes import Groups
from models.calibrate.scores import Logits
from models.errors import UnknownTask
from models.manifest import Manifest, Role, TensorSpec
from models.pipeline.heads import Classify
from models.pipeline.values import Value
from models.predict import Predictor
from models.zoo.data import Dataset, Labels, load
from models.zoo.figures import ZOO
from models.zoo.packages import build_zoo

TOGETHER = 64


class Answers(NamedTuple):
    """One cascade's answers to n samples."""

    task: str
    edge: Logits
    """[n, K]."""
    cloud: Logits
    labels: Labels
    groups: Groups | None
    """Persons, machines, authors, where the data know them."""
    bytes: npt.NDArray[np.int64]
    """What escalating each sample would send: its raw values."""
    edge_file_bytes: int


class _Figures(Struct, frozen=True):
    data_sha256: str


class _Data(NamedTuple):
    values: Sequence[Value]
    labels: Labels
    groups: Groups | None
    name: str


def shipped_tasks(zoo: Path = ZOO) -> list[str]:
    """Every folder of the zoo that a package can be made of, by name."""
    marks = (*zoo.glob("*/edge.onnx"), *zoo.glob("*/package.toml"))
    return sorted({path.parent.name for path in marks})


class Asked:
    """Asks shipped packages, and remembers data and answers for the next task that shares them."""

    def __init__(self, home: Path, most: int | None, seed: int, *, zoo: Path = ZOO) -> None:
        self._home, self._zoo = home, zoo
        self._most = most
        """Of the samples of a task, or about so many where groups are kept whole; None is all."""
        self._seed = seed
        self._data: dict[str, _Data] = {}
        self._said: dict[tuple[str, bytes], Logits] = {}

    def answers(self, task: str) -> Answers | None:
        """Both halves' logits; None where the task does not end in classes. Raises `ModelsError`:
        the package cannot be built, or its data are not on this machine."""
        folder = build_zoo(task, "1", self._home / task, zoo=self._zoo)
        manifest = package.read(folder, Role.EDGE).manifest
        if not isinstance(manifest.answer, Classify):
            return None
        data = self._data_of(task)
        return Answers(
            task=task,
            edge=self._logits(folder, manifest, Role.EDGE, data),
            cloud=self._logits(folder, manifest, Role.CLOUD, data),
            labels=data.labels,
            groups=data.groups,
            bytes=np.array([_size(manifest.input, value) for value in data.values], np.int64),
            edge_file_bytes=sum(node.file.size for node in manifest.edge.models),
        )

    def _data_of(self, task: str) -> _Data:
        try:
            return self._part(task)
        except UnknownTask:
            figures = (self._zoo / task / "figures.json").read_bytes()
            wanted = msgspec.json.decode(figures, type=_Figures).data_sha256
            for other in _measured_on(wanted, self._zoo):
                with contextlib.suppress(UnknownTask):
                    return self._part(other)
            raise

    def _part(self, name: str) -> _Data:
        if name not in self._data:
            self._data[name] = self._drawn(load(name))
        return self._data[name]

    def _drawn(self, whole: Dataset) -> _Data:
        """Held-out and test data, or some of them: whole groups, else at random."""
        labels = np.concatenate([whole.held_y, whole.test_y])
        raw = [*whole.held_x, *whole.test_x]
        groups: Groups | None = None
        if whole.held_groups is not None and whole.test_groups is not None:
            groups = np.concatenate([whole.held_groups, whole.test_groups])
        places = np.arange(len(labels))
        if self._most is not None and self._most < len(labels):
            places = self._some(len(labels), groups)
        return _Data(
            [raw[place] for place in places],
            labels[places],
            None if groups is None else groups[places],
            whole.name,
        )

    def _some(self, count: int, groups: Groups | None) -> npt.NDArray[np.intp]:
        most, chance = self._most or count, np.random.default_rng(self._seed)
        if groups is None:
            return np.sort(chance.permutation(count)[:most])
        found, member, sizes = np.unique(groups, return_inverse=True, return_counts=True)
        order = chance.permutation(len(found))
        # The first group is taken however large it is, and so is a second: there are two halves.
        taken = max(2, int((sizes[order].cumsum() <= most).sum()))
        return np.flatnonzero(np.isin(member, order[:taken]))

    def _logits(self, folder: Path, manifest: Manifest, role: Role, data: _Data) -> Logits:
        key = data.name, msgspec.json.encode(manifest.pipeline(role))
        if key not in self._said:
            predictor = Predictor.load(package.read(folder, role))
            values = data.values
            self._said[key] = np.concatenate(
                [
                    np.stack([one.output for one in predictor.predict_batch(part)])
                    for part in (
                        values[at : at + TOGETHER] for at in range(0, len(values), TOGETHER)
                    )
                ]
            )
        return self._said[key]


def _measured_on(sha256: str, zoo: Path) -> Iterator[str]:
    """Other tasks of the zoo that were measured on these data."""
    for path in sorted(zoo.glob("*/figures.json")):
        if msgspec.json.decode(path.read_bytes(), type=_Figures).data_sha256 == sha256:
            yield path.parent.name


def _size(given: TensorSpec, value: Value) -> int:
    match value:
        case np.ndarray():
            return value.nbytes
        case bytes():
            return len(value)
        case str():
            return len(value.encode())
        case _:
            return len(msgspec.json.encode(value))
