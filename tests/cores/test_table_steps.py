"""Records become rows of numbers; what is missing, unknown or no number is named."""

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.errors import (
    FieldInvalid,
    FieldMissing,
    InputError,
    NotFinite,
    UnknownCategory,
)
from models.pipeline.compute.table import compile_step
from models.pipeline.kinds import Kind
from models.pipeline.ops.table import Categorical, Column, Columns, Flag, Numeric, after
from models.pipeline.values import Record

RECORD = Kind("record", ())
COLUMNS = Columns(
    (
        Numeric("amount", impute=0.0, log=True, mean=1.0, std=2.0),
        Categorical("country", ("CH", "DE", "FR"), unknown="zero"),
        Categorical("weekday", (1, 2, 3, 4, 5, 6, 7), encoding="ordinal", impute=1),
        Flag("at_night"),
    )
)
ROW: Record = {"amount": 19.0, "country": "DE", "weekday": 3, "at_night": True}


def run(record: Record, *columns: Column) -> list[float]:
    step = Columns(columns) if columns else COLUMNS
    found = compile_step(step, RECORD)(record)
    assert found.dtype == np.float32
    assert after(step, RECORD) == Kind("float32", found.shape)
    listed: list[float] = found.tolist()
    return listed


def test_a_record_becomes_its_columns_one_after_another() -> None:
    assert run(ROW) == pytest.approx([(np.log(20) - 1) / 2, 0, 1, 0, 2, 1])


def test_a_field_that_no_column_names_is_not_looked_at() -> None:
    assert run({**ROW, "customer": "x", "note": None}) == run(ROW)


@pytest.mark.parametrize("missing", [None, float("nan"), "absent"])
def test_what_is_missing_is_imputed_in_the_fields_own_unit(missing: float | str | None) -> None:
    record = {name: value for name, value in ROW.items() if name not in ("amount", "weekday")}
    if missing != "absent":
        record |= {"amount": missing, "weekday": missing}
    found = run(record)
    assert found[0] == pytest.approx((np.log(1) - 1) / 2)
    assert found[4] == 0


@pytest.mark.parametrize(
    "column", [Numeric("age"), Categorical("age", ("old", "young")), Flag("age")]
)
@pytest.mark.parametrize("record", [{}, {"age": None}, {"age": float("nan")}])
def test_what_is_missing_and_not_imputed_is_refused_by_name(column: Column, record: Record) -> None:
    with pytest.raises(FieldMissing, match="'age' is missing"):
        run(record, column)


def test_a_value_of_zero_can_be_imputed() -> None:
    columns = (
        Numeric("a", impute=0.0),
        Categorical("b", (0, 1), impute=0),
        Flag("c", impute=False),
    )
    assert run({}, *columns) == [0, 1, 0, 0]


@pytest.mark.parametrize("value", ["12", True, "", "x" * 500, b"x", [1]])
def test_a_number_that_is_none_is_refused_by_name(value: str) -> None:
    with pytest.raises(FieldInvalid, match=r"'age' is .*; send a number") as refused:
        run({"age": value}, Numeric("age"))
    assert len(str(refused.value)) < 120


@pytest.mark.parametrize("value", [float("inf"), -float("inf"), 1e39, 10**400])
def test_a_number_that_float32_does_not_hold_is_refused_by_name(value: float) -> None:
    with pytest.raises(NotFinite, match="'age'"):
        run({"age": value}, Numeric("age"))


@pytest.mark.parametrize("value", [-1, -1.0, -float("inf")])
def test_a_logarithm_needs_a_number_above_minus_one(value: float) -> None:
    with pytest.raises(FieldInvalid, match=r"'age' is .* no logarithm"):
        run({"age": value}, Numeric("age", log=True))


def test_an_unknown_category_is_refused_zeros_or_minus_one() -> None:
    with pytest.raises(UnknownCategory, match="'c' is 'x'; it knows 0, 1, 2, 3, 4 and 3 more"):
        run({"c": "x"}, Categorical("c", tuple(range(8))))
    assert run({"c": "x"}, Categorical("c", ("a", "b"), unknown="zero")) == [0, 0]
    assert run({"c": "x"}, Categorical("c", ("a", "b"), "ordinal", "minus_one")) == [-1]


def test_a_truth_is_no_number_and_a_number_no_text() -> None:
    assert run({"c": True}, Categorical("c", (1, True))) == [0, 1]
    assert run({"c": 1.0}, Categorical("c", (1, True))) == [1, 0]
    for value in (True, "1", 1.5):
        with pytest.raises(UnknownCategory):
            run({"c": value}, Categorical("c", (1, 2)))


def test_a_category_that_is_no_value_is_refused() -> None:
    bad: dict[str, list[int]] = {"c": [1]}
    with pytest.raises(FieldInvalid, match="'c' is"):
        run(bad, Categorical("c", (1, 2), unknown="zero"))  # type: ignore[arg-type]


@pytest.mark.parametrize("column", [Numeric("n"), Categorical("n", (1, 2)), Flag("n")])
def test_a_number_of_thousands_of_digits_is_refused_like_any_other(column: Column) -> None:
    with pytest.raises(InputError, match="'n'"):
        run({"n": 10**5000}, column)


def test_flags_are_true_false_one_or_zero() -> None:
    assert [run({"f": value}, Flag("f")) for value in (True, False, 1, 0.0)] == [[1], [0], [1], [0]]
    for value in ("true", 2, 0.5):
        with pytest.raises(FieldInvalid, match=r"'f' is .*; send true or false"):
            run({"f": value}, Flag("f"))


@pytest.mark.parametrize(
    ("columns", "says"),
    [
        ((Numeric("a"), Flag("a")), "'a' has two columns"),
        ((Numeric("a", mean=float("nan")),), "'a': a number is not finite"),
        ((Numeric("a", impute=float("inf")),), "not finite"),
        ((Numeric("a", impute=-2.0, log=True),), "no logarithm"),
        ((Categorical("a", ("x", "x")),), "listed twice"),
        ((Categorical("a", ("x", "y"), impute="z"),), "not among"),
        ((Categorical("a", (1, 2), impute=True),), "not among"),
        ((Categorical("a", ("x",), "ordinal", "zero"),), "not for ordinal"),
        ((Categorical("a", ("x",), "onehot", "minus_one"),), "not for onehot"),
    ],
)
def test_columns_that_cannot_be_are_refused_at_build(
    columns: tuple[Column, ...], says: str
) -> None:
    with pytest.raises(ValueError, match=says):
        after(Columns(columns), RECORD)


def test_columns_take_one_record() -> None:
    for kind in (Kind("float32", (4,)), Kind("record", (), many=True)):
        with pytest.raises(ValueError, match="take a record"):
            after(COLUMNS, kind)


def test_columns_read_as_they_are_written() -> None:
    written = msgspec.json.encode(COLUMNS)
    assert msgspec.json.decode(written, type=Columns) == COLUMNS
    assert b'{"op":"columns","columns":[{"kind":"numeric"' in written
    for bad in (b'{"op":"columns","columns":[]}', written.replace(b'"std":2.0', b'"std":0.0')):
        with pytest.raises(msgspec.ValidationError):
            msgspec.json.decode(bad, type=Columns)


FIELDS = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=5))


@given(st.dictionaries(st.sampled_from(["amount", "country", "weekday", "at_night", "x"]), FIELDS))
def test_whatever_record_comes_is_finite_or_refused_as_an_input(record: Record) -> None:
    try:
        found = run(record)
    except InputError:
        return
    assert np.isfinite(found).all()
