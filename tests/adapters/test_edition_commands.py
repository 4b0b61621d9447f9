"""Editions as a user makes, sees and judges them: build, calibrate, inspect, verify, evaluate."""

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from models import package
from models.build import build
from models.cli import main
from models.errors import ManifestInvalid, ModelsError, RecipeInvalid
from models.manifest import Manifest, Role
from models.predict import Predictor
from models.recipe import read_recipe
from models.runtimes.choose import installed
from models.zoo.certify import make
from models.zoo.data import load
from models.zoo.figures import ZOO
from models.zoo.packages import build_zoo
from models.zoo.unrounded import unrounded

DIGITS = load("digits")
RECIPE = """
task = "digits"
[input]
name = "image"
dtype = "uint8"
shape = [8, 8]
layout = "HW"
[answer]
kind = "classify"
labels = ["0", "1", "2", "3", "4", "5", "6", "7", "8", "9"]
[edge]
steps = [
  {op = "cast", dtype = "float32"}, {op = "scale", by = [0.0625]},
  {op = "reshape", shape = [1, 8, 8]},
]
model = "edge.onnx"
[cloud]
model = "cloud.onnx"
[golden]
high = 16
"""
FP32 = '[[edition]]\nname = "fp32"\nmodel = "edge-fp32.onnx"\n'
OPENVINO = '[[edition]]\nname = "openvino"\nruntime = "openvino"\n'
Said = Callable[[], str]

pytestmark = pytest.mark.skipif("openvino" not in installed(), reason="openvino is not installed")


