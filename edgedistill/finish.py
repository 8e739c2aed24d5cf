"""After the winner is fixed: its files in every format, the test split's figures, the package, the report, build.json.

This is the one place that reads the test split, and nothing after it decides anything.
"""

from __future__ import annotations

import math
import platform
import shutil
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from edgedistill import __version__
from edgedistill.artifacts import CompiledArtifact, MeasuredLatency, Profile, Trial, Verified
from edgedistill.devices.stats import proof
from edgedistill.opening import engine_record
from edgedistill.pipeline import source_of
from edgedistill.preparation import PreparedTeacher
from edgedistill.results import (
    AccuracyLimit,
    BuildResult,
    Constraint,
    Dropped,
    FrontierPoint,
    LatencyLimit,
    MemoryLimit,
    ShippedArtifact,
    SizeLimit,
    SplitSizes,
    StudentSummary,
    TeacherSummary,
)
from edgedistill.runtimes import runtime_for
from edgedistill.search.contender import Winner
from edgedistill.search.goal import validation_accuracy
from edgedistill.search.pareto import frontier
from edgedistill.search.search import Outcome
from edgedistill.ship.card import model_card
from edgedistill.ship.golden import Golden
from edgedistill.ship.package import PACKAGE, PackageContents, PackageFile, write_package
from edgedistill.specs import Budget, ComputedBy, Format, Goal
from edgedistill.store import tool_version, write_atomic
from edgedistill.teachers.cache import ViewStore
from edgedistill.tools import BUILD_TOOLS
from edgedistill.units import format_ms, format_percent
from edgedistill.verification import test_accuracy
from edgedistill.winner_files import Files, Made, device_commands, make_files, name_of
from edgedistill.workbench import Source, Workbench

GOLDEN_IMAGES = 8
PROFILES = "profiles"


def finish(
    bench: Workbench,
    teacher: PreparedTeacher,
    views: ViewStore,
    goal: Goal,
    outcome: Outcome,
    out: Path,
    *,
    build_key: str,
    began: float,
) -> BuildResult:
    """Write the package, the profiles, the report and build.json into `out`, and return the result."""
    files = Files()
    source: Source | None = None
    if outcome.winner is not None:
        source = source_of(bench, outcome.winner.trained)
        files = make_files(bench, source, goal.budget, outcome.winner, views)
    artifacts = tuple(_shipped(bench, source, made) for made in files.made) if source else ()
    dropped = tuple(files.dropped)
    result = _result(bench, teacher, goal, outcome, artifacts, dropped, build_key, time.monotonic() - began)
    _write_profiles(bench, teacher, outcome, files.made, out)
    if source is None:
        shutil.rmtree(out / PACKAGE, ignore_errors=True)  # an earlier build's: it would pass for this one's
    else:
        write_package(out, _contents(bench, source, files, result))
    write_atomic(out / "build.json", result.model_dump_json(indent=2))
    return result


