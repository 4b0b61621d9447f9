"""Certificates: what is promised, what is refused, and what is said where nothing can be."""

import math
import subprocess
import sys

import msgspec
import numpy as np
import pytest
from scipy.special import bdtr

from models.calibrate.certificate import Binding, Certificate, Guarantee, Promise
from models.calibrate.certify import certify, named
from models.calibrate.feasibility import least_escalation, least_n
from models.calibrate.outcomes import Outcomes
from models.errors import (
    ConstantScore,
    GroupsMixed,
    OutcomesMissing,
    PromiseNotOffered,
    RowsOverlap,
)
from tests.bench.populations import made_up_population

POPULATION = made_up_population(seed=3, n=8000)
PAIRS: list[tuple[Promise, Guarantee]] = [
    ("excess", "high-probability"),
    ("harm", "high-probability"),
    ("teacher", "high-probability"),
    ("selective", "high-probability"),
    ("excess", "marginal"),
    ("harm", "marginal"),
    ("teacher", "marginal"),
]


def sample(n: int, seed: int = 0) -> Outcomes:
    return POPULATION.drawn_from.where(np.random.default_rng(seed).integers(0, 6000, n))


@pytest.mark.parametrize(("promise", "guarantee"), PAIRS)
@pytest.mark.parametrize("n", [400, 1500])
def test_a_certificate_holds_together_and_survives_json(
    promise: Promise, guarantee: Guarantee, n: int
) -> None:
    found = certify(
        POPULATION.tune, sample(n), promise=promise, guarantee=guarantee, eps=0.03, delta=0.1
    )
    assert found.feasible
    assert found.threshold is not None
    assert found.needed_n is None
    assert (found.upper_bound is None) == (guarantee == "marginal")
    assert found.upper_bound is None or found.upper_bound <= 0.03
    assert found.curve is not None
    assert found.gain is not None
    assert found.n == n
    scores = sample(n).scores
    assert found.local == (scores >= found.threshold).mean()
    assert found.k == int((sample(n).loss(promise)[scores >= found.threshold] > 0).sum())
    assert found.won is None or promise == "excess"
    data = msgspec.json.encode(found)
    assert msgspec.json.decode(data, type=Certificate) == found
    assert len(data) < 12_000


def test_its_promise_is_broken_in_at_most_a_share_delta() -> None:
    runs, delta = 150, 0.1
    for promise in ("excess", "selective"):
        broken = 0
        for seed in range(runs):
            found = certify(
                POPULATION.tune,
                sample_of_all(500, seed),
                promise=promise,
                eps=0.03,
                delta=delta,
            )
            broken += POPULATION.truth.risk(promise, found.threshold) > 0.03
        assert broken / runs <= delta + 2 * math.sqrt(delta * (1 - delta) / runs)


def sample_of_all(n: int, seed: int) -> Outcomes:
    places = np.random.default_rng(seed).integers(0, POPULATION.drawn_from.n, n)
    return POPULATION.drawn_from.where(places)


def test_the_curve_s_bound_at_the_threshold_is_looser_than_the_threshold_s_own() -> None:
    found = certify(POPULATION.tune, sample(3000), promise="harm", eps=0.03)
    assert found.curve is not None
    assert found.upper_bound is not None
    assert found.upper_bound < found.curve.risk_at(found.threshold) < 2 * found.upper_bound


def test_the_same_outcomes_give_the_same_id_and_others_another() -> None:
    first = certify(POPULATION.tune, sample(400), promise="harm", eps=0.03)
    again = certify(POPULATION.tune, sample(400), promise="harm", eps=0.03)
    other = certify(POPULATION.tune, sample(400, seed=1), promise="harm", eps=0.03)
    assert first == again
    assert named(first).id == first.id
    assert other.id != first.id
    assert first.calibration_sha256 != other.calibration_sha256


def test_what_it_is_bound_to_stands_in_it() -> None:
    bound = Binding(
        model_sha256="a" * 64,
        preparation_sha256="b" * 64,
        runtime="onnx",
        provider="cpu",
        precision="int8",
    )
    found = certify(POPULATION.tune, sample(400), promise="harm", eps=0.03, bound=bound)
    assert found.bound == bound
    bare = certify(POPULATION.tune, sample(400), promise="harm", eps=0.03)
    assert bare.id != found.id


@pytest.mark.parametrize("promise", ["harm", "excess", "selective", "teacher"])
def test_the_disagreement_is_clopper_pearson_s_at_the_threshold(promise: Promise) -> None:
    found, drawn = certify(POPULATION.tune, sample(1500), promise=promise, eps=0.03), sample(1500)
    assert found.threshold is not None
    unlike = int((drawn.disagree & (drawn.scores >= found.threshold)).sum())
    assert found.disagreement is not None
    # The limit's own definition: so few are seen with chance delta.
    assert bdtr(unlike, 1500, found.disagreement) == pytest.approx(0.1, abs=1e-6)
    if promise == "teacher":
        assert found.disagreement == found.upper_bound


