"""docs/reference/package.md names every key, step, error and verb there is."""

import argparse
from collections.abc import Iterator

import msgspec

from models import cli
from models.manifest import Edition, Golden, Manifest, OtherFile, Said, TensorSpec
from models.pipeline.declared import Gives, Node, Pipeline
from models.pipeline.files import FileRef
from models.pipeline.heads import Head
from models.pipeline.ops.families import Step
from models.release import ArchiveRef, Release, SignedRelease
from tests.house.tree import ROOT

REFERENCE = ROOT / "docs" / "reference"
PAGE = (REFERENCE / "package.md").read_text()
STEPS = PAGE + "".join(page.read_text() for page in sorted(REFERENCE.glob("steps-*.md")))


def unnamed(words: Iterator[str], page: str = PAGE) -> set[str]:
    return {
        word
        for word in words
        if not any(mark in page for mark in (f"`{word}`", f'"{word}"', f"{word} = "))
    }


def test_every_key_of_a_manifest_and_a_release_is_on_the_page() -> None:
    parts = (TensorSpec, Pipeline, Gives, FileRef, Golden, Said, Edition, OtherFile)
    structs = (Manifest, *parts, *Node.__args__)
    signed = (Release, SignedRelease, ArchiveRef)
    fields = (
        field.name for struct in (*structs, *signed) for field in msgspec.structs.fields(struct)
    )
    assert unnamed(fields, STEPS) == set()


def test_every_node_step_and_head_with_its_keys_is_on_a_page() -> None:
    declared = (*Node.__args__, *Step.__args__, *Head.__args__)
    assert unnamed((str(one.__struct_config__.tag) for one in declared), STEPS) == set()
    assert unnamed((name for one in declared for name in one.__struct_fields__), STEPS) == set()


def test_every_verb_is_on_the_page() -> None:
    actions = cli._parser()._actions
    (verbs,) = (action for action in actions if isinstance(action, argparse._SubParsersAction))
    assert {verb for verb in verbs.choices if f"`longstop-models {verb} " not in PAGE} == set()