def _shipped(bench: Workbench, source: Source, made: Made) -> ShippedArtifact:
    artifact, verification = made.result.artifact, made.result.verification
    accuracy = None
    ran = verification if isinstance(verification, Verified) else None
    on_device = ran is not None and ran.computed_by is ComputedBy.DEVICE
    if on_device:
        images, labels = bench.images("test", source.contract), bench.labels("test")
        accuracy = test_accuracy(runtime_for(artifact.format), artifact, images, labels)
    sessions = made.profile.sessions if made.profile else ()
    return ShippedArtifact(
        format=artifact.format,
        precision=artifact.scheme.precision,
        scheme=artifact.scheme,
        path=f"{PACKAGE}/{name_of(bench, artifact)}",
        bytes=artifact.bytes,
        sha256=artifact.sha256,
        accuracy=accuracy,
        accuracy_validation=ran.accuracy_validation if ran and on_device else None,
        parity=ran.parity if ran else None,
        verification=verification,
        latency=made.result.latency,
        peak_memory_bytes=max((s.peak_memory_bytes for s in sessions), default=None),
        load_ms=sorted(s.load_ms for s in sessions)[len(sessions) // 2] if sessions else None,
        record=artifact.record,
        fallbacks=artifact.fallbacks,
    )


def _contents(bench: Workbench, source: Source, winner: Files, result: BuildResult) -> PackageContents:
    files = tuple(
        PackageFile(
            format=m.result.artifact.format,
            precision=m.result.artifact.scheme.precision,
            source=m.result.artifact.path,
            name=name_of(bench, m.result.artifact),
            inputs=m.model.inputs,
            outputs=m.model.outputs,
            record=_record(bench, source, m.result.artifact),
        )
        for m in winner.made
    )
    images = bench.images("validation", source.contract)[:GOLDEN_IMAGES]
    outputs = {
        file.name: next(iter(runtime_for(file.format).run(m.result.artifact, [images])))
        for file, m in zip(files, winner.made, strict=True)
        if isinstance(m.result.verification, Verified)
    }
    golden = Golden(images, bench.reference(source)[:GOLDEN_IMAGES], outputs)
    train = bench.config.train.model_dump(
        mode="json", include={"recipe", "temperature", "hard_label_weight", "batch_size"}
    )
    training = {name.replace("_", " "): str(value) for name, value in train.items()}
    training["epochs"] = str(bench.config.search.rungs[-1])
    card = model_card(result, source.contract, training)
    return PackageContents(files, source.contract, golden, card, device_commands(bench, winner))


def _record(bench: Workbench, source: Source, artifact: CompiledArtifact) -> str:
    if artifact.format is not Format.TENSORRT:
        return ""
    return engine_record(artifact, source.contract, name_of(bench, artifact))


# -- build.json ---------------------------------------------------------------------------------------------------


def _result(
    bench: Workbench,
    teacher: PreparedTeacher,
    goal: Goal,
    outcome: Outcome,
    artifacts: tuple[ShippedArtifact, ...],
    dropped: tuple[Dropped, ...],
    build_key: str,
    seconds: float,
) -> BuildResult:
    winner, budget = outcome.winner, goal.budget
    measured = _measured(outcome.trials, budget)
    status: Literal["met", "not_met", "unmeasured"]
    status = "unmeasured" if bench.not_measurable else "met" if winner and winner.proof else "not_met"
    fastest = min((p.latency_ms for p in measured), default=None)
    would_do = None if status != "not_met" else _budget_that_would_do(bench, outcome, budget)
    splits = bench.dataset.splits
    verdict = _verdict(bench, budget, outcome, fastest, would_do)
    return BuildResult(
        edgedistill_version=__version__,
        build_key=build_key,
        status=status,
        verdict=verdict,
        target=bench.target.name,
        objective=goal.objective,
        constraints=_constraints(bench, goal, winner),
        data=SplitSizes(
            source=bench.dataset.name,
            fingerprint=bench.dataset.fingerprint,
            classes=len(bench.dataset.classes),
            train=len(splits.train),
            validation=len(splits.validation),
            test=len(splits.test),
            seed=splits.seed,
        ),
        teacher=_teacher_summary(bench, teacher),
        student=_student_summary(winner),
        artifacts=artifacts,
        proof=winner.proof if winner else None,
        dropped=dropped,
        trials=tuple(_portable_trial(trial, bench) for trial in outcome.trials),
        frontier=frontier(measured, latency_ms=lambda p: p.latency_ms, accuracy=lambda p: p.accuracy_validation),
        predicted=outcome.predicted,
        stopped=outcome.stopped,
        fastest_ms=fastest,
        budget_that_would_do_ms=would_do,
        notes=_notes(bench, outcome),
        environment=environment(bench),
        seconds=seconds,
    )


def _constraints(bench: Workbench, goal: Goal, winner: Winner | None) -> tuple[Constraint, ...]:
    """What was asked for, and what the winner's file came to."""
    scheme, proof = (winner.scheme, winner.proof) if winner else (None, None)
    bound = max(proof.bounds_ms) if proof else None
    met = proof.met if proof else None
    limits: list[Constraint] = [LatencyLimit(target=bench.target.name, budget=goal.budget, bound_ms=bound, kept=met)]
    if goal.max_bytes is not None:
        size = scheme.artifact.bytes if scheme else None
        kept = None if size is None else size <= goal.max_bytes
        limits.append(SizeLimit(limit_bytes=goal.max_bytes, bytes=size, kept=kept))
    if (most := goal.max_memory_bytes) is not None:
        memory = scheme.memory_bytes if scheme else None
        limits.append(
            MemoryLimit(
                target=bench.target.name,
                limit_bytes=most,
                bytes=memory,
                kept=None if memory is None else memory <= most,
            )
        )
    if (least := goal.min_accuracy) is not None:
        accuracy = validation_accuracy(scheme) if scheme else -math.inf
        known = accuracy if math.isfinite(accuracy) else None
        limits.append(
            AccuracyLimit(limit=least, accuracy_validation=known, kept=None if known is None else known >= least)
        )
    return tuple(limits)


def _portable_trial(trial: Trial, bench: Workbench) -> Trial:
    """A trial whose files are named by their place in the cache, not by where the cache lies on this machine."""
    schemes = [
        result.model_copy(
            update={
                "artifact": result.artifact.model_copy(
                    update={"path": result.artifact.path.relative_to(bench.store.root)}
                )
            }
        )
        for result in trial.schemes
    ]
    return trial.model_copy(update={"schemes": tuple(schemes)})


def _teacher_summary(bench: Workbench, teacher: PreparedTeacher) -> TeacherSummary:
    images, labels = bench.images("test", teacher.source.contract), bench.labels("test")
    return TeacherSummary(
        name=teacher.teacher.name,
        accuracy=test_accuracy(runtime_for(teacher.artifact.format), teacher.artifact, images, labels),
        accuracy_validation=teacher.accuracy_validation,
        parameters=teacher.teacher.parameters,
        bytes=teacher.artifact.bytes,
        resolution=teacher.teacher.contract.resolution,
        latency=teacher.latency,
    )


def _student_summary(winner: Winner | None) -> StudentSummary | None:
    if winner is None:
        return None
    trial = winner.trial
    return StudentSummary(**trial.spec.model_dump(), parameters=trial.parameters, multiply_adds=trial.multiply_adds)


def _measured(trials: Sequence[Trial], budget: Budget) -> list[FrontierPoint]:
    """Every file that was measured and kept, with its validation accuracy."""
    return [
        FrontierPoint(
            trial=trial.number,
            precision=result.scheme.precision,
            latency_ms=result.latency.at(budget.percentile),
            accuracy_validation=validation_accuracy(result),
        )
        for trial in trials
        for result in trial.schemes
        if not result.dropped
        and isinstance(result.latency, MeasuredLatency)
        and isinstance(result.verification, Verified)
    ]


def _budget_that_would_do(bench: Workbench, outcome: Outcome, budget: Budget) -> float | None:
    """The least budget that all samples taken so far of some file would have met: the acceptance rule's bound of its worst
    session, proofs that failed included."""
    bounds: dict[str, float] = {}
    for attempt in outcome.attempts:
        bounds[attempt.artifact_sha256] = max(attempt.bounds_ms)
    for result in (result for trial in outcome.trials for result in trial.schemes):
        folder = bench.store.find("profile", result.profile) if result.profile and not result.dropped else None
        if folder is not None:
            profile = Profile.model_validate_json((folder / "profile.json").read_text())
            if min(len(session.samples_ns) for session in profile.sessions) < bench.min_samples:
                continue
            bound = max(proof(profile.sessions, budget, 0.0, profile.artifact_sha256).bounds_ms)
            sha256 = profile.artifact_sha256
            bounds[sha256] = max(bound, bounds.get(sha256, 0.0))
    return min(bounds.values(), default=None)


def _verdict(bench: Workbench, budget: Budget, outcome: Outcome, fastest: float | None, would_do: float | None) -> str:
    """One sentence with the figures that decide."""
    limit = f"{format_ms(budget.latency_ms)} at {budget.percentile}"
    winner = outcome.winner
    if bench.not_measurable:
        how = f" To measure: {bench.target.how_to_measure}" if bench.target.how_to_measure else ""
        return f"Not measured: {bench.not_measurable}.{how}"
    if winner is None or winner.proof is None:
        if fastest is None:
            return f"No candidate could be measured against the budget of {limit}; the trials say why."
        hint = f" A budget of {format_ms(would_do)} would do." if would_do else ""
        return f"Budget of {limit} not met: the fastest student measured {format_ms(fastest)}.{hint}"
    proof, scheme = winner.proof, winner.scheme
    assert scheme is not None
    return (
        f"{winner.trial.spec.label} in {scheme.scheme.label} is proven inside {limit} on {bench.target.title}: "
        f"at most {format_ms(max(proof.bounds_ms))} with 95% confidence in each of {proof.sessions} sessions, "
        f"{format_percent(validation_accuracy(scheme))} of the validation split."
    )


def _notes(bench: Workbench, outcome: Outcome) -> tuple[str, ...]:
    notes = []
    if outcome.probes:
        notes.append(f"{outcome.probes} candidates with random weights were measured before the first proposal")
    if outcome.attempts:
        notes.append(f"{len(outcome.attempts)} files failed the acceptance rule before the winner")
    if bench.speed.elsewhere:
        notes.append(
            f"{bench.speed.elsewhere} of {bench.speed.sessions} sessions ran while the processor was at another speed than "
            "for the teacher, and were compared at its speed: a quieter machine gives better figures"
        )
    if bench.not_measurable:
        notes.append(f"not measured: {bench.not_measurable}")
    return tuple(notes)


def environment(bench: Workbench) -> dict[str, str]:
    """What the build ran on: platform, device facts, versions of the tools that made and measured the files."""
    facts = dict(bench.device.facts()) if bench.device is not None else {}
    tools = {name: tool_version(name) for name in BUILD_TOOLS}
    return {"python": platform.python_version(), "platform": platform.platform(), **facts, **tools}


def _write_profiles(
    bench: Workbench, teacher: PreparedTeacher, outcome: Outcome, made: Sequence[Made], out: Path
) -> None:
    """Raw samples of the teacher and of every shipped file into `out/profiles/`, for the report and for whoever asks."""
    folder = out / PROFILES
    shutil.rmtree(folder, ignore_errors=True)
    if teacher.profile is not None:
        write_atomic(folder / "teacher.json", teacher.profile.model_dump_json())
    for one in made:
        if one.profile is not None:
            name = f"{one.result.artifact.format}-{one.result.artifact.scheme.label}.json"
            write_atomic(folder / name, one.profile.model_dump_json())
