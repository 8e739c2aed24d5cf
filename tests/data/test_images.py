from __future__ import annotations

import io
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import PIL
import pytest
from PIL import Image

from edgedistill.base.units import Color
from edgedistill.data import images
from edgedistill.data.images import check_image, read_rgb

PIXELS = np.random.default_rng(1).integers(0, 256, (40, 50, 3), dtype=np.uint8)
WHITE, GREY = (255, 255, 255), (128, 128, 128)
FORMATS = ["png", "jpg", "bmp", "webp", "gif", "tif", "ppm"]


def encoded(suffix: str) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(PIXELS).save(stream, Image.registered_extensions()[f".{suffix}"])
    return stream.getvalue()


@pytest.mark.parametrize("suffix", FORMATS)
def test_a_sound_file_has_no_fault_and_gives_rgb(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a.{suffix}"
    path.write_bytes(encoded(suffix))
    assert check_image(path).fault == ""
    decoded = read_rgb(path, WHITE)
    assert decoded.shape == (40, 50, 3)
    assert decoded.dtype == np.uint8
    if suffix in ("png", "bmp", "tif", "ppm"):
        np.testing.assert_array_equal(decoded, PIXELS)


@pytest.mark.parametrize("suffix", FORMATS)
@pytest.mark.parametrize("kept", [0.1, 0.5, 0.9])
def test_a_truncated_file_is_found_in_every_format(tmp_path: Path, suffix: str, kept: float) -> None:
    path = tmp_path / f"a.{suffix}"
    whole = encoded(suffix)
    path.write_bytes(whole[: int(len(whole) * kept)])
    assert check_image(path).fault


def test_a_png_without_its_end_mark_is_truncated(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(encoded("png")[:-12])
    assert "truncated" in check_image(path).fault


def test_a_flipped_bit_in_a_png_is_found(tmp_path: Path) -> None:
    content = bytearray(encoded("png"))
    content[len(content) // 2] ^= 1
    path = tmp_path / "a.png"
    path.write_bytes(content)
    assert check_image(path).fault


def test_empty_text_and_oversized_files_say_what_they_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(b"")
    assert "empty" in check_image(path).fault
    path.write_text("not an image")
    assert "not an image" in check_image(path).fault
    path.write_bytes(encoded("png"))
    monkeypatch.setattr(images, "MAX_SIDE", 49)
    assert "50 x 40 pixels, above the limit" in check_image(path).fault


def test_a_decompression_bomb_is_refused_without_decoding(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    Image.new("1", (19_999, 15_000)).save(path)
    assert "limit" in check_image(path).fault


@pytest.mark.parametrize(("width", "height"), [(0, 5), (5, 0), (20_001, 1), (19_000, 19_000)])
def test_sizes_that_cannot_be_used(width: int, height: int) -> None:
    assert images.size_fault(width, height)


def test_exif_orientation_is_applied(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned: rotate by 90 degrees clockwise to show
    Image.fromarray(PIXELS).save(path, exif=exif)
    np.testing.assert_array_equal(read_rgb(path, WHITE), np.rot90(PIXELS, k=-1))


RAW_YCBCR = pytest.mark.skipif(
    int(PIL.__version__.split(".")[0]) < 13, reason="Pillow before 13 cannot read an uncompressed YCbCr TIFF"
)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGBA", "CMYK", pytest.param("YCbCr", marks=RAW_YCBCR)])
def test_every_8_bit_mode_becomes_rgb(tmp_path: Path, mode: str) -> None:
    path = tmp_path / ("a.tif" if mode in ("CMYK", "YCbCr") else "a.png")
    Image.fromarray(PIXELS).convert(mode).save(path)
    assert check_image(path).fault == ""
    assert read_rgb(path, WHITE).shape == (40, 50, 3)


@pytest.mark.parametrize("suffix", ["png", "tif", "pgm"])
def test_16_bit_grey_is_scaled_and_not_clipped(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a.{suffix}"
    Image.fromarray(np.array([[0, 257, 32768, 65535]], dtype=np.uint16)).save(path)
    assert check_image(path).fault == ""
    assert read_rgb(path, WHITE)[0, :, 0].tolist() == [0, 1, 128, 255]


def png_of_16_bits(colour_type: int, *values: int) -> bytes:
    """A PNG of one pixel with these values, which Pillow cannot write."""

    def chunk(name: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    header = struct.pack(">IIBBBBB", 1, 1, 16, colour_type, 0, 0, 0)
    row = zlib.compress(b"\0" + struct.pack(f">{len(values)}H", *values))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", row) + chunk(b"IEND", b"")


@pytest.mark.parametrize(
    ("colour_type", "values", "expected"),
    [
        (2, (65535, 32768, 257), [255, 128, 1]),
        (4, (32768, 65535), [128, 128, 128]),
        (4, (32768, 0), [255, 255, 255]),
        (6, (65535, 32768, 257, 65535), [255, 128, 1]),
        (6, (65535, 32768, 257, 0), [255, 255, 255]),
    ],
    ids=["RGB", "opaque grey", "transparent grey", "opaque RGB with alpha", "transparent RGB"],
)
def test_16_bit_colours_are_scaled_and_not_clipped(
    tmp_path: Path, colour_type: int, values: tuple[int, ...], expected: list[int]
) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(png_of_16_bits(colour_type, *values))
    assert check_image(path).fault == ""
    assert read_rgb(path, WHITE)[0, 0].tolist() == expected


@pytest.mark.parametrize("suffix", ["jpg", "tif"])
def test_colours_of_cmyk_are_not_inverted(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a.{suffix}"
    Image.new("RGB", (16, 16), (200, 40, 90)).convert("CMYK").save(path)
    assert check_image(path).fault == ""
    assert np.abs(read_rgb(path, WHITE).astype(int) - (200, 40, 90)).max() <= 8


def test_what_is_transparent_is_put_on_the_background_by_the_stated_rule(tmp_path: Path) -> None:
    """All levels under all alphas, on three backgrounds."""
    level, alpha = np.meshgrid(np.arange(256), np.arange(256))
    pixels = np.stack([level, 255 - level, level, alpha], -1).astype(np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    for background in (WHITE, (0, 0, 0), (200, 31, 77)):
        exact = (pixels[..., 3:] / 255) * pixels[..., :3] + (1 - pixels[..., 3:] / 255) * np.array(background)
        got = read_rgb(tmp_path / "a.png", background)
        np.testing.assert_array_equal(got, np.floor(exact + 0.5 + 1e-9).astype(np.uint8))


def with_alpha(mode: str) -> Image.Image:
    """A red pixel that shows and a green one that does not, in one of the ways to say so."""
    image = Image.new("RGBA", (2, 1), (255, 0, 0, 255))
    image.putpixel((1, 0), (0, 255, 0, 0))
    if mode == "RGBA":
        return image
    if mode in ("LA", "PA"):
        return image.convert("LA").convert(mode)
    opaque = image.convert("RGB") if mode == "RGB" else image.convert("L")
    if mode == "P":
        palette = image.convert("RGB").quantize(2)
        palette.info["transparency"] = palette.getpixel((1, 0))
        return palette
    opaque.info["transparency"] = opaque.getpixel((1, 0))
    return opaque


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P", "RGB", "L"])
@pytest.mark.parametrize("background", [WHITE, (1, 2, 3)])
def test_every_kind_of_transparency_shows_the_background(tmp_path: Path, mode: str, background: Color) -> None:
    image = with_alpha(mode)
    kept = {} if "transparency" not in image.info else {"transparency": image.info["transparency"]}
    image.save(tmp_path / "a.png", **kept)
    assert check_image(tmp_path / "a.png") == ("", True)
    shown, hidden = read_rgb(tmp_path / "a.png", background)[0].tolist()
    assert tuple(hidden) == background
    assert shown != hidden


def test_a_level_of_16_bits_may_stand_for_what_is_transparent(tmp_path: Path) -> None:
    png = png_of_16_bits(0, 32768)
    at = png.index(b"IDAT") - 4
    body = b"tRNS" + struct.pack(">H", 32768)
    chunk = struct.pack(">I", 2) + body + struct.pack(">I", zlib.crc32(body))
    (tmp_path / "a.png").write_bytes(png[:at] + chunk + png[at:])
    assert check_image(tmp_path / "a.png") == ("", True)
    assert read_rgb(tmp_path / "a.png", GREY)[0, 0].tolist() == [128, 128, 128]
    (tmp_path / "b.png").write_bytes(png)
    assert check_image(tmp_path / "b.png") == ("", False)


def test_an_alpha_that_hides_nothing_changes_nothing(tmp_path: Path) -> None:
    Image.fromarray(PIXELS).convert("RGBA").save(tmp_path / "a.png")
    assert check_image(tmp_path / "a.png") == ("", False)
    np.testing.assert_array_equal(read_rgb(tmp_path / "a.png", (0, 0, 0)), PIXELS)


def test_transparency_turns_with_the_image(tmp_path: Path) -> None:
    pixels = np.dstack([PIXELS, np.where(np.arange(50) < 25, 0, 255)[None].repeat(40, 0)]).astype(np.uint8)
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(pixels).save(tmp_path / "a.png", exif=exif)
    upright = np.rot90(pixels, k=-1)
    expected = np.where(upright[..., 3:] == 255, upright[..., :3], 255)
    np.testing.assert_array_equal(read_rgb(tmp_path / "a.png", WHITE), expected)


@pytest.mark.parametrize("suffix", ["gif", "png", "webp"])
def test_of_an_animation_the_first_frame_counts(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a.{suffix}"
    red, blue = (Image.new("RGB", (6, 4), colour) for colour in ("red", "blue"))
    lossless = {"lossless": True} if suffix == "webp" else {}
    red.save(path, save_all=True, append_images=[blue, red], **lossless)
    with Image.open(path) as image:
        assert getattr(image, "n_frames", 1) > 1
    assert check_image(path).fault == ""
    assert read_rgb(path, WHITE)[0, 0].tolist() == [255, 0, 0]


def test_32_bit_pixels_are_refused_because_their_range_is_unknown(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    Image.fromarray(np.ones((4, 4), np.float32)).save(path)
    assert check_image(path).fault.startswith("has 32 bits a pixel")


def test_exif_that_cannot_be_read_is_left_without_a_word(tmp_path: Path) -> None:
    """In a process of its own: pytest shows all warnings. Pillow's names no file, and the image is sound."""
    path = tmp_path / "a.jpg"
    Image.fromarray(PIXELS).save(path, exif=b"Exif\0\0II*\0\x08\0\0\0\xff\xff")
    read = f"from PIL import Image; Image.open({str(path)!r}).getexif()"
    used = f"from edgedistill.data.images import *; assert not check_image(Path({str(path)!r})).fault"

    def said(program: str) -> str:
        return subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stderr

    assert "Corrupt EXIF data" in said(read)
    assert said(used) == ""


def test_a_palette_with_transparency_reads_without_a_warning(tmp_path: Path, recwarn: pytest.WarningsRecorder) -> None:
    path = tmp_path / "a.png"
    Image.fromarray(PIXELS).quantize(16).save(path, transparency=bytes(range(16)))
    assert check_image(path).fault == ""
    assert not recwarn.list
