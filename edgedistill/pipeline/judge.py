"""A network as files that are run, measured and judged: in every precision worth trying, int8 by the quantisation ladder.

A build, its winner's files and `quantize` come here alike: `realise` for a search's candidate, `made` for one file,
`climbed` for the ladder, `why_dropped` for the margins.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from pydantic import TypeAdapter

from edgedistill.base.errors import EdgedistillError, TrialFailure, UnsupportedError
from edgedistill.base.isolation import CONVERSION, Limits, in_child
from edgedistill.base.progress import Note
from edgedistill.base.store import stage_key, write_atomic
from edgedistill.devices.latency.operators import multiplying_share
from edgedistill.documents.artifacts import (
    CompiledArtifact,
    ExportedModel,
    Inspected,
    LadderRung,
    SchemeResult,
    Verification,
    Verified,
    answers_of,
)
from edgedistill.documents.measurements import StandIn, UnknownLatency
from edgedistill.documents.specs import Format, Precision, QuantScheme
from edgedistill.formats import format_for, tools_of
from edgedistill.formats.running import verify
from edgedistill.networks.rounding.damage import LayerDamage
from edgedistill.networks.tasks import task_of
from edgedistill.pipeline import code
from edgedistill.pipeline.bench import Bench, Source
from edgedistill.pipeline.make import compiled, conversion, portable, rewritten_source, style_for
from edgedistill.pipeline.measure import compared, comparison, latency_of, profile_key, relative_p50
from edgedistill.selection.ladder import Comparison, Margins, Measured, Tools, climb, judge

QAT_EPOCHS = 2
_RUN_LIMIT = Limits(24 * 3600, CONVERSION.memory_bytes)
_RUNGS = TypeAdapter(tuple[LadderRung, ...])
_VERIFICATION: TypeAdapter[Verification] = TypeAdapter(Verification)


class Tune(Protocol):
    """Trains a network under the rounding of a scheme; `key` tells what it learns from."""

    @property
    def key(self) -> str: ...

    def of(self, source: Source, scheme: QuantScheme) -> Source:
        """What training made of `source`. Raises TrialFailure where it diverges."""


# -- one file -------------------------------------------------------------------------------------------------------


def verified(bench: Bench, artifact: CompiledArtifact, source: Source) -> Verification:
    """Parity and validation quality of the artifact, by running it; what can be checked instead where it cannot run."""
    key = stage_key(
        {
            "artifact": artifact.sha256,
            "source": source.key,
            "contract": source.contract.model_dump(mode="json"),
            "data": bench.data_key,
            "judged_by": bench.judged_by,
        },
        code=code.verifying(artifact.format),
        tools=tools_of(artifact.format),
    )

    def make(folder: Path) -> None:
        images, truth = bench.images("validation", source.contract), bench.truth("validation")
        task, reference = task_of(source.contract), bench.reference(source)
        arguments = (format_for(artifact.format), artifact, task, reference, images, truth)
        found = (
            verify(*arguments)
            if source.file is None
            # What came as a file is foreign: it may take down the process that runs it.
            else in_child(f"running {source.label}", _RUN_LIMIT, verify, *arguments)
        )
        write_atomic(folder / "verification.json", found.model_dump_json())

    folder = bench.store.stage("verify", key, make, subject=f"{source.label} {artifact.format} {artifact.scheme.label}")
    return _VERIFICATION.validate_json((folder / "verification.json").read_bytes())


def stand_in_for(bench: Bench, artifact: CompiledArtifact, model: ExportedModel, source: Source) -> StandIn | None:
    """What can be run in place of an engine that cannot: the ONNX file it was built from. None for a format whose files are
    built from none of another."""
    portable = format_for(artifact.format).portable
    if portable is artifact.format:
        return None
    found = verified(bench, compiled(bench, model, portable), source)
    if not isinstance(found, Verified):
        return None
    return StandIn(
        what="the ONNX file it was built from, run by ONNX Runtime,",
        quality_validation=found.quality_validation,
        images=found.parity.images,
        right=found.right,
    )


def made(bench: Bench, source: Source, scheme: QuantScheme, form: Format, origin: Source | None = None) -> SchemeResult:
    """The file of one scheme in one format, compared with `source` by its outputs; made from `origin` where that is another
    network, trained under rounding. Raises TrialFailure, UnsupportedError, MissingDependencyError."""
    model = portable(bench, origin or source, scheme, form)
    artifact = compiled(bench, model, form)
    verification = verified(bench, artifact, source)
    return SchemeResult(
        scheme=scheme,
        artifact=artifact,
        verification=verification,
        latency=UnknownLatency(reason="not measured yet", device=bench.target.name),
        stand_in=stand_in_for(bench, artifact, model, source) if isinstance(verification, Inspected) else None,
    )


def realised(bench: Bench, source: Source, scheme: QuantScheme, origin: Source | None = None) -> SchemeResult:
    """`made` for the target's own runtime, and compared with the anchor by latency."""
    result = made(bench, source, scheme, bench.target.runtime, origin)
    profile = compared(bench, result.artifact, source)
    return result.model_copy(
        update={
            "latency": latency_of(bench, profile),
            "peak_memory_bytes": profile.peak_memory_bytes if profile else None,
            "multiplying": multiplying_share(profile.op_timings) if profile else None,
            "profile": profile_key(bench, result.artifact, comparison(bench)) if profile else None,
        }
    )


