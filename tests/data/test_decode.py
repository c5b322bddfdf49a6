"""Decoding against constructed pixels, formulas and Pillow's own reading of the same file."""

import struct
import warnings
import zlib
from io import BytesIO
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageOps
from timm.data.transforms_factory import create_transform

from saccade.data import Part, decode, from_arrays
from saccade.data.decode import MAX_PIXELS, _decode_any, _decode_plain_jpeg, decode_image
from saccade.data.scale import square, thumbnail, to_uint8
from saccade.errors import DecodeError, SettingError
from saccade.settings import Interpolation
from tests.photos import encoded, photo

ORIENTATION = 0x0112


def saved(image: Image.Image, format: str, **options: object) -> bytes:
    buffer = BytesIO()
    image.save(buffer, format, **options)
    return buffer.getvalue()


def flat(mode: str, colour: object, size: tuple[int, int] = (5, 4)) -> Image.Image:
    return Image.new(mode, size, colour)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("image", "format", "expected"),
    [
        (flat("RGB", (10, 20, 30)), "PNG", (10, 20, 30)),
        (flat("L", 77), "PNG", (77, 77, 77)),
        (flat("1", 1), "PNG", (255, 255, 255)),
        (flat("LA", (100, 0)), "PNG", (255, 255, 255)),
        (flat("LA", (100, 255)), "PNG", (100, 100, 100)),
        (flat("RGBA", (200, 100, 0, 51)), "PNG", (244, 224, 204)),  # 0.2 of the colour on 0.8 of white
        (flat("P", 3), "GIF", None),
        (flat("CMYK", (255, 0, 51, 51)), "TIFF", (0, 204, 163)),  # (255 - C)(255 - K) / 255
        (flat("I;16", 257 * 90), "PNG", (90, 90, 90)),
        (flat("I;16", 257 * 90), "TIFF", (90, 90, 90)),
        (flat("I", 257 * 90), "TIFF", (90, 90, 90)),
    ],
)
def test_every_mode_becomes_rgb(image: Image.Image, format: str, expected: tuple[int, int, int] | None) -> None:
    x_HWC = decode(saved(image, format)).x_HWC
    assert x_HWC.shape == (4, 5, 3)
    assert x_HWC.dtype == np.uint8
    if expected is not None:
        assert np.unique(x_HWC.reshape(-1, 3), axis=0).tolist() == [list(expected)]


def test_palette_with_a_transparent_colour_is_laid_on_white() -> None:
    image = Image.new("P", (2, 1))
    image.putpalette([250, 0, 0, 0, 0, 250])
    image.putpixel((1, 0), 1)
    decoded = decode(saved(image, "PNG", transparency=0))
    assert decoded.x_HWC[0].tolist() == [[255, 255, 255], [0, 0, 250]]
    assert decoded.notes == ("transparent parts laid on white",)


def test_a_transparent_colour_of_rgb_is_laid_on_white() -> None:
    image = Image.fromarray(np.array([[[9, 8, 7], [1, 2, 3]]], np.uint8))
    assert decode(saved(image, "PNG", transparency=(9, 8, 7))).x_HWC[0].tolist() == [[255, 255, 255], [1, 2, 3]]


def test_cmyk_jpeg_follows_the_formula_on_what_the_jpeg_holds() -> None:
    rng = np.random.default_rng(0)
    image = Image.fromarray(rng.integers(0, 256, (8, 8, 4), dtype=np.uint8), "CMYK").resize((32, 32))
    data = saved(image, "JPEG", quality=100, subsampling=0)
    cmyk = np.asarray(Image.open(BytesIO(data))).astype(float)
    expected = (255 - cmyk[..., :3]) * (255 - cmyk[..., 3:]) / 255
    decoded = decode(data)
    assert np.abs(decoded.x_HWC - expected).max() <= 1
    assert (
        np.abs(
            expected - (255 - np.asarray(image)[..., :3].astype(float)) * (255 - np.asarray(image)[..., 3:]) / 255
        ).mean()
        < 4
    )
    assert decoded.notes == ("CMYK turned into RGB",)


def test_float_tiff_is_spread_from_lowest_to_highest() -> None:
    values = np.array([[-2.0, 0.0], [0.5, 3.0]], np.float32)
    decoded = decode(saved(Image.fromarray(values), "TIFF"))
    assert decoded.x_HWC[..., 0].tolist() == np.rint((values + 2) / 5 * 255).astype(int).tolist()
    assert decoded.notes == ("floating-point values scaled from their lowest to their highest",)


def test_sixteen_bits_are_divided_by_257_and_rounded() -> None:
    values = np.arange(65536, dtype=np.uint16).reshape(256, 256)
    decoded = decode(saved(Image.fromarray(values), "PNG"))
    assert np.array_equal(decoded.x_HWC[..., 0], np.rint(values / 257))
    assert decoded.notes == ("16-bit values scaled to 8 bits",)


