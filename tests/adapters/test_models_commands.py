"""quantize, calibrate, evaluate, explore and batch as a user calls them, on digits."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from models import package
from models.calibrate.certify import named
from models.cli import main
from models.manifest import Role, decode
from models.predict import Predictor
from models.zoo.data import Dataset, load
from models.zoo.figures import ZOO
from models.zoo.packages import build_zoo

DIGITS = load("digits")
Said = Callable[[], str]


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A package of digits, and its data as files."""
    folder = tmp_path_factory.mktemp("desk")
    build_zoo("digits", "1", folder / "digits-1")
    for name, x, y in (
        ("held", DIGITS.held_x, DIGITS.held_y),
        ("test", DIGITS.test_x, DIGITS.test_y),
        ("train", DIGITS.train_x, DIGITS.train_y),
    ):
        np.savez(folder / f"{name}.npz", x=x, y=y)
    return folder


@pytest.fixture
def out(capsys: pytest.CaptureFixture[str]) -> Said:
    return lambda: capsys.readouterr().out


def calibrate(desk: Path, into: Path, *more: str, data: str = "held.npz") -> list[str]:
    return [
        "calibrate",
        str(desk / "digits-1"),
        "--data",
        str(desk / data),
        "--out",
        str(into),
        *("--promise", "harm", "--eps", "0.03", *more),
    ]


def test_calibrate_writes_a_certificate_that_holds_on_these_data(
    desk: Path, tmp_path: Path, out: Said
) -> None:
    assert main([*calibrate(desk, tmp_path / "2", "--version", "2"), "--json"]) == 0
    made = json.loads(out())
    certificate = made["certificate"]
    assert (made["version"], certificate["promise"], certificate["eps"]) == ("2", "harm", 0.03)
    assert certificate["feasible"]
    assert 0 < certificate["upper_bound"] <= 0.03
    read = package.read(tmp_path / "2", Role.EDGE)
    held = read.manifest.certificate
    assert held.id == certificate["id"] == named(held).id
    assert held.bound is not None
    assert held.bound.model_sha256 == read.pipeline.models[0].file.sha256
    assert (held.bound.runtime, held.bound.provider) == ("onnx", "cpu")
    assert held.curve is not None
    assert held.curve.risk_at(held.threshold) <= 1
    for role in Role:  # the golden answers were taken anew, at the new temperature
        Predictor.load(package.read(tmp_path / "2", role)).check_golden()
    before = decode((desk / "digits-1" / "manifest.json").read_bytes())
    assert before.version == "1"


def test_calibrate_says_what_it_made_to_a_person(desk: Path, tmp_path: Path, out: Said) -> None:
    assert main(calibrate(desk, tmp_path / "2")) == 0
    text = " ".join(out().split())
    assert "Promise: of all inputs, at most 3 % are answered on the device wrongly" in text
    assert "Made on onnx (cpu, f32)." in text


def test_a_promise_that_cannot_be_kept_is_written_as_such(
    desk: Path, tmp_path: Path, out: Said
) -> None:
    assert main([*calibrate(desk, tmp_path / "2", "--eps", "0.005"), "--json"]) == 0
    certificate = json.loads(out())["certificate"]
    assert certificate["threshold"] is None
    assert not certificate["feasible"]
    assert certificate["needed_n"] > 252
    assert main(["inspect", str(tmp_path / "2")]) == 0
    assert "Every input goes to the cloud. This keeps no promise" in out()


