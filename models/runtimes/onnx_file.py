"""What an ONNX file is made of, read without the `onnx` package, which no device has.

An ONNX file is a protobuf message; its weights may lie in other files beside it. The runtimes read
those files themselves, but say little when one is missing, and would follow a path out of the
folder. Rules:
1. The outermost message is walked to its end and holds a graph: a file cut short is no ONNX file.
2. Every file of weights lies in the model's own folder or below it.
3. Operators are those of the graph and of the bodies of its branches and loops.

Field numbers: onnx/onnx.proto.
"""

import hashlib
import mmap
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Literal, NamedTuple

from models.errors import ExternalDataMissing, OperatorUnsupported, OpsetUnsupported, RuntimeFailed

_Message = Literal["model", "graph", "node", "attribute"]
_GRAPH = 7
_INSIDE: dict[_Message, dict[int, _Message]] = {
    "model": {_GRAPH: "graph"},
    "graph": {1: "node"},
    "node": {5: "attribute"},
    "attribute": {6: "graph", 11: "graph"},
}
_NODE_OPERATOR, _NODE_DOMAIN = 4, 7
_LENGTH = 2
_FIXED = {1: 8, 5: 4}
_OWN = ("", "ai.onnx")
# A `StringStringEntryProto` whose key is `location`, up to the length of its value. Weights that
# happen to hold these eleven bytes name a file that is not there, at odds of one in 2**88.
_LOCATION = re.compile(rb"\x0a\x08location\x12")
_LONGEST_PATH = 4096
_MOST_WEIGHTS = 1024


class Operator(NamedTuple):
    """An operator by name; `domain` is empty for ONNX's own."""

    domain: str
    name: str


class OnnxFile(NamedTuple):
    """A model file and the files its weights lie in."""

    path: Path
    weights: tuple[Path, ...]

    def sha256(self) -> str:
        """Of all of them together. Raises `RuntimeFailed`."""
        digest = hashlib.sha256()
        for file in (self.path, *self.weights):
            try:
                with file.open("rb") as opened:
                    digest.update(hashlib.file_digest(opened, "sha256").digest())
            except OSError as error:
                raise _unreadable(file, error) from error
        return digest.hexdigest()


def read(path: Path) -> OnnxFile:
    """Look a model file over. Raises `RuntimeFailed`, `ExternalDataMissing`."""
    try:
        with path.open("rb") as opened, mmap.mmap(opened.fileno(), 0, prot=mmap.PROT_READ) as data:
            with memoryview(data) as view:  # a mapping with a view on it cannot be closed
                if _GRAPH not in {number for number, _, _ in _fields(view, 0, len(view))}:
                    raise ValueError("it holds no graph")
            names = sorted(_locations(data))
    except OSError as error:
        raise _unreadable(path, error) from error
    except ValueError as error:  # an empty file cannot be mapped
        raise RuntimeFailed(f"{path.name} is no ONNX file: {error}; export it again") from error
    return OnnxFile(path, tuple(_beside(path, name) for name in names))


def foreign_operators(path: Path) -> set[Operator]:
    """Operators that are not of ONNX's own domain. Raises `RuntimeFailed`."""
    found = set()
    try:
        with (
            path.open("rb") as opened,
            mmap.mmap(opened.fileno(), 0, prot=mmap.PROT_READ) as data,
            memoryview(data) as view,
        ):
            inner: list[tuple[_Message, int, int]] = [("model", 0, len(view))]
            while inner:
                kind, start, end = inner.pop()
                domain = name = ""
                for number, at, until in _fields(view, start, end):
                    if deeper := _INSIDE[kind].get(number):
                        inner.append((deeper, at, until))
                    elif kind == "node" and number == _NODE_OPERATOR:
                        name = _text(view, at, until)
                    elif kind == "node" and number == _NODE_DOMAIN:
                        domain = _text(view, at, until)
                if domain not in _OWN:
                    found.add(Operator(domain, name))
    except OSError as error:
        raise _unreadable(path, error) from error
    except ValueError as error:
        raise RuntimeFailed(f"{path.name} is no ONNX file: {error}; export it again") from error
    return found


def refusal(file: Path, library: str, error: Exception) -> RuntimeFailed:
    """The named error for what a library said when it did not load a file."""
    said = " ".join(str(error).split())
    start = f"{file.name} does not load in {library}: {said}; "
    if re.search(r"not a registered function/op|No Op registered|No conversion rule found", said):
        return OperatorUnsupported(f"{start}export it with operators of standard ONNX only")
    if re.search(r"under development and support|Unsupported model IR version", said):
        return OpsetUnsupported(
            f"{start}export it with an older opset, or install a newer {library}"
        )
    return RuntimeFailed(f"{start}export it again")


def _unreadable(file: Path, error: OSError) -> RuntimeFailed:
    return RuntimeFailed(f"{file.name} cannot be read: {error.strerror}; build the package again")


def _beside(path: Path, name: str) -> Path:
    folder = path.parent.resolve()
    found = (folder / name).resolve()
    if not found.is_relative_to(folder):
        raise RuntimeFailed(
            f"{path.name} wants its weights from {name!r}, outside its own folder; export it with "
            "the weights inside, or beside it"
        )
    if not found.is_file():
        raise ExternalDataMissing(
            f"{path.name} keeps weights in {name!r}, which is not beside it; put it there, or "
            "export the model as one file"
        )
    return found


def _fields(view: memoryview, at: int, end: int) -> Iterator[tuple[int, int, int]]:
    """Number, start and end of each field of the message that lies there.

    Raises `ValueError` when it does not parse.
    """
    try:
        while at < end:
            tag, at = _varint(view, at)
            start = at
            match tag & 7:
                case 0:
                    _, at = _varint(view, at)
                case kind if kind == _LENGTH:
                    length, start = _varint(view, at)
                    at = start + length
                case kind if kind in _FIXED:
                    at += _FIXED[kind]
                case _:
                    raise ValueError("it does not parse")
            if at > end:
                raise ValueError("it is cut short")
            yield tag >> 3, start, at
    except IndexError:
        raise ValueError("it is cut short") from None


def _text(view: memoryview, start: int, end: int) -> str:
    return str(view[start:end], "utf-8", "replace")


def _varint(view: memoryview, at: int) -> tuple[int, int]:
    """The number at `at` and where the next thing begins."""
    value = 0
    for shift in range(0, 70, 7):
        byte = view[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
    raise ValueError("it does not parse")


def _locations(data: mmap.mmap) -> set[str]:
    found: set[str] = set()
    for match in _LOCATION.finditer(data):
        head = data[match.end() : match.end() + _LONGEST_PATH + 2]
        with memoryview(head) as view:
            length, at = _varint(view, 0)
        found.add(head[at : at + min(length, _LONGEST_PATH)].decode("utf-8", "replace"))
        if len(found) > _MOST_WEIGHTS:
            raise ValueError(f"it names more than {_MOST_WEIGHTS} files of weights")
    return found
