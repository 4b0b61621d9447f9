"""Steps ready to run: each compiled by its family, a row of them as one function."""

from itertools import takewhile
from typing import cast

import numpy as np

from models.pipeline.compute import image as images
from models.pipeline.compute import scores as score_steps
from models.pipeline.compute import series as series_steps
from models.pipeline.compute import sound as sounds
from models.pipeline.compute import table as tables
from models.pipeline.compute import tensor as tensors
from models.pipeline.compute import text as texts
from models.pipeline.kinds import Kind
from models.pipeline.ops import image, scores, series, sound, table, tensor, text
from models.pipeline.ops.families import TAKES_MANY, Step, after_step
from models.pipeline.values import Compiled, Value, array, record
from models.pipeline.values import text as text_of


def compile_steps(steps: tuple[Step, ...], kind: Kind) -> Compiled:
    """One function for a row of steps that have passed `plan`, on values of this kind."""
    parts: list[Compiled] = []
    while steps:
        run = _one_run(steps)
        parts.append(_compiled(run, kind))
        for step in run:
            kind = after_step(step, kind)
        steps = steps[len(run) :]
    if len(parts) == 1:
        return parts[0]

    def all_of_them(value: Value) -> Value:
        for part in parts:
            value = part(value)
        return value

    return all_of_them


def _one_run(steps: tuple[Step, ...]) -> tuple[Step, ...]:
    """The first step, with those after it that its family does without leaving its own form."""
    if not isinstance(steps[0], image.Step):
        return steps[:1]
    return tuple(takewhile(lambda step: isinstance(step, image.Step), steps))


def _compiled(run: tuple[Step, ...], kind: Kind) -> Compiled:
    if not kind.many or isinstance(run[0], TAKES_MANY):
        return _of_family(run, kind)
    each = _of_family(run, kind._replace(many=False))
    after = kind
    for step in run:
        after = after_step(step, after)
    empty = np.empty((0, *(side or 0 for side in after.shape)), after.dtype)

    def to_each(value: Value) -> Value:
        done = [array(each(one)) for one in array(value)]
        return np.stack(done) if done else empty.copy()

    return to_each


def _of_family(run: tuple[Step, ...], kind: Kind) -> Compiled:
    step = run[0]
    if isinstance(step, image.Step):
        return images.compile_run([one for one in run if isinstance(one, image.Step)], kind)
    if isinstance(step, tensor.Step):
        return tensors.compile_step(step, kind)
    if isinstance(step, table.Step):
        to_row = tables.compile_step(step, kind)
        return lambda value: to_row(record(value))
    if isinstance(step, text.Step):
        to_text = texts.compile_step(step, kind)
        return lambda value: to_text(text_of(value))
    return _on_arrays(step, kind)


def _on_arrays(step: scores.Step | series.Step | sound.Step, kind: Kind) -> Compiled:
    if isinstance(step, sound.Step):
        sounded = sounds.compile_step(step, kind)
        return cast(Compiled, sounded)  # it takes what its own kind says: a file, or an array
    if isinstance(step, series.Step):
        to_floats = series_steps.compile_step(step, kind)
        return lambda value: to_floats(array(value))
    to_array = score_steps.compile_step(step, kind)
    return lambda value: to_array(array(value))