def test_without_labels_only_the_cloud_can_be_agreed_with(
    desk: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    np.savez(tmp_path / "bare.npz", x=DIGITS.held_x)
    given = ["calibrate", str(desk / "digits-1"), "--data", str(tmp_path / "bare.npz")]
    given += ["--out", str(tmp_path / "2"), "--eps", "0.05"]
    assert main([*given, "--promise", "harm"]) == 1
    assert "outcomes_missing" in capsys.readouterr().err
    assert main([*given, "--promise", "teacher"]) == 0


def with_labels(path: Path, labels: np.ndarray[tuple[int], np.dtype[np.int64]]) -> str:
    np.savez(path, x=DIGITS.held_x[: len(labels)], y=labels)
    return str(path)


def refusals(desk: Path, tmp_path: Path) -> dict[str, tuple[list[str], str]]:
    held, into = DIGITS.held_y, tmp_path / "2"
    strange = with_labels(tmp_path / "strange.npz", np.where(held == 3, 11, held))
    few = with_labels(tmp_path / "few.npz", held[:30])
    return {
        "trained on": (
            calibrate(desk, into, "--trained-on", str(desk / "held.npz")),
            "rows_overlap",
        ),
        "tuned on": (calibrate(desk, into, "--tune", str(desk / "held.npz")), "rows_overlap"),
        "a strange label": (calibrate(desk, into, data=strange), "label_outside"),
        "too few": (calibrate(desk, into, data=few), "too_few_samples"),
        "nobody's promise": (
            calibrate(desk, into, "--promise", "selective", "--guarantee", "marginal"),
            "promise_not_offered",
        ),
        "no data": (calibrate(desk, into, data="nothing.npz"), "file_missing"),
        "something there": (calibrate(desk, desk / "digits-1"), "target_exists"),
    }


@pytest.mark.parametrize(
    "name",
    [
        "trained on",
        "tuned on",
        "a strange label",
        "too few",
        "nobody's promise",
        "no data",
        "something there",
    ],
)
def test_calibrate_refuses_by_name(
    desk: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    given, code = refusals(desk, tmp_path)[name]
    assert main(given) == 1
    said = capsys.readouterr().err
    assert f"longstop-models: {code}: " in said
    assert not (tmp_path / "2").exists()


@pytest.mark.parametrize(("option", "value"), [("--eps", "0"), ("--eps", "1"), ("--delta", "2")])
def test_a_share_that_is_none_is_wrong_usage(
    desk: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], option: str, value: str
) -> None:
    with pytest.raises(SystemExit) as left:
        main(calibrate(desk, tmp_path / "2", option, value))
    assert left.value.code == 2
    assert f"{option} lies between 0 and 1" in capsys.readouterr().err


def test_constant_scores_are_refused(desk: Path, tmp_path: Path) -> None:
    # One picture many times: nothing tells one input from another.
    same = np.repeat(DIGITS.held_x[:1], 100, axis=0)
    np.savez(tmp_path / "same.npz", x=same, y=np.repeat(DIGITS.held_y[:1], 100))
    assert main(calibrate(desk, tmp_path / "2", data=str(tmp_path / "same.npz"))) == 1
    assert not (tmp_path / "2").exists()


def test_evaluate_writes_a_page_and_the_same_as_json(desk: Path, tmp_path: Path, out: Said) -> None:
    assert main(calibrate(desk, tmp_path / "2")) == 0
    out()
    page = tmp_path / "report.html"
    given = ["evaluate", str(tmp_path / "2"), "--data", str(desk / "test.npz"), "--out", str(page)]
    given += ["--calibration", str(desk / "held.npz"), "--resamples", "50"]
    assert main([*given, "--link", "60", "90", "200", "--deadline-ms", "300"]) == 0
    text = out()
    assert "of 1,000 inputs" in text.lower()
    found = json.loads(page.with_suffix(".json").read_bytes())
    answers = Predictor.load(package.read(tmp_path / "2", Role.EDGE)).predict_batch(
        list(DIGITS.test_x)
    )
    right = np.mean([one.label == str(y) for one, y in zip(answers, DIGITS.test_y, strict=True)])
    assert found["accuracy"]["edge_percent"] == pytest.approx(100 * right)
    assert "<script" not in page.read_text()


def test_explore_recommends_two_stages_where_the_data_say_no_more(desk: Path, out: Said) -> None:
    given = ["explore", str(desk / "digits-1"), "--data", str(desk / "train.npz"), "--eps", "0.05"]
    assert main([*given, "--second", str(ZOO / "digits" / "edge.onnx"), "--json"]) == 0
    found = json.loads(out())
    assert found["options"][0]["name"]
    assert "device -> cloud" in {option["name"] for option in found["options"]}
    assert found["sentence"]


def test_quantize_makes_the_device_file_of_a_cloud_model(tmp_path: Path, out: Said) -> None:
    prepared = (DIGITS.train_x[:, None] / 16).astype(np.float32)
    np.savez(tmp_path / "prepared.npz", x=prepared[:400], y=DIGITS.train_y[:400])
    target = tmp_path / "int8.onnx"
    model = str(ZOO / "digits" / "cloud.onnx")
    given = ["quantize", model, "--data", str(tmp_path / "prepared.npz"), "--out", str(target)]
    assert main([*given, "--labels", "--json"]) == 0
    comparison = json.loads(out())
    assert target.stat().st_size < (ZOO / "digits" / "cloud.onnx").stat().st_size / 3
    assert comparison["method"] == "minmax"


def test_batch_answers_a_file_by_the_cascade(desk: Path, tmp_path: Path, out: Said) -> None:
    given = ["batch", str(desk / "test.npz"), str(tmp_path / "answers.jsonl")]
    assert main([*given, "--package", str(desk / "digits-1"), "--json"]) == 0
    report = json.loads(out())
    rows = [json.loads(line) for line in (tmp_path / "answers.jsonl").read_text().splitlines()]
    assert len(rows) == len(DIGITS.test_x) == report["counts"]["rows"]
    assert {row["source"] for row in rows} == {"edge", "cloud"}


def test_a_certificate_can_be_made_on_another_runtime_and_is_bound_to_it(
    desk: Path, tmp_path: Path, out: Said
) -> None:
    assert main([*calibrate(desk, tmp_path / "2", "--runtime", "openvino"), "--json"]) == 0
    bound = json.loads(out())["certificate"]["bound"]
    assert (bound["runtime"], bound["provider"], bound["precision"]) == ("openvino", "cpu", "f32")
    assert main(["verify", str(tmp_path / "2"), "--json"]) == 0
    halves = {half["half"]: half for half in json.loads(out())["halves"]}
    assert halves["edge"]["runtime"] == "openvino"
    assert [other["name"] for other in halves["edge"]["others"]] == ["onnx"]
    assert halves["cloud"]["runtime"] == "onnx"


def test_verify_asks_every_runtime_there_is(desk: Path, out: Said) -> None:
    assert main(["verify", str(desk / "digits-1"), "--json"]) == 0
    halves = {half["half"]: half for half in json.loads(out())["halves"]}
    assert {half["runtime"] for half in halves.values()} == {"onnx"}
    assert [other["name"] for other in halves["cloud"]["others"]] == ["openvino"]
    assert halves["cloud"]["others"][0]["agrees"]  # FP32 is FP32
    for other in halves["edge"]["others"]:  # INT8 is not: whatever it says, it says why
        assert other["agrees"] == (other["why"] == "")
    assert main(["verify", str(desk / "digits-1")]) == 0
    assert "openvino: agrees" in out()


def test_digits_share_no_picture_between_their_parts() -> None:
    # What the refusals above rest on.
    parts: list[Dataset] = [DIGITS]
    pictures = [{row.tobytes() for row in x} for x in (parts[0].held_x, parts[0].train_x)]
    assert not pictures[0] & pictures[1]


@pytest.mark.parametrize("verb", ["calibrate", "evaluate", "explore"])
def test_a_package_runs_no_code_of_its_own_unasked(
    desk: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], verb: str
) -> None:
    (tmp_path / "own.py").write_text("def same(logits):\n    return logits\n")
    net = str(ZOO / "digits" / "edge.onnx")
    (tmp_path / "recipe.toml").write_text(f"""
task = "own"
input = {{name = "image", dtype = "uint8", shape = [8, 8], layout = "HW"}}
answer = {{kind = "classify", labels = {[str(digit) for digit in range(10)]}}}
golden = {{low = 0, high = 16}}

[edge]
output = "own"

[[edge.nodes]]
kind = "steps"
id = "ready"
after = "image"
steps = [{{op = "cast", dtype = "float32"}}, {{op = "reshape", shape = [1, 8, 8]}}]

[[edge.nodes]]
kind = "model"
id = "net"
after = "ready"
file = "{net}"

[[edge.nodes]]
kind = "custom"
id = "own"
after = ["net"]
file = "own.py"
function = "same"
gives = {{name = "same", shape = [10]}}

[cloud]
model = "{ZOO / "digits" / "cloud.onnx"}"
steps = [{{op = "cast", dtype = "float32"}}, {{op = "reshape", shape = [1, 8, 8]}}]
""")
    package_of_its_own = str(tmp_path / "own-1")
    assert main(["build", str(tmp_path / "recipe.toml"), "--out", package_of_its_own]) == 0
    given = [verb, package_of_its_own, "--data", str(desk / "held.npz")]
    given += ["--promise", "harm", "--eps", "0.03"] if verb == "calibrate" else []
    assert main(given) == 1
    assert "custom_code_forbidden" in capsys.readouterr().err
    if verb == "calibrate":
        assert main([*given, "--allow-custom"]) == 0
