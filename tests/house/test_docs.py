"""What the pages promise is there: links lead somewhere, recipes exist, decisions name a cost."""

import re
import subprocess
from pathlib import Path

import pytest

from tests.house.tree import ROOT, tracked_files

LINK = re.compile(r"(?<!!)\[[^\]]+\]\(([^)\s#]+)(?:#[^)\s]*)?\)")
RECIPE = re.compile(r"\./just ([a-z0-9]+)")
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


def test_every_decision_says_what_we_lose() -> None:
    decisions = [page for page in pages() if page.parent.name == "decisions"]
    numbers = [page.name[:4] for page in decisions]
    assert len(set(numbers)) == len(numbers)
    for page in decisions:
        text = page.read_text()
        assert text.startswith(f"# {page.name[:4]}: "), page.name
        assert "\n## What we lose\n" in text, page.name
