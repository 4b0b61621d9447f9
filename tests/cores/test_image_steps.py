"""Pictures: what is decoded how, what is refused by which name, and which pixels a step takes."""

import io
import struct
import warnings
import zlib

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from models.errors import (
    EmptyInput,
    InputError,
    PictureTooLarge,
    UndecodableInput,
    WrongDtype,
    WrongShape,
)
from models.pipeline.compute.image import compile_run, compile_step
from models.pipeline.kinds import Kind
from models.pipeline.ops.image import (
    CenterCrop,
    Crop,
    DecodeImage,
    Letterbox,
    Resize,
    ResizeShortest,
    Step,
    ToGray,
    ToRgb,
    after,
)
from models.pipeline.values import Array

FILE = Kind("bytes", ())
RGB = Kind("uint8", (None, None, 3))
RED, GREEN, BLUE = (255, 0, 0), (0, 255, 0), (0, 0, 255)


def picture(height: int, width: int, *channels: int) -> Array:
    """Every pixel another value, smooth enough for JPEG."""
    ramp = np.arange(height * width * (channels[0] if channels else 1), dtype=np.uint32)
    return (ramp * 7 % 251).astype(np.uint8).reshape(height, width, *channels)


def encoded(image: Image.Image, form: str = "PNG", **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, form, **options)
    return file.getvalue()


def decode(data: bytes, step: DecodeImage | None = None) -> Array:
    return compile_step(step or DecodeImage(), FILE)(data)


def stepped(array: Array, *steps: Step) -> Array:
    return compile_run(steps, Kind("uint8", (None, None, *array.shape[2:])))(array)


def test_a_png_decodes_to_its_pixels_rows_first_and_red_first() -> None:
    pixels = picture(5, 7, 3)
    found = decode(encoded(Image.fromarray(pixels)))
    assert found.dtype == np.uint8
    assert np.array_equal(found, pixels)


def test_a_jpeg_decodes_to_what_pillow_by_hand_makes_of_it() -> None:
    data = encoded(Image.fromarray(picture(48, 64, 3)), "JPEG", quality=90)
    assert np.array_equal(decode(data), np.asarray(Image.open(io.BytesIO(data)).convert("RGB")))


def test_grey_mode_gives_one_channel_whatever_the_file_has() -> None:
    pixels = picture(4, 6, 3)
    found = decode(encoded(Image.fromarray(pixels)), DecodeImage(mode="gray"))
    assert np.array_equal(found, np.asarray(Image.fromarray(pixels).convert("L")))


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("form", ["JPEG", "PNG"])
def test_a_picture_is_turned_upright_as_its_exif_orientation_says(
    form: str, orientation: int
) -> None:
    pixels = np.zeros((16, 32, 3), np.uint8)
    pixels[:8, :16] = 255
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encoded(Image.fromarray(pixels), form, exif=exif)
    found = decode(data)
    turned = orientation >= 5
    assert found.shape == ((32, 16, 3) if turned else (16, 32, 3))
    corner = {
        1: (0, 0),
        2: (0, 1),
        3: (1, 1),
        4: (1, 0),
        5: (0, 0),
        6: (0, 1),
        7: (1, 1),
        8: (1, 0),
    }
    down, right = corner[orientation]
    bright = found[-1 if down else 0, -1 if right else 0]
    dark = found[0 if down else -1, 0 if right else -1]
    assert bright.min() > 240
    assert dark.max() < 15


def test_an_orientation_that_does_not_exist_turns_nothing() -> None:
    exif = Image.Exif()
    exif[0x0112] = 99
    pixels = picture(4, 6, 3)
    assert np.array_equal(decode(encoded(Image.fromarray(pixels), exif=exif)), pixels)


