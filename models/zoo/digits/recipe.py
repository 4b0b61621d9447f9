"""Trains the digits cascade: hand-written digits of 8 by 8 pixels, which come with scikit-learn.

Run it with `python -m models.zoo.digits.recipe`, or `./just train digits`. It needs no data of
ours and takes some minutes, so it is the recipe to try first, and the one to copy.

1. A committee of cloud-sized nets learns from labels.
2. The cloud net and the edge nets learn from the committee's mean answer.
"""

from __future__ import annotations

import argparse
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn

from models.pipeline.ops.tensor import Cast, Reshape, Scale
from models.zoo.augment import augmented_copy
from models.zoo.data import Dataset, load
from models.zoo.distil import build_bank
from models.zoo.fitting import Cycle, mean_logits
from models.zoo.lessons import Lesson, Trained, from_labels, from_teacher
from models.zoo.networks import Residual, convolution_block
from models.zoo.ship import Terms, ship

PREPARATION = (
    Cast(dtype="float32"),
    Scale(by=(1 / 16,)),
    Reshape(shape=(1, 8, 8)),
)
EPS = 0.02

COMMITTEE_SEEDS = (100, 101, 102, 103)
CLOUD_SEED = 0
EDGE_SEEDS = (0, 1, 2)
CLOUD_CYCLE = Cycle(epochs=100, peak=0.1, rise=0.2, batch=64)
EDGE_CYCLE = Cycle(epochs=240, peak=0.1, rise=0.2, weight_decay=1e-4, batch=64)
BANK_COPIES = 60
COPIES_PER_MEMBER = 10_000


def cloud_network() -> nn.Sequential:
    block = convolution_block
    return nn.Sequential(
        block(1, 32),
        Residual(block(32, 32), block(32, 32)),
        nn.MaxPool2d(2),
        block(32, 64),
        Residual(block(64, 64)),
        nn.AdaptiveMaxPool2d(1),
        nn.Flatten(),
        nn.Dropout(0.2),
        nn.Linear(64, 10),
    )


def edge_network() -> nn.Sequential:
    """Small on purpose: a net that is right 99 times in 100 leaves the cloud nothing to do."""
    block = convolution_block
    return nn.Sequential(
        block(1, 6),
        block(6, 8),
        nn.MaxPool2d(2),
        block(8, 12),
        nn.AdaptiveMaxPool2d(1),
        nn.Flatten(),
        nn.Linear(12, 10),
    )


def prepare(pictures: Tensor) -> Tensor:
    """What `PREPARATION` declares, for a batch."""
    return (pictures.float() / 16)[:, None]


def train(dataset: Dataset) -> tuple[Trained, list[Trained], float]:
    """The cloud net, one edge net per seed, and the processor seconds of their teachers."""
    pictures = torch.from_numpy(dataset.train_x)
    lesson = Lesson(
        task="digits",
        copy=partial(augmented_copy, pictures, shift=1, mirror=False, erase=3, erase_share=0.3),
        labels=torch.from_numpy(dataset.train_y),
        prepare=prepare,
        held=(torch.from_numpy(dataset.held_x), torch.from_numpy(dataset.held_y)),
        report_every=20,
    )
    committee = [
        from_labels(
            lesson,
            cloud_network,
            [CLOUD_CYCLE],
            seed=seed,
            first_copy=(number + 1) * COPIES_PER_MEMBER,
            role="committee",
        )
        for number, seed in enumerate(COMMITTEE_SEEDS)
    ]
    answer = partial(mean_logits, [member.network for member in committee], prepare=prepare)
    bank = build_bank(lesson.copy, tuple(range(BANK_COPIES)), answer)
    cloud = from_teacher(lesson, cloud_network, CLOUD_CYCLE, bank, seed=CLOUD_SEED, role="cloud")
    edges = [
        from_teacher(lesson, edge_network, EDGE_CYCLE, bank, seed=seed, role="edge")
        for seed in EDGE_SEEDS
    ]
    return cloud, edges, sum(member.cpu_seconds for member in committee)


def main() -> None:
    parser = argparse.ArgumentParser(prog="models.zoo.digits.recipe")
    parser.add_argument("--out", type=Path, default=Path(__file__).resolve().parent)
    arguments = parser.parse_args()
    dataset = load("digits")
    print(f"digits: data {dataset.sha256}, edge seeds {EDGE_SEEDS}, cloud seed {CLOUD_SEED}")
    cloud, edges, teacher_seconds = train(dataset)
    terms = Terms(preparation=PREPARATION, prepare=prepare, eps=EPS, split="cut at random, seed 0")
    ship(
        dataset,
        terms,
        cloud=cloud,
        edges=edges,
        teacher_cpu_seconds=teacher_seconds,
        out=arguments.out,
    )


if __name__ == "__main__":
    main()
