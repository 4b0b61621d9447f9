"""Chooses and measures garments' package: tune scenes, calibration scenes, then the test scenes.

The order is the rule: tune scenes say which threshold of the answer is best, calibration scenes
give the cascade's threshold, and only then are the test scenes looked at, once, to be reported.
"""

from __future__ import annotations

import hashlib
import math
import platform
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path
from shutil import copy, copytree
from tempfile import TemporaryDirectory
from typing import NamedTuple

import numpy as np
from msgspec.structs import replace

from models.calibrate.certificate import Certificate
from models.calibrate.certify import certify
from models.manifest import Role
from models.pipeline.heads import Detect
from models.zoo.data import Dataset, Labels, Raw
from models.zoo.figures import ZOO
from models.zoo.garments.figures import (
    HERE,
    GarmentFigures,
    HalfFigures,
    PairFigures,
    SplitFigures,
    ThresholdFigures,
)
from models.zoo.garments.judging import Flags, Judged, candidates, head_of, judge, outcomes
from models.zoo.garments.scenes import NOTHING, Scenes, scenes

EPS, DELTA = 0.03, 0.1
TUNE_SEED, CALIBRATE_SEED, TEST_SEED = 71_000, 71_001, 71_002
TUNE_SCENES, TEST_SCENES = 2_500, 5_000
THRESHOLDS = (0.1, 0.15, 0.2, 0.25, 0.3, 0.35, 0.4)
PACKAGE_FILES = ("package.toml", "localiser-edge.onnx", "localiser-cloud.onnx")


class Net(NamedTuple):
    """How a localiser came to be."""

    seed: int
    epochs: int
    cpu_seconds: float
    parameters: int


class Measured(NamedTuple):
    """What `figures.json` and `certificate.json` hold."""

    figures: GarmentFigures
    certificate: Certificate


def tune_scenes(dataset: Dataset) -> Scenes:
    return _scenes(dataset.held_x[:TUNE_SCENES], dataset.held_y[:TUNE_SCENES], TUNE_SEED)


def calibration_scenes(dataset: Dataset) -> Scenes:
    return _scenes(dataset.held_x[TUNE_SCENES:], dataset.held_y[TUNE_SCENES:], CALIBRATE_SEED)


def scenes_of_test(dataset: Dataset, count: int = TEST_SCENES) -> Scenes:
    return _scenes(dataset.test_x[:count], dataset.test_y[:count], TEST_SEED)


def measure(
    dataset: Dataset, nets: Mapping[Role, Net], out: Path, versions: Mapping[str, str]
) -> Measured:
    """Judges the localisers in `out`; `versions` of what trained them beside what runs them."""
    with _beside_apparel(out) as recipe:
        head = head_of(recipe)
        tune, calibrate = tune_scenes(dataset), calibration_scenes(dataset)
        on_tune = {role: candidates(tune, role, recipe) for role in Role}
        by_threshold = tuple(
            ThresholdFigures(threshold, percent(judge(tune, on_tune[Role.EDGE], one).right))
            for threshold in THRESHOLDS
            for one in (replace(head, threshold=threshold),)
        )
        tuned = {role: judge(tune, on_tune[role], head) for role in Role}
        calibrated = {
            role: judge(calibrate, candidates(calibrate, role, recipe), head) for role in Role
        }
        certificate = _certificate(tuned, calibrated, head)
        test = scenes_of_test(dataset)
        tested = {role: judge(test, candidates(test, role, recipe), head) for role in Role}
    edge, cloud = tested[Role.EDGE], tested[Role.CLOUD]
    local = edge.scores >= (math.inf if certificate.threshold is None else certificate.threshold)
    figures = GarmentFigures(
        task="garments",
        data_sha256=dataset.sha256,
        tune=_split(tune, TUNE_SEED),
        calibrate=_split(calibrate, CALIBRATE_SEED),
        test=_split(test, TEST_SEED),
        answer_thresholds=by_threshold,
        edge=_half(Role.EDGE, nets, out, (tuned, calibrated), tested, test),
        cloud=_half(Role.CLOUD, nets, out, (tuned, calibrated), tested, test),
        cascade=PairFigures(
            test_escalated_percent=percent(~local),
            test_right_percent=percent(np.where(local, edge.right, cloud.right)),
            test_harm_percent=percent(harmed(edge, cloud) & local),
        ),
        versions={
            "python": platform.python_version(),
            **{name: metadata.version(name) for name in ("numpy", "onnx", "onnxruntime", "pillow")},
            **versions,
        },
    )
    return Measured(figures, certificate)


def certificate_anew(dataset: Dataset) -> Certificate:
    """The certificate of the localisers that ship."""
    with _beside_apparel(HERE) as recipe:
        head = head_of(recipe)
        tuned, calibrated = (
            {role: judge(part, candidates(part, role, recipe), head) for role in Role}
            for part in (tune_scenes(dataset), calibration_scenes(dataset))
        )
        return _certificate(tuned, calibrated, head)


def _certificate(
    tuned: Mapping[Role, Judged], calibrated: Mapping[Role, Judged], head: Detect
) -> Certificate:
    return certify(
        outcomes(tuned[Role.EDGE], tuned[Role.CLOUD], head),
        outcomes(calibrated[Role.EDGE], calibrated[Role.CLOUD], head),
        promise="harm",
        eps=EPS,
        delta=DELTA,
        score="head",
        note="scenes of held-out pictures: the first half tunes, the second calibrates",
    )


def harmed(edge: Judged, cloud: Judged) -> Flags:
    """Where the edge half is wrong and the cloud half right."""
    return ~edge.right & cloud.right


def percent(flags: Flags) -> float:
    return round(100.0 * float(flags.mean()), 2)


@contextmanager
def _beside_apparel(out: Path) -> Iterator[Path]:
    """The package's recipe with the localisers of `out`, wherever that is."""
    with TemporaryDirectory(prefix="longstop-garments.") as temporary:
        here, apparel = Path(temporary) / "garments", Path(temporary) / "apparel"
        here.mkdir()
        apparel.mkdir()
        for name in PACKAGE_FILES:
            copy((HERE if name == "package.toml" else out) / name, here)
        copytree(out / "golden", here / "golden")
        for role in Role:
            copy(ZOO / "apparel" / f"{role.value}.onnx", apparel)
        yield here / "package.toml"


def _scenes(tiles: Raw, labels: Labels, seed: int) -> Scenes:
    return scenes(tiles.astype(np.uint8, copy=False), labels, seed)


def _half(
    role: Role,
    nets: Mapping[Role, Net],
    out: Path,
    held: tuple[Mapping[Role, Judged], ...],
    tested: Mapping[Role, Judged],
    test: Scenes,
) -> HalfFigures:
    net, found = nets[role], tested[role]
    classifier = (ZOO / "apparel" / f"{role.value}.onnx").read_bytes()
    return HalfFigures(
        seed=net.seed,
        epochs=net.epochs,
        cpu_seconds=round(net.cpu_seconds, 1),
        parameters=net.parameters,
        file_bytes=(out / f"localiser-{role.value}.onnx").stat().st_size,
        held_right_percent=percent(np.concatenate([part[role].right for part in held])),
        test_right_percent=percent(found.right),
        test_placed_percent=percent(found.placed),
        test_empty_right_percent=percent(found.right[test.labels == NOTHING]),
        classifier_sha256=hashlib.sha256(classifier).hexdigest(),
    )


def _split(part: Scenes, seed: int) -> SplitFigures:
    empty = int((part.labels == NOTHING).sum())
    return SplitFigures(seed, len(part.labels), empty, part.sha256)
