"""From raw samples to percentiles, and from sessions to a proof that a budget is met. Pure functions.

The acceptance rule: of n independent samples, the r-th smallest is at or above the true quantile of order f with
probability P(Binomial(n, f) <= r - 1) (the distribution-free bound of order statistics; David and Nagaraja, Order
Statistics, 3rd ed., 7.1). A budget is met when the smallest r for which this is at least 95% has its sample inside the
budget. Successive runs are not fully independent where a device throttles, so every session has to pass by itself.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence

import numpy as np

from edgedistill.artifacts import MeasuredLatency, Profile, Proof, Session
from edgedistill.errors import TrialFailure
from edgedistill.runtimes.sessions import at_another_speed
from edgedistill.specs import Budget, Percentile

CONFIDENCE = 0.95


def percentile_ms(samples_ns: Sequence[int], fraction: float) -> float:
    """The smallest sample that at least `fraction` (0 to 1) of the samples do not exceed, in ms: a latency that occurred,
    not an interpolation."""
    return float(np.quantile(np.asarray(samples_ns), fraction, method="inverted_cdf")) / 1e6


def measured_latency(profile: Profile, reference_us: float | None = None) -> MeasuredLatency:
    """Percentiles of a profile: of each session, then the median over the sessions. `reference_us` is the speed of the
    processor that `slowdown` is relative to; without it, or within what a session tolerates, that is 1.

    Not of the pooled samples: from one process to the next the same model moves by several percent on most machines, and
    the upper percentiles of a pool are those of its slowest session alone. `samples` counts all of them.
    """
    sessions = [session.samples_ns for session in profile.sessions]
    own_us = median_reference_us(profile)

    def typical(percentile: Percentile) -> float:
        return statistics.median(percentile_ms(samples, percentile.fraction) for samples in sessions)

    return MeasuredLatency(
        p50_ms=typical(Percentile.P50),
        p95_ms=typical(Percentile.P95),
        p99_ms=typical(Percentile.P99),
        samples=sum(len(samples) for samples in sessions),
        device=profile.environment.device,
        reference_us=own_us,
        slowdown=_slowdown(own_us, reference_us),
    )


def at_speed(latency: MeasuredLatency, reference_us: float | None) -> MeasuredLatency:
    """`latency` with its `slowdown` relative to another speed of the same processor."""
    return latency.model_copy(update={"slowdown": _slowdown(latency.reference_us, reference_us)})


def _slowdown(own_us: float | None, reference_us: float | None) -> float:
    if not own_us or not reference_us or not at_another_speed(own_us, reference_us):
        return 1.0
    return own_us / reference_us


def median_reference_us(profile: Profile) -> float | None:
    """The processor's speed during a profile (see Session), None where no session took it."""
    known = [session.reference_us for session in profile.sessions if session.reference_us is not None]
    return statistics.median(known) if known else None


def acceptance_rank(samples: int, fraction: float, confidence: float = CONFIDENCE) -> int | None:
    """Smallest rank r (1-based) such that the r-th smallest of `samples` independent runs is at or above the true quantile
    with at least `confidence`: 59 of 59, 196 of 200 for p95. None if `samples` are too few even for their maximum."""
    if not (samples >= 0 and 0 < fraction < 1 and 0 < confidence < 1):
        raise ValueError(f"samples {samples}, fraction {fraction}, confidence {confidence}")
    log_success, log_failure = math.log(fraction), math.log1p(-fraction)
    # P(Binomial(n, f) >= k), summed from the top, where its terms are small and lose nothing to cancellation.
    tail = 0.0
    for k in range(samples, -1, -1):
        log_ways = math.lgamma(samples + 1) - math.lgamma(k + 1) - math.lgamma(samples - k + 1)
        tail += math.exp(log_ways + k * log_success + (samples - k) * log_failure)
        if tail > 1 - confidence:
            return k + 1 if k < samples else None
    raise AssertionError("the whole distribution sums to one")


def samples_needed(fraction: float, confidence: float = CONFIDENCE) -> int:
    """Fewest samples of a session from which the acceptance rule can say yes: 5 for p50, 59 for p95, 299 for p99."""
    count = math.ceil(math.log(1 - confidence) / math.log(fraction))
    while acceptance_rank(count, fraction, confidence) is None:
        count += 1
    return count


def proof(sessions: Sequence[Session], budget: Budget, pause_s: float, sha256: str) -> Proof:
    """The acceptance rule applied to every session of the artifact with this hash: met if each session's bound is within
    the budget. Raises TrialFailure if a session has too few samples for the budget's percentile, ValueError for none."""
    if not sessions:
        raise ValueError("a proof needs sessions")
    ranks: list[int] = []
    for number, session in enumerate(sessions, 1):
        rank = acceptance_rank(len(session.samples_ns), budget.percentile.fraction)
        if rank is None:
            needed = samples_needed(budget.percentile.fraction)
            raise TrialFailure(
                f"session {number} has {len(session.samples_ns)} samples; {budget.percentile} needs at least {needed}",
                fix="raise max_seconds and max_samples in [profile]",
            )
        ranks.append(rank)
    bounds_ms = tuple(sorted(s.samples_ns)[rank - 1] / 1e6 for s, rank in zip(sessions, ranks))
    return Proof(
        artifact_sha256=sha256,
        sessions=len(sessions),
        samples_per_session=tuple(len(session.samples_ns) for session in sessions),
        set_aside_per_session=tuple(session.set_aside for session in sessions),
        ranks=tuple(ranks),
        bounds_ms=bounds_ms,
        pause_s=pause_s,
        met=all(bound <= budget.latency_ms for bound in bounds_ms),
    )
