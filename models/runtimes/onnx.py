"""ONNX files on onnxruntime: one thread, no spinning, on the processor or on CUDA.

A device has few cores and other work: a second thread never paid on small models, and spinning
threads cost the 99th percentile dearly. This is the only file that imports onnxruntime.
"""

import os
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from models.errors import RuntimeFailed
from models.runtimes.base import Floats, Provider

if TYPE_CHECKING:
    import onnxruntime

_CUDA = "CUDAExecutionProvider"
_CPU = "CPUExecutionProvider"
_FAILURES = (
    "EPFail",
    "EngineError",
    "Fail",
    "InvalidArgument",
    "InvalidGraph",
    "InvalidProtobuf",
    "ModelLoaded",
    "NoModel",
    "NoSuchFile",
    "NotImplemented",
    "RuntimeException",
)


class OnnxRuntime:
    """One session on one file: one input, one output, both float32."""

    name = "onnx"

    def __init__(self, file: Path, *, provider: Provider) -> None:
        # Before the import, which reads it: the wheel carries a telemetry client, on by default.
        os.environ["ORT_DISABLE_TELEMETRY"] = "1"
        import onnxruntime
        from onnxruntime.capi import onnxruntime_pybind11_state as state

        # Each derives from Exception alone, so they can only be listed.
        self._failures: tuple[type[Exception], ...] = (
            OSError,
            RuntimeError,
            ValueError,
            *(getattr(state, name) for name in _FAILURES if hasattr(state, name)),
        )
        wanted = [_CPU]
        if provider == "auto" and _CUDA in onnxruntime.get_available_providers():
            wanted = [_CUDA, _CPU]
        try:
            self._session = onnxruntime.InferenceSession(
                file.read_bytes(), _options(onnxruntime), providers=wanted
            )
        except self._failures as error:
            raise RuntimeFailed(
                f"{file.name} does not load in onnxruntime {onnxruntime.__version__}: {error}; "
                "export it again"
            ) from error
        inputs, outputs = self._session.get_inputs(), self._session.get_outputs()
        if [value.type for value in (*inputs, *outputs)] != ["tensor(float)"] * 2:
            raise RuntimeFailed(
                f"{file.name} has {len(inputs)} inputs and {len(outputs)} outputs; "
                "export it with one of each, both float32"
            )
        self._input, self._outputs = inputs[0].name, [outputs[0].name]
        self.provider = "cuda" if self._session.get_providers()[0] == _CUDA else "cpu"

    def run(self, batch: Floats) -> Floats:
        try:
            logits: Floats = self._session.run(self._outputs, {self._input: batch})[0]
        except self._failures as error:
            raise RuntimeFailed(
                f"onnxruntime did not run a batch of shape {list(batch.shape)}: {error}; "
                "the package does not fit its model, build it again"
            ) from error
        if logits.dtype != np.float32 or logits.ndim != 2:
            raise RuntimeFailed(
                f"model gave {logits.dtype} {list(logits.shape)}, float32 [n, K] was wanted; "
                "export it again"
            )
        return logits


def _options(onnxruntime: "onnxruntime") -> "onnxruntime.SessionOptions":
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.log_severity_level = 4  # what goes wrong is raised, and the program says it once
    # Without VNNI the fast kernel for unsigned by signed bytes saturates, so a threshold chosen
    # here would mean something else there. The exact kernel is slower and used only there.
    options.add_session_config_entry("session.x64quantprecision", "1")
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.add_session_config_entry("session.inter_op.allow_spinning", "0")
    return options
