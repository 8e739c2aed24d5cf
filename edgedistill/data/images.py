"""One image file: what is wrong with it, and its pixels as 8-bit RGB.

EXIF orientation is applied. What is transparent is put on a background: the colours under alpha are whatever the drawing
program left there, and no viewer shows them. Palettes are resolved; of an animation the first frame counts. 16-bit grey is
scaled to 8 bits here, because Pillow's own conversion clips it to white.
"""

from __future__ import annotations

import struct
import warnings
import zlib
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from edgedistill.base.units import Color
from edgedistill.data.content import Verdict

# Of EXIF that cannot be read, for one. It names no file, and whether a file can be used is found by decoding all of it.
warnings.filterwarnings("ignore", category=UserWarning, module=r"PIL\.")

CHECK_VERSION: Final = 2
"""Raise it when `check_image` judges differently: remembered verdicts of older versions are then not used."""

MAX_SIDE: Final = 20_000
MAX_PIXELS: Final = 89_478_485
"""Pillow's own default, above which it warns of a decompression bomb: an image within it never warns later."""

SUFFIXES: Final = frozenset(
    (".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".bmp", ".webp", ".gif", ".tif", ".tiff", ".ppm", ".pgm", ".pnm")
)
BAD_FILE_ERRORS: Final = (
    OSError,
    SyntaxError,
    ValueError,
    EOFError,
    IndexError,
    KeyError,
    OverflowError,
    struct.error,
    zlib.error,
    Image.DecompressionBombError,
)
"""What Pillow's readers raise on damaged files; its PNG and TIFF readers let errors of the layers below through."""


class _UnknownRange(ValueError):
    """Pixels of 32 bits, whose range nothing states. The file may be sound."""


def size_fault(width: int, height: int) -> str:
    """Why an image of this size cannot be used, empty if it can."""
    if width < 1 or height < 1:
        return f"is {width} x {height} pixels: it has none"
    if max(width, height) > MAX_SIDE or width * height > MAX_PIXELS:
        return f"is {width} x {height} pixels, above the limit of {MAX_SIDE} a side and {MAX_PIXELS / 1e6:.0f} million"
    return ""


def check_image(path: Path) -> Verdict:
    """Whether a file can be used as an image, and whether some of it is transparent. Decodes the whole of it; raises nothing
    for bad content."""
    try:
        if path.stat().st_size == 0:
            return Verdict("is empty (0 bytes)")
        with Image.open(path) as image:
            if fault := size_fault(*image.size):
                return Verdict(fault)
            is_png = image.format == "PNG"
            transparent = _is_transparent(_upright(image))
        if is_png:
            # Decoding stops at the last pixel; verify() goes on to the end mark and checks every chunk's checksum.
            with Image.open(path) as image:
                image.verify()
    except Image.DecompressionBombError:
        return Verdict(f"has more pixels than the limit of {MAX_PIXELS / 1e6:.0f} million")
    except UnidentifiedImageError:
        return Verdict("is not an image in a format that Pillow reads")
    except _UnknownRange as error:
        return Verdict(f"has {error}")
    except BAD_FILE_ERRORS as error:
        return Verdict(f"is truncated or damaged: {' '.join(str(error).split()) or type(error).__name__}")
    return Verdict("", transparent)


def read_rgb(path: Path, background: Color) -> NDArray[np.uint8]:
    """Pixels of an image file on `background`, uint8 [H, W, 3] in RGB. Raises one of BAD_FILE_ERRORS for a damaged file."""
    with Image.open(path) as image:
        return np.asarray(to_rgb(image, background))


def to_rgb(image: Image.Image, background: Color) -> Image.Image:
    """Any Pillow image, decoded, upright, as 8-bit RGB. Where its alpha is a of 255, each channel c on a background b
    becomes (a c + (255 - a) b) / 255, rounded to the nearest. Raises ValueError for pixels of 32 bits, whose range nothing
    states."""
    upright = _upright(image)
    if not _is_transparent(upright):
        return upright.convert("RGB")
    page = Image.new("RGB", upright.size, background)
    page.paste(upright, mask=upright)
    return page


def _upright(image: Image.Image) -> Image.Image:
    """The image decoded and turned as its EXIF orientation says, as 8-bit RGB, or RGBA where the file has an alpha."""
    sixteen_bit = image.mode.startswith("I;16") or (image.mode == "I" and image.format in ("PNG", "PPM"))
    if image.mode in ("I", "F") and not sixteen_bit:
        raise _UnknownRange("32 bits a pixel, a range that the file does not state; save it with 8 or 16 bits")
    upright = ImageOps.exif_transpose(image)
    if sixteen_bit:
        return _of_16_bits(upright)
    upright.load()
    if upright.mode == "La":
        upright = upright.convert("LA")
    return upright.convert("RGBA" if upright.has_transparency_data else "RGB")


def _of_16_bits(image: Image.Image) -> Image.Image:
    """Grey of 16 bits as RGB; as RGBA where a level of it stands for what is transparent."""
    wide = np.asarray(image).astype(np.uint32)
    grey = Image.fromarray(((wide * 255 + 32767) // 65535).astype(np.uint8)).convert("RGB")
    if isinstance(level := image.info.get("transparency"), int):
        grey.putalpha(Image.fromarray(np.where(wide == level, 0, 255).astype(np.uint8)))
    return grey


def _is_transparent(image: Image.Image) -> bool:
    """Whether an image, RGB or RGBA, has a pixel that is not opaque."""
    return image.mode == "RGBA" and image.getchannel("A").getextrema() != (255, 255)
