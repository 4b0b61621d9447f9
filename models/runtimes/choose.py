"""Which runtime opens which file: names to `module:Class`, imported when chosen."""

from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

from models.errors import UnknownRuntime
from models.runtimes.base import Opener, Options, Runtime
from models.runtimes.rows import any_rows
from models.runtimes.wish import Precision, Provider

RUNTIMES = {
    "onnx": "models.runtimes.onnx:OnnxRuntime",
    "openvino": "models.runtimes.openvino:OpenvinoRuntime",
    "twin": "models.runtimes.twin:TwinRuntime",
}
"""By name. A model's form names the one that reads it, unless a program asks for another."""

_LIBRARIES = {"onnx": "onnxruntime", "openvino": "openvino"}


def installed() -> tuple[str, ...]:
    """The runtimes whose library is there, found without an import; `twin` needs none."""
    return tuple(name for name in RUNTIMES if name not in _LIBRARIES or _there(_LIBRARIES[name]))


def open_model(
    file: Path,
    name: str,
    *,
    provider: Provider = "cpu",
    precision: Precision = "f32",
    threads: int = 1,
    cache: Path | None = None,
) -> Runtime:
    """Open a model file; it takes batches of any size, whatever size the file was exported for.

    Raises `UnknownRuntime`, `RuntimeFailed` and its kind.
    """
    if name not in RUNTIMES:
        raise UnknownRuntime(f"runtime {name!r} is unknown; choose one of {', '.join(RUNTIMES)}")
    module, _, attribute = RUNTIMES[name].partition(":")
    opener: Opener = getattr(import_module(module), attribute)
    return any_rows(opener(file, Options(provider, precision, threads, cache)))


def _there(library: str) -> bool:
    try:
        return find_spec(library) is not None
    except ValueError:  # somebody has put a stand-in without a spec into sys.modules
        return False
