"""What a shipped file's latency is where nothing measured it."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from edgedistill.artifacts import PredictedLatency, UnknownLatency
from edgedistill.specs import Percentile, Precision, QuantScheme
from edgedistill.winner_files import _own_latency

PREDICTED = PredictedLatency(
    latency_ms=2.0,
    low_ms=1.0,
    high_ms=4.0,
    percentile=Percentile.P95,
    precision=Precision.INT8,
    calibrated=False,
    basis="24 models of a profile",
    device="a phone",
)
BENCH: Any = SimpleNamespace(
    not_measurable="not attached", target=SimpleNamespace(name="a phone", published=(), precisions=(Precision.FP32,))
)


@pytest.mark.parametrize("precision", [Precision.INT8, Precision.FP32])
def test_a_prediction_is_that_of_files_in_its_own_precision_alone(precision: Precision) -> None:
    winner: Any = SimpleNamespace(trial=SimpleNamespace(predicted=PREDICTED))
    found = _own_latency(BENCH, winner, QuantScheme(precision=precision), None)
    unknown = UnknownLatency(reason="not attached", device="a phone")
    assert found == (PREDICTED if precision is Precision.INT8 else unknown)
