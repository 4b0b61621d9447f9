"""ONNX files on OpenVINO: the same files and the same port as onnxruntime. Extra `openvino`.

1. A float32 graph is computed in float32 unless something else is asked for. Left alone, OpenVINO
   takes bfloat16 where the processor has it, which moves probabilities by up to 2e-2.
2. OpenVINO may write into the memory it is given as input, also during a later request. It is given
   memory of our own; the caller's arrays are copied in, and outputs are copied out.
3. A single sample runs on a graph compiled for one row, other batches on one of any length, which
   is compiled when the first comes: a free batch axis slows a small net by more than half.
4. The file's opset is not judged: OpenVINO reads the operators it knows, whatever the file says.
   Whether it reads them rightly is what the package's golden outputs tell.
5. A file with operators of a domain it reads none of is refused before it is read: a Clip without
   both limits behind such a node ends the process by a segmentation fault (2026.4).

This is the only file that imports openvino. It needs memory that may be written and executed.
"""

import contextlib
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

import numpy as np

from models.errors import OperatorUnsupported, RuntimeFailed, RuntimeMissing
from models.runtimes import onnx_file
from models.runtimes.artefacts import Artefacts, key_of
from models.runtimes.base import PLAIN, Array, Options, Port
from models.runtimes.providers import Unavailable, first_that_opens
from models.runtimes.wish import Precision

if TYPE_CHECKING:
    import openvino

Rows = Literal["one", "any"]
_NARROWED, _WHOLE = ".one", ".whole"
"""Endings of artefacts: made for one row, or as the file says."""
_DEVICES = {"gpu": "GPU", "npu": "NPU", "cpu": "CPU"}
"""Best first."""
_PRECISIONS: dict[str, Precision] = {"f32": "f32", "bf16": "bf16", "f16": "f16"}
_DOMAINS = ("com.microsoft", "mmdeploy", "org.openvinotoolkit", "org.pytorch.aten")
"""Beside ONNX's own, those whose operators it knows, or some of them."""
_DTYPES = {
    "boolean": "bool",
    "f16": "float16",
    "f32": "float32",
    "f64": "float64",
    **{f"i{bits}": f"int{bits}" for bits in (8, 16, 32, 64)},
    **{f"u{bits}": f"uint{bits}" for bits in (8, 16, 32, 64)},
}

_FAILURES = (
    "GeneralFailure",
    "InitializationFailure",
    "NotImplementedFailure",
    "OpConversionFailure",
    "OpValidationFailure",
)


