"""Declared steps, graphs, inputs and predictors, with real numpy and real onnxruntime."""

import math
from collections.abc import Callable
from pathlib import Path

import msgspec
import numpy as np
import numpy.typing as npt
import pytest
from msgspec.structs import replace

from models import package
from models.errors import (
    EmptyInput,
    GoldenMismatch,
    InputError,
    NotFinite,
    RuntimeFailed,
    WrongDtype,
    WrongShape,
)
from models.golden import golden_inputs
from models.manifest import Golden, Role, Said, TensorSpec, encode
from models.pipeline.answers import Classified
from models.pipeline.compute.families import compile_steps
from models.pipeline.kinds import Dtype, Kind
from models.pipeline.ops.families import Step, after_step
from models.pipeline.ops.tensor import Cast, Normalise, Reshape, Scale, Transpose
from models.pipeline.values import array
from models.predict import Predictor
from models.tensors import check_input, check_sample, datatype_of, dtype_of
from models.twins import build_twin, twin_sample
from tests.tiny_models import CERTIFICATE, CLOUD_WEIGHTS, EDGE_WEIGHTS, build_tiny

SPEC = TensorSpec("image", "uint8", (2, 3), "HW")
SIGNAL = TensorSpec("signal", "float32", (2,), "T")
PICTURE = np.array([[0, 51, 102], [153, 204, 255]], dtype=np.uint8)


# Steps.


@pytest.mark.parametrize(
    ("step", "given", "expected"),
    [
        (Cast("float32"), np.array([1, 255], np.uint8), np.array([1, 255], np.float32)),
        (Cast("float32"), np.array([-3], np.int16), np.array([-3], np.float32)),
        (Scale((0.5,)), np.array([[2, 4]], np.float32), np.array([[1, 2]], np.float32)),
        (
            Scale((0.5, 2.0)),
            np.array([[2, 4], [6, 8]], np.float32),
            np.array([[1, 8], [3, 16]], np.float32),
        ),
        (
            Normalise((1.0, 2.0), (0.5, 4.0)),
            np.array([[2, 4], [0, 0]], np.float32),
            np.array([[2, 0.5], [-2, -0.5]], np.float32),
        ),
        (
            Normalise((1.0,), (2.0,)),
            np.array([[3, 5]], np.float32),
            np.array([[1, 2]], np.float32),
        ),
        (Transpose((1, 0)), np.array([[1, 2, 3]], np.int16), np.array([[1], [2], [3]], np.int16)),
        (
            Reshape((1, 2, 2)),
            np.array([1, 2, 3, 4], np.float32),
            np.array([[[1, 2], [3, 4]]], np.float32),
        ),
    ],
)
def test_what_each_step_computes(
    step: Step, given: npt.NDArray[np.generic], expected: npt.NDArray[np.generic]
) -> None:
    dtype: Dtype = msgspec.convert(str(given.dtype), Dtype)
    kind = Kind(dtype, given.shape)
    before = given.copy()
    found = array(compile_steps((step,), kind)(given))
    assert found.dtype == expected.dtype
    np.testing.assert_array_equal(found, expected)
    np.testing.assert_array_equal(given, before)
    # What `check` foretells is what happens.
    assert after_step(step, kind) == Kind(msgspec.convert(str(found.dtype), Dtype), found.shape)


def test_the_declared_preparation_of_a_window_puts_channels_first() -> None:
    steps = (
        Cast("float32"),
        Scale((1 / 400,) * 3 + (1 / 1500,) * 3),
        Normalise((0.0,), (5.0, 5.0, 5.0, 1.0, 1.0, 1.0)),
        Transpose((1, 0)),
    )
    window = np.arange(64 * 6, dtype=np.int16).reshape(64, 6)
    found = array(compile_steps(steps, Kind("int16", (64, 6)))(window))
    assert found.shape == (6, 64)
    assert found.dtype == np.float32
    assert found[2, 10] == pytest.approx(62 / 400 / 5, rel=1e-6)
    assert found[5, 63] == pytest.approx(383 / 1500, rel=1e-6)


# Inputs.

NAN = np.array([1, math.nan], np.float32).tobytes()


