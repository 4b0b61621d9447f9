"""The audit of a calibration rule, and the ways that exploring compares."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from models.calibrate.certificate import Guarantee, Promise
from models.calibrate.rules import plug_in, upper_limit
from models.errors import TooFewSamples, UnfitData
from models.evaluate.audit import audit, labels_sentence, oracle
from models.evaluate.explore import Exploration, explore, to_text
from models.evaluate.inputs import EvaluationInputs, Sample, sample_of
from models.evaluate.pareto import Ways, choose, front, keeps
from models.evaluate.sections import LabelPoint
from models.evaluate.ways import BASE, ExploreInputs
from tests.cascades import certificate, made_up

ROWS = made_up(4000, seed=11)


def sample() -> Sample:
    return sample_of(
        EvaluationInputs(
            task="made up",
            certificate=certificate(threshold=0.5),
            y=ROWS.y,
            edge_logits=ROWS.edge,
            cloud_logits=ROWS.cloud,
        )
    )


@pytest.mark.parametrize("promise", ["excess", "harm", "teacher", "selective"])
def test_every_certified_rule_keeps_its_promise_in_the_audit(promise: Promise) -> None:
    """Cascade note, section 3: at most delta and two standard errors."""
    made = certificate(threshold=0.5, promise=promise, eps=0.06, n=500)
    found = audit(sample(), made, resamples=200, seed=0)
    assert found.verdict == "kept"
    assert found.violation_percent <= 10 + 2 * 100 * (0.09 / 200) ** 0.5
    assert found.standard_error_percent == pytest.approx(
        (found.violation_percent * (100 - found.violation_percent) / 200) ** 0.5
    )
    assert found.nothing_certified_percent < 50
    assert found.premium_points > 0
    assert found.premium_points == pytest.approx(
        found.escalated_percent - found.oracle_escalated_percent
    )


def test_a_marginal_promise_is_exceeded_by_about_half_and_is_not_called_broken() -> None:
    """Cascade note, section 3: CRC holds the mean, and .39 to .48 of its calibrations exceed it."""
    marginal: Guarantee = "marginal"
    made = certificate(threshold=0.5, promise="harm", guarantee=marginal, eps=0.06, n=500)
    found = audit(sample(), made, resamples=300, seed=0)
    assert 30 < found.violation_percent < 60
    assert found.verdict == "not promised"
    assert float(np.mean(found.risk_percent)) < 6.2


def test_a_rule_without_a_correction_is_caught() -> None:
    """The plug-in threshold violates 54 to 64 % of the time (cascade note, section 9)."""
    found = audit(
        sample(),
        certificate(threshold=0.5, promise="harm", eps=0.06),
        resamples=200,
        seed=0,
        rule=lambda rows, _: plug_in(rows.scores, rows.losses("harm"), eps=0.06).threshold,
    )
    assert found.violation_percent > 35
    assert found.verdict == "broken"


def test_more_labels_escalate_less_down_to_hindsight() -> None:
    found = audit(
        sample(), certificate(threshold=0.5, promise="harm", eps=0.06), resamples=200, seed=0
    )
    escalated = [point.escalated_percent for point in found.by_labels]
    assert [point.n_count for point in found.by_labels] == [100, 300, 500, 1000, 3000]
    assert escalated == sorted(escalated, reverse=True)
    assert escalated[-1] > found.oracle_escalated_percent
    assert found.labels_sentence.startswith("With 500 more labels the same promise would escalate")


def test_the_labels_sentence_names_the_first_step_worth_taking() -> None:
    points = (
        LabelPoint(300, 20.0, 12.0, 100.0),
        LabelPoint(1000, 17.0, 9.0, 100.0),
        LabelPoint(3000, 14.0, 6.0, 100.0),
    )
    assert labels_sentence(points, 300, "labels") == (
        "With 700 more labels the same promise would escalate about 3.0 points less: 17.0 % instead"
        " of 20.0 %."
    )
    assert "less than half a point" in labels_sentence(points, 3000, "labels")
    none = (LabelPoint(50, 100.0, 90.0, 0.0), LabelPoint(100, 100.0, 90.0, 0.0))
    assert "mostly certifies nothing" in labels_sentence(none, 50, "groups")


def test_the_oracle_of_the_selective_promise_is_the_least_escalation_that_keeps_it() -> None:
    rows = sample()
    made = certificate(threshold=0.5, promise="selective", eps=0.05)
    share = oracle(rows, made)
    scores = np.sort(rows.scores)
    there = rows.local(float(scores[round(share * rows.n)]))
    riskier = rows.local(float(scores[round(share * rows.n) - 1]))
    assert rows.risk(there, "selective") <= 0.05
    assert rows.risk(riskier, "selective") > 0.05


def test_halves_keep_groups_whole() -> None:
    """Ten groups, one of them hopeless: half of the splits calibrate without it and pay."""
    good, bad = made_up(1800, seed=12, edge_skill=8.0), made_up(200, seed=13, edge_skill=0.0)
    groups = np.concatenate([np.arange(1800) % 9, np.full(200, 9)])
    edge = np.concatenate([good.edge, 8 * bad.edge])  # wrong and sure of it
    rows = sample_of(
        EvaluationInputs(
            task="made up",
            certificate=certificate(threshold=0.5),
            y=np.concatenate([good.y, bad.y]),
            edge_logits=edge,
            cloud_logits=np.concatenate([good.cloud, bad.cloud]),
            groups=groups,
        )
    )
    made = certificate(threshold=0.5, promise="harm", eps=0.03, n=500)
    found = audit(rows, made, resamples=20, seed=0).halves
    assert found is not None
    assert found.split_by == "group"
    assert found.above_eps_percent > 20
    by_row = audit(replace(rows, groups=None), made, resamples=20, seed=0).halves
    assert by_row is not None
    assert by_row.split_by == "row"
    assert by_row.above_eps_percent < found.above_eps_percent


def test_the_front_is_what_nothing_beats_from_the_safest_to_the_cheapest() -> None:
    risks = np.array([0.0, 0.02, 0.01, 0.05, 0.02])
    costs = np.array([1.0, 0.5, 0.7, 0.2, 0.6])
    assert front(risks, costs).tolist() == [0, 2, 1, 3]


def test_configurations_pass_as_the_exact_tests_say() -> None:
    losses = np.zeros((4, 400), dtype=np.int8)
    losses[1, :2] = 1
    losses[2, :9] = 1
    losses[3, :9], losses[3, 20:60] = 1, -1
    assert keeps(losses, promise="harm", eps=0.02, delta=0.1).tolist() == [True, True, False, False]
    assert keeps(losses, promise="excess", eps=0.02, delta=0.1)[3]
    assert upper_limit(2, 400, 0.1) <= 0.02 < upper_limit(9, 400, 0.1)


def test_the_walk_stops_at_the_first_that_fails() -> None:
    """The third would pass on the calibration rows, but the second, riskier on tune, failed."""
    losses = np.zeros((3, 600), dtype=np.int8)
    losses[0, :] = 0
    losses[1, :3] = 1
    losses[1, 300:330] = 1
    losses[2, :6] = 1
    costs = np.repeat(np.array([[1.0], [0.5], [0.1]], dtype=np.float32), 600, axis=1)
    ways = Ways(losses, costs, np.zeros((3, 600), dtype=np.bool_))
    tune, calibration = np.arange(300), np.arange(300, 600)
    found = choose(ways, tune, calibration, promise="harm", eps=0.02, delta=0.1)
    assert found == 0


def explored(**changes: object) -> Exploration:
    start = ExploreInputs(
        edge_logits=ROWS.edge,
        cloud_logits=ROWS.cloud,
        y=ROWS.y,
        eps=0.05,
        splits=12,
    )
    return explore(replace(start, **changes))  # type: ignore[arg-type]


def test_without_anything_to_add_two_stages_are_recommended() -> None:
    found = explored()
    assert {option.name for option in found.options} >= {BASE, "device -> cloud, by class"}
    assert found.recommendation == BASE
    assert "Stay with two stages" in found.sentence
    base = next(option for option in found.options if option.name == BASE)
    assert (base.saving_points, base.error_points, base.pays) == (0, 0, False)


def test_a_dear_middle_stage_does_not_pay_and_a_nearly_free_good_one_does() -> None:
    middle = made_up(4000, seed=11, edge_skill=3.9).edge
    dear = explored(middle_logits=middle, middle_cost=0.9)
    assert dear.recommendation == BASE
    cheap = explored(middle_logits=middle, middle_cost=0.01)
    assert "middle" in cheap.recommendation
    best = cheap.options[0]
    assert best.pays
    assert best.saving_points > 2 * best.error_points
    # One point more for a third stage is not worth shipping it.
    assert cheap.recommendation == "middle -> cloud"


def test_the_cost_of_a_way_is_its_escalations_and_its_runs() -> None:
    second = made_up(4000, seed=14).edge
    found = explored(second_logits=second, second_cost=0.25)
    two = next(each for each in found.options if each.name == "two on the device -> cloud")
    assert two.cost_per_1000_calls == pytest.approx(10 * two.escalated_percent + 250)


def test_rows_that_are_too_few_to_tell_are_said_to_be() -> None:
    few = explored(
        edge_logits=ROWS.edge[:240], cloud_logits=ROWS.cloud[:240], y=ROWS.y[:240], eps=0.01
    )
    assert few.recommendation == BASE
    assert "too few" in few.sentence


def test_what_cannot_be_explored_is_refused() -> None:
    with pytest.raises(TooFewSamples, match="give 200"):
        explored(edge_logits=ROWS.edge[:99])
    with pytest.raises(UnfitData, match="choose excess, harm or teacher"):
        explored(promise="selective")
    with pytest.raises(UnfitData, match="the same rows and classes"):
        explored(middle_logits=ROWS.edge[:, :3])
    with pytest.raises(TooFewSamples, match="3 groups"):
        explored(groups=np.arange(4000) % 3)


def test_the_table_names_every_way_and_says_which_pays() -> None:
    found = explored()
    told = to_text(found)
    assert all(option.name in told for option in found.options)
    assert told.endswith(found.sentence + "\n")


def test_a_rule_by_groups_keeps_its_promise_over_groups() -> None:
    """Two hundred groups of different skill: groups are drawn, and their mean risk is judged."""
    chance = np.random.default_rng(5)
    parts = [
        made_up(20, seed=100 + number, edge_skill=float(chance.uniform(1.0, 6.0)))
        for number in range(200)
    ]
    for promise in ("harm", "selective"):
        made = certificate(threshold=0.5, promise=promise, eps=0.1, n=150, groups=150)
        rows = sample_of(
            EvaluationInputs(
                task="made up",
                certificate=made,
                y=np.concatenate([part.y for part in parts]),
                edge_logits=np.concatenate([part.edge for part in parts]),
                cloud_logits=np.concatenate([part.cloud for part in parts]),
                groups=np.repeat(np.arange(200), 20),
            )
        )
        found = audit(rows, made, resamples=60, seed=0)
        assert found.n_count == 150
        assert found.verdict == "kept"
        assert found.nothing_certified_percent < 100
        assert {point.n_count for point in found.by_labels} == {100, 150, 300}
