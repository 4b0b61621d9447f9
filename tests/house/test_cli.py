"""Every program and every verb of it explains itself."""

import importlib
import re
import sys
import tomllib
from collections.abc import Iterator

import pytest

from tests.house.tree import ROOT

# argparse shows verbs as `{a,b} ...`; a choice of values is not followed by dots.
VERBS = re.compile(r"\{([a-z0-9,-]+)\}\s+\.\.\.")


def programs() -> dict[str, str]:
    """Console script to "module:function"."""
    scripts = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]
    return {str(name): str(target) for name, target in scripts.items()}


def help_of(target: str, words: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    module, _, function = target.partition(":")
    main = getattr(importlib.import_module(module), function)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", [*words, "--help"])
        with pytest.raises(SystemExit) as left:
            main()
    assert left.value.code == 0, words
    return capsys.readouterr().out


def each_help(
    target: str, words: list[str], capsys: pytest.CaptureFixture[str]
) -> Iterator[tuple[list[str], str]]:
    """The help of a program, of its verbs, and of theirs."""
    text = help_of(target, words, capsys)
    yield words, text
    if verbs := VERBS.search(text):
        for verb in verbs[1].split(","):
            yield from each_help(target, [*words, verb], capsys)


def test_there_is_a_program_for_each_half_for_packages_and_for_the_simulator() -> None:
    assert set(programs()) == {
        "longstop-agent",
        "longstop-gateway",
        "longstop-models",
        "longstop-sim",
    }


@pytest.mark.parametrize("name", sorted(programs()))
def test_every_verb_has_help_that_says_what_it_does(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    silent = []
    for words, text in each_help(programs()[name], [name], capsys):
        said = " ".join(words)
        assert text.startswith(f"usage: {said}"), said
        _, _, after_usage = text.partition("\n\n")
        if not after_usage or after_usage.startswith(("positional arguments:", "options:")):
            silent.append(said)
    assert silent == [], "these lack a description"
