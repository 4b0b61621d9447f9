"""Rows of a table. A row is a loop over its columns: for tens of fields numpy is no faster."""

import math
from collections.abc import Callable
from typing import NoReturn, assert_never

import numpy as np

from models.errors import FieldInvalid, FieldMissing, NotFinite, UnknownCategory
from models.pipeline.kinds import Kind
from models.pipeline.ops.table import Categorical, Column, Columns, Flag, Numeric, category_key
from models.pipeline.values import Floats, Record

Field = float | int | str | bool | None
Encode = Callable[[Field], tuple[float, ...]]
_MOST = float(np.finfo(np.float32).max)
_NAMED = 5


def compile_step(step: Columns, kind: Kind) -> Callable[[Record], Floats]:
    """A record to float32 [k].

    The step raises `FieldMissing`, `FieldInvalid`, `UnknownCategory` and `NotFinite`, each with the
    field's name.
    """
    encoders = [(column.name, _encoder(column)) for column in step.columns]

    def encode(record: Record) -> Floats:
        row: list[float] = []
        for name, encoder in encoders:
            row += encoder(record.get(name))
        return np.array(row, np.float32)

    return encode


def _encoder(column: Column) -> Encode:
    match column:
        case Numeric():
            return _numeric(column)
        case Categorical():
            return _categorical(column)
        case Flag():
            return _flag(column)
        case _:
            assert_never(column)


def _numeric(column: Numeric) -> Encode:
    name, log, mean, std = column.name, column.log, column.mean, column.std

    def scaled(number: float) -> tuple[float, ...]:
        if log:
            if number <= -1:
                raise FieldInvalid(
                    f"field {name!r} is {number}, which has no logarithm ln(1 + x); "
                    "send a number above -1"
                )
            number = math.log1p(number)
        number = (number - mean) / std
        if not abs(number) <= _MOST:
            raise NotFinite(f"field {name!r} is infinite or beyond float32; send a smaller number")
        return (number,)

    imputed = None if column.impute is None else scaled(column.impute)

    def encode(value: Field) -> tuple[float, ...]:
        if _is_missing(value):
            return imputed or _missing(name)
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise FieldInvalid(f"field {name!r} is {_shown(value)}; send a number")
        try:
            return scaled(float(value))
        except OverflowError as error:
            raise NotFinite(f"field {name!r} is beyond float64; send a smaller number") from error

    return encode


def _categorical(column: Categorical) -> Encode:
    name, count = column.name, len(column.values)
    onehot = column.encoding == "onehot"
    codes = {
        category_key(value): tuple(float(at == place) for at in range(count))
        if onehot
        else (float(place),)
        for place, value in enumerate(column.values)
    }
    imputed = None if column.impute is None else codes[category_key(column.impute)]
    other = {"error": None, "zero": (0.0,) * count, "minus_one": (-1.0,)}[column.unknown]

    def encode(value: Field) -> tuple[float, ...]:
        if _is_missing(value):
            return imputed or _missing(name)
        if not isinstance(value, str | int | float):
            raise FieldInvalid(f"field {name!r} is {_shown(value)}; send a text or a number")
        found = codes.get(category_key(value), other)
        if found is None:
            listed = ", ".join(map(repr, column.values[:_NAMED]))
            more = f" and {count - _NAMED} more" if count > _NAMED else ""
            raise UnknownCategory(f"field {name!r} is {_shown(value)}; it knows {listed}{more}")
        return found

    return encode


def _flag(column: Flag) -> Encode:
    name = column.name
    imputed = None if column.impute is None else (float(column.impute),)

    def encode(value: Field) -> tuple[float, ...]:
        if _is_missing(value):
            return imputed or _missing(name)
        if not isinstance(value, bool | int | float) or value not in (0, 1):
            raise FieldInvalid(f"field {name!r} is {_shown(value)}; send true or false, or 1 or 0")
        return (float(value),)

    return encode


def _is_missing(value: Field) -> bool:
    return value is None or value != value  # NaN alone is not itself


def _missing(name: str) -> NoReturn:
    raise FieldMissing(f"field {name!r} is missing and nothing is declared to impute; send it")


def _shown(value: object) -> str:
    """A value as a message quotes it: what came may be long, or no value a record can hold."""
    if isinstance(value, int) and value.bit_length() > 64:
        return f"a whole number of {value.bit_length()} bits"  # repr refuses thousands of digits
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
