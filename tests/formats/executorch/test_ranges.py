"""Ranges of activations, by each calibration."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from executorch_students import CALIBRATION, IMAGES
from torch import nn

from edgedistill.documents.specs import Calibration, Precision, QuantScheme
from edgedistill.formats.executorch.quantize import executorch_quantizer
from edgedistill.networks.program.program import reference_logits
from edgedistill.networks.rounding.pt2e import fake_quantize
from edgedistill.networks.rounding.ranges import entropy_range, percentile_range

pytest.importorskip("executorch", reason="the extra executorch is not installed")


def test_ranges_leave_outliers_out_and_nothing_else() -> None:
    values = np.random.default_rng(0).normal(size=400_000)
    values[:2] = (-40, 60)
    histogram, _ = np.histogram(values, 2048, (values.min(), values.max()))
    for search in (percentile_range, entropy_range):
        low, high = search(histogram.astype(float), values.min(), values.max())
        assert -8 < low < -4 and 4 < high < 8, search.__name__
    positive = np.maximum(values[2:], 0)  # half of it a heap of zeros, which costs nothing to round
    histogram, _ = np.histogram(positive, 2048, (0, positive.max()))
    for search in (percentile_range, entropy_range):
        low, high = search(histogram.astype(float), 0.0, positive.max())
        assert low == 0 and high > 0.8 * positive.max(), search.__name__


def test_calibrations_choose_their_scales(student: nn.Module) -> None:
    """All follow the student; none has larger scales than the smallest and largest value give, and entropy clips."""
    wanted, scales = reference_logits(student, IMAGES), {}
    for calibration in Calibration:
        scheme = QuantScheme(precision=Precision.INT8, calibration=calibration)
        program = fake_quantize(student, CALIBRATION, executorch_quantizer(scheme))
        scales[calibration] = np.array(
            [
                node.args[1]
                for node in program.graph.nodes
                if str(node.target) == "quantized_decomposed.quantize_per_tensor.default"
            ],
            np.float64,
        )
        with torch.no_grad():
            got = program(torch.from_numpy(IMAGES).float()).numpy()
        assert (got.argmax(1) == wanted.argmax(1)).mean() >= 0.9
    widest = scales[Calibration.MINMAX]
    assert len(widest) >= 5
    assert all(np.all(found <= widest * 1.001) for found in scales.values())
    assert np.min(scales[Calibration.ENTROPY] / widest) < 0.99
