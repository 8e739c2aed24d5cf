"""The winner's files: each format and precision made, run, and shipped where it pays.

The file that was proven ships as it is. What stands beside it is made and judged by the same rules as the search's, and
every format climbs its own ladder, since what int8 costs differs between runtimes.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from edgedistill.artifacts import (
    CompiledArtifact,
    ExportedModel,
    Inspected,
    Latency,
    MeasuredLatency,
    PredictedLatency,
    Profile,
    Proof,
    SchemeResult,
    StandIn,
    UnknownLatency,
    Verified,
)
from edgedistill.errors import MissingDependencyError, TrialFailure, UnsupportedError
from edgedistill.files import compiled, portable
from edgedistill.measuring import compared, comparison, first_sessions, latency_of, memory_of, profile_key
from edgedistill.pipeline import stand_in_for, verified
from edgedistill.realise import why_dropped
from edgedistill.results import Dropped
from edgedistill.rungs import Chosen, choose, settled
from edgedistill.runtimes.tensorrt import trtexec_command
from edgedistill.selection.contender import Winner
from edgedistill.selection.goal import misses_beside_latency, provable_ms
from edgedistill.ship.package import artifact_name
from edgedistill.specs import Format, Goal, Precision, QuantScheme
from edgedistill.teachers.cache import ViewStore
from edgedistill.units import format_ms, format_percent
from edgedistill.workbench import Source, Workbench


@dataclass(frozen=True)
class Made:
    """One file of the winner: the precision that was asked for, how the file came and what is known of it."""

    asked: Precision
    model: ExportedModel
    result: SchemeResult
    profile: Profile | None


@dataclass(eq=False)
class Files:
    """What ships and what does not. `on_device` are precisions asked for whose engine only the device can build."""

    made: list[Made] = field(default_factory=list)
    dropped: list[Dropped] = field(default_factory=list)
    on_device: list[Precision] = field(default_factory=list)


def make_files(bench: Workbench, source: Source, goal: Goal, winner: Winner, views: ViewStore) -> Files:
    """The winner's files in every format and precision of the build."""
    files = Files()
    for form in bench.formats:
        baseline: SchemeResult | None = None
        for asked in bench.schemes:
            made = _make(bench, source, asked, form, goal, winner, views, baseline, files)
            baseline = baseline or made
    return files


def _make(
    bench: Workbench,
    source: Source,
    asked: QuantScheme,
    form: Format,
    goal: Goal,
    winner: Winner,
    views: ViewStore,
    baseline: SchemeResult | None,
    files: Files,
) -> SchemeResult | None:
    """One file, added to what ships or to what does not; None where it could not be made or run."""
    own = form is bench.target.runtime
    try:
        chosen = _chosen(bench, source, asked, form, winner, baseline, views)
        model = portable(bench, chosen.source, chosen.scheme, form)
        artifact = compiled(bench, model, form)
        verification = verified(bench, artifact, source)
    except UnsupportedError as error:
        files.dropped.append(Dropped(format=form, precision=asked.precision, reason=error.message))
        if error.command:
            files.on_device.append(asked.precision)
        return None
    except (TrialFailure, MissingDependencyError) as error:
        reason = f"{error.message} {error.fix}".strip()
        files.dropped.append(Dropped(format=form, precision=asked.precision, reason=reason))
        return None
    tried = _tried(winner, artifact) if own else None
    won = tried is not None and tried.met
    profile = _profile(bench, artifact, source, tried if won else None) if own else None
    latency = _own_latency(bench, winner, chosen.scheme, profile) if own else _unmeasured(bench, form)
    key = profile_key(bench, artifact, comparison(bench)) if profile else None
    result = SchemeResult(
        scheme=chosen.scheme,
        artifact=artifact,
        verification=verification,
        latency=latency,
        peak_memory_bytes=memory_of(profile),
        profile=key,
        proof=tried,
    )
    if isinstance(verification, Inspected):
        result = _with_stand_in(result, stand_in_for(bench, artifact, model, source), verification)
    reason = "" if won else _why_left_out(bench, source, result, baseline, goal)
    if reason:
        told = "; ".join(filter(None, (reason, chosen.tried)))
        files.dropped.append(Dropped(format=form, precision=chosen.scheme.precision, reason=told))
    else:
        files.made.append(Made(asked.precision, model, result, profile))
    return result


