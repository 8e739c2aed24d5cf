"""From raw samples to percentiles, and from pairs to ratios. Pure functions over every sample that was taken."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from datetime import datetime

import numpy as np

from edgedistill.documents.measurements import MeasuredLatency, Moment, Percentiles, Profile, RelativeLatency, Session
from edgedistill.documents.specs import Percentile

RUNS_BEYOND = 20
"""A session with fewer runs than this beyond a percentile compares medians in its place."""
LEAST_BEYOND = 3
"""A session has at least so many runs beyond its percentile."""


def percentile_ms(samples_ns: Sequence[int], fraction: float) -> float:
    """The smallest sample that at least `fraction` (0 to 1) of the samples do not exceed, in ms: a latency that
    occurred, not an interpolation."""
    return float(np.quantile(np.asarray(samples_ns), fraction, method="inverted_cdf")) / 1e6


def least_runs(percentile: Percentile) -> int:
    """The fewest runs of a session for that percentile: 6 for p50, 60 for p95, 300 for p99."""
    return round(LEAST_BEYOND / (1 - percentile.fraction))


def measured_latency(profile: Profile, anchor_ms: Percentiles | None = None) -> MeasuredLatency:
    """Percentiles of each session, then the median over the sessions. With `anchor_ms`, the anchor's own latency, a
    profile whose sessions ran in turn with it also has its latency relative to it.

    Not of the pooled samples: from one process to the next the same model moves by several percent, and the upper
    percentiles of a pool are those of its slowest session alone.
    """
    sessions = profile.sessions
    found = {p: statistics.median(percentile_ms(s.samples_ns, p.fraction) for s in sessions) for p in Percentile}
    relative = None
    if anchor_ms is not None and profile.anchor_sha256 is not None:
        relative = RelativeLatency(
            **{p.value: statistics.median(ratio(s, p) for s in sessions) for p in Percentile},
            by_median=tuple(p for p in Percentile if not all(resolves(s, p) for s in sessions)),
            anchor_sha256=profile.anchor_sha256,
            anchor_ms=anchor_ms,
        )
    return MeasuredLatency(
        p50_ms=found[Percentile.P50],
        p95_ms=found[Percentile.P95],
        p99_ms=found[Percentile.P99],
        samples=sum(len(session.samples_ns) for session in sessions),
        sessions=len(sessions),
        device=profile.environment.device,
        relative=relative,
    )


def anchor_latency(sessions: Sequence[Session]) -> Percentiles:
    """The anchor's own latency in ms: percentiles of each session, then their median. Of sessions without an anchor it
    is that of their file, which is one then."""
    taken = [session.anchor_ns or session.samples_ns for session in sessions]
    return Percentiles(
        **{p.value: statistics.median(percentile_ms(samples, p.fraction) for samples in taken) for p in Percentile}
    )


def resolves(session: Session, percentile: Percentile) -> bool:
    """Whether both models of a session had runs enough to compare that percentile."""
    return min(len(session.samples_ns), len(session.anchor_ns)) * (1 - percentile.fraction) >= RUNS_BEYOND - 1e-9


def ratio(session: Session, percentile: Percentile) -> float:
    """The file's percentile over its anchor's in one session; of medians where the session is too short for it. Raises
    ValueError for a session without an anchor."""
    if not session.anchor_ns:
        raise ValueError("the session had no anchor")
    fraction = percentile.fraction if resolves(session, percentile) else Percentile.P50.fraction
    return percentile_ms(session.samples_ns, fraction) / percentile_ms(session.anchor_ns, fraction)


def spread(values: Sequence[float]) -> float:
    """Standard deviation of the log from one session to the next; 0 for fewer than two."""
    return statistics.stdev(map(math.log, values)) if len(values) > 1 else 0.0


def mean_with_interval(values: Sequence[float]) -> tuple[float, tuple[float, float] | None]:
    """The geometric mean of one positive value a session, and its 95% interval: Student's t of the logs. None for fewer
    than two."""
    logs = [math.log(value) for value in values]
    mean = statistics.fmean(logs)
    if len(logs) < 2:
        return math.exp(mean), None
    # Here, since it is slow to import and few commands need it.
    from scipy import stats  # type: ignore[import-untyped]

    half = float(stats.t.ppf(0.975, len(logs) - 1)) * statistics.stdev(logs) / math.sqrt(len(logs))
    return math.exp(mean), (math.exp(mean - half), math.exp(mean + half))


def ratio_with_interval(now: Sequence[float], before: Sequence[float]) -> tuple[float, tuple[float, float] | None]:
    """The ratio of the geometric means of two measurements, a positive value a session, that did not run in turn, and its
    95% interval: Welch's t of the logs. None where one of them has fewer than two sessions."""
    found = statistics.geometric_mean(now) / statistics.geometric_mean(before)
    if min(len(now), len(before)) < 2:
        return found, None
    from scipy import stats

    low, high = stats.ttest_ind(np.log(now), np.log(before), equal_var=False).confidence_interval(0.95)
    return found, (math.exp(low), math.exp(high))


def cold_start(profile: Profile) -> float | None:
    """By how much alternating changes the ratio of medians: over all runs, and over the second half of each turn, in
    which neither model finds the other's data in the cache any more; 0.03 is 3% more. None where no turn has two runs
    to compare."""
    whole, warm = [], []
    for session in profile.sessions:
        models = (session.samples_ns, session.anchor_ns)
        ends = np.cumsum(np.asarray(session.turns).reshape(-1, 2), axis=0)
        late: list[list[int]] = [[], []]
        for turn, end in zip(session.turns, ends.tolist()):
            for place in (0, 1):
                late[place] += models[place][end[place] - turn[place] // 2 : end[place]]
        if all(late):
            whole.append(np.median(models[0]) / np.median(models[1]))
            warm.append(np.median(late[0]) / np.median(late[1]))
    return float(np.median(np.array(whole) / np.array(warm)) - 1) if whole else None


def elapsed_s(start: Moment | None, end: Moment | None) -> float:
    """Seconds between two moments; 0 where one of them was not recorded."""
    if start is None or end is None:
        return 0.0
    return (datetime.fromisoformat(end.at) - datetime.fromisoformat(start.at)).total_seconds()
