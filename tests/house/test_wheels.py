"""Both distributions, built and installed outside the repository, as a customer would have them."""

import os
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

from tests.house.tree import PACKAGES, ROOT, bare_environment, tracked_files

SDK_FILES = ("edge_agent/__init__.py", "edge_agent/py.typed", "edge_agent/sdk/")


def run(*command: str | Path, cwd: Path, **environment: str) -> str:
    done = subprocess.run(
        list(command),
        cwd=cwd,
        env=bare_environment(cwd) | environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Distribution name to wheel."""
    dist = tmp_path_factory.mktemp("dist")
    for project in (ROOT, ROOT / "edge_agent"):
        run(
            sys.executable, "-P", "-m", "hatchling", "build", "-t", "wheel", "-d", dist, cwd=project
        )
    found = {wheel.name.split("-")[0].replace("_", "-"): wheel for wheel in dist.glob("*.whl")}
    assert set(found) == {"longstop", "longstop-sdk"}
    return found


@pytest.fixture(scope="module")
def files(wheels: dict[str, Path]) -> dict[str, set[str]]:
    """Distribution name to the files its wheel puts into an environment."""
    return {
        name: {file for file in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in file}
        for name, wheel in wheels.items()
    }


def test_the_two_wheels_share_no_file(files: dict[str, set[str]]) -> None:
    assert files["longstop"].isdisjoint(files["longstop-sdk"])


def test_the_sdk_wheel_holds_the_sdk_and_nothing_else(files: dict[str, set[str]]) -> None:
    assert {"edge_agent/__init__.py", "edge_agent/py.typed"} <= files["longstop-sdk"]
    assert [file for file in files["longstop-sdk"] if not file.startswith(SDK_FILES)] == []


def test_together_they_hold_every_tracked_file_of_the_packages(files: dict[str, set[str]]) -> None:
    if not (ROOT / ".git").exists():
        pytest.skip("not a git checkout, so nobody knows which files belong")
    tracked = {file.relative_to(ROOT) for file in tracked_files()}
    ours = {file.as_posix() for file in tracked if file.parts[0] in PACKAGES}
    packed = files["longstop"] | files["longstop-sdk"]
    assert ours - packed == {"edge_agent/pyproject.toml"}


class Environment:
    """An empty environment outside the repository, filled by uv from its cache."""

    def __init__(self, folder: Path) -> None:
        self.home = folder
        self.bin = folder / "env" / "bin"
        self._uv("venv", "--quiet", "--python", sys.executable, str(folder / "env"))

    def install(self, *what: str) -> None:
        install = ["pip", "install", "--quiet", "--python", str(self.bin / "python"), *what]
        try:
            self._uv(*install, "--offline")
        except AssertionError:
            self._uv(*install)  # somebody emptied the cache

    def run(self, *command: str) -> str:
        return run(self.bin / command[0], *command[1:], cwd=self.home)

    def _uv(self, *words: str) -> None:
        # uv finds its cache and its index where this session has them, not in the empty home.
        kept = {"HOME", "SSL_CERT_FILE", "XDG_CACHE_HOME", "XDG_CONFIG_HOME", "HTTPS_PROXY"}
        settings = {
            name: value
            for name, value in os.environ.items()
            if name in kept or name.startswith(("UV_", "PIP_"))
        }
        run(ROOT / "requirements" / "uv", *words, cwd=self.home, **settings)


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Environment:
    if not (ROOT / ".tools" / "bin" / "uv").exists():
        pytest.skip("uv is missing; run through ./just test")
    return Environment(tmp_path_factory.mktemp("installed"))


def door_of(script: str) -> Path:
    target = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"][script]
    return ROOT / str(target).split(".")[0] / "cli.py"


def test_a_customer_installs_the_sdk_alone(
    environment: Environment, wheels: dict[str, Path]
) -> None:
    environment.install("--no-deps", str(wheels["longstop-sdk"]))
    told = environment.run("python", "-c", "import edge_agent; print(edge_agent.__file__)")
    assert str(environment.home) in told
    if (ROOT / "edge_agent" / "sdk").exists():
        environment.run("python", "-c", "import edge_agent.sdk")


def test_a_device_runs_on_its_own_lock(environment: Environment, wheels: dict[str, Path]) -> None:
    environment.install("--require-hashes", "-r", str(ROOT / "requirements" / "agent.txt"))
    environment.install("--no-deps", *map(str, wheels.values()))
    environment.run("python", "-c", "import edge_agent, models, sync")
    if door_of("longstop-agent").exists():
        assert "usage: longstop-agent" in environment.run("longstop-agent", "--help")


def test_a_gateway_runs_on_its_own_lock(environment: Environment, wheels: dict[str, Path]) -> None:
    environment.install("--require-hashes", "-r", str(ROOT / "requirements" / "gateway.txt"))
    environment.install("--no-deps", *map(str, wheels.values()))
    environment.run("python", "-c", "import cloud_gateway")
    if door_of("longstop-gateway").exists():
        assert "usage: longstop-gateway" in environment.run("longstop-gateway", "--help")


def test_uninstalling_the_programs_leaves_the_sdk_whole(
    environment: Environment, wheels: dict[str, Path], files: dict[str, set[str]]
) -> None:
    environment.install("--no-deps", *map(str, wheels.values()))
    python = str(environment.bin / "python")
    uv = ROOT / ".tools" / "bin" / "uv"
    run(uv, "pip", "uninstall", "--quiet", "--python", python, "longstop", cwd=environment.home)
    site = Path(
        environment.run(
            "python", "-c", "import sysconfig as s; print(s.get_path('purelib'))"
        ).strip()
    )
    assert [file for file in files["longstop-sdk"] if not (site / file).exists()] == []
    assert not (site / "models").exists()
    shutil.rmtree(environment.home / "env")
