"""Prepared samples from an .npz file: found by name, divided fairly, refused by name."""

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from onnx import helper

from models.errors import CalibrationUnfit, FileMissing, LabelsUnfit, ModelUnreadable
from models.quantize.samples import read_samples
from tests.small_nets import model_of, net, samples, saved


def written(folder: Path, **arrays: npt.NDArray[Any]) -> tuple[Path, Path]:
    file = folder / "calibration.npz"
    np.savez(file, **arrays)  # type: ignore[arg-type]
    return file, saved(net(), folder / "float.onnx")


def test_every_other_sample_makes_ranges_and_the_others_judge(tmp_path: Path) -> None:
    given, labels = samples(301), np.arange(301)
    found = read_samples(*written(tmp_path, x=given, y=labels), labelled=True)
    np.testing.assert_array_equal(found.calibration[0], given[::2])
    np.testing.assert_array_equal(found.evaluation[0], given[1::2])
    assert found.labels is not None
    np.testing.assert_array_equal(found.labels, labels[1::2])


def test_ranges_are_taken_from_a_thousand_at_most(tmp_path: Path) -> None:
    found = read_samples(*written(tmp_path, x=samples(2500)), labelled=False)
    assert len(found.calibration[0]) == 1000
    assert len(found.evaluation[0]) == 1250
    assert found.labels is None


def test_few_samples_do_both(tmp_path: Path) -> None:
    labels = np.zeros(40, np.int64)
    found = read_samples(*written(tmp_path, x=samples(40), y=labels), labelled=True)
    assert (len(found.calibration[0]), found.evaluation) == (40, ())
    assert found.labels is not None
    assert len(found.labels) == 40


def test_several_inputs_go_by_their_names(tmp_path: Path) -> None:
    file = tmp_path / "calibration.npz"
    np.savez(file, b=np.ones((4, 2)), a=np.zeros((4, 2)))
    model = model_of(
        [helper.make_node("Add", ["a", "b"], ["y"])],
        [],
        inputs={"a": ("n", 2), "b": ("n", 2)},
        outputs={"y": ("n", 2)},
    )
    found = read_samples(file, saved(model, tmp_path / "two.onnx"), labelled=False)
    assert [float(each.sum()) for each in found.calibration] == [0, 8]


def test_an_array_of_another_name_is_answered_with_the_name_wanted(tmp_path: Path) -> None:
    file, model = written(tmp_path, images=samples(20))
    with pytest.raises(CalibrationUnfit, match="holds images and the model takes x"):
        read_samples(file, model, labelled=False)


def test_labels_that_were_promised_must_be_there(tmp_path: Path) -> None:
    file, model = written(tmp_path, x=samples(20))
    with pytest.raises(LabelsUnfit, match="has no array y"):
        read_samples(file, model, labelled=True)


def test_one_label_too_many_is_noticed_before_the_file_is_divided(tmp_path: Path) -> None:
    file, model = written(tmp_path, x=samples(400), y=np.zeros(401, np.int64))
    with pytest.raises(LabelsUnfit, match="401 labels for 400 samples"):
        read_samples(file, model, labelled=True)


def test_one_value_is_no_array_of_samples(tmp_path: Path) -> None:
    file, model = written(tmp_path, x=np.float32(1))  # type: ignore[arg-type]
    with pytest.raises(CalibrationUnfit, match=r"'x' in .* is one value"):
        read_samples(file, model, labelled=False)


@pytest.mark.parametrize(
    "content", [b"", b"no zip", b"PK\x03\x04 torn", bytes(np.lib.format.MAGIC_PREFIX)]
)
def test_a_file_that_is_no_npz_is_refused(content: bytes, tmp_path: Path) -> None:
    file, model = written(tmp_path, x=samples(20))
    file.write_bytes(content)
    with pytest.raises(CalibrationUnfit, match=r"cannot be read as \.npz"):
        read_samples(file, model, labelled=False)


def test_pickled_objects_are_not_opened(tmp_path: Path) -> None:
    file, model = written(tmp_path, x=np.array([{"a": 1}], object))
    with pytest.raises(CalibrationUnfit, match="without objects"):
        read_samples(file, model, labelled=False)


def test_a_missing_npz_and_a_missing_model_are_named(tmp_path: Path) -> None:
    file, model = written(tmp_path, x=samples(20))
    with pytest.raises(FileMissing, match=r"gone\.npz is not there; check the path"):
        read_samples(tmp_path / "gone.npz", model, labelled=False)
    with pytest.raises(ModelUnreadable, match=r"gone\.onnx"):
        read_samples(file, tmp_path / "gone.onnx", labelled=False)


@pytest.mark.parametrize("content", [b"", b"\xff\xd8\xff\xe0 a picture", b"PK\x03\x04 cut off"])
def test_another_file_than_an_npz_is_refused_without_unsafe_advice(
    content: bytes, tmp_path: Path
) -> None:
    file = tmp_path / "picture.npz"
    file.write_bytes(content)
    with pytest.raises(CalibrationUnfit) as caught:
        read_samples(file, saved(net(), tmp_path / "float.onnx"), labelled=False)
    assert "pickle" not in str(caught.value)
    assert "write it with numpy.savez" in str(caught.value)
