"""The loop's own test runtime: deterministic, and honest about being a law."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from null_format import NullFormat, export_null, law_ms
from torch import nn

from edgedistill.base.errors import UnsupportedError
from edgedistill.devices.session import MeasurementProtocol, SessionJob, SessionReport
from edgedistill.devices.stats import measured_latency, ratio
from edgedistill.documents.specs import Contract, Format, Percentile, Precision, QuantScheme, Target
from edgedistill.formats import format_for

TARGET = Target(
    name="null",
    title="Null",
    runtime=Format.NULL,
    formats=(Format.NULL,),
    precisions=(Precision.FP32,),
    transport="local",
)
CONTRACT = Contract(resolution=8, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0), labels=("a", "b", "c"))
IMAGES = np.random.default_rng(0).integers(0, 256, (5, 3, 8, 8), dtype=np.uint8)


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(256, 3)).eval()


def never(job: SessionJob) -> SessionReport:
    raise AssertionError("the null runtime starts no process")


PROTOCOL = MeasurementProtocol(
    target=TARGET,
    seconds=5.0,
    min_runs=60,
    operators=True,
    execute=never,
    sample=lambda models, job: never(job),
)


@pytest.mark.parametrize(("precision", "tolerance"), [("fp32", 1e-4), ("fp16", 0.5), ("int8", 10.0)])
def test_logits_are_those_of_the_module_up_to_the_precision(tmp_path: Path, precision: str, tolerance: float) -> None:
    runtime = format_for(Format.NULL)
    scheme = QuantScheme(precision=Precision(precision))
    module = network()
    artifact = runtime.compile(export_null(module, CONTRACT, scheme, tmp_path / "a"), TARGET, tmp_path / "b")
    with torch.no_grad():
        expected = module(torch.from_numpy(IMAGES).float()).numpy()
    logits = np.concatenate(list(runtime.run(artifact, [IMAGES[:1], IMAGES[1:]])))
    assert logits.dtype == np.float32
    error = np.abs(logits - expected).max()
    assert error < tolerance
    assert precision == "fp32" or error > 1e-4, "rounding must leave a trace"
    assert "reads the network back" in runtime.inspect(artifact).checks[0]


def test_latency_follows_the_law_and_repeats(tmp_path: Path) -> None:
    runtime = NullFormat()
    multiply_adds = 64 * 4 * 27 + 256 * 3
    for precision in (Precision.FP32, Precision.INT8):
        folder = tmp_path / precision
        artifact = runtime.compile(
            export_null(network(), CONTRACT, QuantScheme(precision=precision), folder), TARGET, folder / "compiled"
        )
        profile = runtime.profile(artifact, IMAGES, PROTOCOL)
        assert profile == runtime.profile(artifact, None, PROTOCOL)
        assert measured_latency(profile).p50_ms == pytest.approx(law_ms(multiply_adds, precision), rel=0.01)
        assert profile.anchor_sha256 is None and not any(session.anchor_ns for session in profile.sessions)
        assert "law" in profile.environment.device
    assert law_ms(10**6, Precision.INT8) < law_ms(10**6, Precision.FP16) == law_ms(10**6, Precision.FP32)


def test_two_models_in_turn_have_the_ratio_of_the_law(tmp_path: Path) -> None:
    runtime = NullFormat()
    made = [
        runtime.compile(
            export_null(network(), CONTRACT, QuantScheme(precision=precision), tmp_path / precision),
            TARGET,
            tmp_path / precision / "compiled",
        )
        for precision in (Precision.INT8, Precision.FP32)
    ]
    file, anchor = made
    beside = replace(PROTOCOL, anchor=anchor)
    profile = runtime.profile(file, None, beside)
    assert profile == runtime.profile(file, None, beside) and profile.anchor_sha256 == anchor.sha256
    work = 64 * 4 * 27 + 256 * 3
    (session,) = profile.sessions
    expected = law_ms(work, Precision.INT8) / law_ms(work, Precision.FP32)
    assert ratio(session, Percentile.P95) == pytest.approx(expected, rel=0.01)
    assert session.turns == ((len(session.samples_ns), len(session.anchor_ns)),)
    alone = runtime.profile(file, None, PROTOCOL)
    assert alone.sessions[0].samples_ns == session.samples_ns
    itself = runtime.profile(file, None, replace(PROTOCOL, anchor=file)).sessions[0]
    assert itself.samples_ns != itself.anchor_ns, "beside itself it is as fast, not the same runs"


def test_other_formats_are_refused(tmp_path: Path) -> None:
    model = export_null(network(), CONTRACT, QuantScheme(precision=Precision.FP32), tmp_path / "a")
    with pytest.raises(UnsupportedError, match="not a null model"):
        NullFormat().compile(model.model_copy(update={"format": Format.ONNX}), TARGET, tmp_path / "b")
