"""Trains the apparel cascades (Fashion-MNIST): one cloud net, edge nets of three sizes.

Run it with `python -m models.zoo.apparel.recipe`, or `./just train apparel`.

1. The cloud net learns from labels in cycles, each from the weights of the one before; the second
   brought half a point in trials.
2. Its answers, after two cycles, on six augmented copies of the training pictures are the edge
   nets' lesson.
3. Edge nets of three seeds learn, while the cloud net takes its last cycles: two processes at a
   time, one thread each. A smaller and a larger net learn the same lesson, one seed each.
4. The cloud net ships with its mirror image: the mean of the two answers was better on held-out
   data, by one to two tenths of a point.

It writes `apparel`, and beside it `apparel-xs` and `apparel-l`, which share its cloud file. It
takes more than an hour on two cores. Every finished stage is kept in the work folder, and a second
run goes on from there.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn

from models.pipeline.ops.tensor import Cast, Normalise, Reshape, Scale
from models.zoo import stages
from models.zoo.augment import augmented_copy
from models.zoo.data import load
from models.zoo.distil import Bank, build_bank
from models.zoo.fitting import Cycle, one_thread, predict
from models.zoo.lessons import Lesson, Trained, from_labels, from_teacher, further
from models.zoo.networks import MirrorMean, Residual, ScaledLinear, convolution_block
from models.zoo.ship import Terms, ship, ship_size

MEAN, SPREAD = 0.2860, 0.3530
PREPARATION = (
    Cast(dtype="float32"),
    Scale(by=(1 / 255,)),
    Normalise(mean=(MEAN,), std=(SPREAD,)),
    Reshape(shape=(1, 28, 28)),
)
EPS = 0.005

CLOUD_SEED = 0
CLOUD_CYCLES = (Cycle(epochs=8, peak=0.2, rise=0.2), Cycle(epochs=6, peak=0.12, rise=0.05))
LAST_CLOUD_CYCLES = (
    Cycle(epochs=4, peak=0.08, rise=0.05),
    Cycle(epochs=5, peak=0.1, rise=0.05),
)
CLOUD_FIRST_COPY = 50_000
EDGE_SEEDS = (0, 1, 2)
EDGE_CYCLE = Cycle(epochs=36, peak=0.2, rise=0.2, weight_decay=2e-4)
SIZE_SEEDS = (0,)
"""Of the other sizes."""
BANK_SEEDS = tuple(range(1000, 1006))
PROCESSES = 2

picture_copy = partial(augmented_copy, shift=2, mirror=True, erase=8)
cloud_copy = partial(picture_copy, erase_share=0.4)
edge_copy = partial(picture_copy, erase_share=0.3)


def cloud_network() -> nn.Module:
    """760 thousand parameters at 28, 14 and 7 pixels a side."""
    block = convolution_block
    return nn.Sequential(
        block(1, 32),
        block(32, 64),
        nn.MaxPool2d(2),
        Residual(block(64, 64), block(64, 64)),
        block(64, 128),
        nn.MaxPool2d(2),
        Residual(block(128, 128), block(128, 128)),
        block(128, 256),
        nn.AdaptiveMaxPool2d(1),
        nn.Flatten(),
        ScaledLinear(256, 10, scale=0.25),
    ).to(memory_format=torch.channels_last)


def edge_network(first: int = 16, second: int = 16, third: int = 32, last: int = 40) -> nn.Module:
    """31 thousand parameters at its usual widths."""
    block = convolution_block
    return nn.Sequential(
        block(1, first),
        nn.MaxPool2d(2),
        block(first, second),
        Residual(block(second, second)),
        nn.MaxPool2d(2),
        block(second, third),
        Residual(block(third, third)),
        block(third, last),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(last, 10),
    ).to(memory_format=torch.channels_last)


class Size(NamedTuple):
    """An edge net beside the usual one."""

    network: Callable[[], nn.Module]
    cycle: Cycle


SIZES = {
    "xs": Size(partial(edge_network, 8, 12, 16, 24), EDGE_CYCLE),
    "l": Size(partial(edge_network, 16, 32, 64, 64), replace(EDGE_CYCLE, epochs=20)),
}
"""10 and 107 thousand parameters. The large one learns in fewer epochs, and each costs it more."""


def prepare(pictures: Tensor) -> Tensor:
    """What `PREPARATION` declares, for a batch."""
    scaled = (pictures.float() / 255 - MEAN) / SPREAD
    return scaled[:, None].contiguous(memory_format=torch.channels_last)


TERMS = Terms(preparation=PREPARATION, prepare=prepare, eps=EPS, split="cut at random, seed 0")


def lesson_of(copy: Callable[..., Tensor], *, report_every: int) -> Lesson:
    dataset = load("apparel")
    return Lesson(
        task="apparel",
        copy=partial(copy, torch.from_numpy(dataset.train_x)),
        labels=torch.from_numpy(dataset.train_y),
        prepare=prepare,
        held=(torch.from_numpy(dataset.held_x), torch.from_numpy(dataset.held_y)),
        report_every=report_every,
    )


def train_teacher(work: Path) -> Trained:
    """The cloud net before its last cycles, trained once and kept."""
    kept = work / "teacher.pt"
    if not kept.exists():
        stages.keep(
            kept,
            from_labels(
                lesson_of(cloud_copy, report_every=1),
                cloud_network,
                CLOUD_CYCLES,
                seed=CLOUD_SEED,
                first_copy=CLOUD_FIRST_COPY,
                role="cloud",
            ),
        )
    return stages.kept(kept, cloud_network)


def train_cloud(work: Path) -> Trained:
    """The cloud net that ships, trained once and kept."""
    kept = work / "cloud.pt"
    if not kept.exists():
        cloud = train_teacher(work)
        lesson = lesson_of(cloud_copy, report_every=1)
        for number, cycle in enumerate(LAST_CLOUD_CYCLES, len(CLOUD_CYCLES)):
            one_thread(CLOUD_SEED + number)
            cloud = further(
                lesson,
                cloud,
                cycle,
                order_seed=CLOUD_SEED + number,
                first_copy=CLOUD_FIRST_COPY + cloud.epochs,
                role=f"cloud seed {CLOUD_SEED} cycle {number + 1}",
            )
        stages.keep(kept, cloud)
    return stages.kept(kept, cloud_network)


def answer_copy(work: Path, seed: int) -> float:
    """The teacher's answers on one copy, kept; returns the processor seconds."""
    kept = work / f"bank-{seed}.pt"
    if not kept.exists():
        started = time.process_time()
        one_thread(seed)
        teacher = train_teacher(work).network
        answer = partial(predict, teacher, prepare=prepare)
        bank = build_bank(lesson_of(edge_copy, report_every=1).copy, (seed,), answer)
        stages.save(kept, {"logits": bank.logits[0], "cpu_seconds": time.process_time() - started})
    return float(torch.load(kept)["cpu_seconds"])


