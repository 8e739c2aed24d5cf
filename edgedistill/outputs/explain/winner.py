"""What won, and what its goal was."""

from __future__ import annotations

import statistics

from edgedistill.documents.artifacts import SchemeResult, Trial
from edgedistill.documents.explanation import BesideTeacher, WinnerExplained
from edgedistill.documents.measurements import MeasuredLatency, UnknownLatency
from edgedistill.documents.results import BuildResult, Found, ShippedArtifact
from edgedistill.outputs.explain.limits import Judge, trained_out


def winning_artifact(result: BuildResult) -> ShippedArtifact | None:
    """The file that the verdict is about: the one proven; without a proof the first whose latency is measured, or failing
    that predicted, or failing that the first of all."""
    if result.proof is not None:
        proven = [a for a in result.artifacts if a.as_measured == result.proof.artifact_sha256]
        if proven:
            return proven[0]
    order = {"measured": 0, "predicted": 1, "unknown": 2}
    return min(result.artifacts, key=lambda a: order[a.latency.kind], default=None)


def winning_trial(result: Found) -> Trial | None:
    """The trial that the student came from."""
    if result.student is None:
        return None
    spec = result.student.spec
    same = [t for t in result.trials if t.spec == spec and t.state != "failed"]
    return max(same, key=lambda t: (t.state == "complete", len(t.rungs)), default=None)


def winning_file(result: Found) -> SchemeResult | None:
    """The winner's file as the search measured it, before the proof: what others were compared with. None without a
    proof."""
    trial, proof = winning_trial(result), result.proof
    if trial is None or proof is None:
        return None
    return next((s for s in trial.schemes if s.artifact.sha256 == proof.artifact_sha256), None)


def explain_winner(result: BuildResult) -> WinnerExplained | None:
    """What won, among how many, and how it stands beside its teacher. None where nothing won."""
    if result.student is None:
        return None
    artifact, trial, judge = winning_artifact(result), winning_trial(result), Judge(result)
    others = [t for t in result.trials if trained_out(t, result) and t is not trial]
    equals: list[Trial] = []
    if result.status != "unmeasured":
        others = [t for t in others if judge.fitting(t)]
        equals = [t for t in others if any(judge.as_accurate(file) for file in judge.fitting(t))]
    return WinnerExplained(
        trial=trial.number if trial else None,
        student=result.student,
        label=result.student.spec.label,
        precision=artifact.precision if artifact else None,
        path=artifact.path if artifact else None,
        bytes=artifact.bytes if artifact else None,
        quality=artifact.quality if artifact else None,
        quality_interval=artifact.quality_interval if artifact else None,
        quality_validation=artifact.quality_validation if artifact else None,
        quality_model=trial.rungs[-1].quality_validation if trial and trial.rungs else None,
        latency=artifact.latency
        if artifact
        else UnknownLatency(reason="no file of it could be made", device=result.target),
        proof=result.proof,
        tried=len(result.trials),
        rivals=len(others),
        equals=len(equals),
        quality_margin=result.quality_margin,
        teacher=_beside_teacher(result, artifact),
    )


def times_faster(result: BuildResult, artifact: ShippedArtifact | None) -> float | None:
    """How many times faster the student is than its teacher, by runs in turn: with one another where that is its proof,
    else each with the anchor. None where one of the two was not measured."""
    proof, percentile = result.proof, result.budget.percentile
    if proof is not None and proof.share:
        return 1 / statistics.median(proof.values)
    file = winning_file(result) or artifact
    ours, theirs = file.latency if file else None, result.teacher.latency
    if not isinstance(ours, MeasuredLatency) or not isinstance(theirs, MeasuredLatency):
        return None
    return theirs.comparable(percentile) / ours.comparable(percentile)


def _beside_teacher(result: BuildResult, artifact: ShippedArtifact | None) -> BesideTeacher:
    teacher = result.teacher
    ours = artifact.quality if artifact else None
    return BesideTeacher(
        name=teacher.name,
        quality=teacher.quality,
        quality_interval=teacher.quality_interval,
        quality_validation=teacher.quality_validation,
        quality_difference=None if ours is None else ours - teacher.quality,
        latency=teacher.latency,
        times_faster=times_faster(result, artifact),
        bytes=teacher.bytes,
        bytes_share=artifact.bytes / teacher.bytes if artifact and teacher.bytes else None,
    )
