"""Makes card payments, some of them fraud: simulated customers, habits, five ways to steal.

No real payment is behind this. What holds by construction:

1. A customer has habits: a usual amount, hours, shops, how often abroad. All payments of a customer
   are in one part of the data, so a part is new customers, not new payments of known ones.
2. Fraud comes in five ways (`WAYS`). Four leave traces that overlap with what honest people do; the
   fifth, a denied own purchase, leaves none but an earlier chargeback.
3. `Conditions.fraud` of the payments are fraud before labelling; `Conditions.unseen` of the frauds
   are never reported and labelled legitimate. This label noise is in every part, test included.
4. Fields go missing as they do in practice: no device for a card in a terminal, no distance where a
   terminal has no place, no usual amount for an account younger than a month.
5. The same seed, customers and conditions give the same payments. No country is riskier than
   another: what tells is to be far from home, not where.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from models.pipeline.values import Record

Numbers = npt.NDArray[np.float64]
Whole = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]

LABELS = ("legitimate", "fraud")
CATEGORIES = (
    "groceries",
    "fuel",
    "restaurant",
    "pharmacy",
    "clothing",
    "electronics",
    "travel",
    "games",
    "gift_cards",
    "cash",
)
COUNTRIES = ("AT", "BE", "CH", "DE", "FR", "IT", "NL", "PL")
WAYS = ("card testing", "account takeover", "stolen card", "new account", "denied purchase")

_HONEST = np.array([0.30, 0.11, 0.16, 0.07, 0.11, 0.06, 0.06, 0.07, 0.02, 0.04])
_CATEGORY_OF = np.array(
    [
        [0.05, 0.02, 0.05, 0.03, 0.10, 0.10, 0.05, 0.45, 0.15, 0.00],
        [0.02, 0.00, 0.02, 0.02, 0.16, 0.34, 0.14, 0.08, 0.22, 0.00],
        [0.30, 0.20, 0.10, 0.08, 0.12, 0.06, 0.02, 0.00, 0.02, 0.10],
        [0.03, 0.00, 0.02, 0.02, 0.18, 0.38, 0.17, 0.06, 0.14, 0.00],
        [0.06, 0.00, 0.06, 0.04, 0.30, 0.22, 0.16, 0.12, 0.04, 0.00],
    ]
)
"""Where each way of fraud buys; rows are `WAYS`, columns `CATEGORIES`."""
_LEVEL = np.array([0.0, 0.35, -0.15, -0.35, 0.35, 1.15, 1.35, -0.75, 0.1, 0.65])
"""Log amount of each category beside the customer's usual amount."""
_TERMINAL = np.array([0.93, 0.99, 0.92, 0.9, 0.5, 0.35, 0.25, 0.0, 0.25, 1.0])
"""Share of honest payments with the card in a terminal, by category."""
_CONTACTLESS_LIMIT = 50.0
_MONTH_DAYS = 30


@dataclass(frozen=True)
class Conditions:
    """The world the payments come from; every field is a knob to make a drift with."""

    fraud: float = 0.08
    """Share of payments that are fraud."""
    unseen: float = 0.04
    """Share of frauds nobody reports: labelled legitimate."""
    ways: tuple[float, ...] = (0.22, 0.30, 0.22, 0.20, 0.06)
    """How the frauds split over `WAYS`."""
    prices: float = 1.0
    """Factor on every amount: inflation, harmless in itself."""
    abroad: float = 1.0
    """Factor on how often honest people are away: the holidays."""
    careful: float = 0.0
    """0 to 1: how far thieves hide, towards the victim's hours, shops and amounts."""


@dataclass(frozen=True)
class Payments:
    """Records as a device sees them, what they are labelled, and whose they are."""

    records: tuple[Record, ...]
    labels: Whole
    """Of `LABELS`."""
    customers: Whole
    way: Whole
    """Of `WAYS`; -1 for honest payments. Not a field of the record."""


