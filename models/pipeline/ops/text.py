"""Steps on text. Tokens are two values, ids and mask, so `tokenise` is a node and no step."""

from typing import Literal

from msgspec import Struct

from models.pipeline.kinds import Kind


class Clean(Struct, frozen=True, forbid_unknown_fields=True, tag_field="op", tag="clean"):
    """One form of text that is written in several ways. Every part is asked for by itself."""

    form: Literal["as_is", "nfc", "nfkc"] = "as_is"
    """Unicode normal form: nfc composes accents, nfkc also makes a full-width A an A."""
    lower: bool = False
    strip: bool = False
    """Cut off space at both ends, and make any run of space inside one blank."""


Step = Clean
TAKES_MANY: tuple[type, ...] = ()


def after(step: Step, kind: Kind) -> Kind:
    """What a step makes of a kind. Raises `ValueError` when it cannot follow."""
    if kind.dtype != "text" or kind.many:
        raise ValueError(f"a step on text takes text, not {kind.words()}")
    if step == Clean():
        raise ValueError("it changes nothing; set form, lower or strip")
    return kind