def test_by_groups_the_disagreement_is_of_groups() -> None:
    tune = grouped(POPULATION.tune, 10, first=1000)
    calibration = grouped(sample(3000), 10)
    by_group = certify(tune, calibration, promise="harm", eps=0.03)
    teacher = certify(tune, calibration, promise="teacher", eps=0.06)
    assert by_group.disagreement is not None
    assert by_group.threshold is not None
    unlike = calibration.disagree & (calibration.scores >= by_group.threshold)
    assert by_group.disagreement > unlike.mean()
    assert teacher.disagreement == pytest.approx(teacher.upper_bound, rel=0.1)


# Where the promise cannot be kept.


def test_too_few_samples_promise_nothing_and_say_how_many_would_do() -> None:
    found = certify(POPULATION.tune, sample(100), promise="harm", eps=0.01)
    nothing = (found.feasible, found.threshold, found.k, found.upper_bound, found.local)
    assert nothing == (False, None, None, None, None)
    assert found.disagreement is None
    assert found.needed_n is not None
    assert found.needed_n >= 230
    assert "without a single loss it takes 230" in found.note
    assert f"about {found.needed_n} samples would do" in found.note


def test_the_number_that_would_do_does() -> None:
    for promise in ("excess", "harm", "teacher", "selective"):
        needed = certify(POPULATION.tune, sample(50), promise=promise, eps=0.02).needed_n
        assert needed is not None
        kept = [
            certify(POPULATION.tune, sample_of_all(2 * needed, seed), promise=promise, eps=0.02)
            for seed in range(8)
        ]
        assert sum(found.feasible for found in kept) >= 6, promise


def test_where_no_number_would_do_it_says_so() -> None:
    chance = np.random.default_rng(1)

    def hopeless(n: int) -> Outcomes:
        wrong = chance.random(n) < 0.5  # whatever the score
        return Outcomes(chance.random(n), wrong, wrong, np.zeros(n, dtype=bool))

    found = certify(hopeless(2000), hopeless(2000), promise="selective", eps=0.02)
    assert not found.feasible
    assert found.needed_n is None
    assert "no number would do" in found.note
    assert found.least_escalation == pytest.approx((found.base_risk - 0.02) / 0.98)


@pytest.mark.parametrize(
    ("promise", "guarantee", "eps", "n"),
    [
        ("harm", "high-probability", 0.01, 230),
        ("teacher", "high-probability", 0.02, 114),
        ("selective", "high-probability", 0.05, 45),
        ("excess", "high-probability", 0.01, 258),
        ("harm", "marginal", 0.01, 99),
    ],
)
def test_the_least_samples_are_the_formula_s(
    promise: Promise, guarantee: Guarantee, eps: float, n: int
) -> None:
    assert least_n(promise, guarantee, eps=eps, delta=0.1) == n


@pytest.mark.parametrize(("promise", "guarantee"), PAIRS)
def test_the_least_samples_certify_and_one_fewer_does_not(
    promise: Promise, guarantee: Guarantee
) -> None:
    least = least_n(promise, guarantee, eps=0.03, delta=0.1)
    for n, kept in ((least, True), (least - 1, False)):
        none = np.zeros(n, dtype=bool)
        flawless = Outcomes(np.full(n, 0.9), none, none, none)
        # All tune samples above where the walk begins, so that all are local at once.
        found = certify(
            Outcomes(np.array([0.1, 0.5] * 30), *([np.zeros(60, dtype=bool)] * 3)),
            flawless,
            promise=promise,
            guarantee=guarantee,
            eps=0.03,
        )
        assert found.feasible is kept


