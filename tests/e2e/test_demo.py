"""The demo as its user runs it: it keeps promises, notices sabotage, leaves nothing behind."""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import msgspec
import pytest

from sim.demo.figures import Figures

pytestmark = pytest.mark.e2e

SABOTAGES = {
    "lose": "issued = delivered + lost + pending",
    "twice": "recorded and counted exactly once",
    "late": "answered within its deadline",
}


@dataclass
class Run:
    """A demo process and the folder that is its /tmp."""

    process: subprocess.Popen[str]
    home: Path

    def finish(self, timeout_s: float = 240) -> tuple[int, str, str]:
        out, err = self.process.communicate(timeout=timeout_s)
        return self.process.returncode, out, err


Start = Callable[..., Run]


@pytest.fixture
def start_demo() -> Iterator[Start]:
    runs: list[Run] = []

    def start(*arguments: str) -> Run:
        # Not pytest's own folder: a socket's path may not be long.
        home = Path(tempfile.mkdtemp(prefix="d-"))
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", "sim.demo", "--digits", "--seconds", "40", *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "TMPDIR": str(home)},
            start_new_session=True,
        )
        runs.append(Run(process, home))
        return runs[-1]

    yield start
    for run in runs:
        if run.process.poll() is None:
            run.process.send_signal(signal.SIGTERM)
            run.process.wait(30)
        shutil.rmtree(run.home)


def left_behind(run: Run) -> list[str]:
    """Command lines of processes that still know the demo's folder, and files in it."""
    found = [str(path) for path in run.home.iterdir()]
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                command = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode()
            except (FileNotFoundError, ProcessLookupError):
                continue
            if str(run.home) in command:
                found.append(command)
    return found


def test_the_demo_keeps_every_promise_and_ends_with_one_json_object(start_demo: Start) -> None:
    run = start_demo("--json")
    status, out, err = run.finish()
    assert status == 0, out + err
    assert "Every promise kept." in out
    figures = msgspec.json.decode(out.splitlines()[-1], type=Figures)
    assert figures.data == "digits"
    assert figures.records.issued >= figures.tasks[0].inputs
    assert left_behind(run) == []


def test_each_sabotage_breaks_its_promise_and_the_demo_says_so(start_demo: Start) -> None:
    # Side by side and at a low rate: what matters is what they notice.
    runs = {name: start_demo("--rate", "10", "--sabotage", name) for name in SABOTAGES}
    for name, run in runs.items():
        status, out, err = run.finish()
        assert status == 1, f"{name}: {out}{err}"
        broken = [line for line in out.splitlines() if line.startswith("BROKEN")]
        assert any(SABOTAGES[name] in line for line in broken), f"{name}: {out}{err}"
        assert left_behind(run) == []


@pytest.mark.parametrize(("moment", "presses"), [("agent: digits-2", 1), ("streams:", 2)])
def test_ctrl_c_ends_every_process_and_leaves_no_file(
    start_demo: Start, moment: str, presses: int
) -> None:
    run = start_demo("--rate", "10")
    assert run.process.stderr is not None
    for line in run.process.stderr:
        if moment in line:
            break
    if moment == "streams:":
        time.sleep(1)
        assert len(left_behind(run)) > 5  # gateway, broker, agents, workers: the search finds them
    for _ in range(presses):
        run.process.send_signal(signal.SIGINT)
        time.sleep(0.2)
    status, _, err = run.finish(40)
    assert status == 130, err
    assert left_behind(run) == []


@pytest.mark.parametrize("wrong", ["--seconds=5", "--seconds=nan", "--rate=0", "--rate=nan"])
def test_a_stranger_to_the_options_is_told_what_is_right(wrong: str) -> None:
    said = subprocess.run(
        [sys.executable, "-P", "-m", "sim.demo", wrong],
        capture_output=True,
        text=True,
        check=False,
    )
    assert said.returncode == 2
    assert "at least 40" in said.stderr
