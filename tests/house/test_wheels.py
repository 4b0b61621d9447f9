"""Both distributions, built and installed outside the repository, as a customer would have them."""

import json
import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from tests.house.tree import PACKAGES, ROOT, bare_environment, tracked_files

ANSWER_S = 60.0
STOP_S = 30.0
BUILD = """
import sys
from pathlib import Path
from models.twins import build_twin

build_twin("sides", "1.0.0", Path(sys.argv[1]))
"""
ASK = """
import array, time
import edge_agent
from edge_agent.sdk import AgentUnavailable, Client, TaskRequired, UnknownTask

end = time.monotonic() + 60
while True:
    try:
        with Client() as client:
            sample = array.array("f", [0, 6, 0, 0, 6, 0])
            answer = client.infer(sample, deadline_ms=5000)
        break
    except (AgentUnavailable, TaskRequired, UnknownTask):
        if time.monotonic() > end:
            raise
        time.sleep(0.1)
print(edge_agent.__file__, answer.label, answer.source, answer.final, answer.version)
"""
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

    def run(self, *command: str, **environment: str) -> str:
        return run(self.bin / command[0], *command[1:], cwd=self.home, **environment)

    @contextmanager
    def running(self, *command: str) -> Iterator[subprocess.Popen[str]]:
        """An installed program, told to end after the block; it must end well."""
        with (self.home / f"{command[0]}.log").open("w+") as log:
            process = subprocess.Popen(
                [self.bin / command[0], *command[1:]],
                cwd=self.home,
                env=bare_environment(self.home),
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )
            try:
                yield process
                process.terminate()
                process.communicate(timeout=STOP_S)
                assert process.returncode == 0
            except BaseException:
                log.seek(0)
                sys.stderr.write(log.read())
                raise
            finally:
                if process.poll() is None:
                    process.kill()
                    process.communicate()

    def _uv(self, *words: str) -> None:
        # uv finds its cache and its index where this machine has them, not in the empty home.
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


def test_a_customer_installs_the_sdk_alone(
    environment: Environment, wheels: dict[str, Path]
) -> None:
    environment.install("--no-deps", str(wheels["longstop-sdk"]))
    told = environment.run("python", "-c", "import edge_agent; print(edge_agent.__file__)")
    assert str(environment.home) in told
    environment.run("python", "-c", "import edge_agent.sdk")


def test_a_device_answers_on_its_own_lock(
    environment: Environment, wheels: dict[str, Path]
) -> None:
    environment.install("--require-hashes", "-r", str(ROOT / "requirements" / "agent.txt"))
    environment.install("--no-deps", *map(str, wheels.values()))
    package = environment.home / "package"
    environment.run("python", "-c", BUILD, str(package))
    assert "sides 1.0.0 is whole" in environment.run("longstop-models", "verify", str(package))
    data = environment.home / "device"
    command = ("longstop-agent", "run", "--data", str(data), "--package", str(package))
    with environment.running(*command):
        told = environment.run("python", "-c", ASK, LONGSTOP_RUN=str(data / "run"))
    imported_from, *answer = told.split()
    assert Path(imported_from).is_relative_to(environment.home)
    assert answer == ["middle", "edge", "True", "1.0.0"]


def test_a_gateway_is_ready_on_its_own_lock(
    environment: Environment, wheels: dict[str, Path]
) -> None:
    environment.install("--require-hashes", "-r", str(ROOT / "requirements" / "gateway.txt"))
    environment.install("--no-deps", *map(str, wheels.values()))
    data = str(environment.home / "gateway")
    words = ("serve", "--data", data, "--port", "0", "--broker", "none", "--json")
    with environment.running("longstop-gateway", *words) as gateway:
        assert gateway.stdout is not None
        url = json.loads(gateway.stdout.readline())["gateway"]
        assert httpx.get(f"{url}/health/ready", timeout=ANSWER_S).status_code == 200


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
