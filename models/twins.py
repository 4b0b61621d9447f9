"""A package without training: both models are twins, which answer what their input says.

For the simulator and for tests. A sample is 2K float32 values: the logits the edge will give, then
those the cloud will give. `twin_sample` writes one from two labels.
"""

import tempfile
from pathlib import Path

import msgspec
import numpy as np

from models.build import Drawn, Half, Parts, build, one_model
from models.calibrate.by_hand import by_hand
from models.calibrate.certificate import Certificate
from models.manifest import Role, TensorSpec
from models.pipeline.declared import Gives
from models.pipeline.heads import Classify
from models.runtimes.twin import TwinFile
from models.tensors import Sample

LABELS = ("left", "middle", "right")
_RANGE = 6.0


def build_twin(
    task: str,
    version: str,
    into: Path,
    *,
    labels: tuple[str, ...] = LABELS,
    threshold: float | None = 0.8,
    temperature: float = 1.0,
    certificate: Certificate | None = None,
) -> Path:
    """Make the package folder `into` and return it. Raises as `build` does.

    `certificate` for a twin that promises something, to see what breaking it does; without one it
    has `threshold` and `temperature`, chosen by hand.
    """
    classes = len(labels)
    with tempfile.TemporaryDirectory() as folder:
        edge, cloud = Path(folder) / "edge.json", Path(folder) / "cloud.json"
        edge.write_bytes(msgspec.json.encode(TwinFile(classes)))
        cloud.write_bytes(msgspec.json.encode(TwinFile(classes, skip=classes)))
        given = TensorSpec("answers", "float32", (2 * classes,), "C")
        parts = Parts(
            name=f"{task}-twin",
            task=task,
            given=given,
            answer=Classify(labels),
            edge=_half(given, edge, classes, Role.EDGE),
            cloud=_half(given, cloud, classes, Role.CLOUD),
            certificate=certificate
            or by_hand(
                note="a twin keeps no promise",
                threshold=threshold,
                temperature=temperature,
                method="chosen by hand",
            ),
            golden=Drawn(-_RANGE, _RANGE, count=1),
        )
        return build(parts, version, into)


def _half(given: TensorSpec, file: Path, classes: int, role: Role) -> Half:
    return one_model(given, (), file, gives=Gives("logits", (classes,)), role=role, form="twin")


def twin_sample(edge: int, cloud: int, *, confidence: float, classes: int = len(LABELS)) -> Sample:
    """The edge labels it `edge` with this confidence (at temperature 1), the cloud `cloud`."""
    if not 1 / classes < confidence < 1:
        raise ValueError(
            f"confidence of {classes} classes lies above 1/{classes}, not {confidence}"
        )
    sample = np.zeros(2 * classes, dtype=np.float32)
    sample[edge] = np.log(confidence * (classes - 1) / (1 - confidence))
    sample[classes + cloud] = _RANGE
    return sample
