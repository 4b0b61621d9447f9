"""Runs both shipped files of a package over the inputs that were sent, far from any agent."""

from collections.abc import Collection
from pathlib import Path

from models.manifest import Role
from models.package import read
from models.predict import Predictor
from models.zoo import data
from sim.demo.judge import Reference

_CHUNK = 64


def of(task: str, folder: Path, samples: Collection[int]) -> Reference:
    """True, edge and cloud label of these test samples."""
    dataset = data.load(task)
    wanted = sorted(set(samples))
    labels: dict[Role, dict[int, str]] = {}
    for role in (Role.EDGE, Role.CLOUD):
        predictor = Predictor.load(read(folder, role))
        found: dict[int, str] = {}
        for start in range(0, len(wanted), _CHUNK):
            chunk = wanted[start : start + _CHUNK]
            predictions = predictor.predict_batch([dataset.test_x[index] for index in chunk])
            found.update(zip(chunk, (one.label for one in predictions), strict=True))
        labels[role] = found
    return Reference(
        truth={index: dataset.label_names[int(dataset.test_y[index])] for index in wanted},
        edge=labels[Role.EDGE],
        cloud=labels[Role.CLOUD],
    )
