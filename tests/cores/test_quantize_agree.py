"""How near outputs are, where weights land on a grid, how times compare and what is advised."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from msgspec.structs import replace
from scipy.stats import spearmanr

from models.quantize.advice import advice
from models.quantize.agree import Scores, confidences, likeness, rank_correlation, relative_error
from models.quantize.compare import FileRow, Precision, RuntimeRow, Table
from models.quantize.latency import ROUNDS, measure
from models.quantize.samegrid import on_grid

LOGITS = np.array([[2.0, 0.0], [0.0, 1.0], [3.0, 1.0], [0.0, 4.0]])


def test_the_same_outputs_agree_wholly() -> None:
    found = likeness(LOGITS, LOGITS, np.array([0, 1, 1, 1]))
    assert found.agreement == 1
    assert found.rank_correlation == pytest.approx(1)
    assert (found.confidence_shift, found.relative_error, found.accuracy) == (0, 0, 0.75)
    assert found.loss == 0


def test_a_changed_label_is_a_disagreement() -> None:
    other = LOGITS.copy()
    other[0] = [0.0, 2.0]
    found = likeness(other, LOGITS, None)
    assert found.agreement == 0.75
    assert found.confidence_shift == 0
    assert found.accuracy is None
    assert found.loss == 0.25


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_row_that_is_not_finite_agrees_with_nothing(bad: float) -> None:
    other = LOGITS.copy()
    other[0, 0] = bad
    found = likeness(other, LOGITS, np.array([0, 1, 0, 1]))
    assert found.agreement == 0.75
    assert found.accuracy == 0.75
    assert found.relative_error == np.inf
    assert found.confidence_shift == 0.25


def test_outputs_that_are_no_classes_have_an_error_only() -> None:
    values = np.array([[1.0], [2.0]])
    found = likeness(values * 1.1, values, None)
    assert found[:3] == (None, None, None)
    assert found.relative_error == pytest.approx(0.1)
    assert found.loss == found.relative_error


def test_another_shape_is_no_likeness_at_all() -> None:
    assert relative_error(np.zeros((2, 3)), np.zeros((2, 2))) == np.inf


def test_probabilities_are_their_own_confidence() -> None:
    assert confidences(np.array([[0.7, 0.3], [0.2, 0.8]])).tolist() == [0.7, 0.8]
    assert confidences(np.array([[1.0, 0.0], [3.0, 0.0]]))[1] == pytest.approx(1 / (1 + np.exp(-3)))


@given(arrays(np.float64, 12, elements=st.integers(0, 4).map(float)), st.randoms())
def test_rank_correlation_is_spearman_s_ties_included(values: Scores, chance: object) -> None:
    other = np.roll(values, 3)
    found = rank_correlation(values, other)
    if len(set(values)) < 2:
        assert found is None
    else:
        assert found == pytest.approx(spearmanr(values, other).statistic)


def test_weights_take_the_nearest_code_and_count_what_does_not_fit() -> None:
    before = np.array([[127, -5], [10, 127]], np.int8)
    step = np.array([[0.1], [1.0]], np.float32)
    zero = np.zeros((2, 1), np.int64)
    new = np.array([[12.7, -0.26], [10.4, 200.0]], np.float32)
    found = on_grid(new, before, step, zero, axis=0)
    assert found.codes.tolist() == [[127, -3], [10, 127]]
    assert found.lost == 1


def test_a_base_of_reduced_range_ends_at_64() -> None:
    before = np.array([[64, -5]], np.int8)
    found = on_grid(
        np.array([[70.0, -70.0]], np.float32),
        before,
        np.ones((1, 1), np.float32),
        np.zeros((1, 1), np.int64),
        axis=0,
    )
    assert found.codes.tolist() == [[64, -64]]
    assert found.lost == 2


def test_what_wakes_in_a_dead_channel_is_lost() -> None:
    before = np.array([[0, 0], [127, 1]], np.int8)
    found = on_grid(
        np.array([[0.2, 0.0], [127.0, 1.0]], np.float32),
        before,
        np.ones((2, 1), np.float32),
        np.zeros((2, 1), np.int64),
        axis=0,
    )
    assert found.lost == 1


def test_a_bias_of_32_bits_is_rounded_and_not_cut() -> None:
    before = np.array([0, 100_000], np.int32)
    found = on_grid(
        np.array([0.2, 1.0], np.float32),
        before,
        np.array([1e-5, 1e-5], np.float32),
        np.zeros(2, np.int64),
        axis=0,
    )
    assert found.codes.tolist() == [20_000, 100_000]
    assert found.lost == 0


def test_calls_take_turns_and_a_ratio_is_of_the_rounds() -> None:
    """A machine that doubles its time half way through doubles it for both."""
    now = itertools.count()
    seen: list[str] = []
    clock = 0.0

    def tick() -> float:
        return clock

    def call(name: str, cost: float) -> None:
        nonlocal clock
        seen.append(name)
        clock += cost * (1 if next(now) < 40 else 2)

    one, two = measure(
        [lambda: call("one", 1.0), lambda: call("two", 3.0)], ROUNDS * 2.0, clock=tick
    )
    assert two.over(one) == pytest.approx(3)
    assert one.over(one) == 1
    turns = "".join(name[1] for name in seen[6:])
    assert "nn" in turns
    assert turns.count("nw") >= ROUNDS - 1


def row(precision: Precision, size: int, agreement: float, error: float = 0.01) -> FileRow:
    name = "float.onnx" if precision == "FP32" else "int8.onnx"
    return FileRow(precision, name, size, None, agreement, 0.9, 0.01, error)


def table(*ratios: float, size: int = 250, agreement: float = 0.999) -> Table:
    runs = []
    for at, ratio in enumerate(ratios):
        name = ("onnx", "openvino")[at]
        runs.append(RuntimeRow("FP32", name, "cpu", 100.0, 1.0, 1.0, 0.0, 1.0))
        runs.append(RuntimeRow("INT8", name, "cpu", 100 * ratio, ratio, agreement, 0.0, 1.0))
    files = (row("FP32", 1000, 1.0), row("INT8", size, agreement))
    return Table(files, tuple(runs), ())


def test_slower_integers_are_not_shipped_for_speed() -> None:
    said = advice(table(1.5), 0.995)
    assert said.startswith("On onnx ship float.onnx: INT8 takes 1.50 times as long")
    assert "4.0 times smaller" in said


def test_faster_integers_ship() -> None:
    assert "On onnx ship int8.onnx: it takes 0.50 times as long" in advice(table(0.5), 0.995)


def test_equally_fast_integers_ship_because_they_are_smaller() -> None:
    assert "On onnx ship int8.onnx: it is as fast as FP32" in advice(table(1.04), 0.995)


def test_each_runtime_gets_its_own_advice_and_the_fastest_is_named() -> None:
    said = advice(table(1.5, 0.6), 0.995)
    assert "On onnx ship float.onnx" in said
    assert "On openvino ship int8.onnx" in said
    assert "The fastest of all here is int8.onnx on openvino (60.0 us)." in said


def test_both_files_ship_as_editions_where_runtimes_differ() -> None:
    said = advice(table(1.5, 0.6), 0.995)
    assert "Shipping both files pays where devices differ" in said
    assert "certify float.onnx on onnx, int8.onnx on openvino as editions" in said
    same = advice(table(0.5, 0.6), 0.995)
    assert "One package serves both with int8.onnx certified on onnx and openvino" in same
    assert "edition" not in advice(table(0.5), 0.995)


def test_integers_that_disagree_are_not_shipped_however_fast() -> None:
    said = advice(table(0.1, agreement=0.97), 0.995)
    assert said.startswith("Ship float.onnx: INT8 gives another label for 3.00 %")
    assert "0.50 % is the limit" in said


@pytest.mark.parametrize(
    ("across", "agreement", "other"),
    [(0.88, 0.88, "than on onnx"), (1.0, 0.88, "than FP32 on onnx")],
)
def test_integers_of_other_labels_on_one_runtime_are_not_for_that_runtime(
    across: float, agreement: float, other: str
) -> None:
    files, runs, _ = table(0.7, 0.5)
    changed = replace(runs[3], across=across, agreement=agreement)
    said = advice(Table(files, (*runs[:3], changed), ()), 0.995)
    assert (
        f"On openvino ship float.onnx: there int8.onnx gives another label {other} for 12.00 % of "
        "the samples, and 0.50 % is the limit."
    ) in said
    assert "On openvino ship int8.onnx" not in said
    assert "The fastest of all here is int8.onnx on onnx (70.0 us)." in said


def test_a_runtime_that_reads_even_floats_otherwise_gets_neither_file() -> None:
    files, runs, _ = table(0.7, 0.5)
    changed = replace(runs[2], across=0.6, agreement=0.6)
    said = advice(Table(files, (*runs[:2], changed, runs[3]), ()), 0.995)
    assert "Ship neither file for openvino: there float.onnx gives another label" in said
    assert "The fastest of all here is int8.onnx on onnx" in said


def test_integers_that_save_no_bytes_are_told() -> None:
    assert "INT8 saves no bytes (1,200 against 1,000)." in advice(table(0.5, size=1200), 0.995)
