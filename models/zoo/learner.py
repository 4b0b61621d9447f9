"""A small trainer on numpy, for nets that need no PyTorch: layers, their gradients, Adam.

Rules:
1. A layer keeps what its last `forward` saw; `backward` takes the gradient of the loss by its
   output, stores that by its weights and returns that by its input. Everything is float32.
2. Sequences are [n, t, c]. A convolution is over t without padding: t becomes t - width + 1.
3. One seed, one thread and one BLAS give the same weights again; another BLAS sums in another
   order.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
from numpy.lib.stride_tricks import sliding_window_view

Floats = npt.NDArray[np.float32]
Ids = npt.NDArray[np.int64]
Array = npt.NDArray[Any]

FORWARD_BATCH = 512


@dataclass
class Weights:
    """One array that is learnt, and the gradient of the loss by it."""

    value: Floats
    decays: bool
    gradient: Floats = field(init=False)

    def __post_init__(self) -> None:
        self.gradient = np.zeros_like(self.value)


class Layer(Protocol):
    """What a stack is made of."""

    @property
    def weights(self) -> tuple[Weights, ...]: ...
    def forward(self, given: Array) -> Floats: ...
    def backward(self, gradient: Floats) -> Floats: ...


class Dense:
    """[..., inputs] times a matrix, plus offsets."""

    def __init__(self, chance: np.random.Generator, inputs: int, outputs: int) -> None:
        spread = np.sqrt(2 / inputs)
        drawn = chance.standard_normal((inputs, outputs)) * spread
        self.matrix = Weights(drawn.astype(np.float32), decays=True)
        self.offsets = Weights(np.zeros(outputs, np.float32), decays=False)
        self.weights = (self.matrix, self.offsets)
        self._given: Floats = np.zeros((0, inputs), np.float32)

    def forward(self, given: Array) -> Floats:
        self._given = given
        made: Floats = given @ self.matrix.value + self.offsets.value
        return made

    def backward(self, gradient: Floats) -> Floats:
        flat = gradient.reshape(-1, gradient.shape[-1])
        self.matrix.gradient = self._given.reshape(len(flat), -1).T @ flat
        self.offsets.gradient = flat.sum(axis=0)
        back: Floats = gradient @ self.matrix.value.T
        return back


class Convolution:
    """[n, t, c] to [n, t - width + 1, outputs]: one matrix over every `width` neighbours."""

    def __init__(
        self, chance: np.random.Generator, channels: int, outputs: int, *, width: int
    ) -> None:
        self.width, self.channels = width, channels
        self.dense = Dense(chance, width * channels, outputs)
        self.weights = self.dense.weights

    def forward(self, given: Array) -> Floats:
        views = sliding_window_view(given, self.width, axis=1)
        pieces = views.transpose(0, 1, 3, 2).reshape(len(given), views.shape[1], -1)
        return self.dense.forward(np.ascontiguousarray(pieces))

    def backward(self, gradient: Floats) -> Floats:
        pieces = self.dense.backward(gradient)
        n, steps = gradient.shape[:2]
        by_place = pieces.reshape(n, steps, self.width, self.channels)
        back = np.zeros((n, steps + self.width - 1, self.channels), np.float32)
        for place in range(self.width):
            back[:, place : place + steps] += by_place[:, :, place]
        return back


class Relu:
    """Nothing below zero."""

    weights: tuple[Weights, ...] = ()

    def forward(self, given: Array) -> Floats:
        self._kept = given > 0
        return np.maximum(given, np.float32(0))

    def backward(self, gradient: Floats) -> Floats:
        return gradient * self._kept


class Highest:
    """[n, t, c] to [n, c]: the largest of each channel."""

    weights: tuple[Weights, ...] = ()

    def forward(self, given: Array) -> Floats:
        self._shape = given.shape
        self._at = given.argmax(axis=1)[:, None]
        highest: Floats = np.take_along_axis(given, self._at, axis=1)[:, 0]
        return highest

    def backward(self, gradient: Floats) -> Floats:
        back = np.zeros(self._shape, np.float32)
        np.put_along_axis(back, self._at, gradient[:, None], axis=1)
        return back


class Dropout:
    """Leaves out a share of the values while training; `training` is switched by `fit`."""

    weights: tuple[Weights, ...] = ()

    def __init__(self, chance: np.random.Generator, share: float) -> None:
        self.training = False
        self._chance, self._share = chance, share

    def forward(self, given: Array) -> Floats:
        if not self.training:
            return given
        kept = self._chance.random(given.shape, dtype=np.float32) >= self._share
        self._scale: Floats = kept * np.float32(1 / (1 - self._share))
        return given * self._scale

    def backward(self, gradient: Floats) -> Floats:
        return gradient * self._scale


class Embedding:
    """int64 [n, t] to [n, t, size]; id 0 is padding and stays zero."""

    def __init__(self, chance: np.random.Generator, words: int, size: int) -> None:
        table = chance.standard_normal((words, size)).astype(np.float32) * np.float32(0.3)
        table[0] = 0
        self.table = Weights(table, decays=False)
        self.weights = (self.table,)

    def forward(self, given: Array) -> Floats:
        self._ids: Ids = given
        looked_up: Floats = self.table.value[given]
        return looked_up

    def backward(self, gradient: Floats) -> Floats:
        ids, flat = self._ids.ravel(), gradient.reshape(-1, gradient.shape[-1])
        order = np.argsort(ids, kind="stable")
        words, starts = np.unique(ids[order], return_index=True)
        summed = np.zeros_like(self.table.value)
        summed[words] = np.add.reduceat(flat[order], starts, axis=0)
        summed[0] = 0
        self.table.gradient = summed
        return gradient


class Mean:
    """[n, t, c] to [n, c]: the mean over the steps that are not all zero, which padding is."""

    weights: tuple[Weights, ...] = ()

    def forward(self, given: Array) -> Floats:
        self._steps = given.shape[1]
        used = (given != 0).any(axis=2).sum(axis=1)
        self._share: Floats = (1 / np.maximum(used, 1)).astype(np.float32)[:, None]
        mean: Floats = given.sum(axis=1) * self._share
        return mean

    def backward(self, gradient: Floats) -> Floats:
        each = (gradient * self._share)[:, None]
        return np.broadcast_to(each, (len(gradient), self._steps, gradient.shape[1]))


@dataclass(frozen=True)
class Course:
    """How long and how fast to learn."""

    epochs: int
    peak: float
    batch: int = 64
    decay: float = 0.01
    smoothing: float = 0.0
    """Share of a label's certainty spread over all classes."""


