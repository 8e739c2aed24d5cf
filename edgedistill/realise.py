"""A network in every precision worth trying on the target's own runtime, each file run and measured.

What a candidate is judged by, and what its winner's files are held against again, is decided here: `realise` for the
search, `realised` for one file, `why_dropped` for the margins.
"""

from __future__ import annotations

from edgedistill.artifacts import MeasuredLatency, SchemeResult
from edgedistill.config import BuildConfig
from edgedistill.errors import TrialFailure, UnsupportedError
from edgedistill.files import compiled, portable
from edgedistill.pipeline import known_accuracy, latency_of, memory_of, profile_key, profiled, verified
from edgedistill.progress import Note
from edgedistill.rungs import choose
from edgedistill.specs import Percentile, Precision, QuantScheme
from edgedistill.teachers.cache import ViewStore
from edgedistill.workbench import Source, Workbench


def realise(bench: Workbench, source: Source, views: ViewStore | None = None) -> tuple[SchemeResult, ...]:
    """Make, run and measure `source` in every precision worth trying on the target's own runtime; int8 that is turned away
    climbs the ladder, up to training under rounding where there are `views`.

    A precision that does not pay is `dropped` with its reason. Raises TrialFailure where the widest precision, with which
    the others are compared, cannot be made or run.
    """
    results: list[SchemeResult] = []
    for scheme in bench.schemes:
        baseline = results[0] if results else None
        try:
            result = _judged(bench, realised(bench, source, scheme), baseline)
            if baseline is not None and result.dropped and scheme.precision is Precision.INT8:
                result = _from_the_ladder(bench, source, result, baseline, views)
        except (TrialFailure, UnsupportedError) as failure:
            if not results:
                raise TrialFailure(failure.message, fix=failure.fix, problems=failure.problems) from failure
            bench.store.listener(Note(f"{source.label} in {scheme.label}: {failure.message}", warning=True))
            continue
        results.append(result)
    return tuple(results)


def realised(bench: Workbench, source: Source, scheme: QuantScheme, origin: Source | None = None) -> SchemeResult:
    """The file of one scheme for the target's own runtime, measured in one session and compared with `source`; made from
    `origin` where training under rounding changed the weights."""
    artifact = compiled(bench, portable(bench, origin or source, scheme, bench.target.runtime))
    verification = verified(bench, artifact, source)
    profile = profiled(bench, artifact, source, sessions=1)
    return SchemeResult(
        scheme=scheme,
        artifact=artifact,
        verification=verification,
        latency=latency_of(bench, profile),
        peak_memory_bytes=memory_of(profile),
        profile=profile_key(bench, artifact, 1) if profile else None,
    )


def _judged(bench: Workbench, result: SchemeResult, baseline: SchemeResult | None) -> SchemeResult:
    return result.model_copy(update={"dropped": why_dropped(bench.config, result, baseline)})


def _from_the_ladder(
    bench: Workbench, source: Source, plain: SchemeResult, baseline: SchemeResult, views: ViewStore | None
) -> SchemeResult:
    """What the ladder finds in the place of `plain` int8, which does not pay or loses too much; else `plain`, with what else
    was tried among its reasons."""
    chosen = choose(bench, source, plain.scheme, bench.target.runtime, baseline, views)
    if chosen.scheme != plain.scheme:
        return _judged(bench, realised(bench, source, chosen.scheme, chosen.source), baseline)
    return plain.model_copy(update={"dropped": "; ".join(filter(None, (plain.dropped, chosen.tried)))})


def why_dropped(config: BuildConfig, result: SchemeResult, baseline: SchemeResult | None) -> str:
    """Why a precision is turned away, empty if it stays: it loses more accuracy than allowed, or is neither faster nor
    smaller than the widest precision (`baseline`) by the margins of the build file."""
    if baseline is None:
        return ""
    export = config.export
    before, after = known_accuracy(baseline), known_accuracy(result)
    if before is not None and after is not None:
        loss = before - after
        if loss > export.max_accuracy_loss:
            judged = f"{result.stand_in.what} " if result.stand_in else ""
            return (
                f"{judged}loses {loss * 100:.2f} points of validation accuracy to {baseline.scheme.label}, "
                f"more than the {export.max_accuracy_loss * 100:.2f} allowed"
            )
    smaller = 1 - result.artifact.bytes / baseline.artifact.bytes
    faster = 0.0
    speed = "its latency is not known here"
    if isinstance(result.latency, MeasuredLatency) and isinstance(baseline.latency, MeasuredLatency):
        faster = 1 - result.latency.comparable(Percentile.P50) / baseline.latency.comparable(Percentile.P50)
        change = f"{abs(faster):.0%} {'faster' if faster >= 0 else 'slower'}"
        speed = f"{change} at p50 (margin {export.margin_speed:.0%})"
    size = f"{abs(smaller):.0%} {'smaller' if smaller >= 0 else 'larger'}"
    if faster < export.margin_speed and smaller < export.margin_size:
        return f"does not pay beside {baseline.scheme.label}: {speed}, {size} (margin {export.margin_size:.0%})"
    return ""
