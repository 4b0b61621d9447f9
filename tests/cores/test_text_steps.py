"""Text is cleaned as declared."""

import pytest

from models.pipeline.compute.text import compile_step
from models.pipeline.kinds import Kind
from models.pipeline.ops.text import Clean, after

TEXT = Kind("text", ())


@pytest.mark.parametrize(
    ("step", "text", "expected"),
    [
        (Clean(lower=True), " Zürich ÖV ", " zürich öv "),
        (Clean(strip=True), "\t a \n\n b\u00a0c ", "a b c"),
        (Clean(form="nfc"), "u\u0308", "ü"),
        (Clean(form="nfc"), "ﬁ", "ﬁ"),
        (Clean(form="nfkc"), "ﬁ Ａ", "fi A"),
        (Clean("nfkc", lower=True, strip=True), "  ＡB\u3000", "ab"),
        (Clean(strip=True), " \n", ""),
        (Clean(strip=True), "", ""),
    ],
)
def test_text_is_cleaned_as_declared(step: Clean, text: str, expected: str) -> None:
    assert after(step, TEXT) == TEXT
    assert compile_step(step, TEXT)(text) == expected


def test_a_step_on_text_takes_text_and_does_something() -> None:
    for kind in (Kind("bytes", ()), Kind("text", (), many=True)):
        with pytest.raises(ValueError, match="takes text"):
            after(Clean(lower=True), kind)
    with pytest.raises(ValueError, match="changes nothing"):
        after(Clean(), TEXT)
