"""The vector that latency is predicted from."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from edgedistill.latency.features import FEATURE_NAMES, MULTIPLY_ADDS, features_of
from edgedistill.students.structure import SUBLINEAR, structure_of


def module() -> nn.Module:
    layers = (nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 8, 3, padding=1, groups=8), nn.GELU())
    torch.manual_seed(0)
    return nn.Sequential(*layers, nn.Conv2d(8, 4, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2)).eval()


def test_each_feature_by_hand() -> None:
    found = dict(zip(FEATURE_NAMES, features_of(structure_of(module(), 4)), strict=True))
    pixels = 16
    weights = ((216 + 8) + (72 + 8) + (32 + 4) + (8 + 2)) * 4
    image, wide, narrow, logits, pooled = 3 * pixels * 4, 8 * pixels * 4, 4 * pixels * 4, 2 * 4, 4 * 4
    assert found == {
        "conv_multiply_adds": 8 * 27 * pixels,
        "pointwise_multiply_adds": 32 * pixels,
        "grouped_multiply_adds": 0,
        "depthwise_multiply_adds": 72 * pixels,
        "gemm_multiply_adds": 8,
        "matmul_multiply_adds": 0,
        "heavy_bytes": (image + wide) + (wide + narrow) + (pooled + logits),
        "depthwise_bytes": 2 * wide,
        "weights_bytes": weights,
        "elementwise_bytes": 2 * wide,
        "copy_bytes": narrow + pooled,
        "heavy_count": 4,
        "light_count": 2,
        "constant": 1,
        "transcendental_bytes": 2 * wide,
        "normalisation_bytes": 0,
        "conv_sublinear": (8 * 27 * pixels) ** SUBLINEAR,
        "pointwise_sublinear": (32 * pixels) ** SUBLINEAR,
        "grouped_sublinear": 0,
        "depthwise_sublinear": (72 * pixels) ** SUBLINEAR,
        "gemm_sublinear": 8**SUBLINEAR,
        "matmul_sublinear": 0,
        "light_sublinear": (2 * wide) ** SUBLINEAR + (narrow + pooled) ** SUBLINEAR,
        "uncached_multiply_adds": pytest.approx(
            (8 * 27 + 32 + 72) * pixels * weights / 8e6 + 8 * weights / 8e6, rel=1e-3
        ),
    }


def test_multiply_adds_columns_sum_to_the_structure_s() -> None:
    structure = structure_of(module(), 8)
    assert np.sum(features_of(structure)[MULTIPLY_ADDS]) == structure.multiply_adds
    apart = {name for name in FEATURE_NAMES if "multiply_adds" in name} - {"uncached_multiply_adds"}
    assert set(FEATURE_NAMES[MULTIPLY_ADDS]) == apart


def test_work_on_weights_beyond_the_cache_counts_once_more() -> None:
    small, large = (
        structure_of(nn.Sequential(nn.Conv2d(3, width, 1), nn.Conv2d(width, width, 1)).eval(), 2) for width in (8, 4000)
    )
    uncached = FEATURE_NAMES.index("uncached_multiply_adds")
    assert features_of(small)[uncached] < 0.001 * small.multiply_adds
    assert 0.85 * large.multiply_adds < features_of(large)[uncached] < large.multiply_adds
