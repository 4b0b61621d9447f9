"""The small trainer and the files made of what it learns."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
import pytest

from models.zoo.graphs import onnx_logits, perceptron, scores_only, write_float, write_int8
from models.zoo.learner import (
    Convolution,
    Course,
    Dense,
    Dropout,
    Embedding,
    Highest,
    Layer,
    Mean,
    Relu,
    fit,
    logits_of,
    size_of,
)
from models.zoo.stacks import fold_scaling, graph_of

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

Floats = npt.NDArray[np.float32]


def sequence_stack(seed: int = 0) -> list[Layer]:
    chance = np.random.default_rng(seed)
    return [
        Convolution(chance, 3, 8, width=2),
        Relu(),
        Highest(),
        Dropout(chance, 0.2),
        Dense(chance, 8, 4),
    ]


def deep_stack(seed: int = 0) -> list[Layer]:
    chance = np.random.default_rng(seed)
    first, second = Convolution(chance, 3, 5, width=2), Convolution(chance, 5, 8, width=3)
    return [first, Relu(), second, Relu(), Highest(), Dense(chance, 8, 4)]


def word_stack(seed: int = 0) -> list[Layer]:
    chance = np.random.default_rng(seed)
    return [Embedding(chance, 20, 6), Mean(), Dense(chance, 6, 3)]


def words(count: int, seed: int) -> npt.NDArray[np.int64]:
    """Rows of 10 ids, the last ones padding."""
    chance = np.random.default_rng(seed)
    ids = chance.integers(1, 20, (count, 10))
    ids[np.arange(10) >= chance.integers(3, 11, (count, 1))] = 0
    return ids


@pytest.mark.parametrize(
    "stack", [sequence_stack(), deep_stack(), word_stack()], ids=["sequence", "deep", "words"]
)
def test_gradients_are_those_of_small_steps(stack: list[Layer]) -> None:
    chance = np.random.default_rng(1)
    stack = [layer for layer in stack if not isinstance(layer, Dropout)]
    words_first = isinstance(stack[0], Embedding)
    given = words(5, 1) if words_first else chance.standard_normal((5, 6, 3)).astype(np.float32)
    weight = chance.standard_normal((5, 3 if words_first else 4)).astype(np.float32)

    def loss() -> float:
        return float((logits_of(stack, given).astype(np.float64) * weight).sum())

    loss()
    gradient = weight
    for layer in reversed(stack):
        gradient = layer.backward(gradient)
    for one in (one for layer in stack for one in layer.weights):
        at = np.unravel_index(np.abs(one.gradient).argmax(), one.value.shape)
        kept, step = one.value[at], np.float32(1e-2)
        one.value[at] = kept + step
        above = loss()
        one.value[at] = kept - step
        below = loss()
        one.value[at] = kept
        assert (above - below) / (2 * step) == pytest.approx(one.gradient[at], rel=0.02)


def test_a_stack_learns_what_can_be_learnt_and_the_same_again() -> None:
    chance = np.random.default_rng(2)
    given = chance.standard_normal((400, 6, 3)).astype(np.float32)
    labels = given[:, :, :2].max(axis=1).argmax(axis=1) + 2 * (given[:, :, 2].max(axis=1) > 1.2)

    def learnt() -> Floats:
        stack = sequence_stack()
        fit(stack, given, labels, Course(epochs=40, peak=0.02), classes=4, seed=0)
        return logits_of(stack, given)

    logits = learnt()
    assert (logits.argmax(axis=1) == labels).mean() > 0.8
    assert np.array_equal(logits, learnt())


def test_a_sequence_stack_answers_the_same_as_a_file(tmp_path: Path) -> None:
    stack = sequence_stack()
    given = np.random.default_rng(3).standard_normal((7, 6, 3)).astype(np.float32)
    path = tmp_path / "net.onnx"
    write_float(graph_of(stack, classes=4, length=6, channels=3), path)
    found = onnx_logits(path, {"x": given.transpose(0, 2, 1)})
    np.testing.assert_allclose(found, logits_of(stack, given), rtol=1e-4, atol=1e-5)


def test_folded_scaling_takes_raw_inputs_to_the_same_answers() -> None:
    stack = sequence_stack()
    chance = np.random.default_rng(4)
    raw = (chance.standard_normal((7, 6, 3)) * [1, 5, 20] + [0, -3, 40]).astype(np.float32)
    means, spreads = raw.mean(axis=(0, 1)), raw.std(axis=(0, 1))
    scaled = logits_of(stack, ((raw - means) / spreads).astype(np.float32))
    fold_scaling(stack[0], means, spreads)
    np.testing.assert_allclose(logits_of(stack, raw), scaled, rtol=1e-3, atol=1e-4)
    with pytest.raises(TypeError, match="wanted a convolution first, not Relu"):
        fold_scaling(Relu(), means, spreads)


def test_a_word_stack_answers_the_same_as_a_file_and_hears_the_mask(tmp_path: Path) -> None:
    stack, ids = word_stack(), words(9, 5)
    path = tmp_path / "bag.onnx"
    write_float(graph_of(stack, classes=3, length=10), path)
    mask = (ids > 0).astype(np.int64)
    expected = logits_of(stack, ids)
    found = onnx_logits(path, {"ids": ids, "mask": mask})
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
    filled = np.where(mask == 1, ids, 19)
    assert np.array_equal(onnx_logits(path, {"ids": filled, "mask": mask}), found)
    nothing = onnx_logits(path, {"ids": ids[:1] * 0, "mask": mask[:1] * 0})
    assert np.isfinite(nothing).all()


def test_a_small_table_is_int8_and_means_nearly_the_same(tmp_path: Path) -> None:
    stack, ids = word_stack(), words(40, 8)
    feeds = {"ids": ids, "mask": (ids > 0).astype(np.int64)}
    path = tmp_path / "small.onnx"
    write_float(graph_of(stack, classes=3, length=10, small=True), path)
    table = onnx.load(str(path)).graph.initializer[0]
    assert (table.data_type, list(table.dims)) == (onnx.TensorProto.INT8, [20, 6])
    np.testing.assert_allclose(onnx_logits(path, feeds), logits_of(stack, ids), atol=0.01)


def test_int8_keeps_nearly_all_answers_and_is_smaller(tmp_path: Path) -> None:
    chance = np.random.default_rng(6)
    layers = [
        (chance.standard_normal((30, 64)) / 5, chance.standard_normal(64) / 5),
        (chance.standard_normal((64, 5)) / 8, np.zeros(5)),
    ]
    model = perceptron(layers, sample_shape=(5, 6))
    given = chance.standard_normal((300, 5, 6)).astype(np.float32)
    fp32, int8 = tmp_path / "fp32.onnx", tmp_path / "int8.onnx"
    write_float(model, fp32)
    write_int8(model, int8, calibration={"x": given})
    hidden = np.maximum(given.reshape(300, -1) @ layers[0][0] + layers[0][1], 0)
    expected = hidden @ layers[1][0] + layers[1][1]
    np.testing.assert_allclose(onnx_logits(fp32, {"x": given}), expected, rtol=1e-3, atol=1e-4)
    rounded = onnx_logits(int8, {"x": given})
    assert (rounded.argmax(axis=1) == expected.argmax(axis=1)).mean() > 0.95
    assert int8.stat().st_size < 0.6 * fp32.stat().st_size


def test_a_converted_classifier_keeps_its_scores_as_logits_and_nothing_else(tmp_path: Path) -> None:
    from skl2onnx import to_onnx  # type: ignore[import-untyped]
    from sklearn.ensemble import GradientBoostingClassifier

    chance = np.random.default_rng(7)
    given = chance.standard_normal((200, 4)).astype(np.float32)
    labels = (given[:, 0] * given[:, 1] > 0).astype(np.int64)
    trees = GradientBoostingClassifier(n_estimators=10, random_state=0).fit(given, labels)
    options = {id(trees): {"zipmap": False}}
    converted = to_onnx(trees, given[:1], options=options, target_opset={"": 17, "ai.onnx.ml": 3})
    path = tmp_path / "trees.onnx"
    write_float(scores_only(converted, classes=2), path)
    written = onnx.load(str(path))
    assert [value.name for value in written.graph.input] == ["x"]
    assert [value.name for value in written.graph.output] == ["logits"]
    logits = onnx_logits(path, {"x": given})
    np.testing.assert_allclose(np.exp(logits), trees.predict_proba(given), atol=1e-5)
    assert np.isfinite(logits).all()


def test_a_model_without_probabilities_is_refused() -> None:
    model = perceptron([(np.eye(2), np.zeros(2))], sample_shape=(2,))
    with pytest.raises(ValueError, match="switch zipmap off"):
        scores_only(model, classes=2)


def test_a_layer_nobody_can_write_is_named() -> None:
    class Unheard:
        weights = ()

        def forward(self, given: Floats) -> Floats:
            return given

        def backward(self, gradient: Floats) -> Floats:
            return gradient

    with pytest.raises(TypeError, match="no way to write Unheard as ONNX"):
        graph_of([Unheard()], classes=2, length=3, channels=2)


def test_the_size_of_a_stack_counts_every_number_learnt() -> None:
    assert size_of(word_stack()) == 20 * 6 + 6 * 3 + 3