class OpenvinoRuntime:
    """One file, compiled for one row and, when it is needed, for any number of rows."""

    name = "openvino"

    def __init__(self, file: Path, options: Options = PLAIN, /) -> None:
        # Its telemetry client looks up a host when openvino is imported. What is None here cannot
        # be imported, and openvino then does without.
        sys.modules.setdefault("openvino_telemetry", cast(Any, None))
        try:
            import openvino
        except ImportError as error:
            raise RuntimeMissing(
                "openvino is not installed; install longstop[openvino], or choose onnx"
            ) from error
        # The frontend's derive from Exception alone, so they can only be listed.
        self._failures: tuple[type[Exception], ...] = (
            OSError,
            RuntimeError,
            TypeError,
            ValueError,
            *(getattr(openvino.frontend, name) for name in _FAILURES),
        )
        self._ov, self._core = openvino, openvino.Core()
        self.version = str(openvino.__version__.partition("-")[0])
        self._file, self._options = onnx_file.read(file), options
        _check_domains(file)
        self._artefacts = None if options.cache is None else Artefacts(options.cache)
        self._sha256 = "" if options.cache is None else self._file.sha256()
        found, self.skipped = first_that_opens(options.provider, tuple(_DEVICES), self._open)
        self.provider, self.precision, compiled, self._narrowed = found
        self._first = _Request(openvino, compiled)
        self._any = None if self._narrowed else self._first
        self.inputs = tuple(self._port(port) for port in compiled.inputs)
        self.outputs = tuple(self._port(port) for port in compiled.outputs)
        self._dtypes = [port.dtype for port in self.inputs]

    def run(self, feeds: Sequence[Array]) -> tuple[Array, ...]:
        try:
            if [feed.dtype.name for feed in feeds] != self._dtypes:
                raise ValueError(f"it takes {', '.join(self._dtypes)}")
            # Not openvino's to find out: it joins axes that do not meet, reading beyond the end.
            if len(feeds) > 1 and len({len(feed) for feed in feeds}) > 1:
                raise ValueError("the inputs have different numbers of rows")
            if self._narrowed and len(feeds[0]) == 1:
                return self._first.run(feeds)
            if self._any is None:
                compiled, _ = self._compiled(_DEVICES[self.provider], "any")
                self._any = _Request(self._ov, compiled)
            return self._any.run(feeds)
        except self._failures as error:
            shapes = ", ".join(f"{feed.dtype} {list(feed.shape)}" for feed in feeds)
            raise RuntimeFailed(
                f"openvino did not run a batch of {shapes or 'nothing'}: {error}; "
                "the package does not fit its model, build it again"
            ) from error

    def _open(self, provider: str) -> "tuple[str, Precision, openvino.CompiledModel, bool]":
        """Compile for one row where the file leaves their number free. Raises `Unavailable`."""
        device = _DEVICES[provider]
        there = {name.partition(".")[0] for name in self._core.available_devices}
        if device not in there:
            raise Unavailable(f"openvino sees no such device, only {', '.join(sorted(there))}")
        try:
            compiled, narrowed = self._compiled(device, "one")
            hint = compiled.get_property("INFERENCE_PRECISION_HINT").get_type_name()
        except self._failures as error:
            if provider != "cpu":
                raise Unavailable(str(error)) from error
            raise onnx_file.refusal(self._file.path, f"openvino {self.version}", error) from error
        if hint not in _PRECISIONS or hint != self._options.precision == "f32":
            raise Unavailable(f"it computes in {hint}, not in {self._options.precision}")
        return provider, _PRECISIONS[hint], compiled, narrowed

    def _compiled(self, device: str, rows: Rows) -> "tuple[openvino.CompiledModel, bool]":
        """What was kept of an earlier start, or the file compiled; and whether for one row only."""
        settings = self._settings(device)
        if self._artefacts is None:
            return self._compile(device, settings, rows)
        key = key_of("openvino", self.version, device, settings, rows, self._sha256)
        if kept := self._artefacts.find(key):
            try:
                compiled = self._core.import_model(kept.read_bytes(), device, settings)
                return compiled, kept.suffix == _NARROWED
            except self._failures:
                self._artefacts.discard(kept)
        compiled, narrowed = self._compile(device, settings, rows)
        with contextlib.suppress(
            *self._failures
        ):  # not every device can write down what it compiled
            self._artefacts.keep(key, _NARROWED if narrowed else _WHOLE, partial(_export, compiled))
        return compiled, narrowed

    def _compile(
        self, device: str, settings: dict[str, object], rows: Rows
    ) -> "tuple[openvino.CompiledModel, bool]":
        # By name: a file that is no ONNX would be offered to every frontend, which write to stderr.
        frontend = self._ov.frontend.FrontEndManager().load_by_framework("onnx")
        model = frontend.convert(frontend.load(str(self._file.path)))
        narrowed = rows == "one" and _narrow(model, self._ov)
        return self._core.compile_model(model, device, settings), narrowed

    def _settings(self, device: str) -> dict[str, object]:
        settings: dict[str, object] = {"PERFORMANCE_HINT": "LATENCY"}
        if device != "NPU":
            settings["INFERENCE_PRECISION_HINT"] = self._options.precision
        if device == "CPU":
            settings |= {
                "INFERENCE_NUM_THREADS": self._options.threads,
                "NUM_STREAMS": 1,
                "ENABLE_CPU_PINNING": False,  # a device has other work on that core
            }
        return settings

    def _port(self, port: "openvino.ConstOutput") -> Port:
        name, kind = port.get_any_name(), port.get_element_type().get_type_name()
        if kind not in _DTYPES:
            raise RuntimeFailed(
                f"{name!r} of {self._file.path.name} is a tensor of {kind}, which openvino does "
                "not lend to numpy; open it with onnx"
            )
        shape = tuple(None if side.is_dynamic else side.get_length() for side in port.partial_shape)
        if self._narrowed and shape[:1] == (1,):
            shape = (None, *shape[1:])
        return Port(name, _DTYPES[kind], shape)


class _Request:
    """One compiled graph with input memory of its own."""

    def __init__(self, ov: "openvino", compiled: "openvino.CompiledModel") -> None:
        self._ov = ov
        self._request = compiled.create_infer_request()
        self._types = [port.get_element_type() for port in compiled.inputs]
        self._shapes: list[tuple[int, ...] | None] = [None] * len(self._types)
        self._views: list[Array] = [np.empty(0)] * len(self._types)
        self._outputs = range(len(compiled.outputs))

    def run(self, feeds: Sequence[Array]) -> tuple[Array, ...]:
        request = self._request
        for at, feed in enumerate(feeds):
            if feed.shape != self._shapes[at]:
                self._make_room(at, feed.shape)
            self._views[at][...] = feed
        request.infer(share_outputs=True)
        return tuple([request.get_output_tensor(at).data.copy() for at in self._outputs])

    def _make_room(self, at: int, shape: tuple[int, ...]) -> None:
        tensor = self._ov.Tensor(self._types[at], self._ov.Shape(shape))
        self._shapes[at] = None  # until the graph has taken it
        self._request.set_input_tensor(at, tensor)
        self._views[at], self._shapes[at] = tensor.data, shape


def _check_domains(file: Path) -> None:
    """Raises `OperatorUnsupported` for a file it is not safe to read."""
    unread = sorted(
        operator
        for operator in onnx_file.foreign_operators(file)
        if operator.domain not in _DOMAINS
    )
    if unread:
        raise OperatorUnsupported(
            f"{file.name} holds {unread[0].name!r} of {unread[0].domain!r}, a domain openvino "
            "reads no operators of; open it with onnx, or export it with operators of standard "
            "ONNX only"
        )


def _narrow(model: "openvino.Model", ov: "openvino") -> bool:
    """Fix the batch axis to one row; False, and the model as it was, where that cannot be."""
    shapes = [port.get_partial_shape() for port in model.inputs]
    if not all(shape.rank.is_static and len(shape) and shape[0].is_dynamic for shape in shapes):
        return False
    try:
        model.reshape(
            {at: ov.PartialShape([1, *list(shape)[1:]]) for at, shape in enumerate(shapes)}
        )
    except RuntimeError:
        return False
    return True


def _export(compiled: "openvino.CompiledModel", file: Path) -> None:
    exported = compiled.export_model()
    file.write_bytes(exported if isinstance(exported, bytes) else exported.read())
