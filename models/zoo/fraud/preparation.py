"""From a payment to what the nets of `fraud` take, as steps a manifest declares.

The edge model is linear, so hours and shops are one-hot, amounts logarithms, and numbers are
brought to mean 0 and spread 1 over the training payments. Trees need none of that: they get what
there is, and -1 for what is missing.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from models.pipeline.kinds import Kind
from models.pipeline.ops.table import Categorical, Column, Columns, Flag, Numeric
from models.pipeline.values import Record
from models.zoo.fraud.generator import CATEGORIES, COUNTRIES

RAW = Kind("record", ())
_NO_DEVICE = "none"
_MISSING = -1.0
_AMOUNTS = ("amount", "usual_amount", "account_age_days", "distance_km")
_COUNTS = ("previous_chargebacks", "payments_last_hour")

CLOUD = (
    Columns(
        columns=(
            *(Numeric(name, impute=_MISSING) for name in (*_AMOUNTS, *_COUNTS, "hour")),
            Flag("card_present"),
            Flag("abroad"),
            Categorical("device_known", (False, True, _NO_DEVICE), impute=_NO_DEVICE),
            Categorical("category", CATEGORIES, unknown="zero"),
            Categorical("country", COUNTRIES, unknown="zero"),
        )
    ),
)


def edge(training: Sequence[Record]) -> tuple[Columns]:
    """The edge model's columns, scaled and imputed by what the training payments hold."""
    columns: tuple[Column, ...] = (
        *(_scaled(name, training, log=True) for name in _AMOUNTS),
        *(_scaled(name, training, log=False) for name in _COUNTS),
        Categorical("hour", tuple(range(24))),
        Flag("card_present"),
        Flag("abroad"),
        Categorical("device_known", (False, True, _NO_DEVICE), impute=_NO_DEVICE),
        Categorical("category", CATEGORIES, unknown="zero"),
        Categorical("country", COUNTRIES, unknown="zero"),
    )
    return (Columns(columns=columns),)


def _scaled(name: str, training: Sequence[Record], *, log: bool) -> Numeric:
    """A number with mean 0 and spread 1; what is missing becomes the median."""
    there = np.array([record[name] for record in training if record[name] is not None], dtype=float)
    middle = float(np.median(there))
    values = np.log1p(there) if log else there
    mean, spread = float(values.mean()), float(values.std())
    if not math.isfinite(mean) or spread == 0:
        raise ValueError(f"field {name!r} does not vary over the training payments")
    return Numeric(
        name,
        impute=round(middle, 4),
        log=log,
        mean=round(mean, 6),
        std=round(spread, 6),
    )
