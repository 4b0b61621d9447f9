"""Tokens of texts, by the real library."""

import subprocess
import sys

import numpy as np
import pytest
from tokenizers import Tokenizer, models, pre_tokenizers, processors

from models.errors import EmptyInput, ExtraMissing, TokeniserInvalid, UndecodableInput
from models.pipeline.compute.text import CHARACTERS_PER_TOKEN, compile_tokenise

WORDS = {"[PAD]": 7, "[UNK]": 1, "[CLS]": 2, "[SEP]": 3, "printer": 4, "is": 5, "on": 6, "fire": 0}


def tokeniser(*, marks: bool = True, unknown: str | None = "[UNK]") -> Tokenizer:
    words = {word: at for word, at in WORDS.items() if unknown or word != "[UNK]"}
    made = Tokenizer(models.WordLevel(words, unk_token=unknown or "none"))
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    if marks:
        ends = [("[CLS]", 2), ("[SEP]", 3)]
        made.post_processor = processors.TemplateProcessing(
            single="[CLS] $A [SEP]", special_tokens=ends
        )
    return made


def saved(made: Tokenizer) -> bytes:
    return made.to_str().encode()


def test_a_text_becomes_ids_and_a_mask_of_exactly_that_length() -> None:
    tokens = compile_tokenise(saved(tokeniser()), 8)("printer is on fire")
    assert tokens.ids.tolist() == [2, 4, 5, 6, 0, 3, 7, 7]
    assert tokens.mask.tolist() == [1, 1, 1, 1, 1, 1, 0, 0]
    assert {one.dtype for one in tokens} == {np.dtype(np.int64)}


def test_a_text_that_is_too_long_is_cut_and_keeps_its_end_mark() -> None:
    tokens = compile_tokenise(saved(tokeniser()), 4)("printer is on fire")
    assert tokens.ids.tolist() == [2, 4, 5, 3]
    assert tokens.mask.tolist() == [1, 1, 1, 1]


def test_what_the_file_says_of_truncation_and_padding_is_not_followed() -> None:
    made = tokeniser()
    made.enable_truncation(3)
    made.enable_padding(length=20, pad_id=9, direction="left")
    tokens = compile_tokenise(saved(made), 6)("printer is on")
    assert tokens.ids.tolist() == [2, 4, 5, 6, 3, 9]


def test_a_text_of_unknown_words_alone_is_a_text() -> None:
    assert compile_tokenise(saved(tokeniser()), 4)("xyzzy").ids.tolist() == [2, 1, 3, 7]


@pytest.mark.parametrize("text", ["", "   ", "\n"])
def test_an_empty_text_is_refused(text: str) -> None:
    for marks in (True, False):
        with pytest.raises(EmptyInput, match="no token"):
            compile_tokenise(saved(tokeniser(marks=marks)), 4)(text)


def test_a_tokeniser_that_drops_what_it_does_not_know_can_leave_nothing() -> None:
    dropping = Tokenizer(models.BPE({"a": 0, "b": 1}, []))
    with pytest.raises(EmptyInput, match="no token"):
        compile_tokenise(saved(dropping), 4)("xyz")
    assert compile_tokenise(saved(dropping), 4)("xaz").ids.tolist() == [0, 0, 0, 0]


def test_half_a_surrogate_pair_is_refused() -> None:
    with pytest.raises(UndecodableInput, match="Unicode"):
        compile_tokenise(saved(tokeniser()), 4)("a\ud800b")


def test_only_so_much_of_a_text_is_looked_at_as_could_count() -> None:
    tokenise = compile_tokenise(saved(tokeniser()), 4)
    blank = " " * CHARACTERS_PER_TOKEN
    assert tokenise(blank * 3 + "fire").ids.tolist() == [2, 0, 3, 7]
    with pytest.raises(EmptyInput):
        tokenise(blank * 4 + "fire")


@pytest.mark.parametrize("file", [b"", b"{}", b"\xff\xfe", b'{"version":"1.0"}'])
def test_a_file_that_is_no_tokeniser_is_refused(file: bytes) -> None:
    with pytest.raises(TokeniserInvalid, match="cannot be read"):
        compile_tokenise(file, 8)


def test_a_length_without_room_for_text_is_refused() -> None:
    with pytest.raises(TokeniserInvalid, match="adds 2 tokens"):
        compile_tokenise(saved(tokeniser()), 2)


def test_without_the_library_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tokenizers", None)
    with pytest.raises(ExtraMissing, match=r"pip install longstop\[text\]"):
        compile_tokenise(b"{}", 8)


def test_the_library_is_imported_only_when_a_text_is_tokenised() -> None:
    program = "import sys, models.pipeline.compute.text; sys.exit('tokenizers' in sys.modules)"
    assert subprocess.run([sys.executable, "-P", "-c", program]).returncode == 0
