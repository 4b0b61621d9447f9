"""Rows of a table: named fields of a record become one array of numbers.

The columns are the manifest's, in its order; a field that no column names is not looked at. A value
is missing when the field is absent, null or NaN. What is missing is imputed where the column says
with what, and refused where it does not.
"""

import math
from typing import Annotated, Literal

from msgspec import Meta, Struct

from models.pipeline.kinds import Kind

FieldName = Annotated[str, Meta(min_length=1, max_length=200)]
Category = int | str | bool


class Numeric(Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="numeric"):
    """A number: imputed, its logarithm taken, then less `mean` and over `std`; one value."""

    name: FieldName
    impute: float | None = None
    """In the field's own unit."""
    log: bool = False
    """Take ln(1 + x), for amounts and counts; a number of -1 or less is refused."""
    mean: float = 0.0
    std: Annotated[float, Meta(gt=0)] = 1.0


class Categorical(
    Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="category"
):
    """One of `values`: a number for each, one of them 1 (onehot), or its place from 0 (ordinal)."""

    name: FieldName
    values: Annotated[tuple[Category, ...], Meta(min_length=1, max_length=4096)]
    encoding: Literal["onehot", "ordinal"] = "onehot"
    unknown: Literal["error", "zero", "minus_one"] = "error"
    """What another value is: refused, all zeros (onehot only), or -1 (ordinal only)."""
    impute: Category | None = None


class Flag(Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="flag"):
    """True or false, or 1 or 0; one value."""

    name: FieldName
    impute: bool | None = None


Column = Numeric | Categorical | Flag


class Columns(Struct, frozen=True, forbid_unknown_fields=True, tag_field="op", tag="columns"):
    """A record to float32 [k], the columns one after another."""

    columns: Annotated[tuple[Column, ...], Meta(min_length=1, max_length=4096)]


Step = Columns
TAKES_MANY: tuple[type, ...] = ()


def after(step: Step, kind: Kind) -> Kind:
    """What a step makes of a kind. Raises `ValueError` when it cannot follow."""
    if kind.dtype != "record" or kind.many:
        raise ValueError(f"columns take a record, not {kind.words()}")
    seen: set[str] = set()
    for column in step.columns:
        if column.name in seen:
            raise ValueError(f"field {column.name!r} has two columns")
        seen.add(column.name)
        try:
            _check(column)
        except ValueError as error:
            raise ValueError(f"column {column.name!r}: {error}") from error
    return Kind("float32", (sum(map(width, step.columns)),))


def width(column: Column) -> int:
    """How many numbers a column gives."""
    if isinstance(column, Categorical) and column.encoding == "onehot":
        return len(column.values)
    return 1


def category_key(value: Category | float, /) -> tuple[bool, Category | float]:
    """Equal for equal categories: 3 and 3.0 are one, 1 and true are not."""
    return isinstance(value, bool), value


def _check(column: Column) -> None:
    match column:
        case Numeric(_, impute, log, mean, std):
            given = (mean, std) if impute is None else (mean, std, impute)
            if not all(map(math.isfinite, given)):
                raise ValueError("a number is not finite")
            if log and impute is not None and impute <= -1:
                raise ValueError(f"impute {impute} has no logarithm ln(1 + x)")
        case Categorical(_, values, encoding, unknown, impute):
            known = set(map(category_key, values))
            if len(known) != len(values):
                raise ValueError("a value is listed twice")
            if impute is not None and category_key(impute) not in known:
                raise ValueError(f"impute {impute!r} is not among its values")
            if (encoding, unknown) in {("onehot", "minus_one"), ("ordinal", "zero")}:
                raise ValueError(f"unknown = {unknown!r} is not for {encoding} encoding")
        case Flag():
            pass
