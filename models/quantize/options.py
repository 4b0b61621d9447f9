"""What `quantize` is asked to do, in one value.

Array options hold prepared inputs: what reaches the model's own inputs, after decoding, scaling and
windows. The first axis counts samples.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from models.errors import QuantizeOptionsInvalid

Array = npt.NDArray[Any]
Labels = npt.NDArray[np.integer[Any]]
Method = Literal["minmax", "entropy", "percentile"]
METHODS: tuple[Method, ...] = ("minmax", "entropy", "percentile")


@dataclass(frozen=True)
class Settings:
    """How ranges become a grid. Two files made with equal settings have the same structure."""

    method: Method = "minmax"
    percentile: float = 99.99
    """Share of an activation's values, in percent, that `percentile` keeps inside the range."""
    keep: tuple[str, ...] = ()
    """Layers that stay in FP32: names, or patterns such as `head*`."""
    per_channel: bool = True
    reduce_range: bool = False
    """Weights of 7 bits: for processors without VNNI, whose fast kernel saturates on 8."""


@dataclass(frozen=True)
class QuantizeOptions:
    """One run of `quantize`. Raises `QuantizeOptionsInvalid` for what makes no sense."""

    model: Path
    """FP32 (or float16) ONNX file."""
    out: Path
    """Where the INT8 file goes; written whole or not at all."""
    calibration: tuple[Array, ...]
    """One array [n, ...] for each input of the model, in its order."""
    evaluation: tuple[Array, ...] = ()
    """Inputs to compare the files on; the calibration inputs where there are none."""
    labels: Labels | None = None
    """True classes int [n] of the inputs that the files are compared on."""
    settings: Settings = Settings()
    sensitivity: bool = False
    """Measure every layer, and keep the worst in FP32 until `target` is met."""
    target: float = 0.995
    """Share of samples to which INT8 and FP32 should give the same label."""
    same_grid: Path | None = None
    """INT8 file of the model that this one was tuned from."""
    runtimes: tuple[str, ...] = ("onnx", "openvino")
    """Runtimes to measure on; those not installed here are skipped, and named."""
    seconds: float = 0.5
    """Time to measure each file on each runtime, in seconds."""

    def __post_init__(self) -> None:
        settings = self.settings
        if settings.method not in METHODS:
            raise QuantizeOptionsInvalid(
                f"method {settings.method!r} is unknown; choose one of {', '.join(METHODS)}"
            )
        if not 50 < settings.percentile <= 100:
            raise QuantizeOptionsInvalid(
                f"percentile {settings.percentile:g} is not above 50 and at most 100; "
                "99.9 to 99.999 are usual"
            )
        if not 0 < self.target <= 1:
            raise QuantizeOptionsInvalid(
                f"target {self.target:g} is no share; 0.995 means that 995 of 1,000 labels agree"
            )
        if self.seconds <= 0:
            raise QuantizeOptionsInvalid(
                f"{self.seconds:g} s measure nothing; give at least a tenth of a second"
            )
        if not self.runtimes:
            raise QuantizeOptionsInvalid("there is no runtime to measure on; name one, as in onnx")
        if self.same_grid is not None and (self.sensitivity or settings.keep):
            raise QuantizeOptionsInvalid(
                "the base file says which layers stay in FP32, so --same-grid goes with neither "
                "--keep nor --sensitivity; leave those out"
            )
        if self.model.resolve() == self.out.resolve():
            raise QuantizeOptionsInvalid(
                f"{self.out} is the model itself; write the INT8 file somewhere else"
            )
