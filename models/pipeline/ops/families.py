"""Which family a step belongs to, and what it makes of a kind.

A step that meets a list of arrays is done to each of them, unless its family takes the list whole.
"""

from models.pipeline.kinds import Kind
from models.pipeline.ops import image, scores, series, sound, table, tensor, text

Step = tensor.Step | image.Step | scores.Step | sound.Step | series.Step | table.Step | text.Step
TAKES_MANY: tuple[type, ...] = (
    *tensor.TAKES_MANY,
    *image.TAKES_MANY,
    *scores.TAKES_MANY,
    *sound.TAKES_MANY,
    *series.TAKES_MANY,
)
"""Steps that take a list of arrays whole."""


def after_step(step: Step, kind: Kind) -> Kind:
    """What a step makes of a kind. Raises `ValueError` when it cannot follow."""
    if not kind.many or isinstance(step, TAKES_MANY):
        return _after(step, kind)
    each = _after(step, kind._replace(many=False))
    if each.many:
        raise ValueError("a list of lists has no place here; pool or stack the first one before")
    return each._replace(many=True)


def _after(step: Step, kind: Kind) -> Kind:
    if isinstance(step, image.Step):
        return image.after(step, kind)
    if isinstance(step, scores.Step):
        return scores.after(step, kind)
    if isinstance(step, sound.Step):
        return sound.after(step, kind)
    if isinstance(step, series.Step):
        return series.after(step, kind)
    if isinstance(step, table.Step):
        return table.after(step, kind)
    if isinstance(step, text.Step):
        return text.after(step, kind)
    return tensor.after(step, kind)
