from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from edgedistill.data.augment import NEUTRAL, TWO_SIDED, ImageOperation, apply

PIXELS = np.random.default_rng(3).integers(0, 256, (12, 12, 3), dtype=np.uint8)


def applied(operation: ImageOperation, magnitude: int, pixels: np.ndarray = PIXELS) -> np.ndarray:
    return np.asarray(apply(Image.fromarray(pixels), operation, magnitude))


@pytest.mark.parametrize("operation", list(ImageOperation))
def test_the_neutral_magnitude_changes_nothing(operation: ImageOperation) -> None:
    neutral = NEUTRAL if operation in TWO_SIDED else 0
    np.testing.assert_array_equal(applied(operation, neutral), PIXELS)


@pytest.mark.parametrize("operation", sorted(set(ImageOperation) - {ImageOperation.IDENTITY}))
@pytest.mark.parametrize("magnitude", [1, 64, 192, 255])
def test_others_change_the_image_and_keep_its_form(operation: ImageOperation, magnitude: int) -> None:
    result = applied(operation, magnitude)
    assert result.shape == PIXELS.shape
    assert result.dtype == np.uint8
    if operation is not ImageOperation.POSTERIZE or magnitude > 21:  # below it not one bit is dropped
        assert (result != PIXELS).any()


def test_codes_are_those_of_stored_views() -> None:
    assert [operation.name for operation in ImageOperation] == [
        "IDENTITY", "ROTATE", "SHEAR_X", "SHEAR_Y", "TRANSLATE_X", "TRANSLATE_Y", "BRIGHTNESS", "CONTRAST", "SATURATION",
        "SHARPNESS", "POSTERIZE",
    ]  # fmt: skip
    assert [int(operation) for operation in ImageOperation] == list(range(11))
    with pytest.raises(ValueError, match="11"):
        apply(Image.fromarray(PIXELS), 11, 0)


@pytest.mark.parametrize(("operation", "axis"), [(ImageOperation.TRANSLATE_X, 1), (ImageOperation.TRANSLATE_Y, 0)])
def test_translation_moves_by_a_share_of_the_side(operation: ImageOperation, axis: int) -> None:
    pixels = np.zeros((127, 127, 3), np.uint8)
    pixels[63, 63] = 255
    one = applied(operation, NEUTRAL + 25, pixels)  # 25/127 of 0.4 of 127 pixels is 10
    assert np.argwhere(one[:, :, 0])[0].tolist() == [63 - 10 * (axis == 0), 63 - 10 * (axis == 1)]
    np.testing.assert_array_equal(applied(operation, NEUTRAL - 25, pixels), np.flip(one, axis))


def test_rotations_by_opposite_magnitudes_mirror_each_other() -> None:
    one = applied(ImageOperation.ROTATE, NEUTRAL + 50)
    other = applied(ImageOperation.ROTATE, NEUTRAL - 50, PIXELS[:, ::-1].copy())
    np.testing.assert_allclose(one.astype(int), other[:, ::-1].astype(int), atol=1)


def test_moving_keeps_the_middle_in_place_and_fills_with_black() -> None:
    pixels = np.full((21, 21, 3), 200, np.uint8)
    pixels[10, 10] = 255
    for operation in (ImageOperation.ROTATE, ImageOperation.SHEAR_X, ImageOperation.SHEAR_Y):
        moved = applied(operation, 255, pixels)
        assert np.unravel_index(moved[:, :, 0].argmax(), (21, 21)) == (10, 10)
        assert moved.min() == 0


def test_colours_go_towards_their_pivot_and_back() -> None:
    darker, brighter = applied(ImageOperation.BRIGHTNESS, 64), applied(ImageOperation.BRIGHTNESS, 192)
    assert darker.mean() < PIXELS.mean() < brighter.mean()
    assert applied(ImageOperation.CONTRAST, 1).std() < PIXELS.std() < applied(ImageOperation.CONTRAST, 192).std()
    grey_distance = [np.ptp(applied(ImageOperation.SATURATION, m).astype(int), axis=2).mean() for m in (1, 128, 200)]
    assert grey_distance == sorted(grey_distance)


def test_posterize_keeps_the_highest_bits() -> None:
    assert set(np.unique(applied(ImageOperation.POSTERIZE, 255))) <= {0, 64, 128, 192}


def test_sharpness_means_the_same_at_any_resolution() -> None:
    """A small student sees what its teacher saw: softened at 224 px and then made smaller, or the other way round."""
    large = Image.fromarray(np.kron(PIXELS[:7, :7], np.ones((32, 32, 1), np.uint8)))
    small = large.resize((56, 56), Image.Resampling.BOX)
    softened, other = (apply(image, ImageOperation.SHARPNESS, 1) for image in (large, small))
    one = np.asarray(softened.resize((56, 56), Image.Resampling.BOX)).astype(int)
    near = np.abs(one - np.asarray(other).astype(int)).mean()
    assert near < 0.25 * np.abs(one - np.asarray(small).astype(int)).mean()
