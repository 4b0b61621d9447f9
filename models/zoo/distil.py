"""Distillation: a small net learns to answer as a large one does, on augmented copies of its data.

A *bank* holds the teacher's logits for a number of seeded copies of the training inputs. The
copies are made again from their seeds, so the bank is small, and every student shares it: the
teacher's work, many times a student's, is done once.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from models.zoo.fitting import Loss, Samples

Copy = Callable[[int], Tensor]
"""Makes the augmented copy that a seed names."""


@dataclass(frozen=True)
class Bank:
    """A teacher's logits, half precision, [copies, n, classes], and the seed of every copy."""

    seeds: tuple[int, ...]
    logits: Tensor


def build_bank(copy: Copy, seeds: tuple[int, ...], answer: Callable[[Tensor], Tensor]) -> Bank:
    """Lets the teacher `answer` every copy."""
    parts = []
    for number, seed in enumerate(seeds):
        parts.append(answer(copy(seed)).half())
        print(f"bank copy {number + 1}/{len(seeds)} (seed {seed})", flush=True)
    return Bank(seeds, torch.stack(parts))


def from_bank(bank: Bank, copy: Copy, labels: Tensor) -> Callable[[int], Samples]:
    """The samples of an epoch: the bank's copies in turn, with the teacher's logits."""

    def samples(epoch: int) -> Samples:
        number = epoch % len(bank.seeds)
        return Samples(copy(bank.seeds[number]), labels, bank.logits[number].float())

    return samples


def distillation_loss(*, temperature: float, label_share: float) -> Loss:
    """The teacher's softened answer, with `label_share` of plain cross entropy."""

    def loss(logits: Tensor, labels: Tensor, teacher: Tensor | None) -> Tensor:
        if teacher is None:
            raise ValueError("distillation needs samples with the teacher's logits")
        divergence = functional.kl_div(
            functional.log_softmax(logits / temperature, 1),
            functional.log_softmax(teacher / temperature, 1),
            log_target=True,
            reduction="batchmean",
        )
        of_labels = functional.cross_entropy(logits, labels)
        return (1 - label_share) * temperature**2 * divergence + label_share * of_labels

    return loss
