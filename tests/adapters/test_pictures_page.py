"""The page about pictures and answers: its examples are read, and no step or head is left out."""

import re
import tomllib
from typing import Any, get_args

import msgspec
import pytest

from models.pipeline.answers import Answer
from models.pipeline.declared import Node
from models.pipeline.heads import Head
from models.pipeline.kinds import Kind
from models.pipeline.ops import image, scores, tensor
from tests.house.tree import ROOT

PAGE = (ROOT / "docs" / "reference" / "steps-pictures.md").read_text()
Step = image.Step | scores.Step | tensor.Step


def examples(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)


def tables() -> list[dict[str, Any]]:
    return [tomllib.loads(text) for text in examples("toml")]


def tag(struct: type) -> str:
    found = msgspec.inspect.type_info(struct)
    assert isinstance(found, msgspec.inspect.StructType)
    return str(found.tag)


def follow(step: Step, kind: Kind) -> Kind:
    if isinstance(step, image.Step):
        return image.after(step, kind)
    if isinstance(step, scores.Step):
        return scores.after(step, kind)
    return tensor.after(step, kind)


@pytest.mark.parametrize("table", [table for table in tables() if "steps" in table])
def test_every_row_of_steps_on_the_page_follows_from_its_input(table: dict[str, Any]) -> None:
    dtype, *sides = table["input"].split()
    kind = Kind(dtype, tuple(map(int, sides)))
    for declared in table["steps"]:
        kind = follow(msgspec.convert(declared, Step), kind)


def test_every_head_on_the_page_is_one() -> None:
    heads = [msgspec.convert(table["head"], Head) for table in tables() if "head" in table]
    assert {type(head) for head in heads} == set(get_args(Head))


def test_every_answer_on_the_page_is_one_and_is_written_as_programs_write_it() -> None:
    answers = [(text.strip(), msgspec.json.decode(text, type=Answer)) for text in examples("json")]
    assert {type(answer) for _, answer in answers} == set(get_args(Answer))
    assert [msgspec.json.encode(answer).decode() for _, answer in answers] == [
        text for text, _ in answers
    ]


def test_every_step_has_an_example_and_a_row() -> None:
    shown = {step["op"] for table in tables() for step in table.get("steps", ())}
    wanted = {tag(step) for family in (image, scores) for step in get_args(family.Step)}
    assert wanted - shown == set()
    assert {op for op in wanted if f"| `{op}` |" not in PAGE} == set()


def test_the_nodes_of_a_detector_on_the_page_are_nodes_of_a_manifest() -> None:
    nodes = [node for table in tables() for node in table.get("nodes", ())]
    assert {node["kind"] for node in nodes} >= {"nms", "unletterbox", "crop", "relabel"}
    for node in nodes:
        msgspec.convert(node, Node)