@pytest.mark.parametrize(
    ("spec", "dtype", "shape", "data", "error", "code", "says"),
    [
        (SPEC, "float32", (2, 3), bytes(24), WrongDtype, "wrong_dtype", "wants uint8; convert"),
        (SPEC, "int8", (2, 3), bytes(6), WrongDtype, "wrong_dtype", "'image' is int8"),
        (SPEC, "uint8", (3, 2), bytes(6), WrongShape, "wrong_shape", "[3, 2], the package wants"),
        (SPEC, "uint8", (1, 2, 3), bytes(6), WrongShape, "wrong_shape", "without a batch axis"),
        (SPEC, "uint8", (6,), bytes(6), WrongShape, "wrong_shape", "wants [2, 3] (HW)"),
        (SPEC, "uint8", (), b"1", WrongShape, "wrong_shape", "shape []"),
        (SPEC, "uint8", (-2, -3), bytes(6), WrongShape, "wrong_shape", "[-2, -3]"),
        (SPEC, "uint8", (2, 3), bytes(5), WrongShape, "wrong_shape", "has 5 bytes"),
        (SPEC, "uint8", (2, 3), bytes(7), WrongShape, "wrong_shape", "needs 6; send the whole"),
        (SPEC, "uint8", (0, 3), b"", EmptyInput, "empty_input", "send one whole sample"),
        (SPEC, "uint8", (0,), b"", EmptyInput, "empty_input", "[0] holds no values"),
        (SPEC, "uint8", (2, 3), b"", EmptyInput, "empty_input", "'image'"),
        (SIGNAL, "float32", (2,), NAN, NotFinite, "not_finite", "NaN or an infinity; leave"),
        (
            SIGNAL,
            "float32",
            (2,),
            np.array([-math.inf, 0], np.float32).tobytes(),
            NotFinite,
            "not_finite",
            "'signal'",
        ),
    ],
)
def test_a_bad_input_gets_its_own_error(
    spec: TensorSpec,
    dtype: str,
    shape: tuple[int, ...],
    data: bytes,
    error: type[InputError],
    code: str,
    says: str,
) -> None:
    with pytest.raises(error) as caught:
        check_input(spec, dtype, shape, data)
    assert caught.value.code == code
    assert says in str(caught.value)


@pytest.mark.parametrize("wrap", [bytes, bytearray, memoryview])
def test_a_good_input_is_read_without_a_copy(wrap: type[bytes]) -> None:
    data = wrap(PICTURE.tobytes())
    sample = check_input(SPEC, "uint8", (2, 3), data)
    np.testing.assert_array_equal(sample, PICTURE)
    assert np.shares_memory(sample, np.frombuffer(data, np.uint8))


def test_an_array_of_this_process_is_checked_the_same_way() -> None:
    np.testing.assert_array_equal(check_sample(SPEC, PICTURE.T.copy().T), PICTURE)
    with pytest.raises(WrongDtype):
        check_sample(SPEC, PICTURE.astype(np.int64))
    with pytest.raises(EmptyInput):
        check_sample(SPEC, PICTURE[:0])


def test_protocol_names_translate_both_ways() -> None:
    assert [datatype_of(dtype_of(name)) for name in ("UINT8", "INT16", "FP32", "BOOL")] == [
        "UINT8",
        "INT16",
        "FP32",
        "BOOL",
    ]
    with pytest.raises(WrongDtype, match="datatype 'BYTES' is no input type"):
        dtype_of("BYTES")
    assert dtype_of("BYTES", TensorSpec("note", "text")) == "text"
    with pytest.raises(WrongDtype, match="'complex64' has no name"):
        datatype_of("complex64")


# Golden inputs.


def test_golden_inputs_follow_the_written_formula() -> None:
    spec = TensorSpec("x", "int16", (3, 2), "TC")
    raw = np.random.PCG64(42).random_raw(9).tolist()
    drawn = [-100 + value % 201 for value in raw]
    first, second = golden_inputs(spec, Golden(42, 2, -100, 100, (), (), 0.01))
    assert first.flatten().tolist() == drawn[:6]
    assert second.flatten().tolist() == [value for value in drawn[6:9] for _ in range(2)]


def test_golden_floats_lie_between_low_and_high() -> None:
    spec = TensorSpec("x", "float32", (50, 50), "HW")
    (first,) = golden_inputs(spec, Golden(7, 1, -2.0, 6.0, (), (), 0.01))
    raw = int(np.random.PCG64(7).random_raw())
    assert first[0, 0] == np.float32(-2 + 8 * ((raw >> 11) / 2**53))
    assert first.dtype == np.float32
    assert -2 <= first.min() < -1.9
    assert 5.9 < first.max() <= 6


FIRST_OF_SEED_ONE = [9441442522235856127, 17532960557476522086, 2659275481604167885]


def test_the_stream_behind_golden_inputs_is_the_one_of_every_machine() -> None:
    # Frozen: a package made anywhere, at any time, must find these numbers.
    assert np.random.PCG64(1).random_raw(3).tolist() == FIRST_OF_SEED_ONE


# Predictors.


def by_hand(weights: npt.NDArray[np.float32], temperature: float) -> tuple[int, float]:
    prepared = (PICTURE.astype(np.float64) / 255 - 0.5) / 0.25
    scaled = prepared.reshape(6) @ weights / temperature
    shares = np.exp(scaled) / np.exp(scaled).sum()
    return int(shares.argmax()), float(shares.max())


