"""`longstop-models` as an operator uses it: what it prints, what it refuses, how it exits."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import zstandard

from models import package, release
from models.cli import main
from models.manifest import Role
from sync.trust import keys
from tests.tiny_models import build_tiny

KEY = keys.generate()


@pytest.fixture
def desk(tmp_path: Path) -> Path:
    """A folder with a package, its archives and its signed release."""
    folder = build_tiny(tmp_path / "parts").rename(tmp_path / "package")
    packed = release.prepare(folder)
    (tmp_path / "edge.tar.zst").write_bytes(packed.edge)
    (tmp_path / "cloud.tar.zst").write_bytes(packed.cloud)
    (tmp_path / "release.json").write_bytes(release.sign(packed.release, KEY))
    return tmp_path


def said(capsys: pytest.CaptureFixture[str]) -> str:
    return " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize(
    ("path", "cloud"), [("package", "whole"), ("edge.tar.zst", "absent")], ids=["folder", "archive"]
)
def test_inspect_shows_a_package_to_a_person(
    desk: Path, capsys: pytest.CaptureFixture[str], path: str, cloud: str
) -> None:
    assert main(["inspect", str(desk / path)]) == 0
    text = said(capsys)
    manifest = package.read(desk / "package", Role.EDGE).manifest
    for part in (
        "tiny 1, task shades, format 2",
        "input image: uint8 [2, 3] (HW)",
        "answer one of 3: low, middle, high",
        "prepare image -> float32 [1, 2, 3]",
        "cast dtype float32",
        "scale by 0.003922",
        "normalise mean 0.5, std 0.25",
        "model prepare -> float32 [3]",
        "model edge.onnx (onnx)",
        f"bytes {manifest.edge.models[0].file.sha256[:16]}… whole",
        f"{manifest.cloud.models[0].file.sha256[:16]}… {cloud}",
        "figures.json both",
        "Inputs with a score below 0.7000 go to the cloud.",
        "Promise: of all inputs, at most 2 % are answered on the device wrongly where",
        "in at least 90 of 100 calibrations; this one saw 4 such cases in 500 held-out samples",
        "Golden inputs: 2, made from seed",
    ):
        assert part in text


def test_inspect_lets_no_package_steer_the_terminal(
    desk: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    manifest = desk / "package" / "manifest.json"
    manifest.write_text(manifest.read_text().replace('"low"', '"\\u001b[2Jlow"', 1))
    assert main(["inspect", str(desk / "package")]) == 0
    assert "answer one of 3: \\x1b[2Jlow, middle, high" in said(capsys)


def test_inspect_shows_the_same_to_a_script(desk: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["inspect", "--json", str(desk / "package")]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["manifest"] == json.loads((desk / "package" / "manifest.json").read_bytes())
    assert [file["state"] for file in shown["files"]] == ["whole", "whole", "whole"]
    assert shown["promise"].startswith("Inputs with a score below 0.7000")


def test_inspect_points_at_an_altered_file(desk: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (desk / "package" / "edge.onnx").write_bytes(b"other")
    assert main(["inspect", str(desk / "package")]) == 0
    assert "altered" in said(capsys)


def test_verify_runs_both_halves_of_a_folder(
    desk: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["verify", str(desk / "package")]) == 0
    text = said(capsys)
    assert "shades 1 is whole" in text
    assert "edge: 3 files match, 2 golden inputs agree (onnx on cpu)" in text
    assert "cloud: 3 files match" in text
    assert "signature not checked" in text


@pytest.mark.parametrize("path", ["package", "edge.tar.zst", "cloud.tar.zst"])
def test_verify_checks_who_signed(
    desk: Path, capsys: pytest.CaptureFixture[str], path: str
) -> None:
    assert main(["verify", "--json", *signed(desk), str(desk / path)]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["signed_by"] == keys.key_id(KEY)
    assert [half["half"] for half in shown["halves"]] == (
        ["edge", "cloud"] if path == "package" else [path.partition(".")[0]]
    )


def swap_models(desk: Path) -> list[str]:
    """Edge and cloud trade their files, hashes and all: only the golden outputs can tell."""
    folder = desk / "package"
    edge, cloud = (folder / "edge.onnx").read_bytes(), (folder / "cloud.onnx").read_bytes()
    (folder / "edge.onnx").write_bytes(cloud)
    (folder / "cloud.onnx").write_bytes(edge)
    text = (folder / "manifest.json").read_text()
    one, other = package.digest(edge), package.digest(cloud)
    text = text.replace(one, "?").replace(other, one).replace("?", other)
    (folder / "manifest.json").write_text(text)
    return ["verify", str(folder)]


def cut_archive(desk: Path) -> list[str]:
    (desk / "edge.tar.zst").write_bytes((desk / "edge.tar.zst").read_bytes()[:-20])
    return ["verify", str(desk / "edge.tar.zst")]


def signed(desk: Path, key: keys.PrivateKey = KEY) -> list[str]:
    return ["--key", keys.public_text(key), "--release", str(desk / "release.json")]


def other_key(desk: Path) -> list[str]:
    return ["verify", str(desk / "package"), *signed(desk, keys.generate())]


def other_archive(desk: Path) -> list[str]:
    """An archive of the same files, packed by somebody else."""
    path = desk / "edge.tar.zst"
    plain = zstandard.ZstdDecompressor().decompress(path.read_bytes())
    path.write_bytes(zstandard.ZstdCompressor(level=1).compress(plain))
    return ["verify", str(path), *signed(desk)]


def altered_manifest(desk: Path) -> list[str]:
    path = desk / "package" / "manifest.json"
    path.write_text(path.read_text().replace('"threshold": 0.7', '"threshold": 0.1'))
    return ["verify", str(desk / "package"), *signed(desk)]


def no_models(desk: Path) -> list[str]:
    (desk / "package" / "edge.onnx").unlink()
    (desk / "package" / "cloud.onnx").unlink()
    return ["verify", str(desk / "package")]


def a_file_in_the_way(desk: Path) -> list[str]:
    out = str(desk / "edge.tar.zst" / "package")
    return ["build", "digits", "--version", "1", "--out", out]


REFUSALS: dict[str, tuple[Callable[[Path], list[str]], str, str]] = {
    "models swapped": (
        swap_models,
        "golden_mismatch",
        "edge half of shades 1 answers",
    ),
    "archive cut": (cut_archive, "archive_damaged", "fetch it again"),
    "wrong key": (other_key, "signature_invalid", "ask the publisher which key is right"),
    "foreign archive": (other_archive, "hash_mismatch", "neither archive of release shades 1"),
    "altered manifest": (altered_manifest, "hash_mismatch", "is not the one of release shades 1"),
    "no models": (no_models, "file_missing", "holds neither half's model"),
    "no path": (lambda desk: ["inspect", str(desk / "x")], "file_missing", "check the path"),
    "no package": (lambda desk: ["inspect", str(desk)], "file_missing", "manifest.json"),
    "no archive": (
        lambda desk: ["inspect", str(desk / "release.json")],
        "archive_damaged",
        "no whole zstd frame",
    ),
    "no key": (
        lambda desk: [
            *("verify", str(desk / "package"), "--key", "ed25519:xyz"),
            *("--release", str(desk / "release.json")),
        ],
        "bad_key",
        "64 hexadecimal digits",
    ),
    "no task": (
        lambda desk: ["build", "pastries", "--version", "1", "--out", str(desk)],
        "unknown_task",
        "choose one of activity, apparel, ",
    ),
    "nowhere to write": (
        lambda _desk: ["build", "digits", "--version", "1", "--out", "/proc/zz"],
        "target_unwritable",
        "/proc/zz cannot be written",
    ),
    "below a file": (a_file_in_the_way, "target_unwritable", "choose a folder"),
    "over a file": (
        lambda desk: ["build", "digits", "--version", "1", "--out", str(desk / "edge.tar.zst")],
        "target_exists",
        "choose another place",
    ),
}


@pytest.mark.parametrize("name", REFUSALS)
def test_a_refusal_names_the_code_the_thing_and_the_next_step(
    desk: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    arrange, code, says = REFUSALS[name]
    command = arrange(desk)
    assert main(command) == 1
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith(f"longstop-models: {code}: ")
    assert says in printed.err
    assert main([*command, "--json"]) == 1
    assert json.loads(capsys.readouterr().out)["code"] == code


@pytest.mark.parametrize(
    "command",
    [
        [],
        ["bake"],
        ["inspect"],
        ["verify", "x", "--key", "ed25519:00"],
        ["verify", "x", "--release", "r"],
        ["build", "digits"],
    ],
    ids=" ".join,
)
def test_wrong_usage_exits_with_two(command: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        main(command)
    assert left.value.code == 2
    assert capsys.readouterr().err.startswith("usage: longstop-models")


PROGRAM = [sys.executable, "-P", "-m", "models.cli"]


@pytest.mark.parametrize("path", ["package", "absent"])
def test_a_reader_that_leaves_early_gets_no_traceback(desk: Path, path: str) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "wb") as output:
        done = subprocess.run(
            [*PROGRAM, "inspect", "--json", str(desk / path)],
            stdout=output,
            stderr=subprocess.PIPE,
            check=False,
        )
    assert done.returncode == 1
    assert [line for line in done.stderr.splitlines() if b"file_missing" not in line] == []


def test_an_interrupted_command_exits_with_130_and_says_nothing(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "held")
    command = [*PROGRAM, "inspect", str(tmp_path / "held")]
    process = subprocess.Popen(command, stderr=subprocess.PIPE)
    # Opening the other end succeeds once the program waits for what it should read.
    with (tmp_path / "held").open("wb"):
        process.send_signal(signal.SIGINT)
        _, told = process.communicate(timeout=20)
    assert (process.returncode, told) == (130, b"")
