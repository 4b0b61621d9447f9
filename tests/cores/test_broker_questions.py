"""What is asked on a local broker: read from topics and payloads, refused by name, never raised."""

import base64
import json
import struct

import pytest

from edge_agent.local_api.callers import Sample
from edge_agent.local_api.questions import (
    CLIENT,
    MOST_JSON,
    Asked,
    FeedbackGiven,
    RevisionsAsked,
    StatusAsked,
    Unfit,
    read,
)
from edge_agent.sdk.errors import UnknownTask
from edge_agent.workplace import Given

TAKES = {
    "kiln": Given("sample", "float32", (2, 3)),
    "photos": Given("image", "bytes", ()),
    "notes": Given("text", "text", ()),
    "orders": Given("order", "record", ()),
}


def given_of(task: str) -> Given:
    if task not in TAKES:
        raise UnknownTask(f"no task {task!r}")
    return TAKES[task]


def asked(topic: str, payload: object) -> Asked:
    data = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
    found = read(topic, data, given_of, 300.0)
    assert isinstance(found, Asked)
    return found


def unfit(topic: str, payload: object) -> tuple[str, object, str]:
    with pytest.raises(Unfit) as caught:
        asked(topic, payload)
    assert str(caught.value)
    return caught.value.to, caught.value.id, caught.value.code


def floats(*values: float) -> bytes:
    return struct.pack(f"<{len(values)}f", *values)


SIX = floats(1, 2, 3, 4, 5, 6)


@pytest.mark.parametrize(
    ("task", "given", "sample"),
    [
        ("kiln", [[1, 2, 3], [4, 5, 6]], Sample(SIX, "float32", (2, 3))),
        ("kiln", [1, 2, 3, 4, 5, 6], Sample(SIX, "float32", (2, 3))),
        ("kiln", base64.b64encode(SIX).decode(), Sample(SIX, "float32", (2, 3))),
        ("photos", base64.b64encode(b"\xff\xd8").decode(), Sample(b"\xff\xd8")),
        ("notes", "der Ofen stinkt", Sample("der Ofen stinkt")),
        ("orders", {"amount": 3}, Sample({"amount": 3})),
    ],
)
def test_an_input_in_json_is_what_the_task_takes(task: str, given: object, sample: Sample) -> None:
    found = asked(f"{task}/infer", {"id": "a1", "client": "till", "input": given})
    assert found == Asked(task, "till", "a1", f"{task}/answer/till", 300.0, sample)


def test_type_and_shape_may_be_told() -> None:
    told = {"id": 7, "input": [1, 2], "dtype": "uint8", "shape": [2, 1], "deadline_ms": 50}
    found = asked("kiln/infer", told)
    assert found.sample == Sample(b"\1\2", "uint8", (2, 1))
    assert (found.id, found.client, found.to) == (7, CLIENT, "kiln/answer/7")
    assert found.deadline_ms == 50


@pytest.mark.parametrize(
    ("task", "payload", "sample"),
    [
        ("kiln", SIX, Sample(SIX, "float32", (2, 3))),
        ("photos", b"\xff\xd8", Sample(b"\xff\xd8")),
        ("notes", "Öl".encode(), Sample("Öl")),
        ("orders", b'{"amount": 3}', Sample({"amount": 3})),
    ],
)
def test_a_raw_input_has_its_id_in_the_topic(task: str, payload: bytes, sample: Sample) -> None:
    found = asked(f"{task}/infer/k-1", payload)
    assert found == Asked(task, CLIENT, "k-1", f"{task}/answer/k-1", 300.0, sample)


def test_status_revisions_and_feedback_are_asked_for() -> None:
    assert read("status/get", b"", given_of, 300.0) == StatusAsked()
    assert read("revision/till/get", b"", given_of, 300.0) == RevisionsAsked("till")
    told = json.dumps({"request_id": "a1", "label": "hot", "client": "till"}).encode()
    assert read("kiln/feedback", told, given_of, 300.0) == FeedbackGiven(
        "kiln", "till", "a1", "hot", "kiln/answer/till"
    )


@pytest.mark.parametrize(
    ("topic", "payload", "refusal"),
    [
        ("kiln/infer", b"{", ("refused", None, "bad_request")),
        ("kiln/infer", b"\xff\xfe", ("refused", None, "bad_request")),
        ("kiln/infer", b"[" * 5000, ("refused", None, "bad_request")),
        ("kiln/infer", {"id": "a"}, ("kiln/answer/a", "a", "bad_request")),
        ("kiln/infer", {"id": "a", "input": [1], "more": 1}, ("kiln/answer/a", "a", "bad_request")),
        ("kiln/infer", {"input": [1]}, ("refused", None, "bad_argument")),
        ("kiln/infer", {"id": "a/b", "input": [1]}, ("refused", "a/b", "bad_argument")),
        ("kiln/infer", {"client": "a/#", "input": [1]}, ("refused", None, "bad_argument")),
        ("kiln/infer", {"id": "a", "input": None}, ("kiln/answer/a", "a", "unsupported_input")),
        ("kiln/infer", {"id": "a", "input": "?"}, ("kiln/answer/a", "a", "undecodable_input")),
        (
            "kiln/infer",
            {"id": "a", "input": [[1, 2], [3]]},
            ("kiln/answer/a", "a", "malformed_message"),
        ),
        (
            "kiln/infer",
            {"id": "a", "input": [1], "dtype": "complex"},
            ("kiln/answer/a", "a", "wrong_dtype"),
        ),
        (
            "kiln/infer",
            {"id": "a", "input": [], "shape": [1 << 40]},
            ("kiln/answer/a", "a", "input_too_large"),
        ),
        (
            "kiln/infer",
            {"id": "a", "input": [1], "deadline_ms": 0},
            ("kiln/answer/a", "a", "bad_argument"),
        ),
        ("cellar/infer", {"id": "a", "input": [1]}, ("cellar/answer/a", "a", "unknown_task")),
        ("kiln/infer", b" " * (MOST_JSON + 1), ("refused", None, "input_too_large")),
        ("notes/infer/k", b"\xff", ("notes/answer/k", "k", "undecodable_input")),
        ("cellar/infer/k", b"x", ("cellar/answer/k", "k", "unknown_task")),
        ("..%2f/infer/k", b"x", ("refused", "k", "unknown_task")),
        ("kiln/feedback", {"request_id": "a"}, ("refused", None, "bad_request")),
        ("revision/a b/get", b"", ("refused", None, "bad_argument")),
        ("kiln", b"", ("refused", None, "not_found")),
    ],
)
def test_what_is_wrong_is_told_where_its_answer_would_have_gone(
    topic: str, payload: object, refusal: tuple[str, object, str]
) -> None:
    assert unfit(topic, payload) == refusal
