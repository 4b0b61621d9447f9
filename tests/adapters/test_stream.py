"""Lines of standard input: what they hold, and how they come."""

import asyncio
import os
import threading
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_agent.errors import BadRequest
from edge_agent.sources import stream


def collected(descriptor: int) -> list[bytes]:
    async def story() -> list[bytes]:
        return [line async for line in stream.lines(descriptor)]

    return asyncio.run(story())


@pytest.mark.parametrize(
    ("text", "name", "holds"),
    [
        (b'"a note"', None, "a note"),
        (b'{"amount": 3}', None, {"amount": 3}),
        (b'{"id": 7, "amount": 3}', None, {"id": 7, "amount": 3}),
        (b'{"id": "a", "input": {"amount": 3}}', "a", {"amount": 3}),
        (b'{"id": 7, "input": "text"}', 7, "text"),
        (b'{"input": "text"}', None, "text"),
        (b'{"id": null, "input": "text"}', None, "text"),
    ],
)
def test_a_line_holds_an_input_and_perhaps_its_name(
    text: bytes, name: object, holds: object
) -> None:
    line = stream.read(text, 3, "float32")
    assert (line.number, line.id, line.given) == (3, name, holds)


def test_an_array_has_the_type_that_was_asked_for() -> None:
    line = stream.read(b"[[1, 2], [3, 4]]", 1, "uint8")
    assert isinstance(line.given, np.ndarray)
    assert line.given.dtype == np.uint8
    assert line.given.tolist() == [[1, 2], [3, 4]]


def test_a_file_is_read_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(b"picture")
    line = stream.read(b'{"id": 1, "file": "%s"}' % bytes(tmp_path / "a.jpg"), 1, "float32")
    assert (line.id, line.given) == (1, b"picture")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (b"{", "line 5 is no JSON"),
        (b"\xff", "line 5 is no JSON"),
        (b"[" * 100_000, "line 5 is no JSON"),
        (b"7", "line 5: 7 is no input"),
        (b"null", "is no input"),
        (b"[[1], [2, 3]]", "no array of float32"),
        (b'["a"]', "no array of float32"),
        (b'{"id": [], "input": "a"}', "neither a text nor a number"),
        (b'{"id": true, "input": "a"}', "neither a text nor a number"),
        (b'{"file": 7}', "no path"),
        (b'{"file": "/nowhere/a.jpg"}', "cannot be read"),
    ],
)
def test_what_is_no_input_says_its_line_and_why(text: bytes, says: str) -> None:
    line = stream.read(text, 5, "float32")
    assert isinstance(line.given, BadRequest)
    assert says in str(line.given)


@given(st.lists(st.binary(max_size=20).map(lambda data: data.replace(b"\n", b"")), max_size=8))
def test_lines_are_whole_however_they_come(given_lines: list[bytes]) -> None:
    out, into = os.pipe()
    data = b"\n".join(given_lines)

    def write() -> None:
        for start in range(0, len(data), 7):
            os.write(into, data[start : start + 7])
        os.close(into)

    writer = threading.Thread(target=write)
    writer.start()
    found = collected(out)
    writer.join()
    os.close(out)
    assert b"\n".join(found) == (data[:-1] if data.endswith(b"\n") else data)


def test_a_plain_file_and_nothing_at_all_are_read_too(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"1\n\n2")
    with (tmp_path / "a").open("rb") as file, Path(os.devnull).open("rb") as nothing:
        assert collected(file.fileno()) == [b"1", b"", b"2"]
        assert collected(nothing.fileno()) == []


def test_a_line_without_an_end_is_refused_before_memory_is(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(stream, "MAX_LINE", 1000)
    (tmp_path / "a").write_bytes(bytes(2000))
    with (tmp_path / "a").open("rb") as file, pytest.raises(BadRequest, match="one JSON a line"):
        collected(file.fileno())
