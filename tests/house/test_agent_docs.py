"""The page about longstop-agent names every setting and every verb, and no other."""

import re
from collections.abc import Iterator

import msgspec
from msgspec import Struct

from edge_agent.settings import AgentSettings
from sync.backoff import Backoff
from tests.house.tree import ROOT

PAGE = ROOT / "docs" / "reference" / "agent-cli.md"


def names(kind: type[Struct], before: str = "") -> Iterator[str]:
    """Every setting by its full name; a backoff is one of them."""
    for field in msgspec.structs.fields(kind):
        whole = f"{before}{field.encode_name}"
        inner = field.type
        if isinstance(inner, type) and issubclass(inner, Struct) and inner is not Backoff:
            yield from names(inner, f"{whole}.")
        else:
            yield whole


def test_every_setting_stands_in_the_table_and_no_other() -> None:
    _, _, part = PAGE.read_text().partition("\n## Settings\n")
    table, _, _ = part.partition("\n## ")
    assert set(re.findall(r"^\| `([a-z_.]+)` \|", table, re.MULTILINE)) == set(names(AgentSettings))


def test_every_verb_has_its_chapter() -> None:
    text = PAGE.read_text()
    for verb in ("enroll", "run", "infer", "feed", "status", "doctor", "outbox"):
        assert f"\n## {verb}\n" in text