# -- every precision of a candidate ---------------------------------------------------------------------------------


def realise(bench: Bench, source: Source, tune: Tune | None = None) -> tuple[SchemeResult, ...]:
    """Make, run and measure `source` in every precision worth trying on the target's own runtime; int8 that is rejected
    climbs the ladder, with `tune` up to training under rounding.

    A precision that gains too little is `dropped` with its reason. Raises TrialFailure where the widest precision, with
    which the others are compared, cannot be made or run.
    """
    results: list[SchemeResult] = []
    for scheme in bench.schemes:
        baseline = results[0] if results else None
        try:
            result = _judged(bench, source, realised(bench, source, scheme), baseline)
            if baseline is not None and result.dropped and scheme.precision is Precision.INT8:
                result = _from_the_ladder(bench, source, result, baseline, tune)
        except (TrialFailure, UnsupportedError) as failure:
            if not results:
                raise TrialFailure(failure.message, fix=failure.fix, problems=failure.problems) from failure
            bench.store.listener(Note(f"{source.label} in {scheme.label}: {failure.message}", warning=True))
            continue
        results.append(result)
    return tuple(results)


def _judged(bench: Bench, source: Source, result: SchemeResult, baseline: SchemeResult | None) -> SchemeResult:
    return result.model_copy(update={"dropped": why_dropped(bench, source, result, baseline)})


def _from_the_ladder(
    bench: Bench, source: Source, plain: SchemeResult, baseline: SchemeResult, tune: Tune | None
) -> SchemeResult:
    """What the ladder finds in the place of `plain` int8, which gains too little or loses too much; else `plain`, with what
    else was tried among its reasons."""
    chosen = choose(bench, source, plain.scheme, bench.target.runtime, baseline, tune)
    if chosen.scheme != plain.scheme:
        return _judged(bench, source, realised(bench, source, chosen.scheme, chosen.source), baseline)
    return plain.model_copy(update={"dropped": "; ".join(filter(None, (plain.dropped, chosen.tried)))})


def why_dropped(bench: Bench, source: Source, result: SchemeResult, baseline: SchemeResult | None) -> str:
    """Why a precision is dropped, empty if it stays: it loses more quality than allowed, or is neither faster nor smaller
    than the widest precision (`baseline`) by the margins. The two run in turn where size does not tell."""
    if baseline is None:
        return ""
    name = baseline.scheme.label
    found = Comparison(
        margins_of(bench),
        _figures(baseline),
        _figures(result),
        lambda: _relative(bench, source, result, baseline),
        name,
    )
    judged = f"{result.stand_in.what} " if result.stand_in else ""
    return f"{judged}{found.lost} beside {name}" if found.lost else found.too_little_gained


def margins_of(bench: Bench) -> Margins:
    """What a precision has to keep to stay."""
    export = bench.export
    return Margins(export.max_quality_loss, export.margin_speed, export.margin_size)


def _figures(result: SchemeResult) -> Measured:
    return Measured(answers_of(result), result.artifact.bytes)


def _relative(bench: Bench, source: Source, result: SchemeResult, baseline: SchemeResult) -> float | None:
    """Its p50 as a ratio to that of the widest file of its format, in turn with it; None where the device takes no such
    file, or they are the same."""
    same = result.artifact.sha256 == baseline.artifact.sha256
    if same or not bench.meter.takes(result.artifact.format):
        return None
    return relative_p50(bench, result.artifact, source, baseline.artifact)


# -- the ladder -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Chosen:
    """What takes the place of a scheme, and the network its file is made from. `tried` tells of the rungs where none of
    several was accepted, so that the scheme itself stays."""

    scheme: QuantScheme
    source: Source
    tried: str = ""


