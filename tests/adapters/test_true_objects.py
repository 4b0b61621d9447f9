"""True objects from a file: what a detector is calibrated and judged on."""

import json
from pathlib import Path

import numpy as np
import pytest

from models.dataset import load_samples
from models.errors import LabelOutside
from models.manifest import TensorSpec
from models.pipeline.answers import Detected, Seen

PICTURE = TensorSpec("image", "uint8", (2, 2), "HW")
LABELS = ("boot", "bag")


def written(path: Path, *cells: str) -> Path:
    np.savez(path, x=np.arange(4 * len(cells), dtype=np.uint8).reshape(-1, 2, 2), y=np.array(cells))
    return path


def test_objects_come_with_label_and_box_and_none_is_a_truth_too(tmp_path: Path) -> None:
    cell = json.dumps([{"label": "boot", "box": [0, 1, 2, 2]}])
    samples = load_samples(written(tmp_path / "a.npz", cell, "[]"), PICTURE, LABELS, objects=True)
    assert samples.objects == (Detected((Seen("boot", 1.0, (0, 1, 2, 2)),)), Detected(()))
    assert samples.y is None
    taken = samples.take(np.array([1]))
    assert taken.objects == (Detected(()),)


@pytest.mark.parametrize(
    ("cell", "says"),
    [
        ("boot", "no list of objects"),
        ('[{"label": "hat", "box": [0, 0, 1, 1]}]', "'hat' is none of the labels"),
        ('[{"label": "bag", "box": [2, 0, 1, 1]}]', "is not x1, y1, x2, y2"),
        ('[{"label": "bag"}]', "missing required field `box`"),
        ('[{"label": "bag", "box": [0, 0, 1]}]', "no list of objects"),
    ],
)
def test_what_is_no_list_of_objects_is_refused_with_its_row(
    tmp_path: Path, cell: str, says: str
) -> None:
    with pytest.raises(LabelOutside, match="row 2") as caught:
        load_samples(written(tmp_path / "a.npz", "[]", cell), PICTURE, LABELS, objects=True)
    assert says in str(caught.value)
