"""Lines for whoever waits on the device: what they say, and that their file stays small."""

from pathlib import Path

import msgspec
import pytest

from edge_agent.sdk.messages import Refused, Reply, Timings
from edge_agent.sources.answers import Told, append, matches, told

REPLY = Reply("r1", "coat", 0.9, "edge", True, "confident", False, "1", "ab", Timings(1, 1, 0, 2))


def test_a_line_says_what_became_of_an_input() -> None:
    line = msgspec.json.decode(told("a#1", REPLY), type=Told)
    assert (line.input, line.ok, line.label, line.request_id) == ("a#1", True, "coat", "r1")
    refused = msgspec.json.decode(told("a#2", Refused("r2", "not_finite", "NaN")), type=Told)
    assert (refused.ok, refused.code, refused.message) == (False, "not_finite", "NaN")


def test_a_full_file_is_put_aside(tmp_path: Path) -> None:
    file = tmp_path / "said.jsonl"
    for number in range(100):
        append(file, f"{number:09d}".encode(), most_bytes=200)
    assert file.stat().st_size <= 200
    assert (tmp_path / "said.jsonl.1").stat().st_size <= 200
    assert file.read_text().splitlines()[-1] == "000000099"
    assert len(list(tmp_path.iterdir())) == 2


@pytest.mark.parametrize(
    ("pattern", "topic", "taken"),
    [
        ("a", "a", True),
        ("a", "a/b", False),
        ("a/b", "a", False),
        ("a/+", "a/b", True),
        ("a/+", "a/b/c", False),
        ("a/+/c", "a/b/c", True),
        ("a/#", "a", True),
        ("a/#", "a/b/c", True),
        ("#", "a", True),
        ("b/#", "a/b", False),
    ],
)
def test_a_subscription_takes_what_the_protocol_says(pattern: str, topic: str, taken: bool) -> None:
    assert matches(pattern, topic) is taken