def _chosen(
    bench: Workbench,
    source: Source,
    asked: QuantScheme,
    form: Format,
    winner: Winner,
    baseline: SchemeResult | None,
    views: ViewStore,
) -> Chosen:
    """What is made for `asked`: in the winner's own format and precision the very scheme that was proven."""
    proven = winner.scheme.scheme if winner.scheme is not None else None
    if form is bench.target.runtime and proven is not None and proven.integer and asked.integer:
        return Chosen(proven, settled(bench, source, proven, views))
    return choose(bench, source, asked, form, baseline, views)


def device_commands(bench: Workbench, files: Files) -> str:
    """The commands that build on the device, from the package's ONNX files, the engines that cannot be built here."""
    return "\n".join(
        trtexec_command(made.model, made.result.scheme, onnx=name_of(bench, made.result.artifact))
        for made in files.made
        if made.result.artifact.format is Format.ONNX and made.asked in files.on_device
    )


def name_of(bench: Workbench, artifact: CompiledArtifact) -> str:
    """A file's name in the package."""
    if artifact.format is Format.NULL:
        return f"student-{artifact.scheme.precision}{artifact.path.suffix}"
    capabilities = bench.target.compute_capabilities if artifact.format is Format.TENSORRT else ()
    return artifact_name(artifact.format, artifact.scheme.precision, capabilities)


def _with_stand_in(result: SchemeResult, stand_in: StandIn | None, verification: Inspected) -> SchemeResult:
    """What was run in the file's place, said among its checks as what it is."""
    if stand_in is None:
        return result
    said = f"{stand_in.what} gets {format_percent(stand_in.accuracy_validation, 2)} of the validation split right"
    checked = verification.model_copy(update={"checks": (*verification.checks, said)})
    return result.model_copy(update={"stand_in": stand_in, "verification": checked})


def _tried(winner: Winner, artifact: CompiledArtifact) -> Proof | None:
    """What was tried of this very file in the search, met or not."""
    proofs = [result.proof for result in winner.trial.schemes if result.artifact.sha256 == artifact.sha256]
    return next(iter(proofs), None)


def _profile(bench: Workbench, artifact: CompiledArtifact, source: Source, proof: Proof | None) -> Profile | None:
    """The sessions of a file's proof; of one that was not proven a session in turn with the anchor."""
    if proof is None:
        return compared(bench, artifact, source)
    anchor = bench.teacher_file if proof.share else None
    return first_sessions(bench, artifact, source, anchor, len(proof.values))


def _why_left_out(
    bench: Workbench, source: Source, result: SchemeResult, baseline: SchemeResult | None, goal: Goal
) -> str:
    """Why a file that is not proven does not ship, empty if it does."""
    return why_dropped(bench, source, result, baseline) or _over(result, goal) or _outside(result, goal)


def _over(result: SchemeResult, goal: Goal) -> str:
    budget, found_ms = goal.budget, provable_ms(result, goal)
    if isinstance(result.latency, MeasuredLatency) and found_ms > budget.latency_ms:
        measured = format_ms(found_ms)
        return f"measured {budget.percentile} {measured}, over the budget of {format_ms(budget.latency_ms)}"
    return ""


def _outside(result: SchemeResult, goal: Goal) -> str:
    """The limits beside the budget that a file is known not to keep."""
    unknown: dict[str, None] = {}
    if result.peak_memory_bytes is None:
        unknown["max_memory_bytes"] = None
    if not isinstance(result.verification, Verified):
        unknown["min_accuracy"] = None
    return "; ".join(misses_beside_latency(result, goal.model_copy(update=unknown), trained_out=True))


def _own_latency(bench: Workbench, winner: Winner, scheme: QuantScheme, profile: Profile | None) -> Latency:
    """Of a file for the target's own runtime: measured, else what was predicted for its precision, else unknown."""
    predicted = winner.trial.predicted
    if profile is None and isinstance(predicted, PredictedLatency) and predicted.precision is scheme.precision:
        return predicted
    return latency_of(bench, profile)


def _unmeasured(bench: Workbench, form: Format) -> UnknownLatency:
    reason = (
        f"the budget is held against {bench.target.runtime} on {bench.target.name}; no device here runs {form} for it"
    )
    return UnknownLatency(reason=reason, device=bench.target.name)
