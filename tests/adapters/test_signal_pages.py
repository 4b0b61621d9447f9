"""The pages on signals and features say what the code does: their examples are read and run."""

import re
import tomllib
from pathlib import Path
from typing import get_args

import msgspec
import pytest

from models.pipeline.kinds import RAW, Kind
from models.pipeline.ops import series, sound, table, text
from tests.house.tree import ROOT

PAGES = ROOT / "docs" / "reference"
STEPS = (PAGES / "steps-signals.md").read_text()
FEATURES = (PAGES / "features.md").read_text()
EXAMPLES = re.findall(r"```toml\n(.*?)```", STEPS, re.DOTALL)
Step = sound.Step | series.Step | table.Step | text.Step


def kind_of(words: str) -> Kind:
    dtype, *sides = words.split()
    shape = tuple(None if side == "?" else int(side) for side in sides)
    return msgspec.convert((dtype, shape if dtype not in RAW else (), False), Kind)


def after(step: Step, kind: Kind) -> Kind:
    if isinstance(step, sound.Step):
        return sound.after(step, kind)
    if isinstance(step, series.Step):
        return series.after(step, kind)
    if isinstance(step, table.Step):
        return table.after(step, kind)
    return text.after(step, kind)


@pytest.mark.parametrize(
    ("at", "gives"),
    [
        (0, Kind("float32", (98, 40))),
        (1, Kind("float32", (98, 13))),
        (2, Kind("float32", (22, 1025))),
        (3, Kind("float32", (22, 1025))),
        (4, Kind("float32", (4, 6), many=True)),
        (5, Kind("float32", (5,))),
        (6, Kind("text", ())),
    ],
)
def test_every_example_follows_from_step_to_step(at: int, gives: Kind) -> None:
    written = tomllib.loads(EXAMPLES[at])
    kind = kind_of(written["input"])
    for step in msgspec.convert(written["steps"], tuple[Step, ...]):
        kind = after(step, kind)
    assert kind == gives


def test_every_step_has_an_example_and_every_statistic_a_line() -> None:
    assert len(EXAMPLES) == 7
    shown = set(re.findall(r'^op = "(\w+)"', "".join(EXAMPLES), re.MULTILINE))
    known = {
        each.__struct_config__.tag
        for family in (sound.Step, series.Step)
        for each in get_args(family)
    }
    assert shown == known | {"columns", "clean"}
    named = [name for name in get_args(series.Statistic) if f"`{name}`" not in STEPS]
    assert named == []


def test_the_example_of_features_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (example,) = re.findall(r"```python\n(.*?)```", FEATURES, re.DOTALL)
    exec(compile(example, "features.md", "exec"), {})  # noqa: S102 - our own page
    said = capsys.readouterr().out
    assert said.startswith("[0. 0.] default None")
    assert "No such file" in said
