"""`python -m edge_agent` refuses to start on somebody else's `models` or `sync`."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.house.tree import ROOT, bare_environment


def knock(path: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-P", "-m", "edge_agent", "--help"],
        capture_output=True,
        text=True,
        cwd=path,
        env=bare_environment(path) | {"PYTHONPATH": str(path)},
    )


@pytest.mark.parametrize("name", ["models", "sync"])
@pytest.mark.parametrize("shape", ["package", "module", "namespace"])
def test_a_foreign_sibling_is_refused_with_both_paths(
    tmp_path: Path, name: str, shape: str
) -> None:
    match shape:
        case "package":
            foreign = tmp_path / name / "__init__.py"
            foreign.parent.mkdir()
            foreign.touch()
        case "module":
            foreign = tmp_path / f"{name}.py"
            foreign.touch()
        case _:
            # A folder without __init__.py never hides a real package further down the path.
            (tmp_path / name).mkdir()
            assert f"module {name!r}" not in knock(tmp_path).stderr
            return
    answer = knock(tmp_path)
    assert answer.returncode == 1
    assert str(foreign) in answer.stderr
    assert str(ROOT / name) in answer.stderr
    assert "start the agent from its own environment" in answer.stderr
