"""Trains the activity cascade: what a person does, from 0.6 s of a telephone's motion sensors.

Run it with `python -m models.zoo.activity.recipe`, or `./just train activity`.

1. A committee of cloud-sized nets learns from labels.
2. The cloud net and the edge nets learn from the committee's mean answer. There are few people in
   the data, so nets from labels alone differ by their seed; the committee's answer differs less.
3. Windows are turned by up to 30 degrees about a random axis: nobody wears a telephone quite alike.
"""

from __future__ import annotations

import argparse
import math
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn

from models.pipeline.ops.tensor import Cast, Normalise, Scale, Transpose
from models.zoo.data import Dataset, load
from models.zoo.distil import build_bank
from models.zoo.fitting import Cycle, mean_logits
from models.zoo.lessons import Lesson, Trained, from_labels, from_teacher
from models.zoo.networks import Residual, convolution_block
from models.zoo.ship import Terms, ship

# Counts to m/s^2 and rad/s, as the data file's `scale` says; then to numbers around one.
TO_PHYSICAL = (1 / 400, 1 / 400, 1 / 400, 1 / 1500, 1 / 1500, 1 / 1500)
SPREAD = (5.0, 5.0, 5.0, 1.0, 1.0, 1.0)
PREPARATION = (
    Cast(dtype="float32"),
    Scale(by=TO_PHYSICAL),
    Normalise(mean=(0.0,), std=SPREAD),
    Transpose(axes=(1, 0)),
)
EPS = 0.02
TUNE_PERSONS = (14,)

COMMITTEE_SEEDS = (100, 101, 102, 103)
CLOUD_SEED = 0
COMMITTEE_CYCLE = Cycle(epochs=30, peak=0.1, rise=0.2, batch=64)
CLOUD_CYCLE = Cycle(epochs=50, peak=0.1, rise=0.2, batch=64)
EDGE_SEEDS = (0, 1, 2)
EDGE_CYCLE = Cycle(epochs=150, peak=0.1, rise=0.2, weight_decay=1e-4, batch=64)
BANK_COPIES = 50
COPIES_PER_MEMBER = 10_000

TURN_DEGREES = 30.0
STRETCH = 0.1
NOISE = 0.05

block = partial(convolution_block, dimensions=1)


def cloud_network() -> nn.Sequential:
    return nn.Sequential(
        block(6, 48, width=5),
        Residual(block(48, 48), block(48, 48)),
        nn.MaxPool1d(2),
        block(48, 96),
        Residual(block(96, 96), block(96, 96)),
        nn.MaxPool1d(2),
        block(96, 160),
        Residual(block(160, 160), block(160, 160)),
        nn.AdaptiveAvgPool1d(1),
        nn.Flatten(),
        nn.Dropout(0.2),
        nn.Linear(160, 5),
    )


def edge_network() -> nn.Sequential:
    return nn.Sequential(
        block(6, 10, width=5),
        nn.MaxPool1d(2),
        block(10, 16),
        Residual(block(16, 16)),
        nn.MaxPool1d(2),
        block(16, 20),
        nn.AdaptiveAvgPool1d(1),
        nn.Flatten(),
        nn.Linear(20, 5),
    )


def prepare(windows: Tensor) -> Tensor:
    """What `PREPARATION` declares, for a batch."""
    return (windows.float() * torch.tensor(TO_PHYSICAL) / torch.tensor(SPREAD)).transpose(1, 2)


def rotations(count: int, generator: torch.Generator) -> Tensor:
    """Rotation matrices about random axes, by Rodrigues' formula."""
    axes = nn.functional.normalize(torch.randn(count, 3, generator=generator), dim=1)
    turn = math.radians(TURN_DEGREES)
    angles = (torch.rand(count, generator=generator) * 2 - 1) * turn
    x, y, z = axes.unbind(1)
    zero = torch.zeros(count)
    cross = torch.stack([zero, -z, y, z, zero, -x, -y, x, zero], 1).view(count, 3, 3)
    sine, cosine = angles.sin()[:, None, None], angles.cos()[:, None, None]
    return torch.eye(3) + sine * cross + (1 - cosine) * (cross @ cross)


def turned_copy(windows: Tensor, seed: int) -> Tensor:
    """A copy of all windows, in counts: turned, a little stretched, with a little noise."""
    generator = torch.Generator().manual_seed(seed)
    count = len(windows)
    turn = rotations(count, generator)
    turned = torch.cat([windows[..., :3] @ turn, windows[..., 3:] @ turn], -1)
    stretch = 1 + STRETCH * (torch.rand(count, 1, 1, generator=generator) * 2 - 1)
    noise = torch.randn(turned.shape, generator=generator)
    return turned * stretch + NOISE * noise * torch.tensor(SPREAD) / torch.tensor(TO_PHYSICAL)


def train(dataset: Dataset) -> tuple[Trained, list[Trained], float]:
    """The cloud net, one edge net per seed, and the processor seconds of their teachers."""
    lesson = Lesson(
        task="activity",
        copy=partial(turned_copy, torch.from_numpy(dataset.train_x).float()),
        labels=torch.from_numpy(dataset.train_y),
        prepare=prepare,
        held=(torch.from_numpy(dataset.held_x), torch.from_numpy(dataset.held_y)),
    )
    committee = [
        from_labels(
            lesson,
            cloud_network,
            [COMMITTEE_CYCLE],
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
    parser = argparse.ArgumentParser(prog="models.zoo.activity.recipe")
    parser.add_argument("--out", type=Path, default=Path(__file__).resolve().parent)
    arguments = parser.parse_args()
    dataset = load("activity")
    print(f"activity: data {dataset.sha256}, edge seeds {EDGE_SEEDS}, cloud seed {CLOUD_SEED}")
    cloud, edges, teacher_seconds = train(dataset)
    terms = Terms(
        preparation=PREPARATION,
        prepare=prepare,
        eps=EPS,
        split="by person: person 14 tunes, persons 5 and 11 calibrate",
        tune_persons=TUNE_PERSONS,
    )
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
