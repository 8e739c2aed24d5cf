"""The answer in words and a few figures, all of them the build's own or computed from those."""

from __future__ import annotations

from dataclasses import dataclass

from edgedistill.base.units import format_bytes, format_ms, format_percent
from edgedistill.documents.measurements import Latency, MeasuredLatency, PredictedLatency, Proof
from edgedistill.documents.results import BuildResult, ShippedArtifact
from edgedistill.documents.specs import Budget
from edgedistill.outputs.explain.shown import claim_text, measured_in, sessions_text
from edgedistill.outputs.explain.winner import times_faster, winning_artifact

_TITLES = {"met": "Budget met", "not_met": "Not met", "unmeasured": "Not measured"}
_SYMBOLS = {"met": "✓", "not_met": "✕", "unmeasured": "?"}


@dataclass(frozen=True)
class Tile:
    """One figure of the verdict, with what to compare it to."""

    label: str
    value: str
    note: str


@dataclass(frozen=True)
class Verdict:
    """What the report opens with."""

    status: str
    symbol: str
    title: str
    sentence: str
    tiles: tuple[Tile, ...]


def make_verdict(result: BuildResult) -> Verdict:
    """The verdict of a finished build. Nothing in it is called measured unless a measurement stands in `result`."""
    sentence = _unmeasured(result) if result.status == "unmeasured" else _measured(result)
    return Verdict(result.status, _SYMBOLS[result.status], _TITLES[result.status], sentence, tuple(_tiles(result)))


def budget_option(budget: Budget) -> str:
    """The budget as `--budget` takes it."""
    if budget.share_of_teacher is not None:
        return f"{budget.share_of_teacher * 100:.10g}%@{budget.percentile}"
    return f"{budget.latency_ms:.10g}ms@{budget.percentile}"


def points(difference: float) -> str:
    """A difference of two shares: `0.6 points below`, `equal to`."""
    text = format_percent(abs(difference)).removesuffix("%")
    if float(text) == 0:
        return "equal to"
    return f"{text} points {'below' if difference < 0 else 'above'}"


def _measured(result: BuildResult) -> str:
    artifact = winning_artifact(result)
    if result.status == "not_met" or artifact is None or not isinstance(artifact.latency, MeasuredLatency):
        return result.verdict
    told = f"It was measured on {artifact.latency.device}; {_quality_and_size(result, artifact)}."
    return f"{result.verdict} {told}"


def _unmeasured(result: BuildResult) -> str:
    artifact = winning_artifact(result)
    text = f"No latency was measured on {result.target}, so whether {result.budget.claim} is kept is unknown"
    if artifact is not None:
        if isinstance(artifact.latency, PredictedLatency):
            text += f"; predicted is {prediction_text(artifact.latency, result.budget)}"
        text += f"; {_quality_and_size(result, artifact)}"
    return f"{text}."


def prediction_text(latency: PredictedLatency, budget: Budget) -> str:
    """`3.20 ms at p95 in int8 (2.10 ms to 4.90 ms, uncalibrated)`, in the unit of the budget."""
    trust = "90% interval" if latency.calibrated else "uncalibrated"
    interval = f"{budget.figure(latency.low_ms)} to {budget.figure(latency.high_ms)}"
    told = f"{budget.in_its_unit(latency.latency_ms)} at {latency.percentile} in {latency.precision}"
    return f"{told} ({interval}, {trust})"


def _quality_and_size(result: BuildResult, artifact: ShippedArtifact) -> str:
    teacher = result.teacher
    theirs = _with_interval(teacher.quality, teacher.quality_interval)
    if artifact.quality is None or artifact.quality_interval is None:
        right = f"its {result.metric} is unknown (teacher {theirs})"
    else:
        ours = _with_interval(artifact.quality, artifact.quality_interval)
        of_classes = f"{ours} of the test images are right"
        right = of_classes if result.metric == "accuracy" else f"its {result.metric} on the test images is {ours}"
        right = f"{right} (teacher {theirs})"
    size = f"{right}, in {format_bytes(artifact.bytes)}"
    return size if teacher.bytes is None else f"{size} (teacher {format_bytes(teacher.bytes)})"


