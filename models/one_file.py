"""An ONNX file that keeps its weights in others, as one: a package holds each model in one file."""

from pathlib import Path

from models.errors import ExtraMissing, RuntimeFailed
from models.runtimes import onnx_file


def with_weights(path: Path, data: bytes) -> bytes:
    """The bytes of `path`, with the weights inside that `data`, its own, keep in other files.

    Raises `ExternalDataMissing`, `RuntimeFailed`, and `ExtraMissing` where `onnx` is needed and
    not installed.
    """
    if not onnx_file.read(path).weights:
        return data
    try:
        import onnx
    except ImportError as error:
        raise ExtraMissing(
            f"{path.name} keeps weights in other files, and the library `onnx`, which puts them "
            "inside, is not installed; pip install longstop[models]"
        ) from error
    try:
        whole: bytes = onnx.load(str(path)).SerializeToString()
    except Exception as error:  # protobuf's, onnx's and the system's share no base
        raise RuntimeFailed(
            f"the weights of {path.name} cannot be put inside it: {error}; export it as one file"
        ) from error
    return whole