def test_twelve_bits_in_sixteen_are_told_to_be_nearly_black() -> None:
    values = np.arange(4096, dtype=np.uint16).reshape(64, 64)
    [note] = decode(saved(Image.fromarray(values), "PNG")).notes
    assert note.endswith("they use an eighth at the most: nearly black; fill the 16 bits to keep what is in them")


def test_sixteen_bit_colour_is_told() -> None:
    rows = b"".join(b"\0" + struct.pack(">6H", 0, 32896, 65535, 65535, 0, 257) for _ in range(3))
    header = struct.pack(">IIBBBBB", 2, 3, 16, 2, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(rows)), (b"IEND", b""))
    data = b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body)) for name, body in chunks
    )
    decoded = decode(data)
    assert decoded.x_HWC[0].tolist() == [[0, 128, 255], [255, 0, 1]]
    assert decoded.notes == ("16-bit values scaled to 8 bits",)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("format", ["PNG", "TIFF", "JPEG", "WEBP"])
def test_all_eight_orientations_come_out_upright(orientation: int, format: str) -> None:
    # A picture is stored turned away by each orientation's inverse, so that all must look the same again.
    upright = Image.fromarray(
        np.repeat(np.repeat(np.arange(6, dtype=np.uint8).reshape(2, 3, 1) * 40, 16, 0), 16, 1).repeat(3, 2)
    )
    inverse = {6: 8, 8: 6}.get(orientation, orientation)
    exif = Image.Exif()
    exif[ORIENTATION] = inverse
    with_tag = Image.open(BytesIO(saved(upright, "PNG", exif=exif)))
    stored = ImageOps.exif_transpose(with_tag)
    exif[ORIENTATION] = orientation
    options = {"quality": 100} | ({"lossless": True} if format == "WEBP" else {})
    decoded = decode(saved(Image.fromarray(np.asarray(stored)), format, exif=exif, **options))
    assert decoded.size == upright.size
    assert np.abs(decoded.x_HWC.astype(int) - np.asarray(upright)).max() <= (2 if format == "JPEG" else 0)
    assert decoded.notes == (() if orientation == 1 else ("turned upright as its EXIF orientation says",))


def test_broken_exif_does_not_lose_the_picture() -> None:
    data = encoded(photo(0), exif=b"Exif\0\0II*\0\xff\xff\xff\xff broken")
    assert decode(data).x_HWC.shape == (40, 48, 3)


@pytest.mark.parametrize("format", ["GIF", "WEBP", "PNG"])
def test_of_an_animation_the_first_frame_is_taken(format: str) -> None:
    frames = [flat("RGB", colour) for colour in ((250, 0, 0), (0, 250, 0))]
    decoded = decode(saved(frames[0], format, save_all=True, append_images=frames[1:], lossless=True))
    assert np.abs(decoded.x_HWC.astype(int) - (250, 0, 0)).max() <= 3
    assert decoded.notes == ("of several frames: only the first is used",)


def exif_of(orientation: int) -> Image.Exif:
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    return exif


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"progressive": True},
        {"quality": 30, "subsampling": 2},
        {"subsampling": 0},
        {"subsampling": 1, "restart_marker_rows": 1},
        {"exif": exif_of(1)},
    ],
)
@pytest.mark.parametrize("grey", [False, True])
def test_the_short_way_for_jpegs_gives_what_pillow_gives(options: dict[str, object], grey: bool) -> None:
    image = Image.fromarray(photo(2, (61, 37))).convert("L" if grey else "RGB")
    data = saved(image, "JPEG", **options)
    short, long = _decode_plain_jpeg(data), _decode_any(data)
    assert short is not None
    assert np.array_equal(short.x_HWC, np.asarray(Image.open(BytesIO(data)).convert("RGB")))
    assert np.array_equal(short.x_HWC, long.x_HWC)
    assert not short.x_HWC.flags.writeable
    assert (short.size, short.notes, short.format) == (long.size, long.notes, long.format) == ((61, 37), (), "JPEG")


@pytest.mark.parametrize("size", [(577, 577), (1157, 900), (2305, 1729), (2311, 4613), (700, 9300)])
@pytest.mark.parametrize("subsampling", [0, 2])
def test_the_short_way_reduces_large_jpegs_as_pillow_does(size: tuple[int, int], subsampling: int) -> None:
    data = saved(Image.fromarray(photo(1, (90, 70))).resize(size), "JPEG", subsampling=subsampling)
    short, long = _decode_plain_jpeg(data), _decode_any(data)
    assert short is not None
    assert short.size == long.size == size
    assert np.array_equal(short.x_HWC, long.x_HWC)


