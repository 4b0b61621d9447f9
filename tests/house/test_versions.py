"""One version, said in four places."""

import tomllib

import edge_agent
from tests.house.tree import ROOT


def test_both_distributions_the_package_and_the_changelog_agree() -> None:
    longstop = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    sdk = tomllib.loads((ROOT / "edge_agent" / "pyproject.toml").read_text())["project"]
    version = edge_agent.__version__
    assert longstop["version"] == version
    assert sdk["version"] == version
    assert f"longstop-sdk=={version}" in longstop["dependencies"]
    assert f"\n## {version}" in (ROOT / "CHANGELOG.md").read_text()


def test_both_distributions_ask_for_the_same_python() -> None:
    longstop = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    sdk = tomllib.loads((ROOT / "edge_agent" / "pyproject.toml").read_text())["project"]
    assert longstop["requires-python"] == sdk["requires-python"]
