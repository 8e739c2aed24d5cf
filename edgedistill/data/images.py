"""One image file: what is wrong with it, and its pixels as 8-bit RGB.

Alpha is dropped and palettes are resolved, as torchvision's loader does; EXIF orientation is applied; of an animation the
first frame counts. 16-bit grey is scaled to 8 bits here, because Pillow's own conversion clips it to white.
"""

from __future__ import annotations

import struct
import zlib
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

CHECK_VERSION: Final = 1
"""Raise it when `find_fault` judges differently: remembered verdicts of older versions are then not used."""

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


def size_fault(width: int, height: int) -> str:
    """Why an image of this size cannot be used, empty if it can."""
    if width < 1 or height < 1:
        return f"is {width} x {height} pixels: it has none"
    if max(width, height) > MAX_SIDE or width * height > MAX_PIXELS:
        return f"is {width} x {height} pixels, above the limit of {MAX_SIDE} a side and {MAX_PIXELS / 1e6:.0f} million"
    return ""


def find_fault(path: Path) -> str:
    """Why a file cannot be used as an image, empty if it can. Decodes the whole of it; raises nothing for bad content."""
    try:
        if path.stat().st_size == 0:
            return "is empty (0 bytes)"
        with Image.open(path) as image:
            if fault := size_fault(*image.size):
                return fault
            is_png = image.format == "PNG"
            to_rgb(image)
        if is_png:
            # Decoding stops at the last pixel; verify() goes on to the end mark and checks every chunk's checksum.
            with Image.open(path) as image:
                image.verify()
    except Image.DecompressionBombError:
        return f"has more pixels than the limit of {MAX_PIXELS / 1e6:.0f} million"
    except UnidentifiedImageError:
        return "is not an image in a format that Pillow reads"
    except BAD_FILE_ERRORS as error:
        return f"is truncated or damaged: {' '.join(str(error).split()) or type(error).__name__}"
    return ""


def read_rgb(path: Path) -> NDArray[np.uint8]:
    """Pixels of an image file, uint8 [H, W, 3] in RGB. Raises one of BAD_FILE_ERRORS for a damaged file."""
    with Image.open(path) as image:
        return np.asarray(to_rgb(image))


def to_rgb(image: Image.Image) -> Image.Image:
    """Any Pillow image, decoded, upright, as 8-bit RGB. Raises ValueError for pixels of 32 bits, whose range nothing
    states."""
    sixteen_bit = image.mode.startswith("I;16") or (image.mode == "I" and image.format in ("PNG", "PPM"))
    if image.mode in ("I", "F") and not sixteen_bit:
        raise ValueError("32 bits a pixel, a range that the file does not state; save it with 8 or 16 bits")
    upright = ImageOps.exif_transpose(image)
    if sixteen_bit:
        wide = np.asarray(upright).astype(np.uint32)
        upright = Image.fromarray(((wide * 255 + 32767) // 65535).astype(np.uint8))
    upright.load()
    if upright.mode == "P" and "transparency" in upright.info:
        upright = upright.convert("RGBA")  # straight to RGB makes Pillow warn about the alpha that it drops
    return upright if upright.mode == "RGB" else upright.convert("RGB")
