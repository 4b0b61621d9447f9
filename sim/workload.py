"""What the applications of a simulated fleet ask, and what is true of each input.

Inputs are made for the twin models: each carries the answers both models will give, so hardness and
the cloud's label are known here before anything runs.
"""

import random
from collections.abc import Iterator
from dataclasses import dataclass, replace

from models.tensors import Sample
from models.twins import LABELS, twin_sample
from sim.invariants import Known

TASK = "twin"
THRESHOLD = 0.8
_SURE, _DOUBTFUL, _UNSURE = 0.95, 0.85, 0.55


@dataclass(frozen=True)
class Inputs:
    """A pool of inputs and what is known of them, index by index."""

    samples: tuple[bytes, ...]
    dtype: str
    shape: tuple[int, ...]
    known: Known


def inputs(chance: random.Random, *, size: int = 500, hard: float = 0.05) -> Inputs:
    """A pool of which exactly this share is hard, half of those mislabelled by the edge."""
    count = round(size * hard)
    flags = [index < count for index in range(size)]
    chance.shuffle(flags)
    samples: list[Sample] = []
    cloud: list[str] = []
    for is_hard in flags:
        right = chance.randrange(len(LABELS))
        mislabelled = is_hard and chance.random() < 0.5
        edge = (right + 1) % len(LABELS) if mislabelled else right
        samples.append(twin_sample(edge, right, confidence=_UNSURE if is_hard else _SURE))
        cloud.append(LABELS[right])
    (first, *_) = samples
    return Inputs(
        tuple(sample.tobytes() for sample in samples),
        str(first.dtype),
        first.shape,
        Known(flags, cloud),
    )


def with_drifted(inputs: Inputs, chance: random.Random, *, more: int = 100) -> Inputs:
    """The same pool, and behind it inputs on which the edge is sure enough, and wrong."""
    cloud = [chance.randrange(len(LABELS)) for _ in range(more)]
    drifted = [
        twin_sample((right + 1) % len(LABELS), right, confidence=_DOUBTFUL) for right in cloud
    ]
    return replace(
        inputs,
        samples=(*inputs.samples, *(sample.tobytes() for sample in drifted)),
        known=Known(
            (*inputs.known.hard, *(False for _ in cloud)),
            (*inputs.known.cloud, *(LABELS[right] for right in cloud)),
        ),
    )


def arrivals(chance: random.Random, every_s: float, until: float) -> Iterator[float]:
    """Moments of a Poisson process with this mean interval."""
    at = chance.expovariate(1 / every_s)
    while at < until:
        yield at
        at += chance.expovariate(1 / every_s)
