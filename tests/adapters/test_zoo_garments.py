"""The graph of two models: it builds, answers, and is as good as its figures say."""

from __future__ import annotations

import hashlib
import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from models import package
from models.manifest import Role
from models.pipeline.answers import Detected
from models.predict import Predictor
from models.zoo import data
from models.zoo.figures import ZOO, read_certificate
from models.zoo.garments import drawn
from models.zoo.garments.figures import HERE, read_figures
from models.zoo.garments.judging import candidates, head_of, judge
from models.zoo.garments.measure import scenes_of_test, tune_scenes
from models.zoo.garments.scenes import SIDE, png
from models.zoo.packages import build_zoo

SOME = 600
both_halves = pytest.mark.parametrize("role", list(Role))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_zoo("garments", "1", tmp_path_factory.mktemp("garments") / "package")


def apparel() -> data.Dataset:
    try:
        return data.load("apparel")
    except data.DataMissing as missing:
        pytest.skip(str(missing))


@both_halves
def test_the_package_has_two_models_and_answers_as_it_stores(folder: Path, role: Role) -> None:
    predictor = Predictor.load(package.read(folder, role))
    predictor.check_golden()
    assert len(predictor.package.manifest.pipeline(role).models) == 2
    answers = predictor.package.manifest.golden_answers(role)
    assert all(answer.confidence is not None for answer in answers)
    assert {answer.label for answer in answers} >= {"1 Trouser", "nothing"}


@both_halves
def test_a_plain_ground_is_nothing_and_surely_so(folder: Path, role: Role) -> None:
    said = Predictor.load(package.read(folder, role)).predict(
        png(np.full((SIDE, SIDE), 8, np.uint8))
    )
    assert said.answer == Detected(())
    assert said.confidence is not None
    assert said.confidence > 0.8


@both_halves
def test_a_larger_picture_has_its_objects_at_their_larger_places(folder: Path, role: Role) -> None:
    predictor = Predictor.load(package.read(folder, role))
    small = Image.open(io.BytesIO(drawn.pictures()["trousers"]))
    large = Image.new("L", (4 * SIDE, 3 * SIDE), drawn.GROUND)
    large.paste(small.resize((3 * SIDE, 3 * SIDE)), (SIDE // 2, 0))
    one, other = (predictor.predict(png(np.asarray(held))).answer for held in (small, large))
    assert isinstance(one, Detected)
    assert isinstance(other, Detected)
    (seen,), (found,) = one.objects, other.objects
    assert found.label == seen.label
    moved = np.array(seen.box) * 3 + [SIDE // 2, 0, SIDE // 2, 0]
    assert np.abs(np.array(found.box) - moved).max() < 30


def test_golden_pictures_are_the_drawn_ones() -> None:
    for name, file in drawn.pictures().items():
        held = np.asarray(Image.open(HERE / "golden" / f"{name}.png"))
        assert np.array_equal(held, np.asarray(Image.open(io.BytesIO(file))))


def test_files_are_those_that_were_measured_and_small() -> None:
    figures = read_figures()
    for role, half in ((Role.EDGE, figures.edge), (Role.CLOUD, figures.cloud)):
        assert (HERE / f"localiser-{role.value}.onnx").stat().st_size == half.file_bytes
        classifier = (ZOO / "apparel" / f"{role.value}.onnx").read_bytes()
        assert hashlib.sha256(classifier).hexdigest() == half.classifier_sha256
    assert figures.edge.file_bytes <= 40_000
    assert figures.cloud.file_bytes <= 400_000


def test_the_answers_threshold_is_the_best_of_those_tried_on_tune_scenes() -> None:
    best = max(read_figures().answer_thresholds, key=lambda one: one.tune_right_percent)
    assert head_of().threshold == best.threshold


def test_the_promise_is_kept_on_calibration_scenes() -> None:
    certificate = read_certificate("garments")
    assert certificate.feasible
    assert certificate.score == "head"
    assert certificate.upper_bound is not None
    assert certificate.upper_bound <= certificate.eps
    assert certificate.n == read_figures().calibrate.scenes


def test_scenes_are_those_that_were_measured() -> None:
    assert tune_scenes(apparel()).sha256 == read_figures().tune.sha256


@both_halves
def test_shipped_files_reproduce_their_published_share(role: Role) -> None:
    test, figures = scenes_of_test(apparel(), SOME), read_figures()
    half = figures.edge if role is Role.EDGE else figures.cloud
    found = judge(test, candidates(test, role), head_of())
    chance = 4 * 100 * (0.25 / SOME) ** 0.5
    assert 100 * found.right.mean() == pytest.approx(half.test_right_percent, abs=chance)
    assert 100 * found.placed.mean() == pytest.approx(half.test_placed_percent, abs=chance)
