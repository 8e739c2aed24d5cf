"""The vector that latency is predicted from."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from edgedistill.devices.latency.features import (
    CONSTANT,
    FEATURE_NAMES,
    MULTIPLY_ADDS,
    features_by_kind,
    features_of,
    unseen,
)
from edgedistill.networks.counting import structure_of
from edgedistill.networks.structure import SUBLINEAR, OperationKind, Structure


def module() -> nn.Module:
    layers = (nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 8, 3, padding=1, groups=8), nn.GELU())
    torch.manual_seed(0)
    return nn.Sequential(*layers, nn.Conv2d(8, 4, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2)).eval()


def test_each_feature_by_hand() -> None:
    found = dict(zip(FEATURE_NAMES, features_of(structure_of(module(), 4)), strict=True))
    pixels = 16
    weights = ((216 + 8) + (72 + 8) + (32 + 4) + (8 + 2)) * 4
    image, wide, narrow, logits, pooled = 3 * pixels * 4, 8 * pixels * 4, 4 * pixels * 4, 2 * 4, 4 * 4
    work = (8 * 27 + 32 + 72) * pixels + 8
    # Channels come in blocks of 16, but for the three of the image and the one of a depthwise filter.
    first, depthwise, pointwise = 16 * 27 * pixels, 16 * 9 * pixels, 16 * 16 * pixels
    blocked = first + depthwise + pointwise + 8
    assert found == {
        "convolution_sublinear": first**SUBLINEAR,
        "pointwise_sublinear": pointwise**SUBLINEAR,
        "depthwise_sublinear": depthwise**SUBLINEAR,
        "linear_sublinear": 8**SUBLINEAR,
        "multiply_adds": work,
        "blocked_multiply_adds": blocked,
        "window_pixels": (9 + 9 + 1) * pixels,
        "uncached_multiply_adds": pytest.approx(blocked * weights / 8e6, rel=1e-3),
        "weights_bytes": weights,
        "activation_bytes": (image + wide)
        + 2 * wide
        + 2 * wide
        + (wide + narrow)
        + (narrow + pooled)
        + (pooled + logits),
        "slow_bytes": 2 * wide,
        "elementwise_bytes": 0,
        "multiplying_count": 4,
        "constant": 1,
    }


def test_kinds_add_up_to_the_whole_but_for_the_constant() -> None:
    structure = structure_of(module(), 8)
    whole = features_of(structure)
    whole[CONSTANT] = 0
    assert sum(features_by_kind(structure).values()) == pytest.approx(whole)
    assert whole[MULTIPLY_ADDS] == structure.multiply_adds


def test_work_on_weights_beyond_the_cache_counts_once_more() -> None:
    small, large = (
        structure_of(nn.Sequential(nn.Conv2d(3, width, 1), nn.Conv2d(width, width, 1)).eval(), 2) for width in (8, 4000)
    )
    uncached = FEATURE_NAMES.index("uncached_multiply_adds")
    assert features_of(small)[uncached] < 0.001 * small.multiply_adds
    assert 0.85 * large.multiply_adds < features_of(large)[uncached] < large.multiply_adds


def test_what_is_unseen_is_the_larger_of_its_shares_of_work_and_of_bytes() -> None:
    structure = structure_of(module(), 4)
    seen = set(OperationKind)
    assert unseen(structure, seen) == 0
    assert unseen(structure, seen - {OperationKind.MATMUL}) == 0
    assert unseen(structure, seen - {OperationKind.CONV}) == pytest.approx(8 * 27 * 16 / structure.multiply_adds)
    moved = {total.kind: total.read_bytes + total.written_bytes for total in structure.totals}
    gelu = moved[OperationKind.TRANSCENDENTAL] / sum(moved.values())
    assert unseen(structure, seen - {OperationKind.TRANSCENDENTAL}) == pytest.approx(gelu)
    assert unseen(structure, set()) == 1
    assert unseen(Structure(parameters=0, multiply_adds=0, activation_bytes=0, totals=()), set()) == 0
