"""Latencies as they were predicted before a trial began, beside what was measured of it."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import median

from edgedistill.documents.artifacts import Trial
from edgedistill.documents.explanation import PredictionRecord
from edgedistill.documents.measurements import MeasuredLatency, PredictedLatency
from edgedistill.documents.results import BuildResult


@dataclass(frozen=True)
class PredictionPair:
    """A trial's prediction and the measurement of the file that it was for, in ms at the budget's percentile, by way of the
    anchor as the latency model learns it."""

    trial: Trial
    predicted: PredictedLatency
    measured_ms: float

    @property
    def held(self) -> bool:
        return self.predicted.low_ms <= self.measured_ms <= self.predicted.high_ms


def prediction_pairs(result: BuildResult) -> tuple[PredictionPair, ...]:
    """The trials whose prediction can be held against a measurement: at the same percentile, of the same precision."""
    percentile = result.budget.percentile
    pairs = []
    for trial in result.trials:
        predicted = trial.predicted
        if not isinstance(predicted, PredictedLatency) or predicted.percentile is not percentile:
            continue
        for scheme in trial.schemes:
            if scheme.scheme.precision is predicted.precision and isinstance(scheme.latency, MeasuredLatency):
                pairs.append(PredictionPair(trial, predicted, scheme.latency.comparable(percentile)))
                break
    return tuple(pairs)


def prediction_record(result: BuildResult) -> PredictionRecord | None:
    """How the predictions turned out. None where there is no pair to compare."""
    pairs = prediction_pairs(result)
    if not pairs:
        return None
    calibrated = [pair for pair in pairs if pair.predicted.calibrated]
    return PredictionRecord(
        compared=len(pairs),
        held=sum(pair.held for pair in pairs),
        calibrated=len(calibrated),
        calibrated_held=sum(pair.held for pair in calibrated),
        median_error=median(abs(pair.predicted.latency_ms / pair.measured_ms - 1) for pair in pairs),
    )
