"""Runs the package on scenes and judges its answers: a garment found where it is and named right.

An answer is right when it has a confidence and is the truth by the package's own head: the same
objects, each with the same class and squares that overlap enough. Of an empty scene, `nothing` is.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from msgspec.structs import replace

from models import package
from models.build import build
from models.calibrate.outcomes import Outcomes
from models.calibrate.overlap import row_hashes
from models.dataset import Samples
from models.manifest import Role
from models.pipeline.answers import Detected, Seen, same_answer
from models.pipeline.heads import Detect
from models.pipeline.reading import reader_of
from models.pipeline.values import Array
from models.predict import Predictor
from models.recipe import read_recipe
from models.zoo.garments.scenes import NOTHING, Scenes, png

PACKAGE = Path(__file__).resolve().parent / "package.toml"

Flags = npt.NDArray[np.bool_]
Scores = npt.NDArray[np.float64]


class Judged(NamedTuple):
    """What one half said of n scenes."""

    answers: tuple[Detected, ...]
    right: Flags
    placed: Flags
    """The right number of objects in the right places, whatever they were called."""
    scores: Scores
    """Confidence; NaN where there is none."""


def head_of(recipe: Path = PACKAGE) -> Detect:
    """What the package's answer means."""
    head = read_recipe(recipe).parts.answer
    if not isinstance(head, Detect):
        raise TypeError(f"{recipe.name} does not detect")
    return head


def candidates(scenes: Scenes, role: Role, recipe: Path = PACKAGE) -> list[Array]:
    """What one half's graph ends in for each scene, as a PNG file: float32 [m, 6]."""
    # Figures are what this measures; the package it measures goes without.
    parts = replace(read_recipe(recipe).parts, figures=None)
    with tempfile.TemporaryDirectory(prefix="longstop-garments.") as temporary:
        folder = build(parts, "1", Path(temporary) / "package")
        predictor = Predictor.load(package.read(folder, role))
        return [predictor.predict(png(picture)).output for picture in scenes.pictures]


def judge(scenes: Scenes, outputs: Sequence[Array], head: Detect) -> Judged:
    """Outputs against the truth of their scenes."""
    read = reader_of(head)
    answers, right, placed, scores = [], [], [], []
    for output, truth in zip(outputs, truths(scenes, head), strict=True):
        answer, _, confidence = read(output)
        if not isinstance(answer, Detected):
            raise TypeError("a detector detects")
        sure = confidence is not None
        answers.append(answer)
        right.append(sure and same_answer(head, answer, truth))
        placed.append(sure and same_answer(head, _unnamed(answer), _unnamed(truth)))
        scores.append(np.nan if confidence is None else confidence)
    return Judged(tuple(answers), np.array(right), np.array(placed), np.array(scores))


def outcomes(edge: Judged, cloud: Judged, head: Detect) -> Outcomes:
    """Both halves on the same scenes, as certificates are made of."""
    pairs = zip(edge.answers, cloud.answers, strict=True)
    return Outcomes(
        scores=edge.scores,
        disagree=np.array([not same_answer(head, one, other) for one, other in pairs]),
        edge_wrong=~edge.right,
        cloud_wrong=~cloud.right,
    )


def truths(scenes: Scenes, head: Detect) -> list[Detected]:
    """What is in each scene, as an answer."""
    found = []
    for box, label in zip(scenes.boxes.tolist(), scenes.labels.tolist(), strict=True):
        left, top, right, bottom = box
        seen = Seen(head.labels[label], 1.0, (left, top, right, bottom))
        found.append(Detected(() if label == NOTHING else (seen,)))
    return found


def samples(scenes: Scenes, head: Detect) -> Samples:
    """Scenes as a user's labelled pictures: PNG files with their true objects."""
    files = [png(picture) for picture in scenes.pictures]
    return Samples(
        values=files,
        y=None,
        targets=None,
        groups=None,
        cloud=None,
        names=tuple(map(str, range(len(files)))),
        hashes=row_hashes(files),
        objects=tuple(truths(scenes, head)),
    )


def _unnamed(answer: Detected) -> Detected:
    return Detected(tuple(Seen("garment", one.score, one.box) for one in answer.objects))
