"""From a raw window to what the nets of `vibration` take, as steps a manifest declares.

Two spectra, one over the other. Short frames give the level of each band over time, 800 times a
second; the spectrum of that level along time shows how often a band swells, which is where strikes
at 75 to 150 Hz on a resonance at some kHz can be seen (the cyclic modulation spectrum, Antoni and
Hanson 2012; with one band it is the envelope spectrum of bearing diagnostics).
"""

from __future__ import annotations

from models.pipeline.kinds import Kind
from models.pipeline.ops.families import Step
from models.pipeline.ops.sound import Spectrum
from models.pipeline.ops.tensor import Cast, Scale, Transpose
from models.zoo.vibration.generator import COUNTS_PER_G, LENGTH

RAW = Kind("int16", (LENGTH,))
_IN_G = (Cast(dtype="float32"), Scale(by=(1 / COUNTS_PER_G,)))
_SWELLING = (
    Transpose(axes=(1, 0)),
    Spectrum(kind="log_power", n_fft=128, window="hann", floor=1e-6),
    Transpose(axes=(1, 0)),
)
EDGE: tuple[Step, ...] = (
    *_IN_G,
    Spectrum(kind="magnitude", n_fft=16, stride=16),
    *_SWELLING,
)
"""int16 [2048] to float32 [65, 9]: swelling of 0 to 400 Hz, bands of 800 Hz."""
CLOUD: tuple[Step, ...] = (
    *_IN_G,
    Spectrum(kind="magnitude", n_fft=64, stride=16),
    *_SWELLING,
)
"""int16 [2048] to float32 [65, 33]: the same, bands of 200 Hz."""
