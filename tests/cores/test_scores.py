"""Every score: one sample and a batch, degenerate output, ties, and the choice between scores."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.calibrate.certificate import ScoreName
from models.calibrate.choose import choose_score, deferral_gain, tune_score
from models.calibrate.decide import judge
from models.calibrate.scores import score, score_of
from models.calibrate.temperature import fit_temperature
from models.errors import LabelOutside, TooFewSamples
from tests.bench.populations import made_up

NAMES: tuple[ScoreName, ...] = ("top", "margin", "entropy", "squares")


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("top", 0.5),
        ("margin", 0.25),
        ("entropy", 1 - 1.5 * math.log(2) / math.log(3)),
        ("squares", 0.375),
    ],
)
def test_a_score_is_its_formula(name: ScoreName, expected: float) -> None:
    # Softmax (1/2, 1/4, 1/4) at temperature 2.
    row = np.array([2 * math.log(2), 0.0, 0.0])
    assert score_of(name, 2.0)(row) == pytest.approx(expected, abs=2**-32)
    assert score(name, row[None], 2.0)[0] == pytest.approx(expected, abs=2**-32)


rows = st.lists(
    st.floats(width=32, min_value=-1e4, max_value=1e4)
    | st.sampled_from([0.0, 1.0, math.nan, math.inf, -math.inf]),
    min_size=2,
    max_size=12,
)


@pytest.mark.parametrize("name", NAMES)
@given(rows, st.floats(min_value=0.05, max_value=20))
def test_the_device_s_arithmetic_and_numpy_s_agree(
    name: ScoreName, row: list[float], temperature: float
) -> None:
    logits = np.array(row, dtype=np.float32)
    alone = score_of(name, temperature)(logits)
    (together,) = score(name, logits[None], temperature)
    if alone is None:
        assert np.isnan(together)
        assert judge(alone, 0.0).hard
    else:
        assert abs(together - alone) <= 2**-32
        assert 0 <= alone <= 1


@pytest.mark.parametrize("name", NAMES)
def test_tied_outputs_stay_tied_whoever_computes_them(name: ScoreName) -> None:
    """191 distinct outputs of an INT8 head: the last bits of exp must not tear ties apart."""
    steps = np.random.default_rng(0).integers(-60, 60, size=(191, 10)) * np.float32(0.17)
    logits = steps[np.random.default_rng(1).integers(0, 191, 3000)].astype(np.float32)
    device = score_of(name, 1.37)
    assert (score(name, logits, 1.37) == np.array([device(row) for row in logits])).all()


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("temperature", [0.0, -1.0, math.nan, math.inf])
def test_a_temperature_that_is_none_is_refused(name: ScoreName, temperature: float) -> None:
    with pytest.raises(ValueError, match="temperature must be a positive number"):
        score_of(name, temperature)


def test_huge_but_finite_logits_have_a_score() -> None:
    row = np.array([1.7e308, 1.7e308, 0.0])
    assert score_of("top", 1.0)(row) == 0.5
    assert score_of("margin", 1.0)(row) == 0.0


# The choice.


def test_the_gain_of_an_order_is_one_when_it_knows_and_zero_when_it_does_not() -> None:
    losses = np.array([1, 0, 0, -1, 0, 1, 0, 0], dtype=np.int8)
    assert deferral_gain(-losses.astype(float), losses) == pytest.approx(1.0)
    assert deferral_gain(np.full(8, 0.5), losses) == pytest.approx(0.0)
    assert deferral_gain(losses.astype(float), losses) < 0
    assert deferral_gain(np.linspace(0, 1, 8), np.zeros(8, dtype=np.int8)) == 0.0


def test_the_area_is_the_one_worked_out_by_hand() -> None:
    # Escalated in this order, the mean loss removed is 0, 1/2, 1/2: area 1/8 + 1/4.
    # At random it is 1/4; at best 1/2, as the line from (0, 0) over (1/2, 1/2) to (1, 1/2): 3/8.
    assert deferral_gain(np.array([0.1, 0.9]), np.array([1, 0], dtype=np.int8)) == 1.0
    assert deferral_gain(np.array([0.9, 0.1]), np.array([1, 0], dtype=np.int8)) == -1.0


def test_a_sample_without_a_score_is_escalated_first() -> None:
    losses = np.array([0, 1, 0], dtype=np.int8)
    assert deferral_gain(np.array([0.5, np.nan, 0.5]), losses) == pytest.approx(1.0)


def test_the_score_that_orders_losses_better_is_chosen() -> None:
    # The loss depends on the lead over the second class and not on the top's own share.
    chance = np.random.default_rng(8)
    logits = chance.normal(size=(4000, 6)) * 2
    ranked = np.sort(logits, axis=1)
    losses = (chance.random(4000) < np.exp(-2 * (ranked[:, -1] - ranked[:, -2]))).astype(np.int8)
    chosen = choose_score(logits, losses, 1.0)
    gains = dict(chosen.gains)
    assert chosen.name == "margin"
    assert gains["margin"] > gains["top"] > 0


def test_tuning_leaves_degenerate_outputs_out_and_serves_without_labels() -> None:
    edge, cloud, labels = made_up(seed=1, n=600)
    broken = edge.copy()
    broken[:50] = np.nan
    tuned = tune_score(broken, cloud, labels, promise="excess")
    assert tuned.temperature == fit_temperature(edge[50:], labels[50:])
    assert tuned.name in dict(tuned.gains)
    bare = tune_score(edge, cloud, None, promise="teacher")
    assert bare.temperature == fit_temperature(edge, cloud.argmax(axis=1))


def test_tuning_on_nothing_usable_or_on_bad_labels_is_refused() -> None:
    edge, cloud, labels = made_up(seed=1, n=50)
    with pytest.raises(TooFewSamples, match="all of 50"):
        tune_score(np.full((50, 10), 3.0), cloud, labels, promise="excess")
    with pytest.raises(LabelOutside):
        tune_score(edge, cloud, labels + 5, promise="excess")


def test_without_a_mistake_the_temperature_stays_one() -> None:
    _, cloud, labels = made_up(seed=1, n=60)
    sure = np.eye(10)[labels] * np.linspace(1, 9, 60)[:, None]
    tuned = tune_score(sure, cloud, labels, promise="excess")
    assert (tuned.temperature, tuned.without_mistake) == (1.0, True)
