from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgedistill.data import views as viewing
from edgedistill.data.augment import NEUTRAL, TWO_SIDED, ImageOperation
from edgedistill.data.preprocessing import resize
from edgedistill.data.sources import GreyImages
from edgedistill.data.views import (
    FULL,
    UNMIXED,
    VIEW_DTYPE,
    draw_views,
    identity_views,
    mixed_labels,
    render_batch,
)
from edgedistill.documents.build_file import AugmentationConfig
from edgedistill.documents.specs import Contract

SIDE = st.integers(1, 40)
UNIT = st.floats(0.01, 1)
AUGMENTATIONS = st.builds(
    AugmentationConfig,
    scale=st.tuples(UNIT, UNIT).map(lambda pair: (min(pair), max(pair))),
    ratio=st.tuples(st.floats(0.1, 1), st.floats(1, 10)),
    flip=st.booleans(),
    operations=st.integers(0, 2),
    magnitude=st.floats(0, 1),
    mix=st.floats(0, 1),
    mix_alpha=st.floats(0.05, 5),
    cutmix=st.floats(0, 1),
    seed=st.integers(0, 2**32 - 1),
)
CONTRACTS = st.builds(
    Contract,
    resolution=st.integers(8, 40),
    crop=st.sampled_from(["stretch", "center"]),
    resize_filter=st.sampled_from(["bilinear", "bicubic"]),
    mean=st.just((0.0, 0.0, 0.0)),
    std=st.just((1.0, 1.0, 1.0)),
    labels=st.just(("a", "b")),
)
CONTRACT = Contract(resolution=16, mean=(0, 0, 0), std=(1, 1, 1), labels=("a", "b"))


