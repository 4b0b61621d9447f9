"""Steps on scores: what they compute, and that broken output stays broken."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from models.pipeline.compute.scores import compile_step
from models.pipeline.kinds import Kind
from models.pipeline.ops.scores import (
    Clip,
    Dequantise,
    DropClass,
    Log,
    Sigmoid,
    Softmax,
    Step,
    Take,
    after,
)
from models.pipeline.values import Array

FLOATS = st.sampled_from(["float16", "float32", "float64"])


def stepped(step: Step, sample: Array) -> Array:
    dtype = str(sample.dtype)
    kind = Kind(dtype, sample.shape)  # type: ignore[arg-type]
    found = compile_step(step, kind)(sample)
    assert (str(found.dtype), found.shape) == (after(step, kind).dtype, after(step, kind).shape)
    return found


def floats(*values: float) -> Array:
    return np.array(values, np.float32)


@st.composite
def anything(draw: st.DrawFn) -> Array:
    """Floats of every kind, NaN and infinities among them."""
    return draw(hnp.arrays(draw(FLOATS), hnp.array_shapes(max_dims=2, max_side=5)))


def test_softmax_spreads_one_over_the_classes_and_temperature_flattens_it() -> None:
    assert stepped(Softmax(), floats(0, math.log(3))) == pytest.approx([0.25, 0.75])
    assert stepped(Softmax(2.0), floats(0, math.log(9))) == pytest.approx([0.25, 0.75])
    assert stepped(Softmax(), floats(5, 5, 5, 5)).tolist() == [0.25] * 4


def test_softmax_of_huge_logits_neither_overflows_nor_warns() -> None:
    assert stepped(Softmax(), floats(3e38, -3e38)).tolist() == [1, 0]
    widest = np.array([1.7e308, -1.7e308])
    assert stepped(Softmax(1e-300), widest).tolist() == [1, 0]


@pytest.mark.parametrize("broken", [math.nan, math.inf, -math.inf])
def test_one_broken_logit_breaks_its_row_and_no_other(broken: float) -> None:
    found = stepped(Softmax(), np.array([[1, broken], [2, 2]], np.float32))
    assert np.isnan(found[0]).all()
    assert found[1].tolist() == [0.5, 0.5]


@pytest.mark.parametrize("step", [Sigmoid(), Log(), Clip(-1, 1)])
@pytest.mark.parametrize("broken", [math.nan, math.inf, -math.inf])
def test_a_broken_value_stays_broken_and_its_neighbours_whole(step: Step, broken: float) -> None:
    found = stepped(step, floats(0.5, broken))
    assert np.isfinite(found[0])
    assert np.isnan(found[1])


def test_sigmoid_is_exact_far_out_on_both_sides() -> None:
    found = stepped(Sigmoid(), np.array([-700.0, 0.0, 700.0]))
    assert found[0] == pytest.approx(math.exp(-700), rel=1e-12)
    assert found[1:].tolist() == [0.5, 1.0]


def test_log_undoes_softmax_up_to_a_shift_and_stops_at_its_floor() -> None:
    logits = floats(2, 0, -1)
    back = stepped(Log(), stepped(Softmax(), logits))
    assert back - back[0] == pytest.approx(logits - 2, abs=1e-5)
    assert stepped(Log(0.01), floats(1, 0)) == pytest.approx([0, math.log(0.01)])


def test_log_reads_a_little_outside_as_rounding_and_more_as_broken() -> None:
    found = stepped(Log(), floats(1.0005, -0.0005, 1.01, -0.01))
    assert found[:2] == pytest.approx([0, math.log(1e-7)])
    assert np.isnan(found[2:]).all()


@pytest.mark.parametrize("dtype", ["int8", "uint8"])
def test_an_integer_head_becomes_the_numbers_it_stands_for(dtype: str) -> None:
    ends = np.iinfo(dtype)
    quantised = np.array([ends.min, 0, ends.max], dtype)
    found = stepped(Dequantise(0.5, 3), quantised)
    assert found.tolist() == [(float(q) - 3) * 0.5 for q in (ends.min, 0, ends.max)]
    assert stepped(Dequantise(1.0, -128), quantised)[-1] == ends.max + 128


def test_a_class_is_dropped_and_a_part_is_taken_from_the_last_axis() -> None:
    rows = np.arange(12, dtype=np.float32).reshape(3, 4)
    assert np.array_equal(stepped(DropClass(0), rows), rows[:, 1:])
    assert np.array_equal(stepped(DropClass(3), rows), rows[:, :3])
    assert np.array_equal(stepped(DropClass(1), rows)[0], [0, 2, 3])
    assert np.array_equal(stepped(Take(1, 3), rows), rows[:, 1:3])


def test_a_list_is_stepped_whole_and_keeps_its_axis() -> None:
    kind = Kind("float32", (3,), many=True)
    found = compile_step(Softmax(), kind)(np.zeros((5, 3), np.float32))
    assert found.shape == (5, 3)
    assert compile_step(DropClass(0), kind)(np.zeros((0, 3), np.float32)).shape == (0, 2)
    assert after(DropClass(0), kind) == Kind("float32", (2,), many=True)


@given(sample=anything(), step=st.sampled_from([Softmax(), Softmax(0.01), Sigmoid()]))
def test_probabilities_lie_in_zero_to_one_or_are_nan(sample: Array, step: Step) -> None:
    found = stepped(step, sample)
    assert ((found >= 0) & (found <= 1) | np.isnan(found)).all()
    assert np.isnan(found[~np.isfinite(sample)]).all()


@given(sample=anything(), step=st.sampled_from([Log(), Clip(-2, 3)]))
def test_no_step_makes_an_infinity(sample: Array, step: Step) -> None:
    assert not np.isinf(stepped(step, sample)).any()


@pytest.mark.parametrize(
    ("step", "kind", "why"),
    [
        (Softmax(), Kind("int8", (3,)), "dequantise an integer head"),
        (Softmax(), Kind("float32", (), many=True), "has none"),
        (Dequantise(0.5), Kind("float32", (3,)), "dequantise takes"),
        (DropClass(3), Kind("float32", (3,)), "no class 3"),
        (DropClass(0), Kind("float32", (1,)), "no class 0"),
        (DropClass(0), Kind("float32", ()), "has none"),
        (Take(2, 2), Kind("float32", (3,)), "no part"),
        (Take(1, 4), Kind("float32", (3,)), "no part"),
        (Clip(1, 1), Kind("float32", (3,)), "not below"),
        (Clip(0, math.nan), Kind("float32", (3,)), "not below"),
        (Clip(0, 1e5), Kind("float16", (3,)), "more than float16 can hold"),
    ],
)
def test_a_step_that_cannot_follow_says_why(step: Step, kind: Kind, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        after(step, kind)
