"""Frames in any pieces, and every bound a reader of strangers' bytes needs."""

import json
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_agent.control.messages import read_question
from edge_agent.errors import BadRequest
from edge_agent.local_api.frames import id_of, moment, read_request, write_reply
from edge_agent.sdk.errors import ProtocolMismatch
from edge_agent.sdk.messages import Infer, Refused, Reply, Timings, read_reply, write_infer
from edge_agent.sdk.wire import HEADER, MAX_BODY, MAX_META, FrameReader, FrameTooLarge, head

REPLY = Reply(
    id="r1",
    label="Bag",
    confidence=0.9,
    source="edge",
    final=True,
    reason="confident",
    hard=False,
    version="1",
    digest="abcdefabcdef",
    timings=Timings(1, 2, 0, 4),
)


def receive(reader: FrameReader, data: bytes, sizes: list[int]) -> list[tuple[bytes, bytes]]:
    """What a socket would do: fill the reader's buffer, a few bytes at a time."""
    found = []
    at, turn = 0, 0
    while at < len(data):
        buffer = reader.buffer()
        assert len(buffer) > 0
        count = min(len(buffer), sizes[turn % len(sizes)], len(data) - at)
        buffer[:count] = data[at : at + count]
        found += [(frame.meta, bytes(frame.body)) for frame in reader.filled(count)]
        at, turn = at + count, turn + 1
    return found


META = st.sampled_from([b"", b"{}", b"m" * 300, b"M" * 20_000, b"X" * MAX_META])
BODY = st.sampled_from([b"", b"b", bytes(range(256)) * 18, b"w" * 40_000])
SIZES = st.lists(st.sampled_from([7, 8, 100, 5000, 1 << 20]), min_size=1, max_size=5)


@given(st.lists(st.tuples(META, BODY), max_size=4), SIZES)
def test_frames_arrive_whole_however_they_are_cut(
    frames: list[tuple[bytes, bytes]], sizes: list[int]
) -> None:
    data = b"".join(head(meta, len(body)) + body for meta, body in frames)
    assert receive(FrameReader(), data, sizes) == frames


def test_a_large_body_is_received_where_it_stays() -> None:
    reader = FrameReader()
    body = bytes(1 << 20)
    data = head(b"{}", len(body)) + body
    buffer = reader.buffer()
    buffer[:] = data[: len(buffer)]
    assert reader.filled(len(buffer)) == []
    rest = reader.buffer()
    assert len(rest) == len(data) - len(buffer)


@pytest.mark.parametrize(("meta", "body"), [(MAX_META + 1, 0), (2, MAX_BODY + 1), (2**32 - 1, 0)])
def test_a_header_that_claims_too_much_is_refused_before_anything_is_read(
    meta: int, body: int
) -> None:
    reader = FrameReader()
    with pytest.raises(FrameTooLarge, match="send less"):
        receive(reader, HEADER.pack(meta, body), [8])


def test_a_frame_too_large_to_send_is_refused_here() -> None:
    with pytest.raises(FrameTooLarge):
        head(b"{}", MAX_BODY + 1)


def test_the_header_is_two_little_endian_lengths() -> None:
    assert head(b"{}", 5) == struct.pack("<II", 2, 5) + b"{}"


def test_a_request_survives_the_way_to_the_worker() -> None:
    infer = Infer("id-1", "shop", 300, "float32", (128, 9), until=17.25)
    assert read_request(write_infer(infer)) == infer


def test_keys_of_a_newer_sdk_are_ignored() -> None:
    said = json.loads(write_infer(Infer("a", "b", 1, "bool", ()))) | {"priority": 3}
    assert read_request(json.dumps(said).encode()).id == "a"


GOOD: dict[str, object] = {
    "op": "infer",
    "id": "a",
    "client": "shop",
    "deadline_ms": 300,
    "dtype": "float32",
    "shape": [2],
}
BAD: dict[str, bytes | dict[str, object]] = {
    "not JSON": b"{",
    "nothing": b"",
    "not UTF-8": b'{"id":"\xff"}',
    "no object": b"[1]",
    "nested without end": b'{"also":' + b"[" * 50_000,
    "another op": {"op": "forget"},
    "no id": {"id": None},
    "an empty id": {"id": ""},
    "an endless id": {"id": "a" * 129},
    "a client with a slash": {"client": "../x"},
    "no time": {"deadline_ms": 0},
    "half a millisecond": {"deadline_ms": 0.5},
    "too much time": {"deadline_ms": 30_001},
    "a shape of text": {"shape": "2"},
    "a negative shape": {"shape": [-1]},
    "a shape of fractions": {"shape": [1.5]},
    "too many axes": {"shape": [1] * 17},
    "a dtype without end": {"dtype": "f" * 17},
}


@pytest.mark.parametrize("name", BAD)
def test_what_is_no_request_is_refused_by_name(name: str) -> None:
    wrong = BAD[name]
    meta = wrong if isinstance(wrong, bytes) else json.dumps(GOOD | wrong).encode()
    with pytest.raises(BadRequest) as refused:
        read_request(meta)
    assert refused.value.code == "bad_request"
    assert "request cannot be read" in str(refused.value)


def test_a_question_to_the_agent_nested_without_end_is_refused_by_name() -> None:
    with pytest.raises(BadRequest, match="does not understand this: maximum recursion depth"):
        read_question(b'{"op":"status","also":' + b"[" * 50_000)


def test_a_refusal_carries_the_id_where_it_can_be_read() -> None:
    assert id_of(json.dumps(GOOD | {"shape": 1}).encode()) == "a"
    assert id_of(b"{") == ""
    assert id_of(b'{"id": 4}') == ""
    assert id_of(b'{"also":' + b"[" * 50_000) == ""


@pytest.mark.parametrize("reply", [REPLY, Refused("r2", "wrong_dtype", "is int8", go_away=True)])
def test_a_reply_survives_the_way_back(reply: Reply | Refused) -> None:
    ((meta, body),) = receive(FrameReader(), write_reply(reply), [11])
    assert read_reply(meta) == reply
    assert body == b""


@pytest.mark.parametrize("meta", [b"", b"[]", b'{"ok":true}', b'{"ok":false,"id":"a"}', b"\xff"])
def test_a_reply_that_is_none_is_a_protocol_mismatch(meta: bytes) -> None:
    with pytest.raises(ProtocolMismatch, match="install the SDK"):
        read_reply(meta)


def asked(until: float | None) -> Infer:
    return Infer("a", "b", 300, "bool", (), until=until)


def test_time_spent_in_a_queue_counts() -> None:
    assert moment(asked(100.1), received=100.0) == 100.1


@pytest.mark.parametrize("until", [None, 1e9, 5.0])
def test_a_clock_from_elsewhere_is_not_believed(until: float | None) -> None:
    assert moment(asked(until), received=100.0) == pytest.approx(100.3)
