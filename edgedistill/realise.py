"""A network in every precision worth trying on the target's own runtime, each file run and measured.

What a candidate is judged by, and what its winner's files are held against again, is decided here: `realise` for the
search, `realised` for one file, `why_dropped` for the margins.
"""

from __future__ import annotations

from edgedistill.artifacts import SchemeResult, answers_of
from edgedistill.errors import TrialFailure, UnsupportedError
from edgedistill.files import compiled, portable
from edgedistill.ladder import Margins, does_not_pay
from edgedistill.latency.operators import multiplying_share
from edgedistill.measuring import compared, comparison, latency_of, memory_of, profile_key, relative_p50
from edgedistill.pipeline import verified
from edgedistill.progress import Note
from edgedistill.rungs import choose
from edgedistill.specs import Precision, QuantScheme
from edgedistill.teachers.cache import ViewStore
from edgedistill.workbench import Source, Workbench


def realise(bench: Workbench, source: Source, views: ViewStore | None = None) -> tuple[SchemeResult, ...]:
    """Make, run and measure `source` in every precision worth trying on the target's own runtime; int8 that is rejected
    climbs the ladder, up to training under rounding where there are `views`.

    A precision that does not pay is `dropped` with its reason. Raises TrialFailure where the widest precision, with which
    the others are compared, cannot be made or run.
    """
    results: list[SchemeResult] = []
    for scheme in bench.schemes:
        baseline = results[0] if results else None
        try:
            result = _judged(bench, source, realised(bench, source, scheme), baseline)
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
    """The file of one scheme for the target's own runtime, compared with the anchor by latency and with `source` by its
    outputs; made from `origin` where training under rounding changed the weights."""
    artifact = compiled(bench, portable(bench, origin or source, scheme, bench.target.runtime))
    verification = verified(bench, artifact, source)
    profile = compared(bench, artifact, source)
    return SchemeResult(
        scheme=scheme,
        artifact=artifact,
        verification=verification,
        latency=latency_of(bench, profile),
        peak_memory_bytes=memory_of(profile),
        multiplying=multiplying_share(profile.op_timings) if profile else None,
        profile=profile_key(bench, artifact, comparison(bench)) if profile else None,
    )


def _judged(bench: Workbench, source: Source, result: SchemeResult, baseline: SchemeResult | None) -> SchemeResult:
    return result.model_copy(update={"dropped": why_dropped(bench, source, result, baseline)})


def _from_the_ladder(
    bench: Workbench, source: Source, plain: SchemeResult, baseline: SchemeResult, views: ViewStore | None
) -> SchemeResult:
    """What the ladder finds in the place of `plain` int8, which does not pay or loses too much; else `plain`, with what else
    was tried among its reasons."""
    chosen = choose(bench, source, plain.scheme, bench.target.runtime, baseline, views)
    if chosen.scheme != plain.scheme:
        return _judged(bench, source, realised(bench, source, chosen.scheme, chosen.source), baseline)
    return plain.model_copy(update={"dropped": "; ".join(filter(None, (plain.dropped, chosen.tried)))})


def why_dropped(bench: Workbench, source: Source, result: SchemeResult, baseline: SchemeResult | None) -> str:
    """Why a precision is dropped, empty if it stays: it loses more accuracy than allowed, or is neither faster nor smaller
    than the widest precision (`baseline`) by the margins of the build file. The two run in turn where size does not tell."""
    if baseline is None:
        return ""
    export = bench.config.export
    before, after = answers_of(baseline), answers_of(result)
    if before and after and (lost := after.loses(before, export.max_accuracy_loss)):
        judged = f"{result.stand_in.what} " if result.stand_in else ""
        return f"{judged}{lost} beside {baseline.scheme.label}"
    smaller = 1 - result.artifact.bytes / baseline.artifact.bytes
    relative = None
    if smaller < export.margin_size and result.artifact.format is bench.target.runtime:
        relative = relative_p50(bench, result.artifact, source, baseline.artifact)
    margins = Margins(export.max_accuracy_loss, export.margin_speed, export.margin_size)
    return does_not_pay(margins, smaller, relative, baseline.scheme.label)