def test_jpegs_that_need_care_do_not_go_the_short_way() -> None:
    plain = encoded(photo(0))
    xmp = b"http://ns.adobe.com/xap/1.0/\0<x tiff:Orientation='6'/>"
    for marker, body in ((0xE1, xmp), (0xE2, b"MPF\0"), (0xEE, b"Adobe")):
        data = plain[:2] + struct.pack(">BBH", 0xFF, marker, len(body) + 2) + body + plain[2:]
        assert _decode_plain_jpeg(data) is None
    assert _decode_plain_jpeg(plain) is not None
    assert _decode_plain_jpeg(saved(Image.fromarray(photo(0)), "JPEG", exif=exif_of(6))) is None
    assert _decode_plain_jpeg(saved(flat("CMYK", 9), "JPEG")) is None
    bomb = bytearray(plain)
    height = bomb.index(b"\xff\xc0") + 5
    bomb[height : height + 4] = b"\xff\xff\xff\xff"
    assert _decode_plain_jpeg(bytes(bomb)) is None


def test_cut_anywhere_a_jpeg_is_refused_or_read_as_pillow_reads_it() -> None:
    data = encoded(photo(1, (24, 24)))
    for length in range(len(data)):
        try:
            expected = np.asarray(Image.open(BytesIO(data[:length])).convert("RGB"))
        except Exception:  # noqa: BLE001 (Pillow's readers raise many kinds)
            with pytest.raises(DecodeError):
                decode(data[:length])
        else:
            assert np.array_equal(decode(data[:length]).x_HWC, expected)


def test_large_jpegs_are_decoded_reduced_and_near_the_mean_of_their_pixels() -> None:
    large = photo(0, (1900, 1300))
    decoded = decode(encoded(large, quality=95))
    assert decoded.size == (1900, 1300)
    assert decoded.x_HWC.shape == (325, 475, 3)  # a quarter: 1300 // 288 = 4
    means = large.reshape(325, 4, 475, 4, 3).mean(axis=(1, 3))
    assert np.abs(decoded.x_HWC - means).mean() < 2
    png = decode(encoded(large, "PNG"))
    assert np.abs(png.x_HWC - means).max() <= 1


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "the file is empty (0 bytes)"),
        (b"some notes about cats\n", "not an image: it holds text"),
        (b"\0\0\0\x18ftypheic\0\0\0\0", "HEIC photos cannot be read; save it as JPEG or PNG"),
        (b"\x93\x94\x95" * 40, "not an image in a known format, or damaged from its first bytes on"),
        (encoded(photo(0))[:-200], "the file is cut short"),
        (encoded(photo(0), "PNG")[:-200], "the file is cut short"),
        (encoded(photo(0), "GIF")[:900], "the file is cut short"),
        (b"P6 4 4\xea 255\n", "the file is damaged (invalid literal for int() with base N)"),
        (b"P6 20000 20000 255\n" + b"\0" * 99, f"it has more than {MAX_PIXELS // 10**6} million pixels"),
    ],
)
def test_reasons_are_in_plain_words(data: bytes, reason: str) -> None:
    with pytest.raises(DecodeError) as caught:
        decode(data)
    assert str(caught.value) == reason


def test_damage_within_names_the_damage() -> None:
    data = bytearray(encoded(photo(0), "PNG"))
    data[41:43] = b"\xff\xff"  # the head of its compressed pixels
    with pytest.raises(DecodeError, match=r"^the file is damaged \(.+\)$"):
        decode(bytes(data))


def test_random_damage_never_raises_anything_else() -> None:
    rng = np.random.default_rng(0)
    originals = [encoded(photo(0, (32, 32)), format) for format in ("JPEG", "PNG", "GIF", "BMP", "TIFF", "WEBP")]
    refused = 0
    for trial in range(300):
        data = bytearray(originals[trial % len(originals)])
        for _ in range(rng.integers(1, 8)):
            data[rng.integers(len(data))] = rng.integers(256)
        try:
            assert decode(bytes(data[: rng.integers(1, 2 * len(data))])).x_HWC.shape[2] == 3
        except DecodeError:
            refused += 1
    assert 50 < refused < 300


def test_many_pixels_within_the_limit_are_no_warning() -> None:
    data = saved(Image.new("1", (12000, 8000)), "PNG")  # 96 million: Pillow warns from 89 million on
    before = list(warnings.filters)
    assert decode(data).x_HWC.shape == (297, 445, 3)
    assert warnings.filters == before


def test_decoded_pixels_cannot_be_changed() -> None:
    for format in ("JPEG", "PNG"):
        with pytest.raises(ValueError, match="read-only"):
            decode(encoded(photo(0), format)).x_HWC[0, 0, 0] = 1


