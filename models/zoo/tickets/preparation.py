"""From a message to what the nets of `tickets` take: the ids and the mask of its tokens."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np

from models.pipeline.compute.text import Tokens, compile_tokenise

LENGTH = 64
PADDING, UNKNOWN = "[PAD]", "[UNK]"
"""Ids 0 and 1."""


def tokens(tokenizer: Path, texts: Iterable[str]) -> Tokens:
    """The tokens of every text, by a `tokenizer.json` and the code that devices run."""
    tokenise = compile_tokenise(tokenizer.read_bytes(), LENGTH)
    read = [tokenise(text) for text in texts]
    return Tokens(np.stack([one.ids for one in read]), np.stack([one.mask for one in read]))
