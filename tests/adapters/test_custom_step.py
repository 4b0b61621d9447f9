"""A package's own code runs only where allowed, and gives what it declares or fails by name."""

import sys
from collections.abc import Sequence

import numpy as np
import pytest

from models.errors import CustomCodeForbidden, CustomStepFailed, EmptyInput
from models.pipeline.compute.custom import Custom, compile_custom
from models.pipeline.kinds import Kind
from models.pipeline.values import Value

PAIR = Kind("float32", (2,))
GOOD = """
from __future__ import annotations
import dataclasses
import numpy as np
from models.errors import EmptyInput

@dataclasses.dataclass
class Gain:
    by: float

def double(sample):
    if not sample.any():
        raise EmptyInput("all zeros")
    return sample * np.float32(Gain(2.0).by)

def both(one, other):
    return other, one

def fails(sample):
    return 1 / 0
"""


def load(
    source: str = GOOD,
    function: str = "double",
    gives: tuple[Kind, ...] = (PAIR,),
    *,
    allow_custom: bool = True,
) -> Custom:
    return compile_custom(
        source.encode(), file="gain.py", function=function, gives=gives, allow_custom=allow_custom
    )


def pair(*values: float) -> np.ndarray[tuple[int], np.dtype[np.float32]]:
    return np.array(values, np.float32)


def test_code_of_a_package_is_forbidden_unless_allowed_and_then_not_even_read() -> None:
    before = set(sys.modules)
    for source in (GOOD, "this is no Python", "import sys; sys.exit(3)"):
        with pytest.raises(CustomCodeForbidden, match=r"gain\.py.*do not allow"):
            load(source, allow_custom=False)
    assert {name for name in set(sys.modules) - before if "custom_" in name} == set()


def test_a_function_takes_and_gives_what_it_declares() -> None:
    (found,) = load()([pair(1, 2)])
    assert isinstance(found, np.ndarray)
    assert found.tolist() == [2, 4]
    swapped = load(function="both", gives=(Kind("text", ()), PAIR))([pair(1, 2), "text"])
    assert swapped[0] == "text"


def test_a_function_may_refuse_an_input_by_name() -> None:
    with pytest.raises(EmptyInput, match="all zeros"):
        load()([pair(0, 0)])


def test_whatever_else_it_raises_has_one_name() -> None:
    with pytest.raises(CustomStepFailed, match=r"gain\.py:fails failed: ZeroDivisionError"):
        load(function="fails")([pair(1, 2)])
    with pytest.raises(CustomStepFailed, match="TypeError"):
        load()([pair(1, 2), pair(1, 2)])


@pytest.mark.parametrize(
    ("source", "says"),
    [
        ("def double(", "does not load: SyntaxError"),
        ("import no_such_library", "does not load: ModuleNotFoundError"),
        ("import sys; sys.exit(3)", "does not load: SystemExit"),
        ("a = b'\\0'\0", "does not load: "),
        ("", "no function 'double'"),
        ("double = 3", "no function 'double'"),
    ],
)
def test_a_module_that_does_not_load_is_refused(source: str, says: str) -> None:
    with pytest.raises(CustomStepFailed, match=says):
        load(source)


@pytest.mark.parametrize(
    ("gives", "values", "says"),
    [
        ((Kind("float32", (3,)),), (pair(1, 2),), r"float32 \[2\], float32 \[3\] is declared"),
        ((Kind("float64", (2,)),), (pair(1, 2),), "float64 .* is declared"),
        ((Kind("float32", (2,), many=True),), (pair(1, 2),), "many float32"),
        ((PAIR, PAIR), (pair(1, 2),), "gave 1 values, 2 are declared"),
        ((Kind("text", ()),), (pair(1, 2),), "gave float32|gave ndarray"),
    ],
)
def test_a_result_of_another_kind_is_refused(
    gives: tuple[Kind, ...], values: Sequence[Value], says: str
) -> None:
    with pytest.raises(CustomStepFailed, match=says):
        load(gives=gives)(values)


def test_no_compiled_file_is_left_and_nothing_is_read_from_a_path() -> None:
    assert load()([pair(1, 2)])
    module = next(module for name, module in sys.modules.items() if "longstop_custom" in name)
    assert module.__file__ == "gain.py"
    assert not hasattr(module, "__cached__")