def train_edge(work: Path, seed: int, size: str | None = None) -> None:
    """One edge net, of the usual size or of one of `SIZES`, kept."""
    kept = _edge_file(work, seed, size)
    if not kept.exists():
        answers = [torch.load(work / f"bank-{copy}.pt")["logits"] for copy in BANK_SEEDS]
        bank = Bank(BANK_SEEDS, torch.stack(answers))
        lesson = lesson_of(edge_copy, report_every=4)
        role = "edge" if size is None else f"edge {size}"
        network_of, cycle = _size(size)
        stages.keep(kept, from_teacher(lesson, network_of, cycle, bank, seed=seed, role=role))


def trained_edge(work: Path, seed: int, size: str | None = None) -> Trained:
    """What `train_edge` kept."""
    return stages.kept(_edge_file(work, seed, size), _size(size).network)


def _edge_file(work: Path, seed: int, size: str | None) -> Path:
    return work / (f"edge-{seed}.pt" if size is None else f"edge-{size}-{seed}.pt")


def _size(size: str | None) -> Size:
    return Size(edge_network, EDGE_CYCLE) if size is None else SIZES[size]


def main() -> None:
    parser = argparse.ArgumentParser(prog="models.zoo.apparel.recipe")
    here = Path(__file__).resolve().parent
    parser.add_argument("--out", type=Path, default=here)
    parser.add_argument("--work", type=Path, default=here.parent / ".work" / "apparel")
    arguments = parser.parse_args()
    work: Path = arguments.work
    work.mkdir(parents=True, exist_ok=True)
    dataset = load("apparel")
    print(f"apparel: data {dataset.sha256}, edge seeds {EDGE_SEEDS}, cloud seed {CLOUD_SEED}")
    train_teacher(work)
    with ProcessPoolExecutor(PROCESSES, mp_context=get_context("spawn")) as processes:
        teacher_seconds = sum(processes.map(partial(answer_copy, work), BANK_SEEDS))
        last = [
            processes.submit(train_cloud, work),
            *(processes.submit(train_edge, work, seed) for seed in EDGE_SEEDS),
            *(processes.submit(train_edge, work, seed, size) for size, seed in _other_sizes()),
        ]
        for stage in last:
            stage.result()
    cloud = train_cloud(work)
    out: Path = arguments.out.resolve()
    shipped = ship(
        dataset,
        TERMS,
        cloud=replace(cloud, network=MirrorMean(cloud.network)),
        edges=[trained_edge(work, seed) for seed in EDGE_SEEDS],
        teacher_cpu_seconds=teacher_seconds,
        out=out,
    )
    for size in SIZES:
        ship_size(
            dataset,
            TERMS,
            edges=[trained_edge(work, seed, size) for seed in SIZE_SEEDS],
            beside=shipped,
            cloud_path=out / "cloud.onnx",
            out=out.with_name(f"{out.name}-{size}"),
        )


def _other_sizes() -> list[tuple[str, int]]:
    return [(size, seed) for seed in SIZE_SEEDS for size in SIZES]


if __name__ == "__main__":
    main()
