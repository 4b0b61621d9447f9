"""Models small enough to read: one matrix product over a 2x3 picture, as a real ONNX file."""

from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
from msgspec.structs import replace
from onnx import TensorProto, helper

from models.build import Drawn, Half, Parts, build, one_model
from models.calibrate.by_hand import by_hand
from models.calibrate.certify import named
from models.manifest import Role, TensorSpec
from models.pipeline.declared import Gives
from models.pipeline.heads import Classify
from models.pipeline.ops.tensor import Cast, Normalise, Reshape, Scale

GIVEN = TensorSpec("image", "uint8", (2, 3), "HW")
LABELS = ("low", "middle", "high")
STEPS = (
    Cast("float32"),
    Scale((1 / 255,)),
    Normalise((0.5,), (0.25,)),
    Reshape((1, 2, 3)),
)
EDGE_WEIGHTS = np.random.default_rng(1).normal(size=(6, 3)).astype(np.float32)
CLOUD_WEIGHTS = EDGE_WEIGHTS[::-1].copy()
CERTIFICATE = named(
    replace(
        by_hand(
            note="tune 100, calibrate 500",
            threshold=0.7,
            temperature=1.5,
            method="exact binomial, fixed sequence",
        ),
        n=500,
        k=4,
        upper_bound=0.0159,
        feasible=True,
    )
)


def write_matrix(
    path: Path,
    weights: npt.NDArray[np.float32],
    *,
    shape: tuple[int, ...] = (1, 2, 3),
    outputs: int = 1,
) -> Path:
    """An ONNX file that flattens its input and multiplies it by `weights`."""
    columns = weights.shape[1]
    names = ["logits", *(f"other{at}" for at in range(1, outputs))]
    nodes = [
        helper.make_node("Flatten", ["x"], ["flat"], axis=1),
        *(helper.make_node("MatMul", ["flat", "w"], [name]) for name in names),
    ]
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", *shape])],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", columns]) for name in names],
        [onnx.numpy_helper.from_array(weights, "w")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    path.write_bytes(model.SerializeToString())
    return path


def tiny_parts(folder: Path) -> Parts:
    """Parts of a package whose edge and cloud disagree; model files are written into `folder`."""
    figures = folder / "measured.json"
    figures.write_text('{"measured": "nothing"}\n')
    return Parts(
        name="tiny",
        task="shades",
        given=GIVEN,
        answer=Classify(LABELS),
        edge=_half(write_matrix(folder / "edge.onnx", EDGE_WEIGHTS), Role.EDGE),
        cloud=_half(write_matrix(folder / "cloud.onnx", CLOUD_WEIGHTS), Role.CLOUD),
        certificate=CERTIFICATE,
        golden=Drawn(0, 255, count=2),
        figures=figures,
    )


def _half(file: Path, role: Role) -> Half:
    return one_model(GIVEN, STEPS, file, gives=Gives("logits", (len(LABELS),)), role=role)


def build_tiny(folder: Path, version: str = "1") -> Path:
    """A whole package folder `<folder>/package-<version>`."""
    folder.mkdir(parents=True, exist_ok=True)
    return build(tiny_parts(folder), version, folder / f"package-{version}")
