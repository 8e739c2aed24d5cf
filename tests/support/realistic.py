"""A build as it would really end, made up from seeded random numbers: for the tests of whatever shows or checks one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from realistic_parts import (
    BUDGET_MS,
    CANDIDATES,
    IMAGES,
    RUNGS,
    SESSIONS,
    TEACHER_MS,
    WINNER,
    expected_point,
    failed_trial,
    make_moment,
    make_proof,
    measured_latency,
    proof_values,
    sha_of,
    shipped,
    trial_of,
)
from realistic_parts import (
    make_profile as make_profile,
)

from edgedistill.base.intervals import wilson_interval
from edgedistill.documents.artifacts import Parity, Trial, Verified
from edgedistill.documents.measurements import MeasuredLatency, Percentiles, PredictedLatency, Proof, UnknownLatency
from edgedistill.documents.results import (
    BuildResult,
    Dropped,
    FrontierPoint,
    LatencyLimit,
    ScaleSummary,
    SplitSizes,
    StudentSummary,
    SustainedLoad,
    TeacherFile,
    TeacherSummary,
)
from edgedistill.documents.specs import Budget, ComputedBy, Contract, Format, Percentile, Precision


def _unproven(target: str, limit_ms: float) -> LatencyLimit:
    budget = Budget(latency_ms=limit_ms, percentile=Percentile.P95)
    return LatencyLimit(target=target, budget=budget, aim_ms=0.92 * limit_ms, proof=None, kept=None)


def make_result(**changes: Any) -> BuildResult:
    """A build for `host` that met its budget with an int8 student; `changes` replace fields."""
    trials = (*(trial_of(i) for i in range(len(CANDIDATES))), failed_trial(len(CANDIDATES)))
    family, width, depth, resolution, parameters, macs, p95_ms, _, _ = CANDIDATES[WINNER]
    winner_sha, proof = trials[WINNER].schemes[1].artifact.sha256, trials[WINNER].schemes[1].proof
    p95_int8_ms = p95_ms * 0.71
    budget = Budget(latency_ms=BUDGET_MS, percentile=Percentile.P95, share_of_teacher=0.2)
    in_sessions = measured_latency(p95_int8_ms, 11_000, SESSIONS)
    artifacts = (
        shipped(
            Format.ONNX,
            Precision.INT8,
            parameters + 9_000,
            winner_sha,
            in_sessions,
            0.9741,
        ),
        shipped(Format.ONNX, Precision.FP32, parameters * 4, sha_of("fp32"), measured_latency(p95_ms), 0.9763),
        shipped(
            Format.COREML,
            Precision.FP16,
            parameters * 2,
            sha_of("coreml"),
            UnknownLatency(reason="Core ML runs on macOS and iOS alone; measure it on a Mac", device="host"),
            None,
        ),
        shipped(
            Format.TENSORRT,
            Precision.FP16,
            parameters * 2 + 70_000,
            sha_of("engine"),
            UnknownLatency(reason="no NVIDIA GPU in this machine", device="host"),
            None,
        ),
    )
    artifacts = (artifacts[0].model_copy(update={"proof": proof}), *artifacts[1:])
    measured = [(t, s) for t in trials for s in t.schemes if isinstance(s.latency, MeasuredLatency)]
    points: list[FrontierPoint] = []
    for trial, scheme in sorted(measured, key=lambda pair: pair[1].latency.p95_ms):  # type: ignore[union-attr]
        assert isinstance(scheme.verification, Verified) and isinstance(scheme.latency, MeasuredLatency)
        quality = scheme.verification.quality_validation
        if not points or quality > points[-1].quality_validation:
            points.append(
                FrontierPoint(
                    trial=trial.number,
                    precision=scheme.scheme.precision,
                    latency_ms=scheme.latency.p95_ms,
                    quality_validation=quality,
                )
            )
    fields: dict[str, Any] = {
        "edgedistill_version": "0.1.0",
        "build_key": sha_of("build"),
        "status": "met",
        "verdict": "mobileone w0.5 d1 @16 in int8 is proven inside 0.412 ms at p95 on this machine.",
        "target": "host",
        "metric": "accuracy",
        "quality_margin": 0.02,
        "constraints": (LatencyLimit(target="host", budget=budget, aim_ms=0.41, proof=proof, kept=True),),
        "data": SplitSizes(
            source="digits",
            fingerprint=sha_of("digits"),
            classes=10,
            train=1257,
            validation=IMAGES,
            test=IMAGES,
            seed=0,
        ),
        "teacher": TeacherSummary(
            name="timm:resnet18",
            quality=0.9852,
            quality_interval=wilson_interval(0.9852, IMAGES),
            quality_validation=0.9889,
            parameters=11_173_962,
            bytes=44_720_000,
            resolution=32,
            latency=measured_latency(TEACHER_MS, 6000, 6),
            files=(TeacherFile(path="teacher.onnx", format=Format.ONNX, sha256=sha_of("teacher")),),
        ),
        "student": StudentSummary(
            family=family,
            width=width,
            depth=depth,
            resolution=resolution,
            parameters=parameters,
            multiply_adds=macs,
        ),
        "artifacts": artifacts,
        "proof": proof,
        "scale": ScaleSummary(
            anchor_sha256=sha_of("anchor"),
            anchor_ms=Percentiles(p50=0.91, p95=0.95, p99=1.02),
            spread=0.021,
            at=make_moment(-600).at,
        ),
        "dropped": (
            Dropped(
                format=Format.ONNX,
                precision=Precision.FP16,
                reason="0.3% slower than fp32: the CPU has no fp16 kernels, every tensor is cast",
            ),
        ),
        "rungs": RUNGS,
        "trials": trials,
        "frontier": tuple(points),
        "predicted": (
            expected_point("mobilenetv4", 0.25, 0.104, 0.951),
            expected_point("mobileone", 0.75, 0.388, 0.9821),
            expected_point("mobileone", 0.75, 0.955, 0.9902),
        ),
        "stopped": "no untried candidate is likely enough to do better",
        "fastest_ms": 0.143,
        "budget_that_would_do_ms": None,
        "notes": ("the test split is small: 270 images, one image is 0.4 points",),
        "environment": {"python": "3.11.2", "torch": "2.13.0", "onnxruntime": "1.32.0", "timm": "1.0.24"},
        "seconds": 214.0,
    }
    return BuildResult(**{**fields, **changes})


def with_reference() -> BuildResult:
    """`make_result`, its Core ML package computed by the reference interpreter, as off a Mac."""
    result = make_result()
    parity = Parity(max_abs_error=0.0085, top1_agreement=0.996, images=256)
    found = Verified(computed_by=ComputedBy.REFERENCE, parity=parity, quality_validation=0.9922)
    return result.model_copy(
        update={
            "artifacts": tuple(
                a.model_copy(update={"parity": parity, "verification": found}) if a.format is Format.COREML else a
                for a in result.artifacts
            )
        }
    )


def make_not_met() -> BuildResult:
    """A build whose budget no candidate keeps: nothing ships."""
    result = make_result()
    return make_result(
        status="not_met",
        verdict="No candidate is inside the budget. Allow 0.15 ms, or let [space] hold smaller students.",
        constraints=(_unproven("host", 0.05),),
        student=None,
        artifacts=(),
        proof=None,
        trials=tuple(
            t
            if t.state == "failed"
            else t.model_copy(
                update={
                    "state": "over_budget",
                    "schemes": tuple(s.model_copy(update={"proof": None}) for s in t.schemes),
                }
            )
            for t in result.trials
        ),
        budget_that_would_do_ms=0.15,
    )


def make_proven_in_ms(**changes: Any) -> BuildResult:
    """`make_result`, its budget in milliseconds: sessions of the file alone."""
    result = make_result()
    first, *rest = result.artifacts
    proof = make_proof(proof_values(0.21), BUDGET_MS, share=False, sha256=first.sha256)
    budget = Budget(latency_ms=BUDGET_MS, percentile=Percentile.P95)
    fields: dict[str, Any] = {
        "proof": proof,
        "constraints": (LatencyLimit(target="host", budget=budget, aim_ms=0.41, proof=proof, kept=True),),
        "artifacts": (first.model_copy(update={"proof": proof}), *rest),
        "trials": tuple(_with_proof(trial, proof) for trial in result.trials),
    }
    return make_result(**{**fields, **changes})


def make_measured_again() -> BuildResult:
    """`make_result`, with the proof of an earlier build beside its own and load without a pause after it."""
    result = make_result()
    assert result.proof is not None
    earlier = result.proof.model_copy(
        update={
            "values": proof_values(0.099),
            "began_at": "2025-12-24T18:00:00.000+00:00",
            "start": make_moment(-800_000),
        }
    )
    load = SustainedLoad(
        seconds=60.0, first_third_ms=0.21, last_third_ms=0.231, start=make_moment(100), end=make_moment(160)
    )
    return make_result(earlier=(earlier,), sustained=load, notes=("the machine has changed since 2025-12-24",))


def disproven(result: BuildResult, number: int, values: Sequence[float]) -> BuildResult:
    """`result`, a proof tried of the int8 file of a trial, of which the sessions saw so much; it is not met."""
    (trial,) = [t for t in result.trials if t.number == number]
    sha256 = trial.schemes[1].artifact.sha256
    share = result.budget.share_of_teacher
    proof = make_proof(
        values, share or result.budget.latency_ms, share=share is not None, sha256=sha256, met=False, over_allowed=0
    )
    return result.model_copy(
        update={"trials": tuple(_with_proof(t, proof) if t.number == number else t for t in result.trials)}
    )


def _with_proof(trial: Trial, proof: Proof) -> Trial:
    """A trial with what was tried of one of its files."""
    return trial.model_copy(
        update={
            "schemes": tuple(
                s.model_copy(update={"proof": proof}) if s.artifact.sha256 == proof.artifact_sha256 else s
                for s in trial.schemes
            )
        }
    )


def make_unmeasured() -> BuildResult:
    """A build for a phone that is not attached: predictions, and files that were not measured."""
    result = make_result()
    unknown = UnknownLatency(reason="no device attached: connect it and run the same build", device="Pixel 8")
    predicted = PredictedLatency(
        latency_ms=3.2,
        low_ms=2.1,
        high_ms=4.9,
        percentile=Percentile.P95,
        calibrated=False,
        precision=Precision.INT8,
        basis="published latencies of 6 models",
        device="Pixel 8",
    )
    first, *rest = result.artifacts
    return make_result(
        status="unmeasured",
        verdict="Nothing was measured on the Pixel 8: attach it and run the same command.",
        target="pixel-8",
        constraints=(_unproven("pixel-8", 5.0),),
        teacher=result.teacher.model_copy(update={"latency": unknown}),
        artifacts=tuple(
            [first.model_copy(update={"latency": predicted, "load_ms": None, "peak_memory_bytes": None, "proof": None})]
            + [a.model_copy(update={"latency": unknown}) for a in rest]
        ),
        proof=None,
        trials=tuple(
            t.model_copy(
                update={
                    "predicted": predicted.model_copy(
                        update={
                            "latency_ms": 0.4 + t.parameters / 2e5,
                            "low_ms": 0.3,
                            "high_ms": 1 + t.parameters / 1e5,
                        }
                    ),
                    "schemes": tuple(s.model_copy(update={"latency": unknown, "proof": None}) for s in t.schemes),
                    "state": "complete" if t.state == "over_budget" else t.state,
                }
            )
            for t in result.trials
        ),
        scale=None,
        frontier=(),
        predicted=(),
        stopped="as many candidates were tried as allowed",
        fastest_ms=None,
    )


def make_contract(**changes: Any) -> Contract:
    """The contract of the digits student; `changes` replace fields."""
    fields: dict[str, Any] = {
        "resolution": 16,
        "mean": (127.5, 127.5, 127.5),
        "std": (127.5, 127.5, 127.5),
        "labels": tuple("0123456789"),
    }
    return Contract(**{**fields, **changes})
