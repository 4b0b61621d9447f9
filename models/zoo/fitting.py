"""One training loop for every network of the zoo: a number of epochs, never a number of seconds.

Rules:
1. The same seed, data and library versions give the same weights on the same processor: all chance
   comes from seeded generators.
2. One thread and bf16 autocast: on a small shared machine two threads are many times slower.
3. The loop never sees test data; held-out accuracy is printed as progress.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

INFERENCE_BATCH = 500


@dataclass(frozen=True)
class Cycle:
    """One rise and fall of the learning rate; a second one on trained weights is a warm restart."""

    epochs: int
    peak: float
    rise: float = 0.1
    """Share of the steps during which the rate rises to `peak`."""
    end: float = 0.0
    """Share of `peak` that is left at the last step."""
    weight_decay: float = 5e-4
    batch: int = 256

    def rate(self, progress: float) -> float:
        if progress < self.rise:
            return self.peak * progress / self.rise
        fallen = (progress - self.rise) / (1 - self.rise)
        return self.peak * (1 - (1 - self.end) * fallen)


@dataclass(frozen=True)
class Samples:
    """What one epoch trains on: augmented inputs, labels, a teacher's logits for these inputs."""

    inputs: Tensor
    labels: Tensor
    teacher: Tensor | None = None


Loss = Callable[[Tensor, Tensor, Tensor | None], Tensor]
Prepare = Callable[[Tensor], Tensor]


def label_loss(logits: Tensor, labels: Tensor, teacher: Tensor | None) -> Tensor:
    """Cross entropy with the labels; a teacher is ignored."""
    return nn.functional.cross_entropy(logits, labels)


def one_thread(seed: int) -> None:
    """Seeds torch and keeps it to one thread; call it before a network is built."""
    torch.set_num_threads(1)
    torch.manual_seed(seed)


def fit(
    network: nn.Module,
    epoch_samples: Callable[[int], Samples],
    cycle: Cycle,
    *,
    prepare: Prepare,
    loss: Loss = label_loss,
    seed: int,
    name: str,
    held: tuple[Tensor, Tensor] | None = None,
    report_every: int = 1,
) -> float:
    """Trains `network` in place for one cycle and returns the processor seconds it took."""
    decayed = [parameter for parameter in network.parameters() if parameter.ndim > 1]
    free = [parameter for parameter in network.parameters() if parameter.ndim <= 1]
    optimiser = torch.optim.SGD(
        [
            {"params": decayed, "weight_decay": cycle.weight_decay},
            {"params": free, "weight_decay": 0.0},
        ],
        lr=cycle.peak,
        momentum=0.9,
        nesterov=True,
    )
    order = torch.Generator().manual_seed(seed)
    started = time.process_time()
    for epoch in range(cycle.epochs):
        network.train()
        samples = epoch_samples(epoch)
        batches = len(samples.labels) // cycle.batch
        shuffled = torch.randperm(len(samples.labels), generator=order)
        loss_sum = 0.0
        for batch in range(batches):
            chosen = shuffled[batch * cycle.batch : (batch + 1) * cycle.batch]
            progress = (epoch * batches + batch) / (cycle.epochs * batches)
            for group in optimiser.param_groups:
                group["lr"] = cycle.rate(progress)
            teacher = None if samples.teacher is None else samples.teacher[chosen]
            with torch.autocast("cpu", dtype=torch.bfloat16):
                logits = network(prepare(samples.inputs[chosen]))
            batch_loss = loss(logits.float(), samples.labels[chosen], teacher)
            optimiser.zero_grad()
            batch_loss.backward()
            optimiser.step()
            loss_sum += batch_loss.item()
        last = epoch + 1 == cycle.epochs
        if last or (epoch + 1) % report_every == 0:
            held_text = ""
            if held is not None:
                held_logits = predict(network, held[0], prepare=prepare)
                held_text = f" held {accuracy(held_logits, held[1]):.2f} %"
            print(
                f"{name} epoch {epoch + 1}/{cycle.epochs} loss {loss_sum / batches:.4f}{held_text}"
                f" cpu {time.process_time() - started:.0f} s",
                flush=True,
            )
    return time.process_time() - started


def predict(network: nn.Module, inputs: Tensor, *, prepare: Prepare, bf16: bool = True) -> Tensor:
    """Logits of `network`, batch by batch, in inference mode."""
    network.eval()
    parts = []
    for part in inputs.split(INFERENCE_BATCH):
        with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16, enabled=bf16):
            parts.append(network(prepare(part)).float())
    return torch.cat(parts)


def accuracy(logits: Tensor, labels: Tensor) -> float:
    """Share of rows whose largest logit is the label's, in percent."""
    return float(100.0 * (logits.argmax(1) == labels).float().mean().item())


def mean_logits(networks: Iterable[nn.Module], inputs: Tensor, *, prepare: Prepare) -> Tensor:
    """The average logits of an ensemble."""
    return torch.stack([predict(network, inputs, prepare=prepare) for network in networks]).mean(0)
