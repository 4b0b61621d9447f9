"""The fraud generator: what thieves leave behind, what honest people do, what each knob moves."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from models.zoo.fraud.generator import WAYS, Conditions, Payments, payments

SEED = 5
CUSTOMERS = range(600)


def made(conditions: Conditions | None = None) -> Payments:
    return payments(CUSTOMERS, 8, seed=SEED, conditions=conditions)


def numbers(found: Payments, name: str, way: int | None = None) -> list[float]:
    """A field's values, of one way of fraud (-1: honest), missing ones left out."""
    return [
        float(value)
        for record, by in zip(found.records, found.way, strict=True)
        if (way is None or by == way) and (value := record[name]) is not None
        if not isinstance(value, str)
    ]


def only(way: str) -> Conditions:
    shares = tuple(float(name == way) for name in WAYS)
    return Conditions(fraud=0.5, unseen=0.0, ways=shares)


def test_the_same_seed_gives_the_same_payments_and_customers_keep_their_numbers() -> None:
    again = made()
    assert again.records == made().records
    assert again.customers.tolist()[:9] == [0] * 8 + [1]
    other = payments(CUSTOMERS, 8, seed=SEED + 1)
    assert other.records != again.records


def test_fraud_and_unseen_fraud_have_the_shares_they_are_given() -> None:
    found = made()
    stolen = found.way >= 0
    assert stolen.mean() == pytest.approx(0.08, abs=0.012)
    assert (found.labels[~stolen] == 0).all()
    half = made(Conditions(unseen=0.5))
    assert half.labels[half.way >= 0].mean() == pytest.approx(0.5, abs=0.08)


def test_fields_are_missing_where_a_device_would_not_have_them() -> None:
    found = made()
    for record in found.records:
        assert (record["device_known"] is None) == record["card_present"]
        age = record["account_age_days"]
        assert isinstance(age, int)
        if age < 30:
            assert record["usual_amount"] is None
    assert 0.05 < np.mean([record["distance_km"] is None for record in found.records]) < 0.4


def test_testers_try_small_amounts_in_quick_succession() -> None:
    found = made(only("card testing"))
    assert np.median(numbers(found, "amount", 0)) < 0.3 * np.median(numbers(found, "amount", -1))
    burst, usual = (np.mean(numbers(found, "payments_last_hour", way)) for way in (0, -1))
    assert burst > 3 * usual


def test_a_taken_account_pays_more_from_a_new_device() -> None:
    found = made(only("account takeover"))
    assert np.mean(numbers(found, "device_known", 1)) < 0.3
    assert np.mean(numbers(found, "device_known", -1)) > 0.85
    assert np.median(numbers(found, "amount", 1)) > 2 * np.median(numbers(found, "amount", -1))


def test_a_stolen_card_stays_below_the_limit_in_terminals_far_away() -> None:
    found = made(only("stolen card"))
    assert max(numbers(found, "amount", 2)) <= 50
    assert 30 < np.median(numbers(found, "amount", 2)) < 49
    assert np.mean(numbers(found, "card_present", 2)) == 1.0
    far, near = (np.median(numbers(found, "distance_km", way)) for way in (2, -1))
    assert far > 10 * near


def test_a_new_account_is_young_and_so_are_some_honest_ones() -> None:
    found = made(only("new account"))
    assert max(numbers(found, "account_age_days", 3)) < 60
    honest = np.array(numbers(found, "account_age_days", -1))
    assert 0.01 < (honest < 60).mean() < 0.15


def test_careful_thieves_look_like_their_victims() -> None:
    careful = replace(only("account takeover"), careful=1.0)
    stolen, honest = (np.mean(numbers(made(careful), "device_known", way)) for way in (1, -1))
    assert stolen == pytest.approx(honest, abs=0.04)


def test_prices_rise_for_all_and_usual_amounts_with_them() -> None:
    usual, dear = made(), made(Conditions(prices=2.0))
    for name in ("amount", "usual_amount"):
        ratio = np.median(numbers(dear, name)) / np.median(numbers(usual, name))
        assert ratio == pytest.approx(2.0, rel=0.03)


def test_holidays_bring_honest_people_far_from_home() -> None:
    def away(conditions: Conditions) -> float:
        return float(np.mean(numbers(made(conditions), "abroad", -1)))

    assert away(Conditions(abroad=4.0)) > 2.5 * away(Conditions())


@pytest.mark.parametrize(
    ("conditions", "why"),
    [
        (Conditions(fraud=1.2), "fraud must lie in 0..1, not 1.2"),
        (Conditions(ways=(1.0, 0.0)), "ways must be 5 shares"),
        (Conditions(prices=0.0), "prices and abroad are factors"),
    ],
)
def test_what_cannot_be_made_is_refused_by_name(conditions: Conditions, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        made(conditions)
    with pytest.raises(ValueError, match="wanted customers and payments"):
        payments(range(0), 1, seed=SEED)
