"""Trains the vibration cascade: generated bearing faults, two small convolutional nets.

Run it with `python -m models.zoo.vibration.recipe`, or `./just train vibration`. It needs no data
and no PyTorch, and takes some minutes.

Both nets look at how often each frequency band swells. The same few weights look at every band and
the strongest answer counts, because nobody knows beforehand at which frequency a machine rings. The
edge net sees 9 bands, the cloud net 33.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import numpy as np

from models.pipeline.ops.families import Step
from models.zoo.data import Dataset, Raw, load
from models.zoo.generated import tune_groups
from models.zoo.graphs import Floats, onnx_logits, write_float, write_int8
from models.zoo.learner import (
    Array,
    Convolution,
    Course,
    Dense,
    Dropout,
    Highest,
    Layer,
    Relu,
    fit,
    size_of,
)
from models.zoo.prepared import prepared
from models.zoo.settle import Net, Terms, settle
from models.zoo.stacks import fold_scaling, graph_of
from models.zoo.vibration import preparation

EPS = 0.02
EDGE_SEEDS, CLOUD_SEED = (0, 1, 2), 0
EDGE_COURSE = Course(epochs=15, peak=0.004)
CLOUD_COURSE = Course(epochs=14, peak=0.003, decay=0.05, smoothing=0.02)
INT8_SAMPLES = 1000
SWELLINGS = 65


def edge_stack(seed: int, classes: int) -> list[Layer]:
    chance = np.random.default_rng([seed, 1])
    return [
        Convolution(chance, SWELLINGS, 24, width=2),
        Relu(),
        Highest(),
        Dense(chance, 24, classes),
    ]


def cloud_stack(seed: int, classes: int) -> list[Layer]:
    chance = np.random.default_rng([seed, 2])
    return [
        Convolution(chance, SWELLINGS, 64, width=1),
        Relu(),
        Convolution(chance, 64, 64, width=3),
        Relu(),
        Highest(),
        Dropout(chance, 0.3),
        Dense(chance, 64, 64),
        Relu(),
        Dense(chance, 64, classes),
    ]


def moved(windows: Array, chance: np.random.Generator) -> Array:
    """The same windows from machines that ring a little higher or lower, and louder or softer."""
    louder = chance.normal(0, 0.15, (len(windows), 1, 1)).astype(np.float32)
    return np.roll(windows, int(chance.integers(-2, 3)), axis=1) + louder


def trained(
    stack: list[Layer], inputs: Floats, dataset: Dataset, course: Course, seed: int
) -> float:
    """Trains on inputs [n, swellings, bands], scaled to mean 0 and spread 1; processor seconds."""
    means, spreads = inputs.mean(axis=(0, 2)), inputs.std(axis=(0, 2))
    scaled = (inputs.transpose(0, 2, 1) - means) / spreads
    seconds = fit(
        stack,
        np.ascontiguousarray(scaled),
        dataset.train_y,
        course,
        classes=len(dataset.label_names),
        seed=seed,
        alter=moved if course is CLOUD_COURSE else None,
    )
    fold_scaling(stack[0], means, spreads)
    return seconds


def train(dataset: Dataset, folder: Path) -> tuple[list[Net], Net]:
    """The edge nets and the cloud net, as files in `folder`."""
    classes = len(dataset.label_names)

    def answered_after(steps: tuple[Step, ...]):
        held: dict[int, Floats] = {}

        def answer(path: Path, raw: Raw) -> Floats:
            if len(raw) not in held:
                held[len(raw)] = prepared(raw, steps, preparation.RAW)
            return onnx_logits(path, {"x": held[len(raw)]})

        return answer

    inputs = prepared(dataset.train_x, preparation.EDGE, preparation.RAW)
    some = np.random.default_rng(0).permutation(len(inputs))[:INT8_SAMPLES]
    answer = answered_after(preparation.EDGE)
    edges = []
    for seed in EDGE_SEEDS:
        stack = edge_stack(seed, classes)
        seconds = trained(stack, inputs, dataset, EDGE_COURSE, seed)
        fp32, int8 = folder / f"edge{seed}.fp32.onnx", folder / f"edge{seed}.onnx"
        graph = graph_of(stack, classes=classes, length=inputs.shape[2], channels=SWELLINGS)
        write_float(graph, fp32)
        write_int8(graph, int8, calibration={"x": inputs[some]})
        edges.append(Net(int8, seed, "int8", size_of(stack), seconds, answer, fp32))

    inputs = prepared(dataset.train_x, preparation.CLOUD, preparation.RAW)
    stack = cloud_stack(CLOUD_SEED, classes)
    seconds = trained(stack, inputs, dataset, CLOUD_COURSE, CLOUD_SEED)
    cloud = folder / "cloud.onnx"
    graph = graph_of(stack, classes=classes, length=inputs.shape[2], channels=SWELLINGS)
    write_float(graph, cloud)
    answer = answered_after(preparation.CLOUD)
    return edges, Net(cloud, CLOUD_SEED, "fp32", size_of(stack), seconds, answer)


def main() -> None:
    parser = argparse.ArgumentParser(prog="models.zoo.vibration.recipe")
    parser.add_argument("--out", type=Path, default=Path(__file__).resolve().parent)
    arguments = parser.parse_args()
    dataset = load("vibration")
    print(f"vibration: data {dataset.sha256}, edge seeds {EDGE_SEEDS}, cloud seed {CLOUD_SEED}")
    with tempfile.TemporaryDirectory() as name:
        edges, cloud = train(dataset, Path(name))
        settle(
            dataset,
            Terms(
                data="generated by models/zoo/vibration/generator.py",
                eps=EPS,
                groups="machines",
                tune_groups=tune_groups("vibration"),
                edge_preparation=preparation.EDGE,
                cloud_preparation=preparation.CLOUD,
                edge_precision_because="INT8: a third of FP32's bytes at the same accuracy",
            ),
            edges=edges,
            cloud=cloud,
            out=arguments.out,
        )


if __name__ == "__main__":
    main()
