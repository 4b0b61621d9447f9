"""What the SDK makes of a text before it is sent."""

import pytest

from edge_agent.sdk.errors import UndecodableInput
from edge_agent.sdk.tensor import tensor_of


def test_a_text_goes_as_utf_8() -> None:
    assert bytes(tensor_of("ünï").data).decode() == "ünï"


def test_half_a_character_is_an_input_error_with_its_place() -> None:
    with pytest.raises(UndecodableInput, match="half a character stands at 3 of this one"):
        tensor_of("abc\ud800")
