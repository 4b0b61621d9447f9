"""An evaluation of made-up cascades whose figures can be known beforehand."""

from __future__ import annotations

from dataclasses import replace

import msgspec
import numpy as np
import pytest

from models.calibrate.certificate import Certificate
from models.calibrate.certify import certify
from models.calibrate.outcomes import Outcomes, of_logits
from models.errors import LabelOutside, TooFewSamples, UnfitData
from models.evaluate.cost import link_times
from models.evaluate.evaluation import evaluate, from_json, to_json
from models.evaluate.inputs import EvaluationInputs, Link, Prices
from models.evaluate.text import to_text
from tests.cascades import certificate, made_up

PLAIN = made_up(2000, seed=1)


def given(**changes: object) -> EvaluationInputs:
    start = EvaluationInputs(
        task="made up",
        certificate=certificate(threshold=0.7),
        y=PLAIN.y,
        edge_logits=PLAIN.edge,
        cloud_logits=PLAIN.cloud,
        resamples=0,
    )
    return replace(start, **changes)  # type: ignore[arg-type]


def test_the_headline_counts_what_the_threshold_does() -> None:
    found = evaluate(given())
    outcomes = of_logits(PLAIN.edge, PLAIN.cloud, PLAIN.y)
    local = outcomes.scores >= 0.7
    assert outcomes.edge_wrong is not None
    assert outcomes.cloud_wrong is not None
    right = 1 - np.where(local, outcomes.edge_wrong, outcomes.cloud_wrong).mean()
    assert found.accuracy.escalated_percent == pytest.approx(100 * (~local).mean())
    assert found.accuracy.system_percent == pytest.approx(100 * right)
    assert found.certified.risk_percent == pytest.approx(100 * (local * outcomes.excess).mean())
    assert found.accuracy.system_percent == pytest.approx(
        found.accuracy.cloud_percent - found.certified.risk_percent
    )
    assert found.headline.sentence.startswith(
        f"Of 1,000 inputs {found.headline.escalated_per_1000_count} go to the cloud; accuracy"
    )


def test_an_evaluation_is_read_back_as_it_was_written() -> None:
    found = evaluate(given(resamples=20, request_bytes=100, prices=Prices(per_call=1.0)))
    assert from_json(to_json(found)) == found


def test_the_same_inputs_give_the_same_bytes() -> None:
    assert to_json(evaluate(given(resamples=20))) == to_json(evaluate(given(resamples=20)))


def test_without_labels_right_means_as_the_cloud_and_the_rest_is_said_to_be_unknown() -> None:
    found = evaluate(given(y=None, certificate=certificate(promise="teacher", threshold=0.7)))
    outcomes = of_logits(PLAIN.edge, PLAIN.cloud, None)
    assert found.about.measure == "agreement"
    assert found.accuracy.cloud_percent == 100
    assert found.accuracy.edge_percent == pytest.approx(100 * (1 - outcomes.disagree.mean()))
    assert found.hurting.verdict == "cannot be known"
    assert found.hurting.gain_points is None
    assert found.cost.per_1000_right_cost is None
    assert any(sentence.startswith("Accuracy: there are no labels") for sentence in found.unknown)
    assert "the same as the cloud's" in found.headline.sentence


def test_only_the_cloud_s_answers_are_needed_not_its_logits() -> None:
    answers = PLAIN.cloud.argmax(axis=1)
    assert evaluate(given(cloud_logits=None, cloud_predictions=answers)) == evaluate(given())


def test_other_heads_give_their_outcomes_and_no_figure_that_needs_logits() -> None:
    outcomes = of_logits(PLAIN.edge, PLAIN.cloud, PLAIN.y)
    found = evaluate(
        given(y=None, edge_logits=None, cloud_logits=None, judged=outcomes, resamples=20)
    )
    whole = evaluate(given(resamples=20))
    assert found.accuracy == whole.accuracy
    assert found.audit == whole.audit
    assert found.confidence.ece_before_percent is None
    assert found.parts.classes == ()
    assert found.about.classes_count is None


def test_a_worse_cloud_is_said_to_hurt_in_the_first_caveat() -> None:
    worse = made_up(2000, seed=2, cloud_skill=0.5)
    found = evaluate(given(y=worse.y, edge_logits=worse.edge, cloud_logits=worse.cloud))
    assert found.hurting.verdict == "hurts"
    assert found.hurting.gain_points is not None
    assert found.hurting.gain_points < 0
    assert found.hurting.falls_from_escalated_percent is not None
    assert found.hurting.falls_surely
    hurts = next(each for each in found.caveats if each.code == "escalating_hurts")
    assert hurts.severe
    assert "points worse than the device" in hurts.text


