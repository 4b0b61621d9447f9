"""Chooses the cascade's temperature and threshold from held-out data.

Rules:
1. The held-out part is cut in two: *tune* gives temperature and grid, *calibrate* the threshold.
   Where persons are known, no person is in both.
2. Scores come from the INT8 file that ships, through onnxruntime.
3. Without a mistake on tune the likeliest temperature is zero, which makes every score one. The
   temperature is 1 then: the net's own scores.
4. Where enough groups are held out, groups are counted. Where they are too few for that (three
   people) rows are, and the certificate says how alike the rows of a group are.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from models.calibrate.certificate import Certificate
from models.calibrate.certify import Counting, certify
from models.calibrate.outcomes import of_logits
from models.calibrate.scores import Logits
from models.calibrate.temperature import fit_temperature
from models.zoo.data import Dataset, Labels

Mask = npt.NDArray[np.bool_]

DELTA = 0.1
HALVES_SEED = 0


def tune_mask(dataset: Dataset, tune_persons: tuple[int, ...]) -> Mask:
    """True for the held-out samples that tune, false for those that calibrate."""
    if dataset.held_groups is not None:
        return np.isin(dataset.held_groups, tune_persons)
    order = np.random.default_rng(HALVES_SEED).permutation(len(dataset.held_y))
    return order < len(order) // 2


def harmed(edge_logits: Logits, cloud_logits: Logits, labels: Labels) -> Mask:
    """Where the edge net is wrong and the cloud net right."""
    edge_wrong: Mask = edge_logits.argmax(axis=1) != labels
    cloud_right: Mask = cloud_logits.argmax(axis=1) == labels
    return edge_wrong & cloud_right


def decide(
    edge_logits: Logits,
    cloud_logits: Logits,
    labels: Labels,
    tune: Mask,
    *,
    eps: float,
    split: str,
    groups: Labels | None = None,
    counting: Counting = "rows",
) -> Certificate:
    """The certificate of held-out logits; `split` says in words how tune and calibrate were cut."""
    without_mistake = bool((edge_logits[tune].argmax(axis=1) == labels[tune]).all())
    temperature = 1.0 if without_mistake else fit_temperature(edge_logits[tune], labels[tune])
    outcomes = of_logits(edge_logits, cloud_logits, labels, temperature=temperature, groups=groups)
    doubt = "; no mistake on tune, so the temperature is 1" if without_mistake else ""
    return certify(
        outcomes.where(tune),
        outcomes.where(~tune),
        promise="harm",
        eps=eps,
        delta=DELTA,
        temperature=temperature,
        counting=counting,
        note=split + doubt,
    )