def choose(
    bench: Bench,
    source: Source,
    scheme: QuantScheme,
    form: Format,
    baseline: SchemeResult | None,
    tune: Tune | None = None,
) -> Chosen:
    """For int8 the rung that the ladder accepts in that format, with `tune` one trained under rounding as the last resort.
    The scheme itself where it is another precision, where there is no wider file (`baseline`) to lose to, or where no rung
    is accepted."""
    if scheme.precision is not Precision.INT8 or baseline is None:
        return Chosen(scheme, source)
    rungs = climbed(bench, source, form, baseline, tune)
    if accepted := next((rung for rung in rungs if rung.accepted), None):
        return Chosen(accepted.scheme, origin_of(source, accepted.scheme, tune))
    seen = [rung for rung in rungs if rung.quality is not None]
    if len(seen) < 2:
        return Chosen(scheme, source)
    best = max(seen, key=lambda rung: rung.quality or 0.0)
    return Chosen(scheme, source, f"of {len(rungs)} rungs tried the best ({best.scheme.details}) {best.reason}")


def climbed(
    bench: Bench, source: Source, form: Format, baseline: SchemeResult, tune: Tune | None = None
) -> tuple[LadderRung, ...]:
    """The rungs of int8 for one format, up to the accepted one. `baseline` is the widest file of that format. With `tune`
    the last rung trains under rounding."""
    key = stage_key(
        {
            "source": source.key,
            "contract": source.contract.model_dump(mode="json"),
            "baseline": baseline.artifact.sha256,
            "format": form,
            "target": bench.target.name,
            "export": bench.export.model_dump(mode="json"),
            "data": bench.data_key,
            "judged_by": bench.judged_by,
            "views": tune.key if tune else None,
            "profile": baseline.profile,
        },
        code=code.climbing(form),
        tools=tools_of(form),
    )

    def make(folder: Path) -> None:
        rungs = climb(
            _tools(bench, source, form, baseline, tune),
            _figures(baseline),
            margins_of(bench),
            images=bench.export.calibration_images,
            qat_epochs=QAT_EPOCHS if tune else 0,
            layers_kept=format_for(form).layers_kept,
        )
        write_atomic(folder / "ladder.json", _RUNGS.dump_json(rungs))

    folder = bench.store.stage("ladder", key, make, subject=f"{source.label} {form}")
    return _RUNGS.validate_json((folder / "ladder.json").read_bytes())


def beside(
    bench: Bench, source: Source, scheme: QuantScheme, form: Format, baseline: SchemeResult
) -> tuple[LadderRung, SchemeResult | None]:
    """A file of another kind beside the ladder (fp16, weights alone), and whether it is worth having."""
    try:
        result = made(bench, source, scheme, form)
        rung, _ = judge(
            _tools(bench, source, form, baseline, None), scheme, result, _figures(baseline), margins_of(bench)
        )
    except EdgedistillError as error:
        return LadderRung(scheme=scheme, accepted=False, reason=error.message), None
    return rung, result


def origin_of(source: Source, scheme: QuantScheme, tune: Tune | None) -> Source:
    """What a file of `scheme` is made from: `source`, or what training it under rounding made of it."""
    if not scheme.qat_epochs:
        return source
    assert tune is not None
    return tune.of(source, scheme)


def _tools(
    bench: Bench, source: Source, form: Format, baseline: SchemeResult, tune: Tune | None
) -> Tools[SchemeResult]:
    return Tools(
        make=lambda scheme: made(bench, source, scheme, form, origin_of(source, scheme, tune)),
        answers=answers_of,
        bytes=lambda result: result.artifact.bytes,
        relative_p50=lambda result: _relative(bench, source, result, baseline),
        ranked=lambda scheme: [d.layer for d in damages(bench, origin_of(source, scheme, tune), scheme, form)],
    )


def damages(bench: Bench, source: Source, scheme: QuantScheme, form: Format) -> tuple[LayerDamage, ...]:
    """The layers of `source` that int8 damages, most damaged first: measured on the fp32 file where that is what is
    quantised, else on the torch program. Raises UnsupportedError where it cannot be traced."""
    origin = rewritten_source(bench, source, scheme)
    maker = format_for(format_for(form).portable)
    what = conversion(bench, origin, scheme, maker.format, style_for(bench, form))
    return in_child("measuring layers", CONVERSION, maker.damages, what, scheme)
