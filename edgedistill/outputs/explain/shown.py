"""Single figures as they are shown: a latency, an accuracy with its interval, a proof's range."""

from __future__ import annotations

from collections.abc import Callable

from edgedistill.base.intervals import wilson_interval
from edgedistill.base.units import format_ms, format_percent
from edgedistill.documents.measurements import Latency, MeasuredLatency, PredictedLatency, Proof
from edgedistill.documents.specs import Percentile


def proof_range(proof: Proof | None) -> str:
    """`0.205 ms to 0.219 ms in 22 sessions`, `unknown` without a proof."""
    return "unknown" if proof is None else f"{proof.reached} in {sessions_text(len(proof.values))}"


def claim_text(proof: Proof) -> str:
    """What a proof claims where it is met."""
    sure, least = format_percent(proof.confidence, 0), format_percent(proof.claimed, 0)
    return f"with {sure} confidence at least {least} of sessions stay below {proof.shown(proof.limit)}"


def sessions_text(count: int) -> str:
    """`1 session`, `22 sessions`."""
    return f"{count} session{'s' * (count != 1)}"


def measured_in(latency: Latency) -> str:
    """In how many sessions a latency was measured, empty where it was not."""
    return sessions_text(latency.sessions) if isinstance(latency, MeasuredLatency) else ""


def quality_text(share: float | None, interval: tuple[float, float] | None) -> str:
    """`97.41% (94.7% to 98.7%)`: a quality with its 95% interval; `unknown`."""
    if share is None or interval is None:
        return "unknown"
    low, high = interval
    return f"{format_percent(share, 2)} ({format_percent(low)} to {format_percent(high)})"


def validation_text(share: float | None, images: int) -> str:
    """`quality_text` of a share of so many images; `unknown` without a share."""
    return quality_text(share, None if share is None else wilson_interval(share, images))


def latency_text(latency: Latency, percentile: Percentile) -> str:
    """`0.211 ms`, `≈ 0.22 ms (0.15 to 0.30 ms)` where it is predicted, `unknown`."""
    if isinstance(latency, MeasuredLatency):
        return format_ms(latency.at(percentile))
    return predicted_text(latency, percentile)


def compared_text(latency: Latency, percentile: Percentile, shown: Callable[[float], str] = format_ms) -> str:
    """`latency_text` of a file beside others: what was measured by way of the anchor. `shown` tells one given in ms."""
    if isinstance(latency, MeasuredLatency):
        return shown(latency.comparable(percentile))
    return predicted_text(latency, percentile, shown)


def predicted_text(latency: Latency, percentile: Percentile, shown: Callable[[float], str] = format_ms) -> str:
    """`≈ 0.22 ms (0.15 to 0.30 ms)`, `unknown` where nothing is predicted at that percentile. `shown` tells a latency given
    in ms."""
    if isinstance(latency, PredictedLatency) and latency.percentile is percentile:
        return f"≈ {shown(latency.latency_ms)} ({shown(latency.low_ms)} to {shown(latency.high_ms)})"
    return "unknown"
