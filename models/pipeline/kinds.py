"""What a value is at one point of a pipeline, before there is a value.

A *sample* is one input without a batch axis. A value is an array, or still what it came as: the
bytes of a picture or a sound, a text, a record of named fields. A dimension that only a sample can
tell (the sides of a picture before it is resized) is None. *Many* marks a list of arrays of one
shape whose length only a sample can tell, kept as one array with the list's axis in front: the
crops of a picture, the windows of a series.
"""

from typing import Literal, NamedTuple

Dtype = Literal[
    "bool",
    "uint8",
    "uint16",
    "uint32",
    "uint64",
    "int8",
    "int16",
    "int32",
    "int64",
    "float16",
    "float32",
    "float64",
]
Raw = Literal["bytes", "text", "record"]
"""What is no array yet: an encoded file, a text in UTF-8, a JSON object of named fields."""
RAW: tuple[str, ...] = ("bytes", "text", "record")


class Kind(NamedTuple):
    """What a value is at one point of a pipeline."""

    dtype: Dtype | Raw
    shape: tuple[int | None, ...]
    """Of one array; empty for what is no array yet."""
    many: bool = False

    def words(self) -> str:
        """As an error names it: `uint8 [?, ?, 3]`."""
        if self.dtype in RAW:
            return self.dtype
        sides = ", ".join("?" if side is None else str(side) for side in self.shape)
        return f"{'many ' if self.many else ''}{self.dtype} [{sides}]"
