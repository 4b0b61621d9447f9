"""Options that make no sense, and places nothing can be written to: said before the work."""

from pathlib import Path

import numpy as np
import pytest
from msgspec.structs import replace

from models import package
from models.build import write
from models.cli import main
from models.errors import ManifestInvalid
from models.manifest import Role
from models.zoo.data import load
from models.zoo.packages import build_zoo


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("desk")
    build_zoo("digits", "1", folder / "digits-1")
    digits = load("digits")
    np.savez(folder / "held.npz", x=digits.held_x, y=digits.held_y)
    return folder


CALIBRATE = ("calibrate", "--promise", "harm", "--eps", "0.03")


@pytest.mark.parametrize(
    ("given", "why"),
    [
        ((*CALIBRATE, "--seed", "-1"), "--seed is 0 or more"),
        ((*CALIBRATE, "--version", "ü b"), "--version 'ü b' is none"),
        (("evaluate", "--seed", "-1"), "--seed is 0 or more"),
        (("evaluate", "--resamples", "-1"), "--resamples is 0 or more"),
        (("evaluate", "--deadline-ms", "-5"), "--deadline-ms is above 0"),
        (("evaluate", "--price-per-call", "nan"), "--price-per-call is 0 or more"),
        (("evaluate", "--out", "page.json"), "the JSON is written beside it"),
        (("explore", "--eps", "40"), "--eps lies between 0 and 1"),
        (("explore", "--middle-cost", "-4"), "--middle-cost is 0 or more"),
        (("explore", "--seed", "-1"), "--seed is 0 or more"),
    ],
)
def test_a_number_that_can_mean_nothing_is_wrong_usage(
    given: tuple[str, ...], why: str, desk: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    verb, *more = given
    with pytest.raises(SystemExit) as left:
        main([verb, str(desk / "digits-1"), "--data", str(desk / "held.npz"), *more])
    assert left.value.code == 2
    assert why in capsys.readouterr().err


def test_a_package_nobody_could_open_is_not_written_over_a_good_one(desk: Path) -> None:
    folder = desk / "digits-1"
    held = package.read(folder, Role.EDGE)
    before = (folder / "manifest.json").read_bytes()
    with pytest.raises(ManifestInvalid):
        write(replace(held.manifest, version="ü b"), (), folder, over=True)
    assert (folder / "manifest.json").read_bytes() == before


@pytest.mark.parametrize(
    ("given", "code"),
    [
        ((*CALIBRATE, "--out", "{desk}/digits-1"), "target_exists"),
        (("evaluate", "--out", "{desk}"), "target_unwritable"),
        (("evaluate", "--out", "{desk}/nowhere/page.html"), "target_unwritable"),
        (("evaluate", "--fp32", "{desk}/nowhere.onnx", "--resamples", "0"), "file_missing"),
    ],
)
def test_a_place_that_cannot_be_used_is_refused_before_anything_is_asked(
    given: tuple[str, ...], code: str, desk: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    verb, *more = (word.format(desk=desk) for word in given)
    assert main([verb, str(desk / "digits-1"), "--data", str(desk / "held.npz"), *more]) == 1
    *before, last = capsys.readouterr().err.splitlines()
    assert last.startswith(f"longstop-models: {code}: ")
    assert code == "file_missing" or not before
