"""The inputs the benches send, packages that cost next to nothing, and the bare call.

A window of 128 moments by 9 channels (4.6 kB), a picture of 224 by 224 by 3 (150 kB), and the same
picture as it goes into a network (602 kB). The model gives back the first values of its input, so
that what is around it is what is measured.
"""

import os
import shutil
from pathlib import Path
from time import perf_counter_ns, thread_time_ns
from typing import TYPE_CHECKING

import msgspec
import numpy as np
import onnx
from msgspec import Struct
from onnx import TensorProto, helper

from models import package
from models.build import Drawn, Half, Parts, build, one_model
from models.calibrate.by_hand import by_hand
from models.golden import golden_inputs
from models.manifest import Role, TensorSpec
from models.pipeline.declared import Gives
from models.pipeline.heads import Classify
from models.pipeline.ops.families import Step
from models.pipeline.ops.tensor import Cast
from models.predict import Predictor
from models.runtimes.processor import adds_bytes_exactly
from models.tensors import Sample
from models.zoo.figures import ZOO
from models.zoo.packages import build_zoo
from tests.bench.measure import typical_us

if TYPE_CHECKING:
    import onnxruntime

LABELS = ("first", "second", "third", "fourth")
SURE = 0
"""The label of every input of `sample`."""


class Shape(Struct, frozen=True):
    """What a bench calls an input, and what it looks like."""

    task: str
    spec: TensorSpec
    steps: tuple[Step, ...]
    high: float


WINDOW = Shape("window", TensorSpec("window", "float32", (128, 9), "TC"), (), 8)
IMAGE = Shape("image", TensorSpec("image", "uint8", (224, 224, 3), "HWC"), (Cast("float32"),), 255)
TENSOR = Shape("tensor", TensorSpec("tensor", "float32", (224, 224, 3), "HWC"), (), 8)
_EVERY_INPUT = by_hand(
    note="a bench: every input is answered on the device", threshold=0.0, method="chosen by hand"
)


def sample(shape: Shape, seed: int) -> Sample:
    """One input whose first label is sure."""
    chance = np.random.default_rng(seed)
    made = (chance.random(shape.spec.shape) * shape.high).astype(shape.spec.dtype)
    made.flat[: len(LABELS)] = 0
    made.flat[SURE] = shape.high
    return made


def build_tiny(shape: Shape, into: Path) -> Path:
    """A package folder for inputs of this shape; edge and cloud model are the same file."""
    into.mkdir(parents=True)
    file = _first_values(shape.spec.shape, into / "model.onnx")
    parts = Parts(
        name=f"bench-{shape.task}",
        task=shape.task,
        given=shape.spec,
        answer=Classify(LABELS),
        edge=_half(shape, file, Role.EDGE),
        cloud=_half(shape, file, Role.CLOUD),
        certificate=_EVERY_INPUT,
        golden=Drawn(0, shape.high, count=1),
    )
    return build(parts, "1", into / "package")


def _half(shape: Shape, file: Path, role: Role) -> Half:
    gives = Gives("logits", (len(LABELS),))
    return one_model(shape.spec, shape.steps, file, gives=gives, role=role)


def golden_sample(folder: Path) -> Sample:
    """The first golden input of a package."""
    manifest = package.read(folder, Role.EDGE).manifest
    return golden_inputs(manifest.input, manifest.golden)[0]


def shipped_task() -> str:
    """The zoo task whose edge file is measured: apparel, or digits until apparel is trained."""
    return "apparel" if (ZOO / "apparel" / "edge.onnx").exists() else "digits"


def build_shipped(task: str, into: Path, version: str = "1") -> Path:
    """A zoo package as it ships, except that every input is answered on the device."""
    trained = into / "zoo" / task
    shutil.copytree(ZOO / task, trained)
    (trained / "certificate.json").write_bytes(msgspec.json.encode(_EVERY_INPUT))
    return build_zoo(task, version, into / "package", zoo=into / "zoo")


def bare_session(file: Path) -> "onnxruntime.InferenceSession":
    """A session as `models.runtimes.onnx` opens one: only what is around the call differs."""
    os.environ["ORT_DISABLE_TELEMETRY"] = "1"
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    if not adds_bytes_exactly():
        options.add_session_config_entry("session.x64quantprecision", "1")
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.add_session_config_entry("session.inter_op.allow_spinning", "0")
    return onnxruntime.InferenceSession(
        file.read_bytes(), options, providers=["CPUExecutionProvider"]
    )


class BareCall:
    """`session.run` of a package's edge file on one prepared input, and nothing around it."""

    def __init__(self, folder: Path, raw: Sample) -> None:
        read = package.read(folder, Role.EDGE)
        session = bare_session(read.first_model)
        (prepared,) = Predictor.load(read).graph.feeds(raw, read.pipeline.models[0].id)
        batch = prepared[None]
        self._run = session.run
        self._asked = ([session.get_outputs()[0].name], {session.get_inputs()[0].name: batch})

    def us(self, runs: int) -> float:
        """The median of so many calls."""
        run, asked = self._run, self._asked
        took = []
        for _ in range(runs):
            begun = perf_counter_ns()
            run(*asked)
            took.append(perf_counter_ns() - begun)
        return typical_us(took)

    def cpu_us(self, runs: int) -> float:
        """CPU time of one call, of so many in a row."""
        run, asked = self._run, self._asked
        begun = thread_time_ns()
        for _ in range(runs):
            run(*asked)
        return (thread_time_ns() - begun) / runs / 1000


def _first_values(shape: tuple[int, ...], path: Path) -> Path:
    """An ONNX file that gives back the first values of each sample."""
    bounds = {"from": [0], "to": [len(LABELS)], "axis": [1]}
    nodes = [
        helper.make_node("Flatten", ["x"], ["flat"], axis=1),
        helper.make_node("Slice", ["flat", *bounds], ["logits"]),
    ]
    graph = helper.make_graph(
        nodes,
        "first_values",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", *shape])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["n", len(LABELS)])],
        [onnx.numpy_helper.from_array(np.array(at, np.int64), name) for name, at in bounds.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    path.write_bytes(model.SerializeToString())
    return path