@pytest.fixture
def out(capsys: pytest.CaptureFixture[str]) -> Said:
    return lambda: capsys.readouterr().out


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Digits as a user has them: a recipe, three model files, data."""
    folder = tmp_path_factory.mktemp("desk")
    for name in ("edge.onnx", "edge-fp32.onnx", "cloud.onnx"):
        shutil.copy(ZOO / "digits" / name, folder)
    np.savez(folder / "held.npz", x=DIGITS.held_x, y=DIGITS.held_y)
    np.savez(folder / "test.npz", x=DIGITS.test_x, y=DIGITS.test_y)
    (folder / "recipe.toml").write_text(RECIPE + FP32 + OPENVINO)
    assert main(["build", str(folder / "recipe.toml"), "--out", str(folder / "digits-1")]) == 0
    return folder


def calibrate(desk: Path, into: Path, *more: str, folder: str = "digits-1") -> list[str]:
    given = ["calibrate", str(desk / folder), "--data", str(desk / "held.npz"), "--json"]
    return [*given, "--out", str(into), *("--promise", "harm", "--eps", "0.03"), *more]


def read(folder: Path) -> Manifest:
    return package.read(folder, Role.EDGE).manifest


def test_a_recipe_s_editions_are_built_and_promise_nothing_yet(desk: Path) -> None:
    manifest = read(desk / "digits-1")
    fp32, openvino = manifest.editions
    assert (fp32.name, fp32.runtime, fp32.files[0].model) == ("fp32", "onnx", "model")
    assert (openvino.name, openvino.runtime, openvino.files) == ("openvino", "openvino", ())
    assert {one.certificate.note for one in manifest.editions} == {"not calibrated yet"}
    assert fp32.golden != manifest.golden.edge
    for one in manifest.editions:
        whole = package.read(desk / "digits-1", Role.EDGE).in_edition(one.name)
        Predictor.load(whole, runtime=one.runtime).check_golden()


def test_calibrate_certifies_every_edition_each_on_what_it_runs_on(
    desk: Path, tmp_path: Path, out: Said
) -> None:
    assert main(calibrate(desk, tmp_path / "2")) == 0
    said = json.loads(out())
    assert [one["edition"] for one in said["made"]] == ["main", "fp32", "openvino"]
    assert said["left"] == []
    held = package.read(tmp_path / "2", Role.EDGE)
    certificates = [one.manifest.certificate for one in held.every_edition]
    assert all(one.feasible for one in certificates)
    assert len({one.id for one in certificates}) == 3
    assert said["certificate"]["id"] == certificates[0].id
    bounds = [one.bound for one in certificates]
    assert [one.runtime for one in bounds if one is not None] == ["onnx", "onnx", "openvino"]
    files = [one.model_sha256 for one in bounds if one is not None]
    assert files[0] == files[2] != files[1]
    assert main(["verify", str(tmp_path / "2"), "--json"]) == 0
    verified = json.loads(out())["editions"]
    assert [(one["name"], one["agrees"]) for one in verified] == [
        ("fp32", True),
        ("openvino", True),
    ]


def test_one_edition_can_be_certified_alone_and_the_others_keep_what_they_had(
    desk: Path, tmp_path: Path, out: Said
) -> None:
    assert main(calibrate(desk, tmp_path / "2", "--edition", "openvino")) == 0
    assert [one["edition"] for one in json.loads(out())["made"]] == ["openvino"]
    before, after = read(desk / "digits-1"), read(tmp_path / "2")
    assert after.certificate == before.certificate
    assert after.editions[0] == before.editions[0]
    assert after.editions[1].certificate.feasible


def test_an_edition_whose_runtime_is_not_here_keeps_what_it_had_and_is_not_asked(
    desk: Path, tmp_path: Path, out: Said, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "openvino", None)  # an import of it fails now
    assert main(calibrate(desk, tmp_path / "2")) == 0
    said = json.loads(out())
    assert [one["edition"] for one in said["made"]] == ["main", "fp32"]
    assert said["left"][0].startswith("openvino: ")
    before, after = read(desk / "digits-1"), read(tmp_path / "2")
    assert after.editions[1] == before.editions[1]
    assert main(["verify", str(tmp_path / "2")]) == 0
    assert "edition openvino (openvino on cpu): not asked, " in out()
    assert main(calibrate(desk, tmp_path / "3", "--edition", "openvino")) == 1
    assert json.loads(out().splitlines()[-1])["code"] == "runtime_missing"
    built = read(build_zoo("digits", "1", tmp_path / "zoo"))
    assert [one.name for one in built.editions] == ["fp32"]


def test_a_built_package_gets_another_edition_by_naming_it_with_its_runtime(
    desk: Path, tmp_path: Path, out: Said
) -> None:
    build_zoo("digits", "1", tmp_path / "1")
    bare = tmp_path / "bare.toml"
    bare.write_text(
        RECIPE.replace('"edge.onnx"', f'"{desk}/edge.onnx"').replace(
            '"cloud.onnx"', f'"{desk}/cloud.onnx"'
        )
    )
    assert main(["build", str(bare), "--out", str(desk / "bare-1")]) == 0
    out()
    more = ("--edition", "ov", "--runtime", "openvino")
    assert main(calibrate(desk, tmp_path / "2", *more, folder="bare-1")) == 0
    (edition,) = read(tmp_path / "2").editions
    assert (edition.name, edition.runtime) == ("ov", "openvino")
    assert edition.certificate.feasible
    assert main(calibrate(desk, tmp_path / "3", "--edition", "nobody", folder="bare-1")) == 1
    assert json.loads(out().splitlines()[-1])["code"] == "unknown_edition"


def test_inspect_shows_every_edition_to_a_person(desk: Path, out: Said) -> None:
    assert main(["inspect", str(desk / "digits-1")]) == 0
    said = out()
    assert "Edition fp32 on onnx (cpu, f32), model is edge-fp32.onnx" in said
    assert "Edition openvino on openvino (cpu, f32), the same files" in said


def test_what_is_no_archive_is_named(desk: Path, out: Said) -> None:
    for name in ("recipe.toml", "edge.onnx"):
        assert main(["inspect", str(desk / name), "--json"]) == 1
        said = json.loads(out())
        assert said["code"] == "archive_damaged"
        assert said["message"].startswith(f"{desk / name}: ")


def test_evaluate_says_which_edition_it_judges(desk: Path, tmp_path: Path, out: Said) -> None:
    assert main(calibrate(desk, tmp_path / "2")) == 0
    out()
    given = ["evaluate", str(tmp_path / "2"), "--data", str(desk / "test.npz"), "--json"]
    given += ["--resamples", "20"]
    thresholds = []
    for name in ("main", "fp32"):
        assert main([*given, "--edition", name]) == 0
        said = json.loads(out())
        assert said["about"]["package"] == f"digits 1, edition {name}"
        thresholds.append(read_threshold(tmp_path / "2", name))
        assert repr(thresholds[-1]) in json.dumps(said)
    assert thresholds[0] != thresholds[1]


def read_threshold(folder: Path, edition: str) -> float | None:
    return package.read(folder, Role.EDGE).in_edition(edition).manifest.certificate.threshold


@pytest.mark.parametrize(
    ("edition", "error", "said"),
    [
        ('[[edition]]\nname = "x"\nruntime = "tensorrt"\n', RecipeInvalid, "'tensorrt' is unknown"),
        ('[[edition]]\nname = "main"\n', ManifestInvalid, "share a name"),
        (OPENVINO + OPENVINO, ManifestInvalid, "share a name"),
        (
            '[[edition]]\nname = "x"\nmodels = {other = "edge-fp32.onnx"}\n',
            ManifestInvalid,
            "other",
        ),
        (
            '[[edition]]\nname = "x"\nmodel = "edge.onnx"\nmodels = {model = "edge.onnx"}\n',
            RecipeInvalid,
            "name each file by its node",
        ),
        ('[[edition]]\nname = "x"\nfile = "edge.onnx"\n', RecipeInvalid, "unknown field `file`"),
    ],
)
def test_an_edition_that_cannot_be_is_refused(
    desk: Path, tmp_path: Path, edition: str, error: type[ModelsError], said: str
) -> None:
    recipe = desk / f"{tmp_path.name}.toml"
    recipe.write_text(RECIPE + edition)
    with pytest.raises(error, match=said):
        build(read_recipe(recipe).parts, "1", tmp_path / "package")


def test_the_zoo_s_editions_are_those_its_files_certify(tmp_path: Path) -> None:
    whole = package.read(build_zoo("digits", "1", tmp_path / "p"), Role.EDGE)
    made = {one.name: one.certificate for one in make("digits", DIGITS).editions}
    assert set(made) == {one.name for one in whole.manifest.editions} == {"fp32", "openvino"}
    for one in whole.manifest.editions:
        certificate = one.certificate
        assert certificate.feasible
        assert certificate.upper_bound is not None
        assert certificate.upper_bound <= certificate.eps
        assert certificate.threshold == pytest.approx(made[one.name].threshold, abs=0.05)
        Predictor.load(whole.in_edition(one.name), runtime=one.runtime).check_golden()


def test_the_float_form_of_an_int8_file_answers_as_it_does() -> None:
    import onnx

    model = onnx.load(ZOO / "digits" / "edge.onnx")
    floats = unrounded(model)
    assert not {"QuantizeLinear", "DequantizeLinear"} & {node.op_type for node in floats.graph.node}
    shipped = onnx.load(ZOO / "digits" / "edge-fp32.onnx")
    assert floats.SerializeToString() == shipped.SerializeToString()
    with pytest.raises(ValueError, match="rounds nothing"):
        unrounded(floats)
