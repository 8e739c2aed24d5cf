"""Objects that many tests need and whose values do not matter there; what does is given by name."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from edgedistill.documents.artifacts import CompiledArtifact
from edgedistill.documents.measurements import Environment, Profile, Proof, Session
from edgedistill.documents.package import Manifest
from edgedistill.documents.results import MOST_MISTAKES, Confused, Mistake, PredictionsOnTest
from edgedistill.documents.specs import Format, Percentile, Precision, QuantScheme, Target


def make_target(form: Format = Format.ONNX, **changes: Any) -> Target:
    """A target that is this machine and takes fp32 files of `form`."""
    values: dict[str, Any] = {
        "name": "board",
        "title": "A board",
        "runtime": form,
        "formats": (form,),
        "precisions": (Precision.FP32,),
        "transport": "local",
    }
    return Target.model_validate(values | changes)


def make_manifest(**changes: Any) -> Manifest:
    """The manifest of a package, without artifacts."""
    values: dict[str, Any] = {
        "edgedistill_version": "0",
        "build_key": "b",
        "target": "host",
        "data_fingerprint": "d",
        "toolchain": {},
        "metric": "accuracy",
        "artifacts": {},
    }
    return Manifest.model_validate(values | changes)


def make_environment(**changes: Any) -> Environment:
    values: dict[str, Any] = {
        "device": "board",
        "os": "os",
        "machine": "m",
        "cpu": "c",
        "runtime": "r",
        "runtime_version": "1",
        "provider": "p",
        "threads": 1,
        "pinned_cpus": (0,),
        "power": "unknown",
    }
    return Environment.model_validate(values | changes)


def make_artifact(precision: Precision = Precision.FP32, **changes: Any) -> CompiledArtifact:
    values: dict[str, Any] = {
        "path": Path("folder/model.onnx"),
        "format": Format.ONNX,
        "scheme": QuantScheme(precision=precision),
        "target": "host",
        "toolchain": {},
        "sha256": "0" * 64,
        "bytes": 1000,
    }
    return CompiledArtifact.model_validate(values | changes)


def make_session(samples_ns: Sequence[int], anchor_ns: Sequence[int] = (), **changes: Any) -> Session:
    """A session with these samples; with an anchor's, taken in one turn unless `turns` says otherwise."""
    values: dict[str, Any] = {
        "samples_ns": tuple(samples_ns),
        "anchor_ns": tuple(anchor_ns),
        "turns": ((len(samples_ns), len(anchor_ns)),) if anchor_ns else (),
        "warmup_runs": 10,
        "load_ms": 1.0,
        "peak_memory_bytes": 1,
        "model_memory_bytes": 1,
    }
    return Session.model_validate(values | changes)


def make_profile(*sessions: Session, **changes: Any) -> Profile:
    """A profile of these sessions, with an anchor where they had one."""
    values: dict[str, Any] = {
        "artifact_sha256": "a",
        "anchor_sha256": "anchor" if sessions and sessions[0].anchor_ns else None,
        "target": "host",
        "precision": Precision.FP32,
        "environment": make_environment(),
        "sessions": sessions,
        "op_timings": (),
    }
    return Profile.model_validate(values | changes)


def make_proof(values: Sequence[float], **changes: Any) -> Proof:
    """A proof at `quick` of a budget of 5 ms; `met` unless `changes` or a value above it says otherwise."""
    limit = changes.get("limit", 5.0)
    over = sum(value > limit for value in values)
    fields: dict[str, Any] = {
        "artifact_sha256": "a",
        "target": "host",
        "percentile": Percentile.P95,
        "share": False,
        "limit": limit,
        "claimed": 0.8,
        "confidence": 0.95,
        "alpha": 0.05 / 6,
        "values": tuple(values),
        "over": over,
        "over_allowed": 0,
        "bound": max(values),
        "session_s": 3.0,
        "period_s": 4.0 * len(values),
        "began_at": "2026-01-02T03:04:05.678+00:00",
        "met": over == 0,
    }
    return Proof.model_validate(fields | changes)


def make_predictions(classes: Sequence[str] = ("cat", "dog"), **changes: Any) -> PredictionsOnTest:
    """Ten test images of each class: eight are right, two are taken for the next class."""
    count = len(classes)
    mistakes = tuple(
        Mistake(
            label=number % count,
            predicted=(number + 1) % count,
            probability=0.99 - number / 100,
            probability_of_label=0.002,
            image=f"test/{classes[number % count]}/{number:03d}.png",
            thumbnail=f"mistakes/{number + 1:02d}.webp",
        )
        for number in range(min(2 * count, MOST_MISTAKES))
    )
    entries = [(label, predicted) for label in range(count) for predicted in sorted({label, (label + 1) % count})]
    fields: dict[str, Any] = {
        "artifact_sha256": "a",
        "images": 10 * count,
        "classes": tuple(classes),
        "confusion": tuple(Confused(label=a, predicted=b, count=8 if a == b else 2) for a, b in entries),
        "mistakes": mistakes,
    }
    return PredictionsOnTest.model_validate(fields | changes)
