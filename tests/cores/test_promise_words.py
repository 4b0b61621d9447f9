"""A certificate in words: what `calibrate` and `inspect` tell a person."""

from dataclasses import replace

import numpy as np

from models.calibrate.certify import certify
from models.describe import certificate_text, promise
from tests.bench.populations import made_up_population

POPULATION = made_up_population(seed=3, n=8000)
SAMPLE = POPULATION.drawn_from.where(np.random.default_rng(0).integers(0, 6000, 900))


def test_a_marginal_promise_is_told_as_a_promise_and_not_as_none() -> None:
    found = certify(
        POPULATION.tune, SAMPLE, promise="harm", guarantee="marginal", eps=0.03, delta=0.1
    )
    told = promise(found)
    assert "keeps no promise" not in told
    assert "at most 3 % are answered on the device wrongly" in told
    assert "on average over calibrations, and about half of them break it" in told
    assert told.endswith(f"this one saw {found.k} such cases in 900 held-out samples.")


def test_where_groups_are_counted_it_is_groups_that_would_do() -> None:
    tune = replace(POPULATION.tune, groups=np.arange(POPULATION.tune.n))
    few = replace(SAMPLE, groups=10**6 + np.arange(900) % 20)
    found = certify(tune, few, promise="harm", guarantee="high-probability", eps=0.03, delta=0.1)
    assert found.needed_n is not None
    assert f"About {found.needed_n:,} groups would do." in certificate_text(found)