def payments(
    customers: range, each: int, *, seed: int, conditions: Conditions | None = None
) -> Payments:
    """`each` payments of every customer, customer by customer.

    The habits of a customer depend on the seed and the customer's number alone.

    Raises:
        ValueError: no customers, no payments, or a share outside 0..1.
    """
    world = conditions or Conditions()
    _check(customers, each, world)
    chance = np.random.default_rng([seed, customers.start, len(customers), each])
    count = len(customers) * each
    owner = np.repeat(np.arange(len(customers)), each)
    habits = np.stack([_habits(seed, customer) for customer in customers])[owner]
    usual, waking, away_share, online_share, age_days, earlier, busy = habits.T

    stolen = chance.random(count) < world.fraud
    way = np.where(stolen, chance.choice(len(WAYS), size=count, p=world.ways), -1)
    hidden = chance.random(count) < world.careful
    young = (way == 3) & ~hidden
    age_days = np.where(
        young, chance.integers(1, 60, count), age_days + chance.integers(0, 90, count)
    )
    earlier = np.where(way == 4, np.maximum(earlier, chance.integers(0, 4, count)), earlier)

    category = _categories(chance, way, hidden)
    in_terminal = chance.random(count) < _TERMINAL[category] * (1 - 0.6 * online_share)
    in_terminal = np.where(way >= 0, way == 2, in_terminal)
    amount = _amounts(chance, usual, category, way, hidden, in_terminal) * world.prices
    hour = _hours(chance, waking, way, hidden)
    away = chance.random(count) < np.clip(away_share * world.abroad, 0, 0.9)
    far = np.where(way == 2, ~hidden & (chance.random(count) < 0.7), away)
    distance = np.where(
        far, chance.lognormal(5.6, 0.9, count), chance.lognormal(1.3 + 0.4 * busy, 0.9, count)
    )
    abroad = far & (chance.random(count) < np.where(way == 2, 0.4, 0.6))
    known = chance.random(count) < _known_share(way, hidden)
    burst = np.where(category == 7, 0.9, 0.25) + 0.3 * busy
    last_hour = chance.poisson(np.where((way == 0) & ~hidden, 3.2, burst))
    last_hour += np.where((way == 1) & ~hidden, chance.poisson(0.9, count), 0)

    no_place = chance.random(count) < np.where(in_terminal, 0.06, 0.35)
    no_history = (age_days < _MONTH_DAYS) | (chance.random(count) < 0.02)
    country = chance.integers(0, len(COUNTRIES), count)
    shown_usual = usual * world.prices * chance.lognormal(0, 0.12, count)
    unreported = chance.random(count) < world.unseen
    records: tuple[Record, ...] = tuple(
        {
            "amount": round(float(amount[i]), 2),
            "category": CATEGORIES[category[i]],
            "country": COUNTRIES[country[i]],
            "abroad": bool(abroad[i]),
            "hour": int(hour[i]),
            "account_age_days": int(age_days[i]),
            "previous_chargebacks": int(earlier[i]),
            "card_present": bool(in_terminal[i]),
            "device_known": None if in_terminal[i] else bool(known[i]),
            "distance_km": None if no_place[i] else round(float(distance[i]), 1),
            "payments_last_hour": int(last_hour[i]),
            "usual_amount": None if no_history[i] else round(float(shown_usual[i]), 2),
        }
        for i in range(count)
    )
    labels = (stolen & ~unreported).astype(np.int64)
    return Payments(records, labels, np.array(customers, dtype=np.int64)[owner], way)


def _check(customers: range, each: int, world: Conditions) -> None:
    if len(customers) == 0 or each < 1:
        raise ValueError(f"wanted customers and payments, not {customers} and {each}")
    for name in ("fraud", "unseen", "careful"):
        if not 0 <= getattr(world, name) <= 1:
            raise ValueError(f"{name} must lie in 0..1, not {getattr(world, name)}")
    if len(world.ways) != len(WAYS) or min(world.ways) < 0 or abs(sum(world.ways) - 1) > 1e-9:
        raise ValueError(f"ways must be {len(WAYS)} shares that sum to 1, not {world.ways}")
    if world.prices <= 0 or world.abroad < 0:
        raise ValueError(f"prices and abroad are factors, not {world.prices} and {world.abroad}")


def _habits(seed: int, customer: int) -> Numbers:
    """One customer: usual amount, waking hour, shares, age of the account, chargebacks, pace."""
    chance = np.random.default_rng([seed, 7, customer])
    new = chance.random() < 0.12
    return np.array(
        [
            chance.lognormal(3.4, 0.45),
            chance.choice([6.0, 8.0, 10.0, 18.0], p=[0.3, 0.45, 0.2, 0.05]),
            chance.beta(1.2, 14),
            chance.beta(2, 4),
            chance.integers(1, 60) if new else chance.gamma(1.6, 700) + 60,
            chance.poisson(0.08),
            chance.random(),
        ]
    )


def _categories(chance: np.random.Generator, way: Whole, hidden: Flags) -> Whole:
    shares = np.where(((way < 0) | hidden)[:, None], _HONEST, _CATEGORY_OF[np.maximum(way, 0)])
    drawn = chance.random(len(way))[:, None] * shares.sum(axis=1, keepdims=True)
    chosen: Whole = (shares.cumsum(axis=1) < drawn).sum(axis=1)
    return np.minimum(chosen, len(CATEGORIES) - 1)


def _amounts(
    chance: np.random.Generator,
    usual: Numbers,
    category: Whole,
    way: Whole,
    hidden: Flags,
    in_terminal: Flags,
) -> Numbers:
    """Euros. Testers try cents, thieves at a terminal stay below the limit without a PIN."""
    count = len(usual)
    honest = usual * np.exp(_LEVEL[category] + 0.55 * chance.standard_normal(count))
    tested = chance.lognormal(0.9, 0.6, count)
    taken = honest * chance.lognormal(0.75, 0.5, count)
    tapped = np.minimum(_CONTACTLESS_LIMIT * (1 - chance.beta(1.3, 5, count)), _CONTACTLESS_LIMIT)
    amounts = honest
    for number, stolen in ((0, tested), (1, taken), (2, tapped), (3, taken)):
        amounts = np.where((way == number) & ~hidden, stolen, amounts)
    amounts = np.where(in_terminal & (category == 9), np.ceil(amounts / 10) * 10, amounts)
    return np.maximum(amounts, 0.5)


def _hours(chance: np.random.Generator, waking: Numbers, way: Whole, hidden: Flags) -> Whole:
    """Honest hours follow the customer's day; a taken account is used while its owner sleeps."""
    count = len(waking)
    honest = (waking + 16 * chance.beta(2.2, 1.8, count)) % 24
    asleep = (waking - 6.5 + 6 * chance.random(count)) % 24
    at_night = (np.isin(way, (0, 1)) & ~hidden) & (chance.random(count) < 0.6)
    hours: Whole = np.floor(np.where(at_night, asleep, honest)).astype(np.int64) % 24
    return hours


def _known_share(way: Whole, hidden: Flags) -> Numbers:
    """How likely the device of an online payment is one the customer used before."""
    shares = np.array([0.12, 0.15, 0.5, 0.35, 0.96])
    return np.where((way < 0) | hidden, 0.93, shares[np.maximum(way, 0)])
