"""Which precisions pay: the margins of the build file, at their edges."""

from __future__ import annotations

from typing import Any

import pytest
from factories import make_artifact
from hypothesis import given
from hypothesis import strategies as st

from edgedistill.artifacts import (
    Inspected,
    MeasuredLatency,
    Parity,
    SchemeResult,
    UnknownLatency,
    Verified,
)
from edgedistill.config import BuildConfig
from edgedistill.ladder import LadderRung
from edgedistill.pipeline import shipped_scheme, why_dropped
from edgedistill.specs import Format, Precision, QuantScheme

CONFIG = BuildConfig.model_validate(
    {
        "budget": "5ms",
        "teacher": {"model": "timm:resnet18"},
        "export": {"margin_speed": "5%", "margin_size": "10%", "max_accuracy_loss": "1%"},
    }
)


def result(
    precision: str, *, accuracy: float | None = 0.9, p50_ms: float | None = 1.0, size: int = 1000
) -> SchemeResult:
    scheme = QuantScheme(precision=Precision(precision))
    artifact = make_artifact(Precision(precision), bytes=size)
    parity = Parity(max_abs_error=0.0, top1_agreement=1.0, images=10)
    verification: Any = Inspected(reason="no device", checks=())
    if accuracy is not None:
        verification = Verified(parity=parity, accuracy_validation=accuracy)
    latency: Any = UnknownLatency(reason="no device", device="host")
    if p50_ms is not None:
        latency = MeasuredLatency(p50_ms=p50_ms, p95_ms=p50_ms, p99_ms=p50_ms, samples=100, device="a CPU")
    return SchemeResult(scheme=scheme, artifact=artifact, verification=verification, latency=latency)


WIDEST = result("fp32")


def test_the_widest_precision_is_never_dropped() -> None:
    assert why_dropped(CONFIG, result("fp32", accuracy=0.0), None) == ""


@pytest.mark.parametrize(
    ("other", "reason"),
    [
        (result("int8", p50_ms=0.9, size=1000), ""),
        (result("int8", p50_ms=2.0, size=300), ""),
        (result("int8", p50_ms=0.96, size=950), "does not pay beside fp32: 4% faster at p50 (margin 5%), 5% smaller"),
        (result("int8", p50_ms=1.5, size=1100), "does not pay beside fp32: 50% slower at p50 (margin 5%), 10% larger"),
        (result("int8", p50_ms=None, size=1000), "its latency is not known here"),
        (result("int8", p50_ms=None, size=500), ""),
        (result("int8", accuracy=0.88, p50_ms=0.1, size=10), "loses 2.00 points of validation accuracy to fp32"),
        (result("int8", accuracy=0.895, p50_ms=0.5), ""),
        # Nothing is known of the accuracy of a file that cannot be run, so nothing is held against it.
        (result("int8", accuracy=None, p50_ms=0.5), ""),
    ],
)
def test_margins(other: SchemeResult, reason: str) -> None:
    found = why_dropped(CONFIG, other, WIDEST)
    assert reason in found
    assert bool(found) == bool(reason)


@given(st.floats(0.01, 3), st.integers(1, 3000), st.floats(0, 1))
def test_what_stays_loses_little_and_gains_something(p50_ms: float, size: int, accuracy: float) -> None:
    stays = not why_dropped(CONFIG, result("int8", p50_ms=p50_ms, size=size, accuracy=accuracy), WIDEST)
    gains = 1 - p50_ms >= 0.05 or 1 - size / 1000 >= 0.10
    assert stays == (gains and 0.9 - accuracy <= 0.01)


PLAIN = QuantScheme(precision=Precision.INT8)
MIXED = QuantScheme(precision=Precision.MIXED, kept=("head",))
TUNED = PLAIN.model_copy(update={"qat_epochs": 2})


def ladder(
    monkeypatch: pytest.MonkeyPatch, without_views: list[LadderRung], with_views: list[LadderRung]
) -> list[bool]:
    """Puts these rungs in the place of a climb; what is returned notes whether each was given views."""
    asked: list[bool] = []

    def climbed(bench: Any, source: Any, form: Format, baseline: SchemeResult, *, views: Any) -> list[LadderRung]:
        asked.append(views is not None)
        return with_views if views else without_views

    monkeypatch.setattr("edgedistill.pipeline.climbed", climbed)
    monkeypatch.setattr(
        "edgedistill.pipeline.settled", lambda bench, source, scheme, views: "tuned" if scheme.qat_epochs else source
    )
    return asked


def rung(scheme: QuantScheme, *, accepted: bool) -> LadderRung:
    return LadderRung(scheme=scheme, accepted=accepted, reason="" if accepted else "loses too much")


def test_the_accepted_rung_takes_the_place_of_int8(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = ladder(monkeypatch, [rung(PLAIN, accepted=False), rung(MIXED, accepted=True)], [])
    bench: Any = None
    source: Any = "student"
    views: Any = "views"
    assert shipped_scheme(bench, source, PLAIN, Format.ONNX, WIDEST, views) == (MIXED, source)
    assert asked == [False], "what a candidate could reach is not trained for"
    fp16 = QuantScheme(precision=Precision.FP16)
    assert shipped_scheme(bench, source, fp16, Format.ONNX, WIDEST, views) == (fp16, source)
    assert shipped_scheme(bench, source, PLAIN, Format.ONNX, None, views) == (PLAIN, source)


def test_training_under_rounding_is_the_last_resort(monkeypatch: pytest.MonkeyPatch) -> None:
    lost = [rung(PLAIN, accepted=False)]
    bench: Any = None
    source: Any = "student"
    views: Any = "views"
    asked = ladder(monkeypatch, lost, [*lost, rung(TUNED, accepted=True)])
    assert shipped_scheme(bench, source, PLAIN, Format.ONNX, WIDEST, views) == (TUNED, "tuned")
    assert asked == [False, True]
    assert shipped_scheme(bench, source, PLAIN, Format.ONNX, WIDEST) == (PLAIN, source), "there is no teacher to ask"
