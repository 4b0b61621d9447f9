"""The zoo's parts become packages: made-up parts here, and those that are trained."""

from pathlib import Path

import msgspec
import numpy as np
import pytest

from models import package
from models.cli import main
from models.errors import FileMissing, ManifestInvalid
from models.manifest import Role
from models.pipeline.ops.tensor import Cast, Reshape, Scale
from models.predict import Predictor
from models.zoo.data import load
from models.zoo.figures import TASKS
from models.zoo.packages import RAW_INPUTS, Measured, build_zoo, zoo_tasks
from tests.tiny_models import CERTIFICATE, write_matrix

LARGEST = {"apparel-l": 120_000, "garments": 70_000}
"""Bytes of an edge half, where it may be more than usual."""


@pytest.fixture
def zoo(tmp_path: Path) -> Path:
    """A zoo whose digits are told apart by one untrained matrix."""
    chance = np.random.default_rng(0)
    folder = tmp_path / "zoo" / "digits"
    folder.mkdir(parents=True)
    for name in ("edge.onnx", "cloud.onnx"):
        weights = chance.normal(size=(64, 10)).astype(np.float32)
        write_matrix(folder / name, weights, shape=(1, 8, 8))
    measured = Measured(
        label_names=tuple(str(digit) for digit in range(10)),
        preparation=(Cast("float32"), Scale((1 / 16,)), Reshape((1, 8, 8))),
    )
    (folder / "figures.json").write_bytes(msgspec.json.encode(measured))
    (folder / "certificate.json").write_bytes(msgspec.json.encode(CERTIFICATE))
    return folder.parent


def test_a_zoo_task_becomes_a_package_that_verifies(zoo: Path, tmp_path: Path) -> None:
    folder = build_zoo("digits", "7", tmp_path / "out" / "digits-7", zoo=zoo)
    assert folder == tmp_path / "out" / "digits-7"
    assert main(["verify", str(folder)]) == 0
    manifest = package.read(folder, Role.EDGE).manifest
    assert (manifest.task, manifest.version, manifest.name) == ("digits", "7", "zoo-digits")
    assert manifest.input.shape == (8, 8)
    assert manifest.figures is not None


def test_an_untrained_task_says_how_to_train_it(zoo: Path, tmp_path: Path) -> None:
    with pytest.raises(FileMissing, match=r"\./just train apparel makes it"):
        build_zoo("apparel", "1", tmp_path / "out", zoo=zoo)
    (zoo / "digits" / "certificate.json").write_text("{}")
    with pytest.raises(ManifestInvalid, match="does not have its fields"):
        build_zoo("digits", "1", tmp_path / "out", zoo=zoo)


def test_every_task_of_the_zoo_has_an_input() -> None:
    assert set(TASKS) < set(RAW_INPUTS)
    digits = load("digits")
    spec = RAW_INPUTS["digits"].spec
    assert (str(digits.test_x.dtype), digits.test_x.shape[1:]) == (spec.dtype, spec.shape)
    assert digits.test_x.max() == RAW_INPUTS["digits"].high


def test_every_trained_task_builds_a_package_that_answers_on_this_machine(tmp_path: Path) -> None:
    # Which tasks must be trained is for tests/adapters/test_zoo.py to say.
    for task in zoo_tasks():
        folder = build_zoo(task, "1", tmp_path / task)
        for role in Role:
            predictor = Predictor.load(package.read(folder, role))
            predictor.check_golden()
            answers = predictor.package.manifest.golden_answers(role)
            # Golden inputs that all look alike to a model would show little.
            assert len({round(answer.confidence or 0, 4) for answer in answers}) > 1
        assert len(package.pack(folder, Role.EDGE)) < LARGEST.get(task, 50_000)