def _with_interval(share: float, interval: tuple[float, float]) -> str:
    low, high = interval
    return f"{format_percent(share)} [{format_percent(low)} to {format_percent(high)}]"


def _tiles(result: BuildResult) -> list[Tile]:
    artifact = winning_artifact(result)
    budget, teacher = result.budget, result.teacher
    if artifact is None:
        shown = budget.in_its_unit
        tiles = [Tile("Budget", shown(budget.latency_ms), f"{budget.percentile} on {result.target}")]
        if result.fastest_ms is not None:
            times = f"{result.fastest_ms / budget.latency_ms:.2g} times the budget; measured in turn with the anchor"
            tiles.append(Tile("Fastest seen", shown(result.fastest_ms), times))
        if result.budget_that_would_do_ms is not None:
            how = f"at {budget.percentile}; estimated from the measured files and how sessions differ"
            tiles.append(Tile("A budget that would do", shown(result.budget_that_would_do_ms), how))
        return tiles
    tiles = [_latency_tile(artifact.latency, budget)]
    if artifact.proof is not None:
        tiles.append(_proof_tile(artifact.proof))
    if artifact.quality is None or artifact.quality_interval is None:
        tiles.append(Tile(f"Test {result.metric}", "unknown", f"teacher {format_percent(teacher.quality)}"))
    else:
        low, high = artifact.quality_interval
        tiles.append(
            Tile(
                f"Test {result.metric}",
                format_percent(artifact.quality),
                f"{points(artifact.quality - teacher.quality)} the teacher's {format_percent(teacher.quality)}; "
                f"measured on {result.data.test} images, 95% interval {format_percent(low)} to {format_percent(high)}",
            )
        )
    share = "the teacher's is unknown"
    if teacher.bytes is not None:
        share = f"{format_percent(artifact.bytes / teacher.bytes)} of the teacher's {format_bytes(teacher.bytes)}"
    tiles.append(Tile("Size", format_bytes(artifact.bytes), share))
    faster = times_faster(result, artifact)
    if faster is not None and isinstance(teacher.latency, MeasuredLatency):
        ratio = f"{faster:.1f} times faster" if faster >= 1 else f"{1 / faster:.1f} times slower"
        how = "in turn with it" if result.proof is not None and result.proof.share else "each in turn with the anchor"
        theirs = f"its {budget.percentile} is {format_ms(teacher.latency.at(budget.percentile))}, fp32, measured in"
        tiles.append(Tile("Beside the teacher", ratio, f"{how}; {theirs} {measured_in(teacher.latency)}"))
    return tiles


def _proof_tile(proof: Proof) -> Tile:
    """What the proof's sessions saw, in its own unit: for a share of the teacher that is the ratio."""
    sessions = sessions_text(len(proof.values))
    return Tile(
        f"{proof.percentile} of a session" + ", of the teacher's" * proof.share,
        f"{proof.figure(min(proof.values))} to {proof.figure(max(proof.values))}",
        f"measured in {sessions}; {claim_text(proof)}"
        if proof.met
        else f"not proven: measured in {sessions}, {proof.over} of them over the limit",
    )


def _latency_tile(latency: Latency, budget: Budget) -> Tile:
    allowed = f"{budget.claim} allowed"
    if isinstance(latency, MeasuredLatency):
        value = latency.at(budget.percentile)
        runs = f"{latency.samples:,} runs in {measured_in(latency)}"
        of_it = "" if budget.share_of_teacher else f"{format_percent(value / budget.latency_ms, 0)} of "
        note = f"{of_it}{allowed}; measured, {runs}"
        return Tile(f"{budget.percentile} latency", format_ms(value), note)
    if isinstance(latency, PredictedLatency):
        trust = "90% interval" if latency.calibrated else "uncalibrated"
        interval = f"{budget.figure(latency.low_ms)} to {budget.figure(latency.high_ms)}"
        note = f"{allowed}; predicted, {interval} ({trust})"
        return Tile(f"{latency.percentile} latency, predicted", f"≈ {budget.in_its_unit(latency.latency_ms)}", note)
    return Tile(f"{budget.percentile} latency", "unknown", allowed)
