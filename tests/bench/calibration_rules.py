"""The rules `./just bench certificates` compares, each beside the reference code's same rule."""

import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from models.calibrate.band import curve
from models.calibrate.certificate import Promise
from models.calibrate.outcomes import Losses, Outcomes
from models.calibrate.rules import (
    counts_at,
    crc,
    exact_binomial,
    excess_betting,
    excess_cpdiff,
    grid_from,
    plug_in,
    selective,
    selective_start,
    sgr,
)
from models.calibrate.scores import Scores
from tests.bench.populations import reference_grid

Kind = Literal["certified", "marginal", "control"]
REFERENCE = Path(__file__).resolve().parents[2].parent / "shared/reference/cascade/casc.py"


class Terms(NamedTuple):
    """What is fixed before a sample is seen."""

    eps: float
    delta: float
    grid: Scores
    reference_grid: Scores
    start: float | None
    """Where a selective walk begins."""
    reference_walk: Scores


class Reference(Protocol):
    """What of the reference file is used."""

    def cal_harm(self, s: Scores, h: Losses, eps: float, delta: float, grid: Scores) -> float: ...

    def cal_excess(
        self,
        s: Scores,
        x: Losses,
        eps: float,
        delta: float,
        grid: Scores,
        test: str,
        rng: np.random.Generator,
    ) -> float: ...

    def cal_selective(
        self, s: Scores, e: Losses, alpha: float, delta: float, grid: Scores
    ) -> float: ...

    def cal_crc(self, s: Scores, h: Losses, eps: float) -> float: ...

    def cal_sgr(self, s: Scores, e: Losses, alpha: float, delta: float) -> float: ...

    def certificate_curve(
        self, s: Scores, h: Losses, delta: float, grid: Scores
    ) -> npt.NDArray[np.float64]: ...


Ours = Callable[[Scores, Losses, Terms, int], float | None]
Theirs = Callable[[Reference, Scores, Losses, Terms, np.random.Generator], float]


class Rule(NamedTuple):
    """A rule as a bench calls it: from scores and losses to a threshold."""

    name: str
    promise: Promise
    kind: Kind
    ours: Ours
    theirs: Theirs | None


def terms(tune: Outcomes, eps: float, delta: float) -> Terms:
    grid, theirs = grid_from(tune.scores), reference_grid(tune.scores)
    start = selective_start(tune.scores, tune.loss("selective"), eps=eps)
    return Terms(
        eps=eps,
        delta=delta,
        grid=grid,
        reference_grid=theirs,
        start=start,
        reference_walk=_reference_walk(tune, eps, theirs),
    )


def _reference_walk(tune: Outcomes, eps: float, grid: Scores) -> Scores:
    """Its grid from where its experiment begins a selective walk (sim_cal.py)."""
    from scipy.special import bdtr

    local = counts_at(tune.scores, np.ones(tune.n, dtype=bool), grid)
    wrong = counts_at(tune.scores, tune.loss("selective"), grid).astype(np.float64)
    p = np.where(local < 20, 1.0, bdtr(wrong, np.maximum(local, 1), eps))
    return grid[int(p.argmin()) :]


def find_reference() -> Reference | None:
    """The reference code, where it lies beside the repository."""
    if not REFERENCE.is_file():
        return None
    spec = importlib.util.spec_from_file_location("casc", REFERENCE)
    if spec is None or spec.loader is None:
        return None
    module: Any = importlib.util.module_from_spec(spec)
    writes, sys.dont_write_bytecode = sys.dont_write_bytecode, True
    try:
        spec.loader.exec_module(module)
    finally:
        sys.dont_write_bytecode = writes
    code: Reference = module
    return code


def _binomial(scores: Scores, losses: Losses, at: Terms, seed: int) -> float | None:
    return exact_binomial(scores, losses, eps=at.eps, delta=at.delta, grid=at.grid).threshold


def _cpdiff(scores: Scores, losses: Losses, at: Terms, seed: int) -> float | None:
    return excess_cpdiff(scores, losses, eps=at.eps, delta=at.delta, grid=at.grid).threshold


def _betting(scores: Scores, losses: Losses, at: Terms, seed: int) -> float | None:
    return excess_betting(
        scores, losses, eps=at.eps, delta=at.delta, grid=at.grid, seed=seed
    ).threshold


def _selective(scores: Scores, losses: Losses, at: Terms, seed: int) -> float | None:
    if at.start is None:
        return None
    return selective(
        scores, losses, eps=at.eps, delta=at.delta, grid=at.grid, start=at.start
    ).threshold


def _band(scores: Scores, losses: Losses, at: Terms, seed: int) -> float | None:
    return curve(scores, losses, promise="harm", delta=at.delta, grid=at.grid).threshold_for(at.eps)


def _crc(scores: Scores, losses: Losses, at: Terms, seed: int) -> float | None:
    return crc(scores, losses, eps=at.eps).threshold


def _plug_in(scores: Scores, losses: Losses, at: Terms, seed: int) -> float | None:
    return plug_in(scores, losses, eps=at.eps).threshold


def _sgr(scores: Scores, losses: Losses, at: Terms, seed: int) -> float | None:
    return sgr(scores, losses, eps=at.eps, delta=at.delta).threshold


def _their_excess(test: str) -> Theirs:
    def theirs(
        code: Reference, s: Scores, x: Losses, at: Terms, chance: np.random.Generator
    ) -> float:
        return code.cal_excess(s, x, at.eps, at.delta, at.reference_grid, test, chance)

    return theirs


def _their_harm(
    code: Reference, s: Scores, h: Losses, at: Terms, chance: np.random.Generator
) -> float:
    return code.cal_harm(s, h, at.eps, at.delta, at.reference_grid)


def _their_selective(
    code: Reference, s: Scores, e: Losses, at: Terms, chance: np.random.Generator
) -> float:
    return code.cal_selective(s, e, at.eps, at.delta, at.reference_walk)


def _their_band(
    code: Reference, s: Scores, h: Losses, at: Terms, chance: np.random.Generator
) -> float:
    kept = code.certificate_curve(s, h, at.delta, at.reference_grid) <= at.eps
    last = (len(kept) if kept.all() else int(kept.argmin())) - 1
    return float("inf") if last < 0 else float(at.reference_grid[last])


RULES = (
    Rule("excess-cpdiff", "excess", "certified", _cpdiff, _their_excess("cpdiff")),
    Rule("excess-betting", "excess", "certified", _betting, _their_excess("bet")),
    Rule("harm", "harm", "certified", _binomial, _their_harm),
    Rule("harm-band", "harm", "certified", _band, _their_band),
    Rule("teacher", "teacher", "certified", _binomial, _their_harm),
    Rule("selective", "selective", "certified", _selective, _their_selective),
    Rule(
        "selective-sgr",
        "selective",
        "certified",
        _sgr,
        lambda code, s, e, at, _: code.cal_sgr(s, e, at.eps, at.delta),
    ),
    Rule(
        "harm-crc",
        "harm",
        "marginal",
        _crc,
        lambda code, s, h, at, _: code.cal_crc(s, h, at.eps),
    ),
    Rule("harm-plug-in", "harm", "control", _plug_in, None),
    Rule("excess-plug-in", "excess", "control", _plug_in, None),
)