def fit(
    stack: Sequence[Layer],
    inputs: Array,
    labels: Ids,
    course: Course,
    *,
    classes: int,
    seed: int,
    alter: Callable[[Array, np.random.Generator], Array] | None = None,
) -> float:
    """Trains in place by cross-entropy with AdamW and a cosine; gives processor seconds.

    `alter` changes each batch before it is seen, to have more variety than there are data.
    """
    began, chance = time.process_time(), np.random.default_rng([seed, 5])
    weights = [one for layer in stack for one in layer.weights]
    means = [(np.zeros_like(one.value), np.zeros_like(one.value)) for one in weights]
    targets = np.full((len(labels), classes), course.smoothing / classes, np.float32)
    targets[np.arange(len(labels)), labels] += 1 - course.smoothing
    batches, step = -(-len(labels) // course.batch), 0
    _switch(stack, training=True)
    for _ in range(course.epochs):
        for rows in np.array_split(chance.permutation(len(labels)), batches):
            step += 1
            rate = course.peak * _cosine(step / (course.epochs * batches))
            given = inputs[rows] if alter is None else alter(inputs[rows], chance)
            gradient = _softmax(_through(stack, given)) - targets[rows]
            gradient /= np.float32(len(rows))
            for layer in reversed(stack):
                gradient = layer.backward(gradient)
            for one, (first, second) in zip(weights, means, strict=True):
                _adam(one, first, second, rate, step, course.decay)
    _switch(stack, training=False)
    return time.process_time() - began


def logits_of(stack: Sequence[Layer], inputs: Array) -> Floats:
    """What the stack answers, batch by batch."""
    starts = range(0, len(inputs), FORWARD_BATCH)
    return np.concatenate([_through(stack, inputs[at : at + FORWARD_BATCH]) for at in starts])


def size_of(stack: Sequence[Layer]) -> int:
    """How many numbers are learnt."""
    return sum(one.value.size for layer in stack for one in layer.weights)


def _through(stack: Sequence[Layer], given: Array) -> Floats:
    for layer in stack:
        given = layer.forward(given)
    return given


def _switch(stack: Sequence[Layer], *, training: bool) -> None:
    for layer in stack:
        if isinstance(layer, Dropout):
            layer.training = training


def _softmax(logits: Floats) -> Floats:
    raised: Floats = np.exp(logits - logits.max(axis=1, keepdims=True))
    raised /= raised.sum(axis=1, keepdims=True)
    return raised


def _cosine(share: float) -> float:
    """From a tenth up to one in the first tenth of the steps, then down to zero."""
    rise = 0.1
    if share < rise:
        return 0.1 + 0.9 * share / rise
    return float(0.5 + 0.5 * np.cos(np.pi * (share - rise) / (1 - rise)))


def _adam(
    one: Weights, first: Floats, second: Floats, rate: float, step: int, decay: float
) -> None:
    """AdamW (Loshchilov and Hutter 2019), in place."""
    first += np.float32(0.1) * (one.gradient - first)
    second += np.float32(0.001) * (np.square(one.gradient) - second)
    fast = np.float32(rate / (1 - 0.9**step))
    spread = np.sqrt(second / np.float32(1 - 0.999**step)) + np.float32(1e-8)
    one.value -= fast * first / spread
    if one.decays:
        one.value *= np.float32(1 - rate * decay)
