"""The two ways a net of the zoo learns: from labels, or from a teacher's bank of answers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from torch import Tensor, nn

from models.zoo.distil import Bank, Copy, distillation_loss, from_bank
from models.zoo.fitting import Cycle, Prepare, Samples, fit, one_thread

TEACHER_TEMPERATURE = 2.0
LABEL_SHARE = 0.1


@dataclass(frozen=True)
class Lesson:
    """What is learnt: augmented copies of the training inputs, their labels, held-out progress."""

    task: str
    copy: Copy
    labels: Tensor
    prepare: Prepare
    held: tuple[Tensor, Tensor]
    report_every: int = 10


@dataclass(frozen=True)
class Trained:
    """A network, and what it cost."""

    network: nn.Module
    seed: int
    epochs: int
    cpu_seconds: float


def from_labels(
    lesson: Lesson,
    network_of: Callable[[], nn.Module],
    cycles: Sequence[Cycle],
    *,
    seed: int,
    first_copy: int,
    role: str,
) -> Trained:
    """A net taught by labels; epoch k of all cycles sees the copy of seed `first_copy` + k."""
    one_thread(seed)
    trained = Trained(network_of(), seed, 0, 0.0)
    for number, cycle in enumerate(cycles):
        trained = further(
            lesson,
            trained,
            cycle,
            order_seed=seed + number,
            first_copy=first_copy + trained.epochs,
            role=f"{role} seed {seed} cycle {number + 1}",
        )
    return trained


def further(
    lesson: Lesson,
    trained: Trained,
    cycle: Cycle,
    *,
    order_seed: int,
    first_copy: int,
    role: str,
) -> Trained:
    """The same net after one more cycle of learning from labels."""
    seconds = fit(
        trained.network,
        lambda epoch: Samples(lesson.copy(first_copy + epoch), lesson.labels),
        cycle,
        prepare=lesson.prepare,
        seed=order_seed,
        name=f"{lesson.task} {role}",
        held=lesson.held,
        report_every=lesson.report_every,
    )
    return Trained(
        trained.network,
        trained.seed,
        trained.epochs + cycle.epochs,
        trained.cpu_seconds + seconds,
    )


def from_teacher(
    lesson: Lesson,
    network_of: Callable[[], nn.Module],
    cycle: Cycle,
    bank: Bank,
    *,
    seed: int,
    role: str,
) -> Trained:
    """A net taught by the bank of a teacher, over the bank's own copies."""
    one_thread(seed)
    network = network_of()
    seconds = fit(
        network,
        from_bank(bank, lesson.copy, lesson.labels),
        cycle,
        prepare=lesson.prepare,
        loss=distillation_loss(temperature=TEACHER_TEMPERATURE, label_share=LABEL_SHARE),
        seed=seed,
        name=f"{lesson.task} {role} seed {seed}",
        held=lesson.held,
        report_every=lesson.report_every,
    )
    return Trained(network, seed, cycle.epochs, seconds)
