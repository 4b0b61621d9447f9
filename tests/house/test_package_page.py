"""docs/reference/package.md names every key, step, error and verb there is."""

import argparse
from collections.abc import Iterator

import msgspec

from models import cli, errors
from models.manifest import Decision, Golden, Manifest, TensorSpec
from models.pipeline.declared import FileRef, Model, Pipeline, Prepare, Step
from models.release import ArchiveRef, Release, SignedRelease
from tests.house.tree import ROOT

PAGE = (ROOT / "docs" / "reference" / "package.md").read_text()


def unnamed(words: Iterator[str]) -> set[str]:
    return {word for word in words if f"`{word}`" not in PAGE and f'"{word}"' not in PAGE}


def test_every_key_of_a_manifest_and_a_release_is_on_the_page() -> None:
    structs = (Manifest, TensorSpec, Pipeline, Prepare, Model, FileRef, Decision, Golden)
    signed = (Release, SignedRelease, ArchiveRef)
    fields = (
        field.name for struct in (*structs, *signed) for field in msgspec.structs.fields(struct)
    )
    assert unnamed(fields) == set()


def test_every_step_and_its_keys_are_on_the_page() -> None:
    steps = Step.__args__
    assert unnamed(str(step.__struct_config__.tag) for step in steps) == set()
    assert unnamed(name for step in steps for name in step.__struct_fields__) == set()


def test_every_error_code_is_on_the_page_and_in_the_tree() -> None:
    classes = [
        value
        for value in vars(errors).values()
        if isinstance(value, type) and issubclass(value, errors.ModelsError)
    ]
    assert len(classes) > 15
    assert unnamed(found.code for found in classes) == set()
    assert len({found.code for found in classes}) == len(classes)
    assert {
        found.__name__ for found in classes if found.__name__ not in str(errors.__doc__)
    } == set()


def test_every_verb_is_on_the_page() -> None:
    actions = cli._parser()._actions
    (verbs,) = (action for action in actions if isinstance(action, argparse._SubParsersAction))
    assert {verb for verb in verbs.choices if f"`longstop-models {verb} " not in PAGE} == set()