def test_a_group_on_which_the_cloud_is_worse_is_found_among_the_escalated() -> None:
    good, bad = made_up(1500, seed=3), made_up(500, seed=4, cloud_skill=0.0)
    found = evaluate(
        given(
            y=np.concatenate([good.y, bad.y]),
            edge_logits=np.concatenate([good.edge, bad.edge]),
            cloud_logits=np.concatenate([good.cloud, bad.cloud]),
            groups=np.array(["old"] * 1500 + ["new"] * 500),
            certificate=certificate(threshold=0.9),
        )
    )
    worst = found.hurting.parts[0]
    assert (worst.kind, worst.name, worst.clear) == ("group", "new", True)
    assert "group new" in found.hurting.sentence
    assert found.parts.worst_group is not None
    assert found.parts.worst_group.name == "new"


def test_a_broken_promise_is_called_broken_and_one_within_chance_is_not() -> None:
    few = certificate(threshold=0.05, eps=0.01)
    assert evaluate(given(certificate=few)).certified.verdict == "broken"
    risk = evaluate(given(certificate=few)).certified.risk_percent
    near = evaluate(given(certificate=certificate(threshold=0.05, eps=risk / 100 - 0.001)))
    assert near.certified.verdict == "above, within chance"
    assert evaluate(given()).certified.verdict == "kept"


def test_without_a_threshold_everything_is_escalated_and_nothing_is_promised() -> None:
    found = evaluate(given(certificate=certificate(threshold=None, feasible=False)))
    assert found.accuracy.escalated_percent == 100
    assert found.accuracy.local_percent is None
    assert found.headline.verdict == "no promise"
    assert found.headline.promise.startswith("No promise is made")
    assert found.caveats[0].code in {"no_promise", "few_rows"}


def test_two_forms_that_are_one_differ_in_nothing() -> None:
    found = evaluate(given(edge_fp32_logits=PLAIN.edge)).precision
    assert found is not None
    assert found.fp32 == found.int8
    assert found.same_label_percent == 100
    assert found.rank_correlation_ratio == pytest.approx(1)
    assert found.transfer_escalated_points == 0


def test_a_coarser_form_moves_what_the_threshold_does() -> None:
    sharper = evaluate(given(edge_fp32_logits=2 * PLAIN.edge)).precision
    assert sharper is not None
    assert sharper.same_label_percent == 100
    assert sharper.transfer_escalated_points > 0


def test_data_unlike_the_calibration_data_are_warned_of() -> None:
    easy, hard = made_up(800, seed=5, edge_skill=4.0), made_up(800, seed=6, edge_skill=1.0)
    there = of_logits(easy.edge, easy.cloud, easy.y)
    found = evaluate(
        given(y=hard.y, edge_logits=hard.edge, cloud_logits=hard.cloud, calibration=there)
    )
    assert found.likeness is not None
    assert found.likeness.verdict == "not alike"
    assert any(each.code == "not_exchangeable" and each.severe for each in found.caveats)
    same = evaluate(given(calibration=of_logits(PLAIN.edge, PLAIN.cloud, PLAIN.y)))
    assert same.likeness is not None
    assert same.likeness.verdict == "alike"


def test_rows_without_a_score_are_escalated_and_counted() -> None:
    broken = PLAIN.edge.copy()
    broken[:50] = np.nan
    found = evaluate(given(edge_logits=broken))
    assert found.confidence.without_score_count == 50
    assert found.accuracy.escalated_percent >= 2.5
    assert any(each.code == "without_score" for each in found.caveats)


def test_a_constant_score_is_a_caveat_and_no_crash() -> None:
    outcomes = Outcomes(
        scores=np.full(400, 0.5),
        disagree=np.arange(400) < 80,
        edge_wrong=np.arange(400) < 100,
        cloud_wrong=np.arange(400) < 20,
    )
    found = evaluate(given(y=None, edge_logits=None, judged=outcomes, resamples=20))
    assert found.audit is None
    assert any(each.code == "constant_score" for each in found.caveats)


def test_cost_is_calls_and_bytes_times_their_prices() -> None:
    sizes = np.where(np.arange(2000) % 2, 1000, 3000)
    found = evaluate(
        given(request_bytes=sizes, prices=Prices(currency="CHF", per_call=0.01, per_megabyte=2.0))
    )
    local = of_logits(PLAIN.edge, PLAIN.cloud, PLAIN.y).scores >= 0.7
    sent = 1000 * (sizes * ~local).mean()
    money = 10 * (~local).mean() + 2 * sent / 1e6
    assert found.cost.bytes_per_1000_bytes == pytest.approx(sent)
    assert found.cost.all_cloud_bytes_per_1000_bytes == 2_000_000
    assert found.cost.per_1000_cost == pytest.approx(money)
    assert found.cost.all_cloud_per_1000_cost == pytest.approx(10 + 4)
    right = found.accuracy.system_percent / 100
    assert found.cost.per_1000_right_cost == pytest.approx(money / right)