def test_an_open_image_is_decoded_like_its_file_and_left_as_it_was() -> None:
    exif = Image.Exif()
    exif[ORIENTATION] = 6
    data = saved(Image.fromarray(photo(1, (60, 40))).convert("CMYK"), "JPEG", exif=exif)
    image = Image.open(BytesIO(data))
    assert np.array_equal(decode_image(image).x_HWC, decode(data).x_HWC)
    assert decode_image(image).size == (40, 60)
    assert (image.size, image.mode) == ((60, 40), "CMYK")
    with pytest.raises(DecodeError, match="the file is cut short"):
        decode_image(Image.open(BytesIO(data[:-100])))


def gradient(height: int, width: int) -> NDArray[np.uint8]:
    return np.stack(np.broadcast_arrays(*np.mgrid[:height, :width], 50), axis=-1).astype(np.uint8)


def test_square_stretches_crops_and_pads() -> None:
    x_HWC = gradient(100, 200)
    assert square(x_HWC, 10, "stretch")[5, :, 1].tolist() == pytest.approx(np.arange(10, 200, 20), abs=3)
    assert square(x_HWC, 10, "crop")[5, :, 1].tolist() == pytest.approx(np.arange(55, 150, 10), abs=3)
    padded = square(x_HWC, 20, "pad")
    assert (padded[[0, 4, 15, 19]] == 128).all()
    assert padded[10, :, 1].tolist() == pytest.approx(np.arange(5, 200, 10), abs=3)
    assert square(x_HWC.transpose(1, 0, 2), 20, "pad").shape == (20, 20, 3)


@pytest.mark.parametrize("how", ["bilinear", "bicubic"])
@pytest.mark.parametrize(("side", "bound"), [(160, 0.01), (400, 0.01), (1600, 0.5)])
def test_photos_are_resized_as_weights_expect(how: Interpolation, side: int, bound: float) -> None:
    """Mean error, of 255, against timm's transform of the whole file; ours reduces a large one first."""
    data = encoded(photo(2, (side, side)), "PNG")
    ours = square(decode(data).x_HWC, 224, how=how).astype(float)
    plain: dict[str, Any] = {"mean": (0, 0, 0), "std": (1, 1, 1), "crop_pct": 1.0}
    theirs = {
        each: 255 * create_transform((3, 224, 224), interpolation=each, **plain)(Image.open(BytesIO(data)))
        for each in ("bilinear", "bicubic")
    }
    error = {each: np.abs(ours - x_CHW.permute(1, 2, 0).numpy()).mean() for each, x_CHW in theirs.items()}
    assert error[how] < bound
    assert error[how] == min(error.values())


def test_an_image_of_the_right_size_is_returned_as_it_is() -> None:
    x_HWC = gradient(32, 32)
    assert all(square(x_HWC, 32, fit) is x_HWC for fit in ("stretch", "crop", "pad"))


def test_thumbnail_keeps_the_aspect_and_never_enlarges() -> None:
    assert thumbnail(gradient(100, 200), 50).shape == (25, 50, 3)
    assert thumbnail(gradient(10, 20), 50).shape == (10, 20, 3)


def test_values_of_other_types_become_eight_bits() -> None:
    assert to_uint8(np.array([False, True])).tolist() == [0, 255]
    assert to_uint8(np.array([0, 16, 255])).tolist() == [0, 16, 255]
    assert to_uint8(np.array([0, 200], np.uint16)).tolist() == [0, 1]
    assert to_uint8(np.array([-100, 0, 100], np.int16)).tolist() == [0, 128, 255]
    assert to_uint8(np.array([np.nan, -1, np.inf, 1])).tolist() == [0, 0, 255, 255]
    assert to_uint8(np.array([7.0, 7.0])).tolist() == [0, 0]


@pytest.mark.parametrize("side", [32, 8])
def test_a_square_that_cannot_be_made_is_refused_whatever_size_the_image_has(side: int) -> None:
    x_HWC = np.zeros((32, 32, 3), np.uint8)
    fit: Any = "foo"
    with pytest.raises(SettingError, match='be fitted to a square by "foo"; give one of stretch, crop, pad'):
        square(x_HWC, side, fit)
    how: Any = "cubic"
    part = Part("train", from_arrays(x_HWC[None], ["cat"]))
    with pytest.raises(SettingError, match='be resized by "cubic"; give one of bilinear, bicubic'):
        square(x_HWC, side, "stretch", how)
    with pytest.raises(SettingError, match='be resized by "cubic"; give one of bilinear, bicubic'):
        part.squares(side, how)
    for small in (0, -side):
        with pytest.raises(SettingError, match=f"There is no image of side {small}; give at least 1"):
            square(x_HWC, small)
        with pytest.raises(SettingError, match=f"There is no image of side {small}; give at least 1"):
            part.squares(small)