def image(width: int, height: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def render(pixels: np.ndarray, view: np.void, contract: Contract) -> np.ndarray:
    """What a view shows of one image."""
    return viewing.render([pixels], np.zeros(1, np.int64), np.asarray(view).reshape(1), contract)[0]


def test_a_view_takes_22_bytes() -> None:
    assert VIEW_DTYPE.itemsize == 22


@given(AUGMENTATIONS, st.integers(0, 60), st.integers(0, 999))
@settings(max_examples=150)
def test_drawn_views_keep_their_bounds(augmentation: AugmentationConfig, count: int, view_index: int) -> None:
    views = draw_views(count, augmentation, view_index)
    assert views.dtype == VIEW_DTYPE
    assert views.shape == (count,)
    left, top, right, bottom = views["box"].astype(np.int64).T
    width, height = right - left, bottom - top
    assert (width >= 1).all()
    assert (height >= 1).all()
    low, high = augmentation.scale
    area = width * height / FULL**2
    assert (area >= low - 2 / FULL).all()
    assert (area <= high + 2 / FULL).all()
    assert set(np.unique(views["flip"])) <= ({0, 1} if augmentation.flip else {0})
    assert (views["operation"] < len(ImageOperation)).all()
    assert (views["operation"][:, augmentation.operations :] == ImageOperation.IDENTITY).all()
    two_sided = np.isin(views["operation"], list(TWO_SIDED))
    strength = np.where(two_sided, np.abs(views["magnitude"].astype(int) - NEUTRAL) / 127, views["magnitude"] / 255)
    assert (strength <= augmentation.magnitude + 0.5 / 127).all()
    assert (views["mix_partner"] < max(1, count)).all()
    unmixed = views["mix_weight"] == UNMIXED
    left, top, right, bottom = views["cut"].astype(np.int64).T
    assert ((left <= right) & (top <= bottom)).all()
    cut = views["cut"].any(axis=1)
    share = 1 - (right - left) * (bottom - top) / UNMIXED**2
    np.testing.assert_allclose(views["mix_weight"][cut] / UNMIXED, share[cut], atol=0.5 / UNMIXED + 1e-9)
    if augmentation.cutmix == 0:
        assert not cut.any()
    if augmentation.mix == augmentation.cutmix == 0:
        assert unmixed.all()
        np.testing.assert_array_equal(views["mix_partner"], np.arange(count))


def test_draws_are_repeatable_and_differ_by_view_and_seed() -> None:
    augmentation = AugmentationConfig(flip=True, mix=0.5)
    views = draw_views(50, augmentation, 3)
    np.testing.assert_array_equal(views, draw_views(50, augmentation, 3))
    assert (views != draw_views(50, augmentation, 4)).all()
    assert (views != draw_views(50, AugmentationConfig(flip=True, mix=0.5, seed=1), 3)).all()


def test_draws_use_the_whole_of_what_is_allowed() -> None:
    views = draw_views(4000, AugmentationConfig(flip=True, operations=2, magnitude=1.0, mix=0.25), 0)
    assert 0.45 < views["flip"].mean() < 0.55
    assert set(np.unique(views["operation"])) == set(ImageOperation)
    two_sided = np.isin(views["operation"], list(TWO_SIDED))
    magnitudes = views["magnitude"][two_sided]
    assert magnitudes.min() <= 2
    assert magnitudes.max() >= 254
    assert abs(float(magnitudes.mean()) - NEUTRAL) < 5
    mixed = views["mix_partner"] != np.arange(4000)
    assert 0.2 < mixed.mean() < 0.3
    area = np.prod(np.diff(views["box"].astype(float).reshape(-1, 2, 2), axis=1)[:, 0], axis=1) / FULL**2
    assert area.min() < 0.72
    assert area.max() > 0.98


@pytest.mark.parametrize("side", [8, 28, 224])
def test_a_cut_shows_the_partner_in_its_box_alone(side: int) -> None:
    images = [np.full((40, 40, 3), value, np.uint8) for value in (50, 200)]
    views = identity_views(2)
    views["cut"][0], views["mix_partner"][0] = (51, 102, 204, 255), 1
    views["mix_weight"][0] = round(UNMIXED - 153 * 153 / UNMIXED)
    contract = CONTRACT.model_copy(update={"resolution": side})
    indices = np.arange(2)
    (found,) = viewing.render_batch(images, indices, views, indices[:1], contract)
    left, top, right, bottom = (round(edge * side / 255) for edge in (51, 102, 204, 255))
    expected = np.full((3, side, side), 50, np.uint8)
    expected[:, top:bottom, left:right] = 200
    np.testing.assert_array_equal(found, expected)
    labels = viewing.mixed_labels(np.array([0, 1]), 2, views, indices[:1])
    np.testing.assert_allclose(labels, [[0.64, 0.36]], atol=0.002)
    assert abs(float((found[0] == 200).mean()) - labels[0, 1]) < (0.06 if side == 8 else 0.015)


def test_cuts_are_drawn_from_the_views_that_are_not_blended() -> None:
    views = draw_views(4000, AugmentationConfig(mix=0.5, cutmix=0.5), 0)
    cut = views["cut"].any(axis=1)
    mixed = views["mix_partner"] != np.arange(4000)
    assert 0.21 < cut.mean() < 0.29 and 0.7 < mixed.mean() < 0.8
    before = draw_views(4000, AugmentationConfig(mix=0.5), 0)
    for name in ("box", "flip", "operation", "magnitude"):
        np.testing.assert_array_equal(views[name], before[name])


@given(SIDE, SIDE, CONTRACTS)
@settings(max_examples=100)
def test_the_view_that_changes_nothing_is_the_contracts_resize(width: int, height: int, contract: Contract) -> None:
    pixels = image(width, height)
    np.testing.assert_array_equal(render(pixels, identity_views(1)[0], contract), resize(pixels, contract))


@given(SIDE, SIDE, CONTRACTS, AUGMENTATIONS)
@settings(max_examples=150)
def test_a_stored_view_replays_to_the_bit(
    width: int, height: int, contract: Contract, augmentation: AugmentationConfig
) -> None:
    pixels = image(width, height)
    views = draw_views(2, augmentation, 0)
    first = render(pixels, views[1], contract)
    assert first.shape == (3, contract.resolution, contract.resolution)
    assert first.dtype == np.uint8
    replayed = np.frombuffer(views.tobytes(), VIEW_DTYPE)
    np.testing.assert_array_equal(render(pixels.copy(), replayed[1], contract), first)


def test_boxes_at_the_edges_and_of_no_size_to_speak_of_render() -> None:
    views = identity_views(3)
    views["box"][:] = [(0, 0, 1, 1), (FULL - 1, FULL - 1, FULL, FULL), (0, 30_000, FULL, 30_001)]
    for view in views:
        assert render(image(28, 28), view, CONTRACT).shape == (3, 16, 16)


def test_a_box_shows_the_part_it_names() -> None:
    pixels = np.zeros((40, 40, 3), np.uint8)
    pixels[:20, 20:] = 200
    view = identity_views(1)
    view["box"] = (FULL // 2 + 3000, 0, FULL, FULL // 2 - 3000)
    assert (render(pixels, view[0], CONTRACT) == 200).all()


def test_a_flip_mirrors_left_to_right_before_the_operations() -> None:
    view = identity_views(1)
    view["flip"] = 1
    pixels = image(20, 20)
    np.testing.assert_array_equal(render(pixels, view[0], CONTRACT), resize(pixels, CONTRACT)[:, :, ::-1])
    view["operation"], view["magnitude"] = (ImageOperation.TRANSLATE_X, 0), (255, 0)
    unflipped = view.copy()
    unflipped["flip"] = 0
    mirrored = resize(pixels, CONTRACT).transpose(1, 2, 0)[:, ::-1].copy()
    np.testing.assert_array_equal(render(pixels, view[0], CONTRACT), render(mirrored, unflipped[0], CONTRACT))


@given(AUGMENTATIONS, st.lists(st.integers(0, 11), min_size=1, max_size=8))
@settings(max_examples=50)
def test_a_batch_is_its_views_blended_with_their_partners_views(
    augmentation: AugmentationConfig, chosen: list[int]
) -> None:
    images = GreyImages(np.random.default_rng(5).integers(0, 256, (20, 10, 10), dtype=np.uint8))
    indices = np.arange(19, 7, -1)
    views = draw_views(12, augmentation, 0)
    positions = np.array(chosen)
    batch = render_batch(images, indices, views, positions, CONTRACT)
    for row, position in zip(batch, chosen, strict=True):
        own = render(images[int(indices[position])], views[position], CONTRACT).astype(int)
        partner = int(views[position]["mix_partner"])
        other = render(images[int(indices[partner])], views[partner], CONTRACT).astype(int)
        weight = int(views[position]["mix_weight"])
        expected = (own * weight + other * (255 - weight) + 127) // 255
        if views[position]["cut"].any():
            left, top, right, bottom = np.rint(views[position]["cut"].astype(float) * CONTRACT.resolution / 255).astype(
                int
            )
            expected = own.copy()
            expected[:, top:bottom, left:right] = other[:, top:bottom, left:right]
        np.testing.assert_array_equal(row, expected)


def test_labels_are_mixed_as_the_images_are() -> None:
    views = identity_views(4)
    views["mix_weight"][2], views["mix_partner"][2] = 51, 0
    shares = mixed_labels(np.array([0, 1, 2, 1]), 3, views, np.array([3, 2]))
    assert shares.dtype == np.float32
    np.testing.assert_allclose(shares, [[0, 1, 0], [0.8, 0, 0.2]], rtol=1e-6)


def test_a_label_that_is_not_known_adds_to_no_class() -> None:
    views = identity_views(4)
    views["mix_weight"][2:], views["mix_partner"][2:] = 51, (0, 1)
    shares = mixed_labels(np.array([-1, 1, 2, -1]), 3, views, np.arange(4))
    np.testing.assert_allclose(shares, [[0, 0, 0], [0, 1, 0], [0, 0, 0.2], [0, 0.8, 0]], rtol=1e-6)
