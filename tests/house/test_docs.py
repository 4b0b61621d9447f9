"""What the pages promise is there: links, recipes, scenarios, error codes, a cost per decision."""

import ast
import re
import subprocess
from pathlib import Path

import pytest

from sim.scenario import shipped
from tests.house.tree import PACKAGES, ROOT, sources, tracked_files

LINK = re.compile(r"(?<!!)\[[^\]]+\]\(([^)\s#]+)(?:#[^)\s]*)?\)")
RECIPE = re.compile(r"\./just ([a-z0-9]+)")
SCENARIO = re.compile(r"(?:\./just sim|longstop-sim run) ([a-z0-9][a-z0-9_-]*)(?![\w./-])")
FENCE = re.compile(r"```.*?```", re.DOTALL)

pytestmark = pytest.mark.skipif(
    not (ROOT / ".git").exists(), reason="not a git checkout, so nobody knows what is tracked"
)


def pages() -> list[Path]:
    return [file for file in tracked_files() if file.suffix == ".md"]


def recipes() -> set[str]:
    just = ROOT / ".tools" / "bin" / "just"
    if not just.exists():
        pytest.skip("just is missing; run through ./just test")
    told = subprocess.run([just, "--summary"], cwd=ROOT, capture_output=True, text=True, check=True)
    return set(told.stdout.split())


def test_every_link_between_pages_leads_somewhere() -> None:
    broken = {
        f"{page.relative_to(ROOT)}: {target}"
        for page in pages()
        for target in LINK.findall(FENCE.sub("", page.read_text()))
        if "://" not in target and not (page.parent / target).exists()
    }
    assert broken == set()


def test_every_recipe_a_page_or_a_program_names_exists() -> None:
    known = recipes()
    named = {
        f"{file.relative_to(ROOT)}: ./just {recipe}"
        for file in tracked_files()
        if file.suffix in (".md", ".py", ".toml")
        for recipe in RECIPE.findall(file.read_text())
        if recipe not in known
    }
    assert named == set()


def test_every_scenario_a_page_or_a_recipe_names_ships() -> None:
    named = {
        f"{file.relative_to(ROOT)}: {name}"
        for file in [*pages(), ROOT / "justfile"]
        for name in SCENARIO.findall(file.read_text())
    }
    assert any(place.startswith("justfile: ") for place in named)
    assert {place for place in named if place.partition(": ")[2] not in shipped()} == set()


def test_the_demo_s_set_up_says_what_it_does_without_a_broker(tmp_path: Path) -> None:
    just = ROOT / ".tools" / "bin" / "just"
    if not just.exists():
        pytest.skip("just is missing; run through ./just test")
    # Not root, so that nothing is installed; and none of these parts anywhere.
    (tmp_path / "id").write_text("#!/bin/sh\necho 1000\n")
    (tmp_path / "id").chmod(0o755)
    script = subprocess.run(
        [just, "--dry-run", "system", "mosquitto"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stderr
    for asked, says in (("mosquitto", "the demo uses amqtt"), ("mosquitto strace", "are skipped")):
        told = subprocess.run(
            ["/bin/sh", "-c", script.replace("/usr/sbin:/sbin", ""), "system", asked],
            env={"PATH": str(tmp_path)},
            capture_output=True,
            text=True,
            check=True,
        )
        assert says in told.stderr
        assert "sudo apt-get install" in told.stderr


def error_codes(package: str) -> set[str]:
    """Of every class with a `code` of its own; a struct's `code` is a field, not a name."""
    found: set[str] = set()
    for source in sources(package):
        for node in ast.walk(ast.parse(source.read_text())):
            if not isinstance(node, ast.ClassDef) or "Struct" in map(ast.unparse, node.bases):
                continue
            for line in node.body:
                match line:
                    case (
                        ast.Assign(targets=[ast.Name("code")], value=ast.Constant(str(code)))
                        | ast.AnnAssign(target=ast.Name("code"), value=ast.Constant(str(code)))
                    ):
                        found.add(code)
                    case _:
                        pass
    return found


@pytest.mark.parametrize("package", PACKAGES)
def test_every_error_code_stands_once_in_its_package_s_table_and_no_other(package: str) -> None:
    text = (ROOT / "docs" / "reference" / "errors.md").read_text()
    _, _, part = text.partition(f"\n## {package}\n")
    table, _, _ = part.partition("\n## ")
    listed = re.findall(r"^\| `(\w+)` \| [^|]+ \| [^|]+ \|$", table, re.MULTILINE)
    assert len(listed) == len(set(listed))
    assert set(listed) == error_codes(package)
    assert listed


def test_every_decision_says_what_we_lose() -> None:
    decisions = [page for page in pages() if page.parent.name == "decisions"]
    numbers = [page.name[:4] for page in decisions]
    assert len(set(numbers)) == len(numbers)
    for page in decisions:
        text = page.read_text()
        assert text.startswith(f"# {page.name[:4]}: "), page.name
        assert "\n## What we lose\n" in text, page.name