@pytest.mark.parametrize(
    ("role", "weights", "temperature"),
    [(Role.EDGE, EDGE_WEIGHTS, CERTIFICATE.temperature), (Role.CLOUD, CLOUD_WEIGHTS, 1.0)],
)
def test_a_prediction_is_what_arithmetic_says(
    tmp_path: Path, role: Role, weights: npt.NDArray[np.float32], temperature: float
) -> None:
    predictor = Predictor.load(package.read(build_tiny(tmp_path), role))
    found = predictor.predict(PICTURE)
    index, confidence = by_hand(weights, temperature)
    label = ("low", "middle", "high")[index]
    assert found.label == label
    assert isinstance(found.answer, Classified)
    assert (found.answer.label, found.answer.index) == (label, index)
    assert found.confidence == pytest.approx(confidence, rel=1e-5)
    predictor.check_golden()


def test_a_batch_predicts_what_each_sample_would_alone(tmp_path: Path) -> None:
    predictor = Predictor.load(package.read(build_tiny(tmp_path), Role.EDGE))
    samples = np.random.default_rng(2).integers(0, 256, size=(9, 2, 3), dtype=np.uint8)
    together = predictor.predict_batch(list(samples))
    for sample, one in zip(samples, together, strict=True):
        alone = predictor.predict(sample)
        assert alone.label == one.label
        assert alone.confidence == pytest.approx(one.confidence, rel=1e-5)


@pytest.mark.parametrize(
    ("logits", "label"),
    [
        ([math.nan, 1.0, 2.0], "right"),
        ([0.0, 3.0, math.nan], "middle"),
        ([0.0, math.inf, 1.0], "middle"),
        ([math.nan] * 3, "left"),
        ([0.5, 0.5, 0.5], "left"),
    ],
)
def test_a_degenerate_output_still_gives_a_label_but_no_confidence(
    tmp_path: Path, logits: list[float], label: str
) -> None:
    predictor = Predictor.load(package.read(build_twin("t", "1", tmp_path / "p"), Role.EDGE))
    sample = np.array([*logits, 0, 0, 1], dtype=np.float32)
    for found in (predictor.predict(sample), *predictor.predict_batch([sample])):
        assert found.confidence is None
        assert found.label == label


def test_times_are_taken_from_the_clock_that_was_handed_in(tmp_path: Path) -> None:
    ticks = iter([0, 5_000, 12_000])
    predictor = Predictor.load(
        package.read(build_twin("t", "1", tmp_path / "p"), Role.EDGE),
        clock_ns=lambda: next(ticks),
    )
    found = predictor.predict(twin_sample(0, 1, confidence=0.9))
    assert (found.prepare_us, found.run_us) == (5, 7)


def test_a_twin_answers_what_its_sample_says(tmp_path: Path) -> None:
    folder = build_twin("t", "1", tmp_path / "p")
    edge, cloud = (Predictor.load(package.read(folder, role)) for role in Role)
    sample = twin_sample(0, 2, confidence=0.6)
    assert edge.predict(sample).label == "left"
    assert edge.predict(sample).confidence == pytest.approx(0.6, rel=1e-5)
    assert cloud.predict(sample).label == "right"


@pytest.mark.parametrize("role", list(Role))
@pytest.mark.parametrize(
    "stored",
    [
        lambda said: replace(said, label="another"),
        lambda said: replace(said, confidence=said.confidence - 0.02),
        lambda said: replace(said, confidence=None),
    ],
    ids=["label", "confidence", "degenerate"],
)
def test_a_model_that_computes_something_else_fails_its_golden_inputs(
    tmp_path: Path, role: Role, stored: Callable[[Said], Said]
) -> None:
    folder = build_tiny(tmp_path)
    manifest = package.read(folder, role).manifest
    golden = manifest.golden
    altered = replace(golden, edge=tuple(map(stored, golden.edge)), cloud=golden.cloud)
    if role is Role.CLOUD:
        altered = replace(golden, cloud=tuple(map(stored, golden.cloud)))
    (folder / "manifest.json").write_bytes(encode(replace(manifest, golden=altered)))
    with pytest.raises(GoldenMismatch, match=rf"{role.value} half of shades 1 answers golden"):
        Predictor.load(package.read(folder, role)).check_golden()


def test_a_model_with_too_few_outputs_says_that_the_package_does_not_fit(tmp_path: Path) -> None:
    folder = build_twin("t", "1", tmp_path / "p")
    found = package.read(folder, Role.EDGE)
    (folder / "edge.json").write_text('{"classes": 2}')
    with pytest.raises(RuntimeFailed, match=r"gives float32 \[2\] as .*, the pipeline declares"):
        Predictor.load(found)
