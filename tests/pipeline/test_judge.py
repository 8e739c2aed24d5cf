"""Which precisions pay: the margins of the build file, at their edges."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from factories import make_artifact
from hypothesis import given
from hypothesis import strategies as st

from edgedistill.base.intervals import pack
from edgedistill.documents.artifacts import CompiledArtifact, Inspected, LadderRung, Parity, SchemeResult, Verified
from edgedistill.documents.build_file import BuildConfig
from edgedistill.documents.measurements import StandIn, UnknownLatency
from edgedistill.documents.specs import Format, Precision, QuantScheme
from edgedistill.documents.targets import load_target
from edgedistill.pipeline import judge as realise
from edgedistill.pipeline.judge import choose, why_dropped
from edgedistill.pipeline.meter import Meter

CONFIG = BuildConfig.model_validate(
    {
        "budget": "5ms",
        "teacher": {"model": "timm:resnet18"},
        "export": {"margin_speed": "5%", "margin_size": "10%", "max_quality_loss": "1%"},
    }
)


RELATIVE: dict[str, float | None] = {}
"""The p50 of files in turn with the widest, by hash."""
METER = Meter(load_target("host").model_copy(update={"transport": "adb"}), None)
BENCH: Any = SimpleNamespace(export=CONFIG.export, meter=METER)
SOURCE: Any = "student"


@pytest.fixture(autouse=True)
def in_turn(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Measurements are looked up; the list tells of which files they were asked."""
    asked: list[str] = []

    def relative_p50(bench: Any, artifact: CompiledArtifact, source: Any, other: CompiledArtifact) -> float | None:
        assert (bench, source, other) == (BENCH, SOURCE, WIDEST.artifact)
        asked.append(artifact.sha256)
        return RELATIVE[artifact.sha256]

    monkeypatch.setattr(realise, "relative_p50", relative_p50)
    return asked


def result(
    precision: str,
    *,
    quality: float | None = 0.9,
    relative: float | None = 1.0,
    size: int = 1000,
    form: Format = Format.ONNX,
) -> SchemeResult:
    scheme = QuantScheme(precision=Precision(precision))
    artifact = make_artifact(Precision(precision), bytes=size, format=form, sha256=f"{precision} {relative} {size}")
    RELATIVE[artifact.sha256] = relative
    parity = Parity(max_abs_error=0.0, top1_agreement=1.0, images=10_000)
    verification: Any = Inspected(reason="no device", checks=())
    if quality is not None:
        verification = Verified(parity=parity, quality_validation=quality)
    latency = UnknownLatency(reason="it is not asked for", device="host")
    return SchemeResult(scheme=scheme, artifact=artifact, verification=verification, latency=latency)


WIDEST = result("fp32")


def dropped(other: SchemeResult, baseline: SchemeResult | None = WIDEST) -> str:
    return why_dropped(BENCH, SOURCE, other, baseline)


def test_the_widest_precision_is_never_dropped() -> None:
    assert dropped(result("fp32", quality=0.0), None) == ""


@pytest.mark.parametrize(
    ("other", "reason"),
    [
        (result("int8", relative=0.9, size=1000), ""),
        (result("int8", relative=2.0, size=300), ""),
        (
            result("int8", relative=0.96, size=950),
            "gains too little over fp32: 4% faster at p50 (margin 5%), 5% smaller",
        ),
        (
            result("int8", relative=1.5, size=1100),
            "gains too little over fp32: 50% slower at p50 (margin 5%), 10% larger",
        ),
        (result("int8", relative=None, size=1000), "its latency is not known here"),
        (result("int8", relative=0.1, size=1000, form=Format.LITERT), "its latency is not known here"),
        (result("int8", relative=None, size=500), ""),
        (
            result("int8", quality=0.88, relative=0.1, size=10),
            "loses 2.00 points, more than the 1.00 allowed beside fp32",
        ),
        (result("int8", quality=0.895, relative=0.5), ""),
        # Nothing is known of the accuracy of a file that cannot be run, so nothing is held against it.
        (result("int8", quality=None, relative=0.5), ""),
    ],
)
def test_margins(other: SchemeResult, reason: str) -> None:
    found = dropped(other)
    assert reason in found
    assert bool(found) == bool(reason)


