"""The page about sources names every setting of every source, every reason, and no other."""

import re

import msgspec

from cloud_gateway.telemetry import skips
from edge_agent.workplace import CameraSettings, FolderSource, MqttSettings, SourceRules
from tests.house.tree import ROOT

PAGE = (ROOT / "docs" / "how-to" / "sources.md").read_text()
ROW = re.compile(r"^\| ((?:`\w+`(?:, )?)+) \|", re.MULTILINE)


def named(chapter: str) -> set[str]:
    _, _, part = PAGE.partition(f"\n## {chapter}\n")
    text, _, _ = part.partition("\n## ")
    return {name for row in ROW.findall(text) for name in re.findall(r"\w+", row)}


def fields(kind: type[msgspec.Struct]) -> set[str]:
    return {field.encode_name for field in msgspec.structs.fields(kind)}


def test_every_setting_of_a_source_stands_in_its_chapter_and_no_other() -> None:
    rules = fields(SourceRules)
    assert named("Rules for every source") == rules
    assert named("A folder") == fields(FolderSource) - rules
    assert named("A camera, or a video file") == fields(CameraSettings) - rules
    assert named("A sensor on a broker") == fields(MqttSettings) - rules


def test_every_reason_the_gateway_knows_is_explained_and_no_other() -> None:
    assert named("What was skipped, and why") == skips.REASONS
