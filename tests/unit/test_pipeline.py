"""Which precisions pay: the margins of the build file, at their edges."""

from __future__ import annotations

from typing import Any

import pytest
from factories import make_artifact
from hypothesis import given
from hypothesis import strategies as st

from edgedistill.artifacts import Inspected, LadderRung, MeasuredLatency, Parity, SchemeResult, UnknownLatency, Verified
from edgedistill.config import BuildConfig
from edgedistill.realise import why_dropped
from edgedistill.rungs import choose
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


def ladder(monkeypatch: pytest.MonkeyPatch, *rungs: LadderRung) -> None:
    """Puts these rungs in the place of a climb; training under rounding makes "tuned" of a source."""
    monkeypatch.setattr("edgedistill.rungs.climbed", lambda bench, source, form, baseline, *, views: rungs)
    monkeypatch.setattr(
        "edgedistill.rungs.settled", lambda bench, source, scheme, views: "tuned" if scheme.qat_epochs else source
    )


def rung(scheme: QuantScheme, accuracy: float | None = 0.5, *, accepted: bool = False) -> LadderRung:
    return LadderRung(scheme=scheme, accuracy=accuracy, accepted=accepted, reason="" if accepted else "loses too much")


NOTHING: Any = None
STUDENT: Any = "student"


@pytest.mark.parametrize(("accepted", "source"), [(MIXED, "student"), (TUNED, "tuned")])
def test_the_accepted_rung_takes_the_place_of_int8(
    monkeypatch: pytest.MonkeyPatch, accepted: QuantScheme, source: str
) -> None:
    ladder(monkeypatch, rung(PLAIN), rung(accepted, 0.9, accepted=True))
    chosen = choose(NOTHING, STUDENT, PLAIN, Format.ONNX, WIDEST, NOTHING)
    assert (chosen.scheme, chosen.source, chosen.tried) == (accepted, source, "")


def test_other_precisions_and_the_widest_file_stay_what_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    ladder(monkeypatch, rung(MIXED, 0.9, accepted=True))
    half = QuantScheme(precision=Precision.FP16)
    assert choose(NOTHING, STUDENT, half, Format.ONNX, WIDEST).scheme == half
    assert choose(NOTHING, STUDENT, PLAIN, Format.ONNX, None).scheme == PLAIN, "there is nothing to lose accuracy to"


def test_where_no_rung_is_accepted_the_best_is_told_of(monkeypatch: pytest.MonkeyPatch) -> None:
    ladder(monkeypatch, rung(PLAIN), rung(MIXED, 0.7), rung(TUNED, None))
    chosen = choose(NOTHING, STUDENT, PLAIN, Format.ONNX, WIDEST)
    assert (chosen.scheme, chosen.source) == (PLAIN, "student")
    assert chosen.tried == "of 3 rungs tried the best (mixed, 1 layer in float) loses too much"
    ladder(monkeypatch, rung(PLAIN))
    assert choose(NOTHING, STUDENT, PLAIN, Format.ONNX, WIDEST).tried == "", "one rung has its reason already"
