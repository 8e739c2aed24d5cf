"""The winner's files: each format and precision made, run, and shipped where it pays.

The file that was proven ships as it is. What stands beside it is made and judged by the same rules as the search's, and
every format climbs its own ladder, since what int8 costs differs between runtimes.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from edgedistill.base.errors import MissingDependencyError, TrialFailure, UnsupportedError
from edgedistill.base.units import format_percent
from edgedistill.distill.stored.split_store import SplitStore
from edgedistill.documents.artifacts import CompiledArtifact, ExportedModel, Inspected, SchemeResult, Verified
from edgedistill.documents.measurements import (
    Latency,
    MeasuredLatency,
    PredictedLatency,
    Profile,
    Proof,
    UnknownLatency,
)
from edgedistill.documents.results import Dropped
from edgedistill.documents.specs import Format, Goal, Precision, QuantScheme, scored
from edgedistill.formats import format_for
from edgedistill.networks.tasks import Task
from edgedistill.outputs.package.package import artifact_name
from edgedistill.pipeline.bench import Source
from edgedistill.pipeline.judge import Chosen, choose, made, origin_of, why_dropped
from edgedistill.pipeline.make import portable
from edgedistill.pipeline.measure import compared, comparison, first_sessions, latency_of, profile_key
from edgedistill.pipeline.work import Tuning
from edgedistill.pipeline.workbench import Workbench
from edgedistill.selection.goal import misses_beside_latency, provable_ms
from edgedistill.selection.running_trial import Winner


@dataclass(frozen=True)
class Made:
    """One file of the winner: the precision that was asked for, how the file came and what is known of it."""

    asked: Precision
    model: ExportedModel
    result: SchemeResult
    profile: Profile | None

    @property
    def artifact(self) -> CompiledArtifact:
        return self.result.artifact


@dataclass(eq=False)
class Files:
    """What ships and what does not. `on_device` are precisions asked for whose engine only the device can build."""

    made: list[Made] = field(default_factory=list)
    dropped: list[Dropped] = field(default_factory=list)
    on_device: list[Precision] = field(default_factory=list)


def make_files(bench: Workbench, source: Source, goal: Goal, winner: Winner, stored: SplitStore) -> Files:
    """The winner's files in every format and precision of the build."""
    shipment = _Shipment(bench, source, goal, winner, Tuning(bench, stored, winner.trained))
    for form in bench.formats:
        baseline: SchemeResult | None = None
        for asked in bench.schemes:
            found = shipment.add(asked, form, baseline)
            baseline = baseline or found
    return shipment.files


@dataclass(eq=False)
class _Shipment:
    """The files of a winner while they are made."""

    bench: Workbench
    source: Source
    goal: Goal
    winner: Winner
    tune: Tuning
    files: Files = field(default_factory=Files)

    def add(self, asked: QuantScheme, form: Format, baseline: SchemeResult | None) -> SchemeResult | None:
        """One file, added to what ships or to what does not; None where it could not be made or run."""
        bench, source = self.bench, self.source
        try:
            chosen = self._chosen(asked, form, baseline)
            result = made(bench, source, chosen.scheme, form, chosen.source)
        except UnsupportedError as error:
            self._drop(form, asked.precision, "; ".join([error.message, *map(str, error.problems)]))
            if error.command:
                self.files.on_device.append(asked.precision)
            return None
        except (TrialFailure, MissingDependencyError) as error:
            self._drop(form, asked.precision, f"{error.message} {error.fix}".strip())
            return None
        result, profile = self._measured(result, form)
        if isinstance(result.verification, Inspected):
            result = _with_stand_in(bench.task, result, result.verification)
        won = result.proof is not None and result.proof.met
        reason = "" if won else _why_left_out(bench, source, result, baseline, self.goal)
        if reason:
            self._drop(form, chosen.scheme.precision, "; ".join(filter(None, (reason, chosen.tried))))
        else:
            model = portable(bench, chosen.source, chosen.scheme, form)
            self.files.made.append(Made(asked.precision, model, result, profile))
        return result

    def _drop(self, form: Format, precision: Precision, reason: str) -> None:
        self.files.dropped.append(Dropped(format=form, precision=precision, reason=reason))

    def _chosen(self, asked: QuantScheme, form: Format, baseline: SchemeResult | None) -> Chosen:
        """What is made for `asked`: in the winner's own format and precision the very scheme that was proven."""
        proven = self.winner.scheme.scheme if self.winner.scheme is not None else None
        if form is self.bench.target.runtime and proven is not None and proven.integer and asked.integer:
            return Chosen(proven, origin_of(self.source, proven, self.tune))
        return choose(self.bench, self.source, asked, form, baseline, self.tune)

    def _measured(self, result: SchemeResult, form: Format) -> tuple[SchemeResult, Profile | None]:
        """With its proof and its latency, where it is of the target's own runtime."""
        bench = self.bench
        if form is not bench.target.runtime:
            return result.model_copy(update={"latency": _unmeasured(bench, form)}), None
        tried = _tried(self.winner, result.artifact)
        profile = _profile(bench, result.artifact, self.source, tried if tried is not None and tried.met else None)
        update = {
            "latency": _own_latency(bench, self.winner, result.scheme, profile),
            "peak_memory_bytes": profile.peak_memory_bytes if profile else None,
            "profile": profile_key(bench, result.artifact, comparison(bench)) if profile else None,
            "proof": tried,
        }
        return result.model_copy(update=update), profile


