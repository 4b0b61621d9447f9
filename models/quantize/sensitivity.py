"""Which layers lose most when they become INT8, and how few must stay in FP32.

Rules:
1. Each layer alone is quantised first, the rest in FP32: its loss is its own.
2. Then the whole model is quantised, and the worst layers are kept in FP32 one by one until the
   target is met, measured each time: losses do not add up.
3. Ranges are taken once. A layer kept in FP32 costs size and time, so none is kept without need.
"""

from collections.abc import Callable, Sequence

from msgspec import Struct
from onnx import ModelProto

from models.quantize.agree import Likeness, likeness
from models.quantize.options import Array, Labels
from models.quantize.prepare import Layer, layers_of


class LayerLoss(Struct, frozen=True):
    """What quantising this layer alone does."""

    layer: str
    kind: str
    loss: float
    """Disagreement with FP32 plus mean shift of the confidence; without classes the relative
    error. Infinite, in JSON null, where outputs are."""
    agreement: float | None
    confidence_shift: float | None
    accuracy: float | None


class Sensitivity(Struct, frozen=True):
    """What a sweep found."""

    layers: tuple[LayerLoss, ...]
    """The worst first."""
    kept: tuple[str, ...]
    """Layers that stay in FP32, those asked for by name included."""
    target: float
    reached: float
    """Agreement of the whole file; without classes 1 minus the relative error."""

    @property
    def met(self) -> bool:
        return self.reached >= self.target


def sweep(
    ready: ModelProto,
    always: Sequence[str],
    *,
    build: Callable[[Sequence[str]], ModelProto],
    outputs: Callable[[ModelProto], Array],
    reference: Array,
    labels: Labels | None,
    target: float,
    tell: Callable[[str], None],
) -> Sensitivity:
    """Rank the layers of `ready` and choose those to keep besides `always`.

    `build` makes the QDQ model in which the layers it is given stay in FP32; `outputs` runs a
    model over the samples that `reference`, the FP32 file's outputs, came from.
    Raises what `build` and `outputs` raise.
    """
    free = [layer for layer in layers_of(ready) if layer.name not in always]
    ranked: list[LayerLoss] = []
    for at, layer in enumerate(free, start=1):
        others = [other.name for other in free if other != layer]
        found = likeness(outputs(build((*always, *others))), reference, labels)
        ranked.append(_row(layer, found))
        tell(f"layer {at} of {len(free)}: {layer.name} alone loses {found.loss:.4f}")
    ranked.sort(key=lambda row: -row.loss)
    kept = list(always)
    best = _reached(likeness(outputs(build(kept)), reference, labels))
    for row in ranked[:-1]:  # the last one stays quantised: without it the FP32 file is better
        if best >= target:
            break
        kept.append(row.layer)
        best = _reached(likeness(outputs(build(kept)), reference, labels))
        tell(f"with {row.layer} in FP32: {best:.4f}")
    return Sensitivity(tuple(ranked), tuple(kept), target, best)


def _row(layer: Layer, found: Likeness) -> LayerLoss:
    return LayerLoss(
        layer.name,
        layer.kind,
        found.loss,
        found.agreement,
        found.confidence_shift,
        found.accuracy,
    )


def _reached(found: Likeness) -> float:
    return max(0.0, 1 - found.relative_error) if found.agreement is None else found.agreement
