"""Which runtime opens which file: names to `module:Class`, imported when chosen."""

from importlib import import_module
from pathlib import Path

from models.errors import UnknownRuntime
from models.runtimes.base import Opener, Provider, Runtime

RUNTIMES = {
    "onnx": "models.runtimes.onnx:OnnxRuntime",
    "twin": "models.runtimes.twin:TwinRuntime",
}
"""By name. A model's form names the one that reads it, unless a program asks for another."""


def open_model(file: Path, name: str, *, provider: Provider = "cpu") -> Runtime:
    """Open a model file. Raises `UnknownRuntime`, `RuntimeFailed`."""
    if name not in RUNTIMES:
        raise UnknownRuntime(f"runtime {name!r} is unknown; choose one of {', '.join(RUNTIMES)}")
    module, _, attribute = RUNTIMES[name].partition(":")
    opener: Opener = getattr(import_module(module), attribute)
    return opener(file, provider=provider)