def test_times_are_the_device_s_and_for_what_is_escalated_the_cloud_s_besides() -> None:
    found = evaluate(given(edge_ms=np.array([2.0]), cloud_ms=np.array([30.0]), deadline_ms=20.0))
    device, cascade, cloud = found.cost.latencies
    assert (device.p99_ms, cascade.p50_ms, cascade.p99_ms, cloud.p50_ms) == (2, 2, 32, 30)
    assert cascade.deadline_hit_percent == pytest.approx(
        100 - found.accuracy.escalated_percent, abs=1
    )
    # Every cloud answer is late, so the device's stand.
    assert found.cost.right_in_time_percent == pytest.approx(found.accuracy.edge_percent, abs=1)


def test_a_link_has_the_percentiles_it_was_given() -> None:
    times = link_times(Link(40.0, 110.0, 400.0), np.random.default_rng(0), 200_000)
    assert np.percentile(times, [50, 95, 99]) == pytest.approx([40, 110, 400], rel=0.03)
    assert times.min() > 0


@pytest.mark.parametrize(
    ("changes", "error", "says"),
    [
        ({"edge_logits": None}, UnfitData, "give edge_logits, or judged"),
        ({"edge_logits": PLAIN.edge[0]}, UnfitData, r"wanted \[n, K\]"),
        ({"cloud_logits": PLAIN.cloud[:7]}, UnfitData, "the same rows and classes"),
        ({"cloud_logits": None}, UnfitData, "give cloud_logits or cloud_predictions"),
        ({"y": PLAIN.y[:7]}, UnfitData, "wanted 2000 whole numbers"),
        ({"y": PLAIN.y + 1}, LabelOutside, r"outside 0\.\.3"),
        ({"groups": np.zeros(3, dtype=np.int64)}, (UnfitData, ValueError), "groups"),
        ({"labels": ("a", "b")}, UnfitData, "2 labels for a model with 4 classes"),
        ({"edge_fp32_logits": PLAIN.edge[:3]}, UnfitData, "edge_fp32_logits"),
        ({"request_bytes": np.ones(3)}, UnfitData, "request_bytes"),
        ({"edge_ms": np.array([-1.0])}, UnfitData, "edge_ms"),
        ({"prices": Prices(per_megabyte=1.0)}, UnfitData, "needs request_bytes"),
        (
            {"edge_ms": np.ones(2), "link": Link(40.0, 30.0, 50.0)},
            UnfitData,
            "must rise from above 0",
        ),
        (
            {"edge_logits": PLAIN.edge[:0], "cloud_logits": PLAIN.cloud[:0], "y": PLAIN.y[:0]},
            TooFewSamples,
            "not one sample",
        ),
    ],
)
def test_inputs_that_do_not_fit_are_refused_by_name(
    changes: dict[str, object], error: type[Exception], says: str
) -> None:
    with pytest.raises(error, match=says):
        evaluate(given(**changes))


def test_the_text_tells_the_headline_the_caveats_and_what_is_unknown() -> None:
    found = evaluate(given(resamples=20))
    told = to_text(found)
    assert told.startswith(f"made up: {found.headline.sentence}\n{found.headline.promise}\n")
    assert "What these data cannot tell:" in told
    assert "FP32 and INT8" not in told
    assert found.hurting.sentence in told


def test_a_certificate_that_counts_groups_is_judged_by_groups() -> None:
    """A large easy group and many small hard ones: rows and groups see different risks."""
    easy, hard = made_up(1000, seed=7, edge_skill=9.0), made_up(400, seed=8, edge_skill=0.5)
    groups = np.concatenate([np.zeros(1000, dtype=np.int64), 1 + np.arange(400) // 10])
    whole = certificate(threshold=0.3, n=41, groups=41)
    base = given(
        y=np.concatenate([easy.y, hard.y]),
        edge_logits=np.concatenate([easy.edge, hard.edge]),
        cloud_logits=np.concatenate([easy.cloud, hard.cloud]),
        groups=groups,
        certificate=whole,
        resamples=10,
    )
    by_group = evaluate(base)
    by_row = evaluate(replace(base, certificate=certificate(threshold=0.3, n=41)))
    assert by_group.certified.counted == "groups"
    assert by_group.certified.risk_percent > 2 * by_row.certified.risk_percent > 0
    assert by_group.certified.risk_range.high_percent > by_group.certified.risk_percent
    assert by_group.audit is not None
    assert by_group.audit.n_count == 41
    without = evaluate(replace(base, groups=None))
    assert without.audit is None
    assert any("counts groups" in sentence for sentence in without.unknown)


def test_a_real_certificate_goes_through() -> None:
    rows = made_up(3000, seed=9)
    outcomes = of_logits(rows.edge, rows.cloud, rows.y)
    made: Certificate = certify(
        outcomes.where(np.arange(3000) < 800),
        outcomes.where(np.arange(3000) >= 800),
        promise="harm",
        eps=0.05,
    )
    found = evaluate(given(certificate=made, resamples=30))
    assert made.curve is not None
    assert found.certified.bounds is not None
    assert len(found.certified.bounds.bound_percent) == len(made.curve.bounds)
    assert found.certified.threshold_ratio == made.threshold
    assert msgspec.json.decode(to_json(found))["certified"]["eps_percent"] == 5.0
