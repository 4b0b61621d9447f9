"""Runs both shipped files of a package over a task's test split, far from any agent or gateway."""

from pathlib import Path

from models.manifest import Role
from models.package import read
from models.predict import Predictor
from models.zoo import data
from sim.demo.judge import Reference


def of(task: str, folder: Path) -> Reference:
    """True, edge and cloud label of every test sample."""
    dataset = data.load(task)
    labels = {}
    for role in (Role.EDGE, Role.CLOUD):
        predictor = Predictor.load(read(folder, role))
        labels[role] = [predictor.predict(sample).label for sample in dataset.test_x]
    return Reference(
        truth=[dataset.label_names[int(index)] for index in dataset.test_y],
        edge=labels[Role.EDGE],
        cloud=labels[Role.CLOUD],
    )