def test_the_least_groups_of_the_betting_rule_are_found_by_trying() -> None:
    least = least_n("harm", "high-probability", eps=0.02, delta=0.1, by_group=True)
    assert 114 < least < 150
    tune = Outcomes(np.array([0.1, 0.5] * 30), *([np.zeros(60, dtype=bool)] * 3))
    for count, kept in ((least, True), (least - 1, False)):
        none = np.zeros(3 * count, dtype=bool)
        rows = Outcomes(np.full(3 * count, 0.9), none, none, none, groups=np.arange(3 * count) // 3)
        assert certify(tune, rows, promise="harm", eps=0.02).feasible is kept


@pytest.mark.parametrize(
    ("promise", "least"), [("harm", 0.08), ("excess", 0.08), ("selective", 0.08 / 0.98)]
)
def test_the_least_escalation_is_the_formula_s(promise: Promise, least: float) -> None:
    assert least_escalation(promise, 0.1, 0.02) == pytest.approx(least)
    assert least_escalation(promise, 0.01, 0.02) == 0.0


# What is refused.


def test_a_marginal_selective_promise_is_not_offered() -> None:
    with pytest.raises(PromiseNotOffered, match="high-probability"):
        certify(POPULATION.tune, sample(300), promise="selective", eps=0.02, guarantee="marginal")


def test_a_constant_score_on_tune_is_refused() -> None:
    flat = Outcomes(np.full(50, 0.7), *([np.zeros(50, dtype=bool)] * 3))
    with pytest.raises(ConstantScore):
        certify(flat, sample(300), promise="harm", eps=0.02)


def test_labels_are_asked_for_by_promises_about_them() -> None:
    bare = Outcomes(POPULATION.tune.scores, POPULATION.tune.disagree)
    for promise in ("excess", "harm", "selective"):
        with pytest.raises(OutcomesMissing):
            certify(bare, bare, promise=promise, eps=0.02)
    found = certify(bare, bare, promise="teacher", eps=0.05)
    assert found.feasible
    assert found.gain is not None
    assert max(found.gain.gains) <= 0.5


def test_a_row_on_both_sides_is_refused() -> None:
    def numbered(outcomes: Outcomes, first: int) -> Outcomes:
        rows = np.arange(first, first + outcomes.n, dtype=np.uint64)
        return Outcomes(
            outcomes.scores, outcomes.disagree, outcomes.edge_wrong, outcomes.cloud_wrong, rows=rows
        )

    tune = numbered(POPULATION.tune, 0)
    certify(tune, numbered(sample(300), 2000), promise="harm", eps=0.03)
    with pytest.raises(RowsOverlap, match="1 of 300 calibration samples are tuning samples"):
        certify(tune, numbered(sample(300), 1999), promise="harm", eps=0.03)


@pytest.mark.parametrize(("eps", "delta"), [(0.0, 0.1), (1.0, 0.1), (0.1, 0.0), (0.1, 1.0)])
def test_shares_that_are_none_are_refused(eps: float, delta: float) -> None:
    with pytest.raises(ValueError, match="between 0 and 1"):
        certify(POPULATION.tune, sample(300), promise="harm", eps=eps, delta=delta)


def test_a_calibration_without_any_score_escalates_everything() -> None:
    none = np.zeros(400, dtype=bool)
    found = certify(
        POPULATION.tune,
        Outcomes(np.full(400, np.nan), none, none, none),
        promise="selective",
        eps=0.02,
    )
    assert not found.feasible
    assert found.gain is None
    assert "400 calibration samples have no score" in found.note


# Groups.


def grouped(outcomes: Outcomes, rows: int, first: int = 0) -> Outcomes:
    return Outcomes(
        outcomes.scores,
        outcomes.disagree,
        outcomes.edge_wrong,
        outcomes.cloud_wrong,
        groups=first + np.arange(outcomes.n) // rows,
    )


def test_groups_are_what_is_counted_unless_the_caller_vouches_for_rows() -> None:
    tune, calibration = grouped(POPULATION.tune, 10, first=1000), grouped(sample(3000), 10)
    by_group = certify(tune, calibration, promise="harm", eps=0.03)
    assert (by_group.n, by_group.groups) == (300, 300)
    assert "groups" in by_group.method
    assert by_group.feasible
    assert by_group.curve is not None
    assert by_group.curve.risk_at(1.0) == by_group.upper_bound
    assert by_group.curve.risk_at(0.0) == 1.0
    by_row = certify(tune, calibration, promise="harm", eps=0.03, counting="rows")
    assert (by_row.n, by_row.groups) == (3000, 300)
    assert "rows are counted although they come in 300 groups" in by_row.note
    assert by_row.design_effect == pytest.approx(1, abs=0.3)
    assert "alike" not in by_row.note


def test_counting_rows_that_are_alike_is_warned_of() -> None:
    one = sample(100)
    twins = grouped(one.where(np.repeat(np.arange(100), 30)), 30)
    found = certify(
        grouped(POPULATION.tune, 10, first=1000), twins, promise="harm", eps=0.03, counting="rows"
    )
    assert found.design_effect == pytest.approx(30 * 100 / 99)
    assert "rows of one group are alike (design effect 30.3)" in found.note


def test_few_groups_say_how_many_would_do() -> None:
    found = certify(
        grouped(POPULATION.tune, 10, first=1000),
        grouped(sample(3000), 1000),
        promise="harm",
        eps=0.03,
    )
    assert (found.n, found.feasible) == (3, False)
    assert found.needed_n is not None
    assert f"about {found.needed_n} groups would do" in found.note


def test_a_group_on_both_sides_is_refused() -> None:
    with pytest.raises(GroupsMixed, match="split by group"):
        certify(grouped(POPULATION.tune, 10), grouped(sample(300), 10), promise="harm", eps=0.03)


def test_a_marginal_promise_by_groups_is_conformal_risk_control() -> None:
    found = certify(
        grouped(POPULATION.tune, 10, first=1000),
        grouped(sample(3000), 10),
        promise="excess",
        eps=0.03,
        guarantee="marginal",
    )
    assert found.feasible
    assert found.method.startswith("conformal risk control")


def test_a_device_reads_certificates_without_numpy() -> None:
    program = (
        "import sys; import models.calibrate.certificate, models.calibrate.decide;"
        "assert 'numpy' not in sys.modules, 'numpy was imported'"
    )
    subprocess.run([sys.executable, "-P", "-c", program], check=True)