def test_of_sixteen_bits_a_channel_the_upper_eight_are_kept() -> None:
    deep = np.array([[0, 255, 256, 32768], [65535, 65280, 513, 767]], np.uint16)
    data = encoded(Image.fromarray(deep))
    assert np.array_equal(decode(data, DecodeImage(mode="gray")), (deep >> 8).astype(np.uint8))
    assert np.array_equal(decode(data), np.repeat((deep >> 8)[..., None], 3, axis=2))
    assert np.array_equal(decode(colour_png_of_16_bits(deep)), np.stack([deep >> 8] * 3, axis=2))


def test_a_palette_is_looked_up() -> None:
    flat = Image.new("P", (2, 1))
    flat.putpalette([*RED, *GREEN, *BLUE])
    flat.putdata([2, 0])
    assert decode(encoded(flat)).tolist() == [[list(BLUE), list(RED)]]
    assert decode(encoded(flat, transparency=b"\x00\xff")).tolist() == [[list(BLUE), list(RED)]]
    assert decode(encoded(flat, transparency=0)).tolist() == [[list(BLUE), list(RED)]]


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_transparency_is_dropped_and_the_colour_behind_it_stays(mode: str) -> None:
    clear = Image.new(mode, (2, 2), (200, 100, 50, 0) if mode == "RGBA" else (200, 0))
    wanted = [200, 100, 50] if mode == "RGBA" else [200, 200, 200]
    assert decode(encoded(clear))[0, 0].tolist() == wanted


def test_cmyk_becomes_rgb() -> None:
    cyan = Image.new("CMYK", (16, 16), (255, 0, 0, 0))
    red, green, blue = decode(encoded(cyan, "JPEG"))[8, 8].tolist()
    assert red < 20
    assert min(green, blue) > 235


def test_one_bit_a_pixel_becomes_black_and_white() -> None:
    assert decode(encoded(Image.new("1", (2, 2), 1)), DecodeImage(mode="gray")).max() == 255


def test_of_an_animation_the_first_picture_is_taken() -> None:
    first, second = Image.new("RGB", (4, 4), RED), Image.new("RGB", (4, 4), BLUE)
    data = encoded(first, save_all=True, append_images=[second])
    assert b"acTL" in data
    assert decode(data)[0, 0].tolist() == list(RED)
    several = encoded(first, "MPO", save_all=True, append_images=[second])
    red, _, blue = decode(several)[0, 0].tolist()
    assert red > 240 > 15 > blue


@pytest.mark.parametrize("form", ["GIF", "BMP", "TIFF", "WEBP", "PPM"])
def test_other_formats_are_refused_though_pillow_could_read_them(form: str) -> None:
    with pytest.raises(UndecodableInput, match="no JPEG or PNG file; convert"):
        decode(encoded(Image.new("RGB", (4, 4)), form))


