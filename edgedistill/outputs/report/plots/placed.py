"""Where files stand on the picture of accuracy against latency, and which part of the plane the picture shows."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from edgedistill.base.units import format_percent
from edgedistill.documents.artifacts import SchemeResult, Trial, Verified
from edgedistill.documents.measurements import MeasuredLatency, PredictedLatency
from edgedistill.documents.results import BuildResult, PredictedPoint
from edgedistill.outputs.explain.limits import goal_of
from edgedistill.outputs.explain.shown import validation_text
from edgedistill.outputs.explain.winner import winning_artifact, winning_trial
from edgedistill.outputs.report.plots.axes import without_outliers
from edgedistill.outputs.report.plots.style import trial_hover
from edgedistill.outputs.report.verdict import prediction_text
from edgedistill.selection.goal import provable_ms

_LEAST_QUALITY = 0.02
_LEAST_DECADES = 0.1
"""Points that differ by less than these fill an axis all the same."""


@dataclass(frozen=True)
class Point:
    """A file of a trial; of a trial without a measured file its torch model, at its predicted latency. `subject` names it,
    `text` is its hover box. Both ends of the interval are the latency itself where it was measured."""

    kind: str
    subject: str
    latency_ms: float
    quality: float
    text: str
    low_ms: float
    high_ms: float


@dataclass(frozen=True)
class View:
    """The part of the plane that is shown, by its least and greatest latency in ms and quality."""

    latencies_ms: tuple[float, float]
    qualities: tuple[float, float]

    def holds(self, latency_ms: float, quality: float) -> bool:
        """Whether a point lies in it."""
        return (
            self.latencies_ms[0] <= latency_ms <= self.latencies_ms[1]
            and self.qualities[0] <= quality <= self.qualities[1]
        )


@dataclass(frozen=True)
class Placed:
    """All that the picture may show. `expected` are students that were not trained; `teacher_ms` is None where the teacher
    was not measured, `winner` (latency in ms, quality) where the shipped file was not. `view` shows what was measured,
    `whole` predictions as well; `beyond` names what lies outside `view`, `predicted_beyond` the predictions outside
    `whole`."""

    measured: tuple[Point, ...]
    predicted: tuple[Point, ...]
    expected: tuple[PredictedPoint, ...]
    teacher_ms: float | None
    winner: tuple[float, float] | None
    view: View
    whole: View
    beyond: tuple[str, ...]
    predicted_beyond: tuple[str, ...]

    @property
    def hides_predictions(self) -> bool:
        """Whether predictions are off until they are asked for: where there are any, and measured students beside them."""
        return bool(self.measured) and bool(self.predicted or self.expected)


def place(result: BuildResult) -> Placed | None:
    """Every file and student of a build on the plane. None if nothing can be placed."""
    percentile, teacher = result.budget.percentile, result.teacher
    points = [point for trial in result.trials for point in _points(trial, result)]
    teacher_ms = teacher.latency.comparable(percentile) if isinstance(teacher.latency, MeasuredLatency) else None
    if not points and teacher_ms is None:
        return None
    measured = tuple(point for point in points if point.kind != "predicted")
    predicted = tuple(point for point in points if point.kind == "predicted")
    expected = tuple(point for point in result.predicted if point.latency.percentile is percentile)
    winner = _winner(result)
    needed_ms, needed = [result.budget.latency_ms], [teacher.quality_validation]
    if winner is not None:
        needed_ms, needed = [*needed_ms, winner[0]], [*needed, winner[1]]
    own = [(p.latency_ms, p.quality) for p in measured]
    theirs = [] if teacher_ms is None else [(teacher_ms, teacher.quality_validation)]
    view = _view([*own, *theirs], needed_ms, needed)
    # What measurements leave outside stays there when predictions are asked for.
    shown = [spot for spot in [*own, *theirs] if view.holds(*spot)]
    guessed = [
        *((p.latency_ms, p.quality, p.low_ms, p.high_ms) for p in predicted),
        *((p.latency.latency_ms, p.quality_validation, p.latency.low_ms, p.latency.high_ms) for p in expected),
    ]
    spots = [*shown, *(guess[:2] for guess in guessed)]
    whole = _widened(_view(spots, [*needed_ms, *view.latencies_ms], [*needed, *view.qualities]), guessed)
    named = [(p.subject, p.latency_ms, p.quality) for p in measured]
    named += [("the teacher", *spot) for spot in theirs]
    guesses = [(f"{p.subject}, predicted", p.latency_ms, p.quality) for p in predicted]
    guesses += [(f"{p.spec.label}, not trained", p.latency.latency_ms, p.quality_validation) for p in expected]
    return Placed(
        measured=measured,
        predicted=predicted,
        expected=expected,
        teacher_ms=teacher_ms,
        winner=winner,
        view=view if measured else whole,
        whole=whole,
        beyond=_outside(named, view if measured else whole, result),
        predicted_beyond=_outside(guesses, whole, result),
    )


def _view(spots: Sequence[tuple[float, float]], needed_ms: Sequence[float], needed: Sequence[float]) -> View:
    return View(
        without_outliers([ms for ms, _ in spots], needed_ms, _LEAST_DECADES, _decades),
        without_outliers([quality for _, quality in spots], needed, _LEAST_QUALITY),
    )


def _decades(latency_ms: float) -> float:
    return math.log10(max(latency_ms, 1e-9))


def _widened(view: View, guessed: Sequence[tuple[float, float, float, float]]) -> View:
    """With the intervals of its predictions, unless one is so wide that the points themselves would crowd together."""
    low, high = view.latencies_ms
    ends = [(low_ms, high_ms) for ms, quality, low_ms, high_ms in guessed if view.holds(ms, quality)]
    lowest = min([low, *(max(low_ms, low / 2) for low_ms, _ in ends)])
    highest = max([high, *(min(high_ms, high * 2) for _, high_ms in ends)])
    return View((lowest, highest), view.qualities)


def _outside(named: Iterable[tuple[str, float, float]], view: View, result: BuildResult) -> tuple[str, ...]:
    return tuple(
        f"{subject} ({format_percent(quality)} right, at {result.budget.figure(latency_ms)})"
        for subject, latency_ms, quality in named
        if not view.holds(latency_ms, quality)
    )


def _points(trial: Trial, result: BuildResult) -> Iterator[Point]:
    measured, goal, percentile = False, goal_of(result), result.budget.percentile
    subject = f"trial {trial.number}, {trial.spec.label}"
    for scheme in trial.schemes:
        quality = _quality(trial, scheme)
        if not isinstance(scheme.latency, MeasuredLatency) or quality is None:
            continue
        measured = True
        latency_ms = provable_ms(scheme, goal)
        precision = f"{scheme.scheme.label}{f', dropped: {scheme.dropped}' if scheme.dropped else ''}"
        text = trial_hover(
            trial,
            precision,
            f"{percentile} {goal.budget.in_its_unit(latency_ms)}, {'not proven' if scheme.disproven else 'measured'}",
            f"validation {result.metric} {validation_text(quality[0], result.data.validation)}, {quality[1]}",
        )
        kind = "dropped" if scheme.dropped else "unproven" if scheme.disproven else trial.state
        named = f"{subject}, {scheme.scheme.label}"
        yield Point(kind, named, latency_ms, quality[0], text, latency_ms, latency_ms)
    predicted = trial.predicted
    if measured or not isinstance(predicted, PredictedLatency) or predicted.percentile != percentile or not trial.rungs:
        return
    quality_torch = trial.rungs[-1].quality_validation
    text = trial_hover(
        trial,
        "not measured",
        f"predicted {prediction_text(predicted, goal.budget)}",
        f"validation {result.metric} {validation_text(quality_torch, result.data.validation)}, torch model",
    )
    yield Point("predicted", subject, predicted.latency_ms, quality_torch, text, predicted.low_ms, predicted.high_ms)


def _winner(result: BuildResult) -> tuple[float, float] | None:
    """Where the shipped file itself stands."""
    artifact, trial = winning_artifact(result), winning_trial(result)
    if artifact is None or trial is None:
        return None
    for scheme in trial.schemes:
        quality = _quality(trial, scheme)
        if scheme.artifact.sha256 == artifact.as_measured and isinstance(scheme.latency, MeasuredLatency) and quality:
            return provable_ms(scheme, goal_of(result)), quality[0]
    return None


def _quality(trial: Trial, scheme: SchemeResult) -> tuple[float, str] | None:
    """Validation quality to place a measured file at, and whose it is: the file's own, or the torch model's where the file
    could not be run."""
    if isinstance(scheme.verification, Verified):
        return scheme.verification.quality_validation, "the file itself"
    return (trial.rungs[-1].quality_validation, "torch model; the file could not be run") if trial.rungs else None
