"""The ladder's decisions, on files that are numbers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgedistill.base.errors import UnsupportedError
from edgedistill.base.intervals import Answers, pack
from edgedistill.documents.artifacts import LadderRung
from edgedistill.documents.specs import Calibration, Precision, QuantScheme
from edgedistill.selection.ladder import Margins, Measured, Tools, climb, judge

LAYERS = tuple(f"layer{i:02}" for i in range(20))
IMAGES = 10_000
FP32 = Measured(Answers(0.9, IMAGES), bytes=1000)
HALF_A_POINT = Margins(max_loss=0.005)


@dataclass(frozen=True)
class Climbed:
    """The rungs that were tried, in order."""

    rungs: tuple[LadderRung, ...]

    @property
    def winner(self) -> LadderRung | None:
        return next((rung for rung in self.rungs if rung.accepted), None)


def rung_of(
    quality: Callable[[QuantScheme], float | None],
    *,
    size: Callable[[QuantScheme], int] = lambda scheme: 300 + 30 * len(scheme.kept),
    relative_p50: Callable[[QuantScheme], float | None] = lambda scheme: None,
    refused: Callable[[QuantScheme], bool] = lambda scheme: False,
    baseline: Measured = FP32,
    margins: Margins = HALF_A_POINT,
    qat_epochs: int = 0,
) -> Climbed:
    """Climb with schemes for files; of their answers the accuracy alone is known."""

    def make(scheme: QuantScheme) -> QuantScheme:
        if refused(scheme):
            raise UnsupportedError("this format has no such thing")
        return scheme

    def answers(scheme: QuantScheme) -> Answers | None:
        found = quality(scheme)
        return None if found is None else Answers(found, IMAGES)

    tools = Tools(make=make, answers=answers, bytes=size, relative_p50=relative_p50, ranked=lambda scheme: LAYERS)
    return Climbed(climb(tools, baseline, margins, images=256, qat_epochs=qat_epochs))


def steps(climbed: Climbed) -> list[str]:
    return [rung.scheme.details for rung in climbed.rungs]


def test_plain_int8_inside_the_loss_ends_it() -> None:
    climbed = rung_of(lambda scheme: 0.895)
    assert steps(climbed) == ["int8"]
    assert climbed.winner is not None and climbed.winner == climbed.rungs[0]
    assert climbed.winner.scheme.calibration_images == 256 and climbed.winner.loss == pytest.approx(0.005)


def test_the_order_of_the_rungs_and_the_best_so_far_is_built_on() -> None:
    qualities = {
        "int8": 0.80,
        "int8, percentile ranges": 0.82,
        "int8, entropy ranges": 0.81,
        "int8, percentile ranges, equalised": 0.79,
        "int8, percentile ranges, biases corrected": 0.83,
        "mixed, percentile ranges, biases corrected, 1 layer in float": 0.84,
        "mixed, percentile ranges, biases corrected, 2 layers in float": 0.85,
        "mixed, percentile ranges, biases corrected, 4 layers in float": 0.86,
        "mixed, percentile ranges, biases corrected, 8 layers in float": 0.87,
        "mixed, percentile ranges, biases corrected, 16 layers in float": 0.88,
        "int8, percentile ranges, trained under rounding for 2 epochs": 0.9,
    }
    climbed = rung_of(lambda scheme: qualities[scheme.details], qat_epochs=2)
    assert steps(climbed) == [*qualities]
    assert climbed.winner == climbed.rungs[-1]
    assert climbed.rungs[0].reason == "loses 10.00 points, more than the 0.50 allowed"


@given(st.integers(1, 19))
def test_as_few_layers_as_will_do_are_kept(needed: int) -> None:
    climbed = rung_of(lambda scheme: 0.9 if len(scheme.kept) >= needed else 0.5, size=lambda scheme: 300)
    reached = needed <= 16
    assert (climbed.winner is not None) == reached
    if climbed.winner is not None:
        assert climbed.winner.scheme.precision is Precision.MIXED
        assert climbed.winner.scheme.kept == LAYERS[:needed], "the most damaged first"
        assert sum(rung.accepted for rung in climbed.rungs) == 1
        assert len(climbed.rungs) <= 5 + 5 + 3


def test_growth_stops_where_it_does_not_pay_any_more() -> None:
    climbed = rung_of(lambda scheme: 0.5, size=lambda scheme: 300 + 200 * len(scheme.kept))
    assert [len(rung.scheme.kept) for rung in climbed.rungs if rung.scheme.kept] == [1, 2, 4]
    assert climbed.winner is None
    assert "gains too little over fp32: 10% larger" in climbed.rungs[-1].reason


def test_int8_that_is_neither_smaller_nor_faster_ends_it() -> None:
    for quality in (0.9, 0.5):
        slow = rung_of(lambda scheme, a=quality: a, size=lambda scheme: 950, relative_p50=lambda scheme: 0.98)  # type: ignore[misc]
        assert steps(slow) == ["int8"] and slow.winner is None
        expected = "gains too little over fp32: 2% faster at p50 (margin 5%), 5% smaller (margin 10%)"
        assert slow.rungs[0].reason.endswith(expected)


def test_faster_is_enough_and_so_is_smaller() -> None:
    assert rung_of(lambda scheme: 0.9, size=lambda scheme: 1000, relative_p50=lambda scheme: 0.95).winner
    assert rung_of(lambda scheme: 0.9, size=lambda scheme: 890, relative_p50=lambda scheme: 5.0).winner
    assert not rung_of(lambda scheme: 0.9, size=lambda scheme: 1000).winner, "nothing is known of its latency"


def test_latency_is_measured_for_what_may_win_alone() -> None:
    asked: list[str] = []

    def relative_p50(scheme: QuantScheme) -> float:
        asked.append(scheme.details)
        return 0.5

    climbed = rung_of(lambda scheme: 0.9 if scheme.equalized else 0.5, relative_p50=relative_p50)
    assert asked == ["int8, equalised"]
    assert [rung.relative_p50 for rung in climbed.rungs] == [None, None, None, 0.5]


def answering(wrong: range) -> Answers:
    """Answers to ten thousand images, these wrong."""
    right = [image not in wrong for image in range(10_000)]
    return Answers(sum(right) / len(right), len(right), pack(right))


@pytest.mark.parametrize(
    ("wrong", "accepted"),
    [(range(330), True), (range(340), False), (range(200, 540), False)],
    ids=["surely inside", "seen inside, not surely", "as many on other images"],
)
def test_a_rung_is_held_against_the_same_images(wrong: range, accepted: bool) -> None:
    tools = Tools(
        make=lambda scheme: scheme,
        answers=lambda scheme: answering(wrong),
        bytes=lambda scheme: 300,
        relative_p50=lambda scheme: None,
        ranked=lambda scheme: LAYERS,
    )
    scheme = QuantScheme(precision=Precision.INT8)
    rung, pays = judge(tools, scheme, scheme, Measured(answering(range(300)), 1000), HALF_A_POINT)
    assert (rung.accepted, pays) == (accepted, True)
    assert accepted or "with 95% confidence no more than" in rung.reason
    assert rung.loss is not None and rung.loss < HALF_A_POINT.max_loss, "what was seen alone would do"


def test_what_a_format_does_not_have_is_a_rung_that_says_so() -> None:
    climbed = rung_of(
        lambda scheme: 0.9 if scheme.bias_corrected else 0.5,
        refused=lambda scheme: scheme.calibration is not Calibration.MINMAX or scheme.equalized,
    )
    assert steps(climbed) == [
        "int8",
        "int8, percentile ranges",
        "int8, entropy ranges",
        "int8, equalised",
        "int8, biases corrected",
    ]
    assert [rung.reason for rung in climbed.rungs[1:4]] == ["this format has no such thing"] * 3
    assert climbed.winner == climbed.rungs[-1]


def test_a_file_that_cannot_be_run_is_not_held_against_anything() -> None:
    climbed = rung_of(lambda scheme: None, size=lambda scheme: 300)
    assert steps(climbed) == ["int8"] and climbed.winner is not None and climbed.winner.loss is None


def test_a_format_that_can_do_nothing() -> None:
    climbed = rung_of(lambda scheme: 0.9, refused=lambda scheme: True)
    assert climbed.winner is None
    assert all(rung.reason for rung in climbed.rungs)


def test_a_rung_comes_back_from_json_as_it_was() -> None:
    climbed = rung_of(lambda scheme: 0.7 + 0.001 * len(scheme.kept))
    most = max(climbed.rungs, key=lambda rung: len(rung.scheme.kept))
    assert len(most.scheme.kept) == 16 and most.quality == max(rung.quality or 0.0 for rung in climbed.rungs)
    assert LadderRung.model_validate_json(most.model_dump_json()) == most