@pytest.mark.parametrize("form", ["JPEG", "PNG"])
def test_a_file_that_is_cut_short_is_refused_wherever_it_is_cut(form: str) -> None:
    noise = np.random.default_rng(3).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    data = encoded(Image.fromarray(noise), form)
    for length in range(1, len(data) - 20, max(1, len(data) // 40)):
        with pytest.raises(UndecodableInput):
            decode(data[:length])


def test_nothing_and_no_file_have_errors_of_their_own() -> None:
    with pytest.raises(EmptyInput, match="0 bytes"):
        decode(b"")
    compiled = compile_step(DecodeImage(), FILE)
    for value, words in (("a text", "str"), (picture(2, 2, 3), r"uint8 \[2, 2, 3\]")):
        with pytest.raises(WrongDtype, match=words):
            compiled(value)


def test_a_file_that_claims_too_many_pixels_is_refused_before_one_is_decoded() -> None:
    with pytest.raises(PictureTooLarge, match=r"50000 x 50000 pixels.*max_pixels"):
        decode(png_header(50_000, 50_000) + chunk(b"IDAT", zlib.compress(bytes(1 << 20))))
    small = encoded(Image.new("RGB", (10, 10)))
    with pytest.raises(PictureTooLarge):
        decode(small, DecodeImage(max_pixels=99))
    assert decode(small, DecodeImage(max_pixels=100)).shape == (10, 10, 3)


def test_a_text_inside_a_png_that_unpacks_to_megabytes_is_refused() -> None:
    data = encoded(Image.new("RGB", (4, 4)))
    bomb = chunk(b"zTXt", b"title\0\0" + zlib.compress(bytes(4 << 20)))
    with pytest.raises(UndecodableInput, match="too large"):
        decode(data[:33] + bomb + data[33:])


def test_a_palette_picture_without_its_palette_is_refused() -> None:
    body = chunk(b"IDAT", zlib.compress(bytes(6))) + chunk(b"IEND", b"")
    with pytest.raises(UndecodableInput, match="a palette and holds none"):
        decode(png_header(2, 2, colour=3) + body)


@given(data=st.data(), form=st.sampled_from(["JPEG", "PNG"]))
def test_altered_bytes_give_a_picture_or_an_error_about_the_input(
    data: st.DataObject, form: str
) -> None:
    whole = bytearray(encoded(Image.fromarray(picture(16, 16, 3)), form))
    for _ in range(data.draw(st.integers(1, 6))):
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow says what it thinks of some of them
        try:
            found = decode(bytes(whole), DecodeImage(max_pixels=1 << 16))
        except InputError:
            return
    assert found.dtype == np.uint8
    assert found.ndim == 3


def test_resize_is_pillow_s_by_each_method() -> None:
    pixels = picture(20, 30, 3)
    image = Image.fromarray(pixels)
    for method, how in (
        ("nearest", Image.Resampling.NEAREST),
        ("box", Image.Resampling.BOX),
        ("bilinear", Image.Resampling.BILINEAR),
        ("bicubic", Image.Resampling.BICUBIC),
        ("lanczos", Image.Resampling.LANCZOS),
    ):
        step = msgspec.convert({"op": "resize", "height": 8, "width": 9, "method": method}, Step)
        assert np.array_equal(stepped(pixels, step), np.asarray(image.resize((9, 8), how)))


def test_the_shorter_side_is_made_to_measure_and_the_longer_follows() -> None:
    assert stepped(picture(20, 30, 3), ResizeShortest(10)).shape == (10, 15, 3)
    assert stepped(picture(31, 20, 3), ResizeShortest(10)).shape == (15, 10, 3)
    assert after(ResizeShortest(10), Kind("uint8", (31, 20, 3))).shape == (15, 10, 3)


def test_crops_take_the_pixels_they_say() -> None:
    pixels = picture(7, 9, 3)
    assert np.array_equal(stepped(pixels, CenterCrop(4, 4)), pixels[1:5, 2:6])
    assert np.array_equal(stepped(pixels, Crop(2, 3, 5, 6)), pixels[2:7, 3:9])


def test_a_picture_smaller_than_its_crop_is_refused() -> None:
    for step in (CenterCrop(8, 4), Crop(0, 6, 4, 4)):
        with pytest.raises(WrongShape, match="does not fit into a picture of 7 x 9"):
            stepped(picture(7, 9, 3), step)


def test_a_letterbox_keeps_proportions_and_fills_the_rest() -> None:
    white = np.full((10, 20, 3), 255, np.uint8)
    found = stepped(white, Letterbox(8, 8, fill=7))
    assert found.shape == (8, 8, 3)
    assert (found[2:6] == 255).all()
    assert (found[:2] == 7).all()
    assert (found[6:] == 7).all()


def test_a_letterbox_of_a_sliver_still_shows_a_line_of_it() -> None:
    found = stepped(np.full((1, 900), 255, np.uint8), Letterbox(32, 32, fill=0))
    assert (found == 255).sum() == 32


def test_grey_and_back() -> None:
    pixels = picture(3, 4, 3)
    red, green, blue = (pixels[..., at].astype(np.int64) for at in range(3))
    grey = stepped(pixels, ToGray())
    assert np.array_equal(grey, (19595 * red + 38470 * green + 7471 * blue + 32768) >> 16)
    assert np.array_equal(stepped(grey, ToRgb()), np.stack([grey] * 3, axis=2))
    assert np.array_equal(stepped(grey[..., None], ToRgb()), np.stack([grey] * 3, axis=2))


def test_one_channel_keeps_its_axis() -> None:
    pixels = picture(6, 6, 1)
    assert np.array_equal(stepped(pixels, CenterCrop(2, 2)), pixels[2:4, 2:4])


def test_heat_in_float32_is_resized_without_rounding_to_bytes() -> None:
    heat = np.linspace(-40.0, 900.5, 64, dtype=np.float32).reshape(8, 8)
    found = compile_step(Resize(4, 4), Kind("float32", (8, 8)))(heat)
    assert found.dtype == np.float32
    assert np.array_equal(found, np.asarray(Image.fromarray(heat).resize((4, 4), 2)))


def test_steps_in_a_row_give_the_values_of_steps_one_by_one() -> None:
    data = encoded(Image.fromarray(picture(33, 47, 3)), "JPEG")
    row: tuple[Step, ...] = (
        DecodeImage(),
        ResizeShortest(24),
        CenterCrop(20, 20),
        Letterbox(28, 22),
        ToGray(),
        ToRgb(),
    )
    value: Array | bytes = data
    kind = FILE
    for step in row:
        value, kind = compile_step(step, kind)(value), after(step, kind)
    assert np.array_equal(compile_run(row, FILE)(data), value)
    assert kind == Kind("uint8", (28, 22, 3))


def test_a_step_given_another_thing_than_declared_says_so() -> None:
    compiled = compile_step(Resize(4, 4), RGB)
    with pytest.raises(WrongDtype, match="float64"):
        compiled(np.zeros((4, 4, 3)))
    with pytest.raises(EmptyInput):
        compiled(np.zeros((0, 4, 3), np.uint8))


@pytest.mark.parametrize(
    ("step", "kind", "why"),
    [
        (DecodeImage(), RGB, "takes the bytes of a file"),
        (Resize(4, 4), FILE, "decode_image it"),
        (Resize(4, 4), Kind("float32", (4, 4, 3)), "before cast"),
        (Resize(4, 4), Kind("uint8", (3, 4, 4)), "a picture is uint8"),
        (CenterCrop(9, 4), Kind("uint8", (8, 8, 3)), "resize before it"),
        (Crop(5, 0, 4, 4), Kind("uint8", (8, 8, 3)), "resize before it"),
        (ToGray(), Kind("uint8", (8, 8)), r"takes \[h, w, 3\]"),
        (ToRgb(), RGB, r"takes uint8 \[h, w\]"),
    ],
)
def test_a_step_that_cannot_follow_says_why(step: Step, kind: Kind, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        after(step, kind)


def test_what_a_step_makes_is_known_before_there_is_a_picture() -> None:
    assert after(DecodeImage(), FILE) == RGB
    assert after(DecodeImage(mode="gray"), FILE) == Kind("uint8", (None, None))
    assert after(Letterbox(8, 9), RGB) == Kind("uint8", (8, 9, 3))
    assert after(ResizeShortest(8), RGB) == RGB
    assert after(ToGray(), Kind("uint8", (8, 9, 3))) == Kind("uint8", (8, 9))


def chunk(name: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))


def png_header(width: int, height: int, *, depth: int = 8, colour: int = 2) -> bytes:
    fields = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", fields)


def colour_png_of_16_bits(deep: Array) -> bytes:
    """Three equal channels of big-endian numbers, each row led by its filter type 0."""
    rows = (b"\0" + np.repeat(row, 3).astype(">u2").tobytes() for row in deep)
    body = chunk(b"IDAT", zlib.compress(b"".join(rows)))
    return png_header(deep.shape[1], deep.shape[0], depth=16) + body + chunk(b"IEND", b"")