def device_commands(bench: Workbench, files: Files) -> str:
    """The commands that build on the device, from the package's ONNX files, the engines that cannot be built here."""
    builders = [format_for(form) for form in bench.formats if format_for(form).portable is not form]
    return "\n".join(
        builder.device_command(name_of(bench, made.artifact), made.result.scheme)
        for made in files.made
        for builder in builders
        if made.artifact.format is builder.portable and made.asked in files.on_device
    )


def name_of(bench: Workbench, artifact: CompiledArtifact) -> str:
    """A file's name in the package."""
    return artifact_name(artifact.format, artifact.scheme.precision, bench.target.compute_capabilities)


def _with_stand_in(task: Task, result: SchemeResult, verification: Inspected) -> SchemeResult:
    """What was run in the file's place, said among its checks as what it is."""
    if (stand_in := result.stand_in) is None:
        return result
    found = scored(task.metric, format_percent(stand_in.quality_validation, 2), "the validation split")
    said = f"{stand_in.what} {found}"
    checked = verification.model_copy(update={"checks": (*verification.checks, said)})
    return result.model_copy(update={"verification": checked})


def _tried(winner: Winner, artifact: CompiledArtifact) -> Proof | None:
    """What was tried of this very file in the search, met or not."""
    return next((tried.proof for tried in winner.trial.schemes if tried.artifact.sha256 == artifact.sha256), None)


def _profile(bench: Workbench, artifact: CompiledArtifact, source: Source, proof: Proof | None) -> Profile | None:
    """The sessions of a file's proof; of one that was not proven a session in turn with the anchor."""
    if proof is None:
        return compared(bench, artifact, source)
    anchor = bench.meter.teacher_file if proof.share else None
    return first_sessions(bench, artifact, source, anchor, len(proof.values))


def _why_left_out(
    bench: Workbench, source: Source, result: SchemeResult, baseline: SchemeResult | None, goal: Goal
) -> str:
    """Why a file that is not proven does not ship, empty if it does."""
    return why_dropped(bench, source, result, baseline) or _over(result, goal) or _outside(result, goal)


def _over(result: SchemeResult, goal: Goal) -> str:
    budget, found_ms = goal.budget, provable_ms(result, goal)
    if isinstance(result.latency, MeasuredLatency) and found_ms > budget.latency_ms:
        return f"measured {budget.in_its_unit(found_ms)}, over the budget of {budget.claim}"
    return ""


def _outside(result: SchemeResult, goal: Goal) -> str:
    """The limits beside the budget that a file is known not to keep."""
    known = {
        "max_memory_bytes": result.peak_memory_bytes is not None,
        "min_quality": isinstance(result.verification, Verified),
    }
    asked = goal.model_copy(update={limit: None for limit, is_known in known.items() if not is_known})
    return "; ".join(misses_beside_latency(result, asked, trained_out=True))


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
