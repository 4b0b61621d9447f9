"""Text: cleaning, and tokens through the `tokenizers` library (extra `text`).

1. Truncation and padding are ours: to exactly `length`, on the right, whatever the file says.
2. A text that leaves no token (empty, space, or only what the tokeniser drops) is `EmptyInput`.
   One of nothing but unknown tokens is answered like any other.
3. A text is first cut to 64 characters for each place: what no token that counts can come from.
"""

import unicodedata
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from models.errors import EmptyInput, ExtraMissing, TokeniserInvalid, UndecodableInput
from models.pipeline.kinds import Kind
from models.pipeline.ops.text import Clean

CHARACTERS_PER_TOKEN = 64
_PADS = ("[PAD]", "<pad>")


class Tokens(NamedTuple):
    """A text as a model takes it."""

    ids: npt.NDArray[np.int64]
    """int64 [length]; filled up with the tokeniser's padding, or 0 where it has none."""
    mask: npt.NDArray[np.int64]
    """int64 [length]: 1 for a token, 0 for padding."""


def compile_step(step: Clean, kind: Kind) -> Callable[[str], str]:
    """A step on text."""
    form, lower, strip = step.form, step.lower, step.strip

    def clean(text: str) -> str:
        match form:
            case "nfc":
                text = unicodedata.normalize("NFC", text)
            case "nfkc":
                text = unicodedata.normalize("NFKC", text)
            case "as_is":
                pass
        if lower:
            text = text.lower()
        return " ".join(text.split()) if strip else text

    return clean


def compile_tokenise(file: bytes, length: int) -> Callable[[str], Tokens]:
    """A tokeniser from the JSON that `tokenizers` saves.

    Raises `ExtraMissing` without the library, `TokeniserInvalid` for a file it does not read or
    whose own marks (a beginning, an end) fill `length` already. The function raises `EmptyInput`
    and `UndecodableInput`.
    """
    try:
        from tokenizers import Tokenizer
    except ImportError as error:
        raise ExtraMissing(
            "this package takes text, and the library `tokenizers` is not installed; "
            "pip install longstop[text]"
        ) from error
    try:
        tokeniser = Tokenizer.from_buffer(file)
    except ValueError as error:
        raise TokeniserInvalid(
            f"tokeniser file of {len(file)} bytes cannot be read: {error}; "
            "build the package again with the file that `tokenizers` saved"
        ) from error
    marks = tokeniser.num_special_tokens_to_add(is_pair=False)
    if marks >= length:
        raise TokeniserInvalid(
            f"the tokeniser adds {marks} tokens of its own, so {length} leave no room for text; "
            "ask for a greater length"
        )
    padding = tokeniser.padding
    pad_id = padding["pad_id"] if padding else _pad_id(tokeniser.token_to_id)
    tokeniser.no_padding()
    tokeniser.enable_truncation(length)
    most = length * CHARACTERS_PER_TOKEN

    def tokenise(text: str) -> Tokens:
        try:
            found = tokeniser.encode(text[:most]).ids
        except TypeError as error:  # half of a surrogate pair, which UTF-8 cannot hold
            raise UndecodableInput("text is no valid Unicode; send what UTF-8 can hold") from error
        if len(found) <= marks:
            raise EmptyInput("text leaves no token; send one with words in it")
        ids = np.full(length, pad_id, np.int64)
        mask = np.zeros(length, np.int64)
        ids[: len(found)] = found
        mask[: len(found)] = 1
        return Tokens(ids, mask)

    return tokenise


def _pad_id(id_of: Callable[[str], int | None]) -> int:
    return next((found for name in _PADS if (found := id_of(name)) is not None), 0)
