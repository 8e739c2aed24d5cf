from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path

import numpy as np
import PIL
import pytest
from PIL import Image

from edgedistill.data import images
from edgedistill.data.images import find_fault, read_rgb

PIXELS = np.random.default_rng(1).integers(0, 256, (40, 50, 3), dtype=np.uint8)
FORMATS = ["png", "jpg", "bmp", "webp", "gif", "tif", "ppm"]


def encoded(suffix: str) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(PIXELS).save(stream, Image.registered_extensions()[f".{suffix}"])
    return stream.getvalue()


@pytest.mark.parametrize("suffix", FORMATS)
def test_a_sound_file_has_no_fault_and_gives_rgb(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a.{suffix}"
    path.write_bytes(encoded(suffix))
    assert find_fault(path) == ""
    decoded = read_rgb(path)
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
    assert find_fault(path)


def test_a_png_without_its_end_mark_is_truncated(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(encoded("png")[:-12])
    assert "truncated" in find_fault(path)


def test_a_flipped_bit_in_a_png_is_found(tmp_path: Path) -> None:
    content = bytearray(encoded("png"))
    content[len(content) // 2] ^= 1
    path = tmp_path / "a.png"
    path.write_bytes(content)
    assert find_fault(path)


def test_empty_text_and_oversized_files_say_what_they_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(b"")
    assert "empty" in find_fault(path)
    path.write_text("not an image")
    assert "not an image" in find_fault(path)
    path.write_bytes(encoded("png"))
    monkeypatch.setattr(images, "MAX_SIDE", 49)
    assert "50 x 40 pixels, above the limit" in find_fault(path)


def test_a_decompression_bomb_is_refused_without_decoding(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    Image.new("1", (19_999, 15_000)).save(path)
    assert "limit" in find_fault(path)


@pytest.mark.parametrize(("width", "height"), [(0, 5), (5, 0), (20_001, 1), (19_000, 19_000)])
def test_sizes_that_cannot_be_used(width: int, height: int) -> None:
    assert images.size_fault(width, height)


def test_exif_orientation_is_applied(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned: rotate by 90 degrees clockwise to show
    Image.fromarray(PIXELS).save(path, exif=exif)
    np.testing.assert_array_equal(read_rgb(path), np.rot90(PIXELS, k=-1))


RAW_YCBCR = pytest.mark.skipif(
    int(PIL.__version__.split(".")[0]) < 13, reason="Pillow before 13 cannot read an uncompressed YCbCr TIFF"
)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGBA", "CMYK", pytest.param("YCbCr", marks=RAW_YCBCR)])
def test_every_8_bit_mode_becomes_rgb(tmp_path: Path, mode: str) -> None:
    path = tmp_path / ("a.tif" if mode in ("CMYK", "YCbCr") else "a.png")
    Image.fromarray(PIXELS).convert(mode).save(path)
    assert find_fault(path) == ""
    assert read_rgb(path).shape == (40, 50, 3)


@pytest.mark.parametrize("suffix", ["png", "tif", "pgm"])
def test_16_bit_grey_is_scaled_and_not_clipped(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a.{suffix}"
    Image.fromarray(np.array([[0, 257, 32768, 65535]], dtype=np.uint16)).save(path)
    assert find_fault(path) == ""
    assert read_rgb(path)[0, :, 0].tolist() == [0, 1, 128, 255]


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
        (6, (65535, 32768, 257, 0), [255, 128, 1]),
    ],
    ids=["RGB", "grey with alpha", "RGB with alpha"],
)
def test_16_bit_colours_are_scaled_and_not_clipped(
    tmp_path: Path, colour_type: int, values: tuple[int, ...], expected: list[int]
) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(png_of_16_bits(colour_type, *values))
    assert find_fault(path) == ""
    assert read_rgb(path)[0, 0].tolist() == expected


@pytest.mark.parametrize("suffix", ["jpg", "tif"])
def test_colours_of_cmyk_are_not_inverted(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a.{suffix}"
    Image.new("RGB", (16, 16), (200, 40, 90)).convert("CMYK").save(path)
    assert find_fault(path) == ""
    assert np.abs(read_rgb(path).astype(int) - (200, 40, 90)).max() <= 8


def test_alpha_of_grey_is_dropped(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    Image.new("LA", (3, 2), (90, 10)).save(path)
    assert read_rgb(path)[0, 0].tolist() == [90, 90, 90]


@pytest.mark.parametrize("suffix", ["gif", "png", "webp"])
def test_of_an_animation_the_first_frame_counts(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a.{suffix}"
    red, blue = (Image.new("RGB", (6, 4), colour) for colour in ("red", "blue"))
    lossless = {"lossless": True} if suffix == "webp" else {}
    red.save(path, save_all=True, append_images=[blue, red], **lossless)
    with Image.open(path) as image:
        assert getattr(image, "n_frames", 1) > 1
    assert find_fault(path) == ""
    assert read_rgb(path)[0, 0].tolist() == [255, 0, 0]


def test_32_bit_pixels_are_refused_because_their_range_is_unknown(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    Image.fromarray(np.ones((4, 4), np.float32)).save(path)
    assert "32 bits" in find_fault(path)


def test_a_palette_with_transparency_reads_without_a_warning(tmp_path: Path, recwarn: pytest.WarningsRecorder) -> None:
    path = tmp_path / "a.png"
    Image.fromarray(PIXELS).quantize(16).save(path, transparency=bytes(range(16)))
    assert find_fault(path) == ""
    assert not recwarn.list