def test_the_two_run_in_turn_where_neither_quality_nor_size_tells(in_turn: list[str]) -> None:
    dropped(result("int8", quality=0.1, relative=0.5))
    dropped(result("int8", size=500))
    assert in_turn == []
    asked = result("int8", relative=0.5)
    dropped(asked)
    assert in_turn == [asked.artifact.sha256]


@given(st.floats(0.01, 3), st.integers(1, 3000), st.floats(0, 1))
def test_what_stays_loses_little_and_gains_something(relative: float, size: int, quality: float) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(realise, "relative_p50", lambda *_: relative)
        stays = not dropped(result("int8", relative=relative, size=size, quality=quality))
    gains = 1 - relative >= 0.05 or 1 - size / 1000 >= 0.10
    assert stays == (gains and 0.9 - quality <= 0.01 + 1e-9)


def test_what_was_run_in_a_files_place_is_told_of() -> None:
    other = result("int8", quality=None, relative=0.5)
    stood_in = StandIn(what="the ONNX file,", quality_validation=0.8, images=10_000)
    found = dropped(other.model_copy(update={"stand_in": stood_in}))
    assert found == "the ONNX file, loses 10.00 points, more than the 1.00 allowed beside fp32"


def test_a_loss_that_the_images_cannot_rule_out_drops_a_file() -> None:
    """Of ten thousand images it loses 0.9 points; with 95% confidence it may be 1.07, and 1 is allowed."""

    def answering(result: SchemeResult, wrong: int) -> SchemeResult:
        right = [image >= wrong for image in range(10_000)]
        ran = Verified(
            parity=Parity(max_abs_error=0.0, top1_agreement=1.0, images=10_000),
            quality_validation=sum(right) / 10_000,
            right=pack(right),
        )
        return result.model_copy(update={"verification": ran})

    other = answering(result("int8", size=100), 590)
    found = dropped(other, answering(WIDEST, 500))
    assert found.startswith("loses 0.90 points, and with 95% confidence no more than 1.07")
    assert found.endswith("which is more than the 1.00 allowed beside fp32")
    assert dropped(answering(other, 570), answering(WIDEST, 500)) == ""


PLAIN = QuantScheme(precision=Precision.INT8)
MIXED = QuantScheme(precision=Precision.MIXED, kept=("head",))
TUNED = PLAIN.model_copy(update={"qat_epochs": 2})


def ladder(monkeypatch: pytest.MonkeyPatch, *rungs: LadderRung) -> None:
    """Puts these rungs in the place of a climb; training under rounding makes "tuned" of a source."""
    monkeypatch.setattr("edgedistill.pipeline.judge.climbed", lambda bench, source, form, baseline, tune: rungs)


def rung(scheme: QuantScheme, quality: float | None = 0.5, *, accepted: bool = False) -> LadderRung:
    return LadderRung(scheme=scheme, quality=quality, accepted=accepted, reason="" if accepted else "loses too much")


NOTHING: Any = None
TUNE: Any = SimpleNamespace(key="views", of=lambda source, scheme: "tuned")
STUDENT: Any = "student"


@pytest.mark.parametrize(("accepted", "source"), [(MIXED, "student"), (TUNED, "tuned")])
def test_the_accepted_rung_takes_the_place_of_int8(
    monkeypatch: pytest.MonkeyPatch, accepted: QuantScheme, source: str
) -> None:
    ladder(monkeypatch, rung(PLAIN), rung(accepted, 0.9, accepted=True))
    chosen = choose(NOTHING, STUDENT, PLAIN, Format.ONNX, WIDEST, TUNE)
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
