"""Raw samples through declared steps, for recipes and tests; devices run the same code."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from models.pipeline.compute.families import compile_steps
from models.pipeline.kinds import Kind
from models.pipeline.ops.families import Step
from models.zoo.data import Raw

Floats = npt.NDArray[np.float32]


def prepared(samples: Raw, steps: tuple[Step, ...], kind: Kind) -> Floats:
    """float32 [n, ...]: every sample through all steps; `kind` is that of one raw sample.

    Raises:
        ValueError: a step that cannot follow the one before it.
        InputError: a sample that cannot be prepared.
    """
    prepare = compile_steps(steps, kind)
    return np.stack([np.ascontiguousarray(prepare(sample), np.float32) for sample in samples])
