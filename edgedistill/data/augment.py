"""The operations that a view may apply after its crop: a code and a magnitude, one byte each.

Ranges are those of wide TrivialAugment (Müller and Hutter 2021, https://arxiv.org/abs/2103.10158) where they have an
equal; translations, shears and the blur behind sharpness are shares of the side, so that an operation means the same at
any resolution. What moves pixels uses Pillow's bilinear sampling and fills with black; what changes values is integer
arithmetic.
"""

from __future__ import annotations

import math
from enum import IntEnum
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

AUGMENTATION_VERSION: Final = 2
"""Part of every key that depends on views: raise it whenever the same parameters give another image."""

NEUTRAL: Final = 128
"""Magnitude at which a two-sided operation changes nothing."""


class ImageOperation(IntEnum):
    """Codes as stored in views; never renumber them."""

    IDENTITY = 0
    ROTATE = 1
    SHEAR_X = 2
    SHEAR_Y = 3
    TRANSLATE_X = 4
    TRANSLATE_Y = 5
    BRIGHTNESS = 6
    CONTRAST = 7
    SATURATION = 8
    SHARPNESS = 9
    POSTERIZE = 10


TWO_SIDED: Final = frozenset(ImageOperation) - {ImageOperation.IDENTITY, ImageOperation.POSTERIZE}
"""Operations whose magnitude runs both ways from NEUTRAL: 1 is the full range down, 255 the full range up. The others'
runs from 0 (nothing) to 255."""

_MAX_DEGREES: Final = 60.0
_MAX_SHEAR: Final = 0.6
_MAX_SHIFT: Final = 0.4
_MAX_FACTOR_256: Final = 230
_MAX_DROPPED_BITS: Final = 6
_BLUR_SHARE: Final = 1 / 64
"""The deviation of the Gaussian blur, of the shorter side: about that of Pillow's 3x3 smoothing at 32 px."""
_LEVELS: Final = np.arange(256, dtype=np.int32)


def apply(image: Image.Image, operation: int, magnitude: int) -> Image.Image:
    """An 8-bit RGB image after one operation. Raises ValueError for an unknown code."""
    op = ImageOperation(operation)
    if op is ImageOperation.IDENTITY:
        return image
    if op is ImageOperation.POSTERIZE:
        dropped = round(_MAX_DROPPED_BITS * magnitude / 255)
        return _through(image, (_LEVELS >> dropped << dropped).astype(np.uint8))
    if magnitude == NEUTRAL:
        return image
    signed = (magnitude - NEUTRAL) / 127
    if op <= ImageOperation.TRANSLATE_Y:
        return _move(image, op, signed)
    return _recolour(image, op, 256 + round(_MAX_FACTOR_256 * signed))


def _move(image: Image.Image, op: ImageOperation, signed: float) -> Image.Image:
    """Affine map about the centre. Pillow wants output to input: x = a x' + b y' + c, y = d x' + e y' + f."""
    side_x, side_y = image.size
    angle, shear, shift = math.radians(_MAX_DEGREES * signed), _MAX_SHEAR * signed, _MAX_SHIFT * signed
    a, b, c, d, e, f = {
        ImageOperation.ROTATE: (math.cos(angle), math.sin(angle), 0.0, -math.sin(angle), math.cos(angle), 0.0),
        ImageOperation.SHEAR_X: (1.0, shear, 0.0, 0.0, 1.0, 0.0),
        ImageOperation.SHEAR_Y: (1.0, 0.0, 0.0, shear, 1.0, 0.0),
        ImageOperation.TRANSLATE_X: (1.0, 0.0, shift * side_x, 0.0, 1.0, 0.0),
        ImageOperation.TRANSLATE_Y: (1.0, 0.0, 0.0, 0.0, 1.0, shift * side_y),
    }[op]
    # Keeps the middle of the image in place.
    c += side_x / 2 * (1 - a) - side_y / 2 * b
    f += side_y / 2 * (1 - e) - side_x / 2 * d
    return image.transform(image.size, Image.Transform.AFFINE, (a, b, c, d, e, f), Image.Resampling.BILINEAR)


def _recolour(image: Image.Image, op: ImageOperation, factor_256: int) -> Image.Image:
    """Away from (above 256) or towards (below) black, the mean grey, grey, or the smoothed image."""
    if op is ImageOperation.BRIGHTNESS:
        return _through(image, _away(_LEVELS, 0, factor_256))
    if op is ImageOperation.CONTRAST:
        grey = np.asarray(image.convert("L"))
        mean = (2 * int(grey.sum(dtype=np.int64)) + grey.size) // (2 * grey.size)
        return _through(image, _away(_LEVELS, mean, factor_256))
    if op is ImageOperation.SATURATION:
        other = image.convert("L").convert("RGB")
    else:
        other = image.filter(ImageFilter.GaussianBlur(_BLUR_SHARE * min(image.size)))
    return Image.fromarray(_away(np.asarray(image, dtype=np.int32), np.asarray(other, dtype=np.int32), factor_256))


def _away(values: NDArray[np.int32], base: NDArray[np.int32] | int, factor_256: int) -> NDArray[np.uint8]:
    """base + (values - base) * factor, rounded, within 0..255."""
    moved = base + ((values - base) * factor_256 + 128 >> 8)
    return np.clip(moved, 0, 255).astype(np.uint8)


def _through(image: Image.Image, table: NDArray[np.uint8]) -> Image.Image:
    """Each value replaced by its entry in a table of 256. Pillow's own `point` spends longer on reading the table than on
    a small image."""
    return Image.fromarray(table.take(np.asarray(image)))
