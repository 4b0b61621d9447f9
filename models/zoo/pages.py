"""Writes the evaluation page of every zoo task: what ships, judged on its test data.

python -m models.zoo.pages [TASK ...] [--out DIR]
"""

import argparse
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

import numpy as np

from models.calibrate.overlap import row_hashes
from models.commands.saying import tell
from models.dataset import Samples
from models.evaluate.page import to_html
from models.evaluate.sections import Evaluation
from models.judging.evaluating import Circumstances, evaluate_samples
from models.zoo.data import DataMissing, Labels, Raw, load
from models.zoo.garments.judging import head_of, samples
from models.zoo.garments.measure import calibration_scenes, scenes_of_test
from models.zoo.packages import build_zoo, zoo_tasks

PAGES = Path(__file__).resolve().parents[2] / "docs" / "zoo"


def evaluate_task(task: str) -> Evaluation:
    """A task's package on its test data. Raises `ModelsError`."""
    judged = _scenes() if task == "garments" else _arrays(task)
    with tempfile.TemporaryDirectory() as folder:
        return evaluate_samples(
            build_zoo(task, "1", Path(folder) / "package"),
            judged.test,
            calibration=judged.calibration,
            circumstances=Circumstances(),
            tell=tell,
        )


class _Judged(NamedTuple):
    test: Samples
    calibration: Samples


def _arrays(task: str) -> _Judged:
    dataset = load(task)
    return _Judged(
        _samples(dataset.test_x, dataset.test_y, dataset.test_groups),
        _samples(dataset.held_x, dataset.held_y, dataset.held_groups),
    )


def _scenes() -> _Judged:
    apparel, head = load("apparel"), head_of()
    return _Judged(
        samples(scenes_of_test(apparel), head), samples(calibration_scenes(apparel), head)
    )


def _samples(values: Raw, labels: Labels, groups: Labels | None) -> Samples:
    raw = list(values)
    known = values if values.dtype != object else [str(value) for value in raw]
    return Samples(
        values=raw,
        y=np.asarray(labels, np.int64),
        targets=None,
        groups=groups,
        cloud=None,
        names=tuple(map(str, range(len(raw)))),
        hashes=row_hashes(known),
    )


def main() -> int:
    parser = argparse.ArgumentParser(prog="models.zoo.pages", description=__doc__)
    parser.add_argument("tasks", nargs="*", default=list(zoo_tasks()), metavar="TASK")
    parser.add_argument("--out", type=Path, default=PAGES, metavar="DIR")
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    for task in given.tasks:
        try:
            evaluation = evaluate_task(task)
        except DataMissing as missing:
            print(missing, file=sys.stderr)
            return 1
        page = given.out / f"{task}.html"
        page.write_text(to_html(evaluation))
        print(f"{page}: {evaluation.headline.sentence}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
