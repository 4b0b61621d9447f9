"""Samples in messages: three formats, and what is none of them."""

import struct

import pytest

from edge_agent.sources.arrays import Unreadable
from edge_agent.sources.samples import MOST_SAMPLES, Format, Sample, read

XY = ("x", "y")
TIMED = Format(2, fields=("t", "x", "y"), time="t", time_unit="ms")


@pytest.mark.parametrize(
    ("payload", "how", "samples"),
    [
        (b'{"x": 1, "y": 2.5, "z": 3}', Format(2, fields=XY), [Sample(None, (1, 2.5))]),
        (b"[1, 2]", Format(2), [Sample(None, (1, 2))]),
        (b"[[1, 2], [3, 4]]", Format(2), [Sample(None, (1, 2)), Sample(None, (3, 4))]),
        (b"7", Format(1), [Sample(None, (7,))]),
        (b'[{"t": 1500, "x": 1, "y": 2}]', TIMED, [Sample(1.5, (1, 2))]),
        (b"[1500, 1, 2]", TIMED, [Sample(1.5, (1, 2))]),
        (b"1,2\n3,4\n", Format(2, "csv"), [Sample(None, (1, 2)), Sample(None, (3, 4))]),
        (
            b"1, 250, 2\n",
            Format(2, "csv", ("x", "t", "y"), "t", "ms"),
            [Sample(0.25, (1, 2))],
        ),
        (
            struct.pack("<4f", 1, 2, 3, 4),
            Format(2, "raw"),
            [Sample(None, (1, 2)), Sample(None, (3, 4))],
        ),
    ],
)
def test_a_message_holds_one_sample_or_several(
    payload: bytes, how: Format, samples: list[Sample]
) -> None:
    assert read(payload, how) == samples


@pytest.mark.parametrize(
    ("payload", "how", "says"),
    [
        (b"", Format(1), "no JSON"),
        (b"\xff", Format(1), "no JSON"),
        (b"\xff", Format(1, "csv"), "no text"),
        (b"", Format(1, "csv"), "0 samples"),
        (b"", Format(1, "raw"), "0 samples"),
        (b"abc", Format(1, "raw"), "no float32"),
        (b"[]", Format(1), "0 values"),
        (b"[1, 2]", Format(1), "2 values, not 1"),
        (b'["a"]', Format(1), "'a' is no number"),
        (b"[null]", Format(1), "None is no number"),
        (b'{"x": 1}', Format(1), "name no fields"),
        (b'{"x": 1}', Format(2, fields=XY), "None is no number"),
        (b'{"x": 1, "y": 2}', TIMED, "None is no number"),
        (b'{"t": "nan", "x": 1, "y": 2}', TIMED, "no time"),
        (b"[" + b"1," * MOST_SAMPLES + b"1]", Format(1), "values, not 1"),
        (bytes(4 * MOST_SAMPLES + 4), Format(1, "raw"), "samples"),
        (b"[" * 100_000, Format(1), "no JSON"),
    ],
)
def test_what_is_no_sample_says_why(payload: bytes, how: Format, says: str) -> None:
    with pytest.raises(Unreadable, match=says):
        read(payload, how)
