"""How much two inputs differ, whatever kind they are."""

import io

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from edge_agent.sources.likeness import difference, of_array, signature

Pixels = npt.NDArray[np.uint8]


def picture(shade: int, *, size: tuple[int, int] = (48, 64)) -> Pixels:
    return np.full((*size, 3), shade, np.uint8)


def encoded(pixels: Pixels, kind: str) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, kind)
    return file.getvalue()


Given = tuple[str, tuple[int, ...], bytes]


def apart(one: Given, other: Given) -> float:
    first, second = signature(*one), signature(*other)
    assert first is not None
    assert second is not None
    assert difference(first, second) == pytest.approx(difference(second, first))
    return difference(first, second)


def test_pictures_differ_by_their_grey_levels() -> None:
    assert difference(of_array(picture(0)), of_array(picture(255))) == 1.0
    assert difference(of_array(picture(100)), of_array(picture(151))) == pytest.approx(0.2)
    half = picture(0)
    half[:, 32:] = 255
    assert difference(of_array(picture(0)), of_array(half)) == pytest.approx(0.5)


def test_the_noise_of_a_still_camera_is_little_and_somebody_who_walks_in_is_more() -> None:
    chance = np.random.default_rng(3)
    scene = chance.integers(40, 200, (120, 160, 3)).astype(np.int16)
    noisy = np.clip(scene + chance.normal(0, 8, scene.shape), 0, 255).astype(np.uint8)
    still = scene.astype(np.uint8)
    somebody = still.copy()
    somebody[30:110, 60:90] = 20
    assert difference(of_array(still), of_array(noisy)) < 0.01
    assert difference(of_array(still), of_array(somebody)) > 0.03


def test_encoded_pictures_are_compared_as_pictures() -> None:
    png, jpeg = encoded(picture(100), "PNG"), encoded(picture(102), "JPEG")
    assert apart(("bytes", (1,), png), ("bytes", (1,), jpeg)) < 0.02
    assert apart(("bytes", (1,), png), ("bytes", (1,), encoded(picture(200), "JPEG"))) > 0.3


@pytest.mark.parametrize("dtype", ["text", "record", "bytes"])
def test_what_is_neither_picture_nor_array_is_the_same_or_is_not(dtype: str) -> None:
    assert apart((dtype, (1,), b"a"), (dtype, (1,), b"a")) == 0.0
    assert apart((dtype, (1,), b"a"), (dtype, (1,), b"b")) == 1.0


def test_numbers_differ_by_their_share() -> None:
    ones = np.ones((4, 2), np.float32)
    assert difference(of_array(ones), of_array(ones * 3)) == pytest.approx(0.5)
    assert difference(of_array(ones), of_array(-ones)) == 1.0
    assert difference(of_array(ones * 0), of_array(ones * 0)) == 0.0
    assert difference(of_array(ones), of_array(ones * np.nan)) == 1.0


def test_what_has_another_form_differs_wholly() -> None:
    ones = np.ones((4, 2), np.float32)
    assert difference(of_array(ones), of_array(np.ones((2, 4), np.float32))) == 1.0
    assert difference(of_array(ones), of_array(picture(1))) == 1.0
    assert difference(of_array(picture(9, size=(3, 3))), of_array(picture(9))) == 1.0


def test_bytes_that_are_not_what_they_are_said_to_be_have_no_signature() -> None:
    assert signature("float32", (2, 2), b"abc") is None
    assert signature("nothing", (2, 2), b"abc") is None


@given(
    st.lists(st.floats(-1e6, 1e6, width=32), min_size=6, max_size=6),
    st.lists(st.floats(-1e6, 1e6, width=32), min_size=6, max_size=6),
)
def test_a_difference_is_a_share(one: list[float], other: list[float]) -> None:
    first, second = (of_array(np.array(numbers, np.float32)) for numbers in (one, other))
    assert 0.0 <= difference(first, second) <= 1.0
    assert difference(first, first) == 0.0
