"""What a made-up build is made of: trials, files, sessions and proofs from seeded random numbers."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import factories

from edgedistill.base.intervals import pack, wilson_interval
from edgedistill.documents.artifacts import (
    CompiledArtifact,
    Inspected,
    Parity,
    Rung,
    SchemeResult,
    Trial,
    Verification,
    Verified,
)
from edgedistill.documents.measurements import (
    Core,
    Environment,
    Latency,
    MeasuredLatency,
    Moment,
    OpTiming,
    PredictedLatency,
    Profile,
    Proof,
    Session,
    UnknownLatency,
)
from edgedistill.documents.results import (
    PredictedPoint,
    ShippedArtifact,
)
from edgedistill.documents.specs import Format, Percentile, Precision, QuantScheme, StudentSpec

DEVICE = "Intel Xeon Platinum 8375C @ 2.90GHz, 1 thread"
ENVIRONMENT = Environment(
    device=DEVICE,
    os="Debian GNU/Linux 12 (bookworm)",
    machine="x86_64",
    cpu="Intel Xeon Platinum 8375C @ 2.90GHz",
    runtime="onnxruntime",
    runtime_version="1.32.0",
    provider="CPUExecutionProvider",
    threads=1,
    pinned_cpus=(1,),
    cores=(Core(cpu=1, capacity=None, siblings=(0, 1)),),
    power="governor unknown",
)
BUDGET_MS = 0.412
TEACHER_MS = 2.06
SESSIONS = 22
IMAGES = 270
CANDIDATES = (
    # family, width, depth, resolution, parameters, multiply-adds, p95 ms (fp32), accuracy at the last rung, rungs
    ("mobilenetv4", 0.25, 0.5, 16, 38_410, 412_160, 0.151, 0.921, 1),
    ("mobilenetv4", 0.5, 0.5, 16, 121_034, 1_320_448, 0.233, 0.956, 2),
    ("mobilenetv4", 0.5, 1.0, 32, 224_810, 6_120_960, 0.405, 0.974, 3),
    ("mobilenetv4", 1.0, 1.0, 32, 803_114, 22_806_016, 0.812, 0.985, 1),
    ("mobileone", 0.25, 0.5, 16, 51_226, 903_168, 0.128, 0.933, 1),
    ("mobileone", 0.5, 0.5, 16, 164_682, 3_014_656, 0.201, 0.969, 3),
    ("mobileone", 0.5, 1.0, 16, 309_834, 5_308_416, 0.297, 0.978, 3),
    ("mobileone", 0.5, 1.0, 32, 309_834, 21_233_664, 0.698, 0.987, 2),
    ("mobileone", 1.0, 1.0, 32, 1_180_426, 79_691_776, 1.214, 0.989, 1),
    ("residual", 0.25, 0.5, 16, 44_018, 1_204_224, 0.139, 0.928, 1),
    ("residual", 0.5, 0.5, 16, 172_554, 4_718_592, 0.243, 0.961, 2),
    ("residual", 0.5, 1.0, 32, 371_210, 28_311_552, 0.611, 0.983, 1),
)
RUNGS = (4, 8, 16)
WINNER = 6


def sha_of(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def measured_latency(p95_ms: float, samples: int = 1000, sessions: int = 1) -> MeasuredLatency:
    return MeasuredLatency(
        p50_ms=p95_ms * 0.94,
        p95_ms=p95_ms,
        p99_ms=p95_ms * 1.07,
        samples=samples,
        sessions=sessions,
        device=DEVICE,
    )


def make_moment(seconds: float, waited_ms: float = 0.5) -> Moment:
    """The machine so long after the first session began: it gets warmer and slower by and by."""
    return Moment(
        at=(datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC) + timedelta(seconds=seconds)).isoformat(timespec="milliseconds"),
        reference_us=24.0 + seconds / 40,
        clock_mhz=2900.0 - seconds,
        temperature_c=None,
        load=0.31,
        waited_ms=waited_ms,
        stolen_ms=1000.0 + seconds,
    )


def make_proof(values: Sequence[float], limit: float, *, share: bool, sha256: str, **changes: Any) -> Proof:
    """A proof at `quick`, as its first look finds it."""
    fields: dict[str, Any] = {
        "artifact_sha256": sha256,
        "anchor_sha256": sha_of("teacher") if share else None,
        "share": share,
        "limit": limit,
        "bound": max(values) * 1.01,
        "burst_s": 0.04 if share else 0.0,
        "began_at": make_moment(0).at,
        "start": make_moment(0),
        "end": make_moment(4.0 * len(values)),
    }
    return factories.make_proof(values, **fields | changes)


def proof_values(typical: float) -> tuple[float, ...]:
    """What the sessions of a proof see: a few percent round `typical`, their median."""
    return tuple(typical * (1 + 0.002 * (number - (SESSIONS - 1) / 2)) for number in range(SESSIONS))


def file_of(stem: str, precision: Precision, size: int) -> CompiledArtifact:
    return CompiledArtifact(
        path=Path(f"cache/{stem}-{precision}.onnx"),
        format=Format.ONNX,
        scheme=QuantScheme(precision=precision),
        target="host",
        toolchain={"onnx": "1.23.2", "torch": "2.13.0"},
        sha256=sha_of(f"{stem}{precision}"),
        bytes=size,
    )


def verified(quality: float, error: float = 3.1e-6, agreement: float = 1.0) -> Verification:
    """A file that is wrong on the first images: of two, the less accurate one is right on none that the other misses."""
    wrong = round((1 - quality) * IMAGES)
    return Verified(
        parity=Parity(max_abs_error=error, top1_agreement=agreement, images=IMAGES),
        quality_validation=quality,
        right=pack([number >= wrong for number in range(IMAGES)]),
    )


def trial_of(number: int) -> Trial:
    family, width, depth, resolution, parameters, macs, p95_ms, quality, rungs = CANDIDATES[number]
    spec = StudentSpec(family=family, width=width, depth=depth, resolution=resolution)
    climbed = tuple(
        Rung(rung=i, epochs=RUNGS[i], quality_validation=quality - 0.011 * (rungs - 1 - i)) for i in range(rungs)
    )
    predicted = PredictedLatency(
        latency_ms=p95_ms * (1.08 if number % 2 else 0.93),
        low_ms=p95_ms * (1.02 if number == 7 else 0.74),
        high_ms=p95_ms * 1.4,
        percentile=Percentile.P95,
        calibrated=number >= 8,
        precision=Precision.FP32,
        basis=f"{8 + number} measured models",
        device=DEVICE,
    )
    schemes: tuple[SchemeResult, ...] = ()
    state: str = "pruned"
    reason = f"16 epochs were given to more accurate candidates: {quality:.1%} at rung {rungs}"
    if rungs > 1:
        fp32 = SchemeResult(
            scheme=QuantScheme(precision=Precision.FP32),
            artifact=file_of(spec.label, Precision.FP32, parameters * 4),
            verification=verified(quality),
            latency=measured_latency(p95_ms),
        )
        int8 = SchemeResult(
            scheme=QuantScheme(precision=Precision.INT8, calibration_images=256),
            artifact=file_of(spec.label, Precision.INT8, parameters + 9_000),
            verification=verified(quality - 0.004, 0.41, 0.989),
            latency=measured_latency(p95_ms * 0.71),
            dropped="" if number != 2 else "loses 1.4 points of validation accuracy, 1.0 allowed",
        )
        if number == WINNER:
            sha256, typical = int8.artifact.sha256, p95_ms * 0.71 / TEACHER_MS
            proof = make_proof(proof_values(typical), BUDGET_MS / TEACHER_MS, share=True, sha256=sha256)
            int8 = int8.model_copy(update={"proof": proof})
        schemes = (fp32, int8)
    if rungs > 1 and p95_ms * 0.71 > BUDGET_MS:
        state, reason = "over_budget", f"p95 {p95_ms * 0.71:.3f} ms in int8, {BUDGET_MS:.3f} ms allowed"
    elif rungs == 3:
        state, reason = "complete", "went through all rungs"
    return Trial(
        number=number,
        spec=spec,
        parameters=parameters,
        multiply_adds=macs,
        predicted=predicted,
        rungs=climbed,
        schemes=schemes,
        state=state,  # type: ignore[arg-type]
        reason=reason,
    )


def expected_point(family: str, width: float, latency_ms: float, quality: float) -> PredictedPoint:
    return PredictedPoint(
        spec=StudentSpec(family=family, width=width, depth=1.0, resolution=24),
        latency=PredictedLatency(
            latency_ms=latency_ms,
            low_ms=latency_ms * 0.8,
            high_ms=latency_ms * 1.25,
            percentile=Percentile.P95,
            calibrated=True,
            precision=Precision.INT8,
            basis="24 measured models",
            device=DEVICE,
        ),
        quality_validation=quality,
        quality_validation_low=quality - 0.02,
        quality_validation_high=quality + 0.006,
    )


def failed_trial(number: int) -> Trial:
    return Trial(
        number=number,
        spec=StudentSpec(family="residual", width=2.0, depth=2.0, resolution=32),
        parameters=5_904_522,
        multiply_adds=451_934_208,
        predicted=UnknownLatency(reason="no prediction before 8 probes", device=DEVICE),
        state="failed",
        reason="the loss was not finite in epoch 2 (batch 31)",
    )


def make_profile(
    sha256: str,
    median_ms: float,
    seed: int = 0,
    sessions: int = SESSIONS,
    operators: int = 24,
    anchor_ms: float | None = None,
) -> Profile:
    """Right-skewed samples round `median_ms`, each session a little off the last; with `anchor_ms` in turn with another
    file, five runs of each."""
    rng = random.Random(seed)

    def samples(typical_ms: float) -> tuple[int, ...]:
        return tuple(
            int(typical_ms * 1e6 * (1 + abs(rng.gauss(0, 0.025)) + (rng.random() < 0.01) * rng.random() * 0.4))
            for _ in range(500)
        )

    made = []
    for number in range(sessions):
        shift = 1 + 0.004 * number
        made.append(
            Session(
                samples_ns=samples(median_ms * shift),
                anchor_ns=samples(anchor_ms * shift) if anchor_ms else (),
                turns=((5, 5),) * 100 if anchor_ms else (),
                warmup_runs=40,
                start=make_moment(4.0 * number),
                end=make_moment(4.0 * number + 3.0, waited_ms=2.5),
                load_ms=18.4 + number,
                peak_memory_bytes=61_300_000,
                model_memory_bytes=2_310_000,
            )
        )
    kinds = ("Conv", "Conv", "Conv", "Relu", "QuantizeLinear", "Add", "GlobalAveragePool", "Gemm")
    timings = tuple(
        OpTiming(
            name=f"/blocks/{i}/reparam/{kinds[i % len(kinds)]}_fused_with_activation_{i}",
            op_type=kinds[i % len(kinds)],
            median_us=median_ms * 1000 * 0.6 ** (i + 1) * (0.67 / 0.6),
        )
        for i in range(operators)
    )
    return Profile(
        artifact_sha256=sha256,
        anchor_sha256=sha_of("teacher") if anchor_ms else None,
        target="host",
        precision=Precision.INT8,
        environment=ENVIRONMENT,
        sessions=tuple(made),
        op_timings=timings,
    )


def shipped(
    format: Format, precision: Precision, size: int, sha256: str, latency: Latency, quality: float | None
) -> ShippedArtifact:
    suffix = {Format.ONNX: "onnx", Format.COREML: "mlpackage", Format.TENSORRT: "engine"}[format]
    ran = quality is not None
    exact = precision is Precision.FP32
    parity = Parity(max_abs_error=3.1e-6 if exact else 0.41, top1_agreement=1.0 if exact else 0.989, images=IMAGES)
    verification: Verification
    if quality is not None:
        verification = Verified(parity=parity, quality_validation=quality + 0.002)
    else:
        verification = Inspected(
            reason={
                Format.COREML: "Core ML runs on macOS and iOS alone",
                Format.TENSORRT: "no NVIDIA GPU in this machine",
            }[format],
            checks=("the file was read back: one input, one output", "operations: conv 14, relu 13, linear 1"),
        )
    return ShippedArtifact(
        format=format,
        precision=precision,
        scheme=QuantScheme(precision=precision),
        path=f"package/student-{precision}.{suffix}",
        bytes=size,
        sha256=sha256,
        quality=quality,
        quality_interval=None if quality is None else wilson_interval(quality, IMAGES),
        quality_validation=verification.quality_validation if isinstance(verification, Verified) else None,
        parity=parity if ran else None,
        verification=verification,
        latency=latency,
        peak_memory_bytes=61_300_000 if ran else None,
        load_ms=18.4 if ran else None,
        record={"compute capabilities": "75, 80, 86", "builder": "tensorrt_rtx 1.2"}
        if format is Format.TENSORRT
        else {},
    )
