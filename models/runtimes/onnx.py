"""ONNX files on onnxruntime: one thread unless asked, no spinning, on the processor or on CUDA.

A device has few cores and other work: a second thread never paid on small models, and spinning
threads cost the 99th percentile dearly. This is the only file that imports onnxruntime.
"""

import contextlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from models.errors import RuntimeFailed
from models.runtimes import onnx_file
from models.runtimes.artefacts import Artefacts, key_of
from models.runtimes.base import PLAIN, Array, Options, Port
from models.runtimes.processor import adds_bytes_exactly
from models.runtimes.providers import Unavailable, first_that_opens

if TYPE_CHECKING:
    import onnxruntime

_PROVIDERS = {
    "cuda": "CUDAExecutionProvider",
    "dml": "DmlExecutionProvider",
    "coreml": "CoreMLExecutionProvider",
    "cpu": "CPUExecutionProvider",
}
"""Best first; which of them there are depends on the build that is installed."""
_SETTINGS = {"cuda": {"use_tf32": "0"}}
"""TF32 keeps 10 bits of a float32's 23, and a certificate is made for float32."""
_CPU_ALONE = ((_PROVIDERS["cpu"], dict[str, str]()),)
_DTYPES = {
    "tensor(bool)": "bool",
    "tensor(double)": "float64",
    "tensor(float)": "float32",
    "tensor(float16)": "float16",
    "tensor(string)": "str",
    **{
        f"tensor({sign}int{bits})": f"{sign}int{bits}"
        for sign in ("", "u")
        for bits in (8, 16, 32, 64)
    },
}
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
    """One session on one file."""

    name = "onnx"
    precision: Literal["f32"] = "f32"

    def __init__(self, file: Path, options: Options = PLAIN, /) -> None:
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
        self.version = str(onnxruntime.__version__)
        if options.precision != "f32":
            raise RuntimeFailed(
                f"onnxruntime computes in the file's own precision, not in {options.precision}; "
                "convert the file, or open it with openvino"
            )
        self._file, self._options = onnx_file.read(file), options
        self._session, self.skipped = first_that_opens(
            options.provider, tuple(_PROVIDERS), lambda name: self._open(onnxruntime, name)
        )
        chosen = self._session.get_providers()[0]
        self.provider = next(name for name, long in _PROVIDERS.items() if long == chosen)
        self.inputs = tuple(_port(value, file) for value in self._session.get_inputs())
        self.outputs = tuple(_port(value, file) for value in self._session.get_outputs())
        # What the wrapper's `run` calls in the end; before, it checks for a tenth of a quick run
        # what `check_ports` has checked once for all.
        self._run = getattr(self._session, "_sess", self._session).run
        self._names = [port.name for port in self.inputs]
        self._wanted = [port.name for port in self.outputs]
        self._only = self._names[0] if len(self._names) == 1 else None

    def run(self, feeds: Sequence[Array]) -> tuple[Array, ...]:
        try:
            if self._only is not None and len(feeds) == 1:
                return tuple(self._run(self._wanted, {self._only: feeds[0]}, None))
            named = dict(zip(self._names, feeds, strict=True))
            return tuple(self._run(self._wanted, named, None))
        except self._failures as error:
            shapes = ", ".join(f"{feed.dtype} {list(feed.shape)}" for feed in feeds)
            raise RuntimeFailed(
                f"onnxruntime did not run a batch of {shapes or 'nothing'}: {error}; "
                "the package does not fit its model, build it again"
            ) from error

    def _open(self, onnxruntime: "onnxruntime", provider: str) -> "onnxruntime.InferenceSession":
        wanted = _PROVIDERS[provider]
        if wanted not in onnxruntime.get_available_providers():
            raise Unavailable(f"onnxruntime {self.version} was built without it")
        chain = [(wanted, _SETTINGS.get(provider, {}))]
        if provider != "cpu":
            chain.append((_PROVIDERS["cpu"], {}))  # for the operators the accelerator lacks
        try:
            if provider == "cpu" and self._options.cache is not None:
                return self._open_kept(onnxruntime, Artefacts(self._options.cache))
            options = _session_options(onnxruntime, self._options)
            session = _session(onnxruntime, self._file.path, options, chain)
        except self._failures as error:
            if provider != "cpu":
                raise Unavailable(str(error)) from error
            library = f"onnxruntime {self.version}"
            raise onnx_file.refusal(self._file.path, library, error) from error
        if session.get_providers()[0] != wanted:
            raise Unavailable("its libraries or its device do not start here")
        return session

    def _open_kept(
        self, onnxruntime: "onnxruntime", artefacts: Artefacts
    ) -> "onnxruntime.InferenceSession":
        """The optimised graph of an earlier start, mapped into memory; else made and kept."""
        key = key_of("onnx", self.version, self._file.sha256())
        if kept := artefacts.find(key):
            options = _session_options(onnxruntime, self._options)
            options.add_session_config_entry("session.use_memory_mapped_ort_model", "1")
            options.add_session_config_entry("session.use_ort_model_bytes_for_initializers", "1")
            try:
                return _session(onnxruntime, kept, options, _CPU_ALONE)
            except self._failures:
                artefacts.discard(kept)
        sessions: list[onnxruntime.InferenceSession] = []

        def write(part: Path) -> None:
            options = _session_options(onnxruntime, self._options)
            options.optimized_model_filepath = str(part)
            options.add_session_config_entry("session.save_model_format", "ORT")
            sessions.append(_session(onnxruntime, self._file.path, options, _CPU_ALONE))

        # What goes wrong while it is written, a full disk say, concerns the artefact alone.
        with contextlib.suppress(*self._failures):
            artefacts.keep(key, ".ort", write)
        if not sessions:
            options = _session_options(onnxruntime, self._options)
            sessions.append(_session(onnxruntime, self._file.path, options, _CPU_ALONE))
        return sessions[0]


def _port(value: "onnxruntime.NodeArg", file: Path) -> Port:
    if value.type not in _DTYPES:
        raise RuntimeFailed(
            f"{value.name!r} of {file.name} is a {value.type}; export it with tensors only "
            "(scikit-learn's exporter: zipmap=False)"
        )
    shape = tuple(length if isinstance(length, int) else None for length in value.shape)
    return Port(value.name, _DTYPES[value.type], shape)


def _session(
    onnxruntime: "onnxruntime",
    file: Path,
    options: "onnxruntime.SessionOptions",
    chain: Sequence[tuple[str, dict[str, str]]],
) -> "onnxruntime.InferenceSession":
    # Left to itself a session that fails on its provider prints so and goes on with another one.
    return onnxruntime.InferenceSession(str(file), options, chain, enable_fallback=0)


def _session_options(onnxruntime: "onnxruntime", wanted: Options) -> "onnxruntime.SessionOptions":
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = wanted.threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 4  # what goes wrong is raised, and the program says it once
    # Without VNNI the fast kernel for unsigned by signed bytes saturates, so a threshold chosen
    # here would mean something else there. The exact kernel is up to ten times slower, and
    # onnxruntime would take it with VNNI, too.
    if not adds_bytes_exactly():
        options.add_session_config_entry("session.x64quantprecision", "1")
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.add_session_config_entry("session.inter_op.allow_spinning", "0")
    return options
