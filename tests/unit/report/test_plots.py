"""What the plots show is what the result holds."""

from __future__ import annotations

from types import ModuleType

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgedistill.artifacts import MeasuredLatency, OpTiming
from edgedistill.explanation.operators import operator_kinds
from edgedistill.report.plots.distribution import _cumulative, distribution
from edgedistill.report.plots.frontier import frontier
from edgedistill.report.plots.halving import halving
from edgedistill.report.plots.operators import TOP_OPERATORS, operators
from edgedistill.report.plots.order import order
from edgedistill.report.plots.predictions import predictions
from edgedistill.report.tables import dropped, unknowns
from edgedistill.results import BuildResult
from edgedistill.specs import Percentile


def test_every_trial_that_was_judged_is_on_the_frontier_plot(realistic: ModuleType) -> None:
    result: BuildResult = realistic.make_result()
    traces = {trace.name: trace for trace in frontier(result).data}
    marks = [t for name, t in traces.items() if name.startswith(("measured", "predicted"))]
    shown = {int(text.split(":")[0].removeprefix("<b>trial ")) for trace in marks for text in trace.hovertext}
    assert shown == {t.number for t in result.trials if t.rungs}
    measured = sorted(x for t in marks if t.name.startswith("measured") for x in t.x)
    latencies = [s.latency.p95_ms for t in result.trials for s in t.schemes if isinstance(s.latency, MeasuredLatency)]
    assert measured == sorted(latencies)
    assert list(traces["frontier of what was measured"].x) == sorted(p.latency_ms for p in result.frontier)
    assert traces["budget 0.412 ms"].x == (0.412, 0.412)
    assert traces["teacher, measured"].y == (result.teacher.accuracy_validation,)


def test_kinds_differ_in_shape_and_not_in_colour_alone(realistic: ModuleType) -> None:
    traces = [t for t in frontier(realistic.make_result()).data if t.marker.symbol]
    assert len({t.marker.symbol for t in traces}) >= len(traces) - 1, "the ring round the student repeats a shape"
    assert all(str(t.marker.color).startswith("var(--") for t in traces), "the page resolves the scheme's colours"


def test_a_ring_marks_the_student(realistic: ModuleType) -> None:
    result: BuildResult = realistic.make_result()
    (ring,) = [t for t in frontier(result).data if t.name == "the student that ships"]
    assert ring.x == (result.trials[realistic.WINNER].schemes[1].latency.p95_ms,)  # type: ignore[union-attr]


def test_nothing_to_place_gives_no_plot(realistic: ModuleType) -> None:
    assert frontier(realistic.make_unmeasured().model_copy(update={"trials": ()})) is None
    assert halving(realistic.make_result(trials=())) is None
    assert order(realistic.make_result(trials=())) is None
    assert predictions(realistic.make_unmeasured()) is None
    assert distribution(None, None, 1.0, Percentile.P95) is None
    assert operators(()) is None


@given(st.lists(st.integers(1, 10**9), min_size=1, max_size=3000))
def test_the_curve_tells_true_shares_and_keeps_its_tail(samples: list[int]) -> None:
    x, y = _cumulative(samples)
    assert x == sorted(x) and y == sorted(y) and y[-1] == 1.0 and x[-1] == max(samples) / 1e6
    for ms, share in zip(x, y, strict=True):
        at_most = sum(s / 1e6 <= ms for s in samples) / len(samples)
        below = sum(s / 1e6 < ms for s in samples) / len(samples)
        assert below < share <= at_most + 1e-12
    assert sum(share > 0.95 for share in y) == len([i for i in range(1, len(samples) + 1) if i / len(samples) > 0.95])


def test_a_curve_a_session_and_a_log_axis_where_far_apart(realistic: ModuleType) -> None:
    near, far = realistic.make_profile("a", 0.2), realistic.make_profile("b", 9.0)
    both = distribution(near, far, 0.4, Percentile.P95)
    assert [t.name for t in both.data[:-1]] == [f"{n}, session {i}" for n in ("student", "teacher") for i in (1, 2, 3)]
    assert both.layout.xaxis.type == "log"
    assert distribution(near, None, 0.25, Percentile.P95).layout.xaxis.type is None


def test_operators_are_the_costliest_in_order() -> None:
    timings = tuple(OpTiming(name=f"n{i}", op_type="Conv" if i % 2 else "Add", median_us=float(i)) for i in range(40))
    (bar,) = operators(timings).data
    assert list(bar.x) == [float(39 - i) for i in range(TOP_OPERATORS)]
    assert bar.text[0] == "5.0%", "its share of all, not of those shown"
    conv, add = operator_kinds(timings)
    assert (conv.name, conv.count, conv.total_us) == ("Conv", 20, 400.0)
    assert conv.share + add.share == pytest.approx(1)


def test_two_operators_of_one_short_name_keep_their_bars() -> None:
    timings = tuple(OpTiming(name=f"{i}" + "x" * 60, op_type="Conv", median_us=1.0) for i in range(3))
    assert len(set(operators(timings).data[0].y)) == 3


def test_rungs_hold_every_candidate(realistic: ModuleType) -> None:
    result: BuildResult = realistic.make_result()
    figure = halving(result)
    assert len(figure.data) == sum(bool(t.rungs) for t in result.trials)
    assert figure.data[-1].name == "the student that ships", "drawn last, above the others"


def test_what_was_dropped_says_why(realistic: ModuleType) -> None:
    groups = dict(dropped(realistic.make_result()))
    assert groups["Formats and precisions of the student"][0][0] == "onnx fp16"
    assert [subject for subject, _ in groups["Turned away by a measurement"]] == ["trial 7, mobileone w0.5 d1 @32"]
    assert groups["Failed"][0][1] == "the loss was not finite in epoch 2 (batch 31)"
    assert dropped(realistic.make_result(dropped=(), trials=())) == ()


def test_each_unknown_has_its_reason(realistic: ModuleType) -> None:
    rows = dict(unknowns(realistic.make_result()))
    assert set(rows) == {"package/student-fp16.mlpackage", "package/student-fp16.engine"}
    assert "Checked instead: the file was read back" in rows["package/student-fp16.engine"]
    assert "teacher" in dict(unknowns(realistic.make_unmeasured()))


def test_students_that_nobody_trained_are_marked_with_both_intervals(realistic: ModuleType) -> None:
    result: BuildResult = realistic.make_result()
    figure = frontier(result)
    (expected,) = [t for t in figure.data if t.name == "not trained: latency and accuracy predicted"]
    assert list(expected.x) == [p.latency.latency_ms for p in result.predicted]
    assert list(expected.y) == [p.accuracy_validation for p in result.predicted]
    for bars, ends in (
        (expected.error_x, [(p.latency.latency_ms, p.latency.low_ms, p.latency.high_ms) for p in result.predicted]),
        (
            expected.error_y,
            [(p.accuracy_validation, p.accuracy_validation_low, p.accuracy_validation_high) for p in result.predicted],
        ),
    ):
        assert list(bars.arrayminus) == pytest.approx([middle - low for middle, low, _ in ends])
        assert list(bars.array) == pytest.approx([high - middle for middle, _, high in ends])
    assert all("nobody trained or measured it" in text for text in expected.hovertext)
    assert expected.marker.symbol == "diamond-open", "open as all that is predicted, and unlike those that were trained"
    low, high = figure.layout.yaxis.range
    assert low < min(expected.y) and max(expected.y) < high


def test_predictions_stand_against_measurements_on_equal_axes(realistic: ModuleType) -> None:
    result: BuildResult = realistic.make_result()
    figure = predictions(result)
    traces = {t.name: t for t in figure.data}
    held, missed = traces["interval held the measurement"], traces["interval missed it"]
    fp32 = {t.number: t.schemes[0].latency.p95_ms for t in result.trials if t.schemes}  # type: ignore[union-attr]
    assert sorted([*held.x, *missed.x]) == sorted(fp32.values()), "in the precision that was predicted"
    assert list(missed.x) == [fp32[7]]
    for trace in (held, missed):
        for x, y, up, down in zip(trace.x, trace.y, trace.error_y.array, trace.error_y.arrayminus, strict=True):
            assert (y - down <= x <= y + up) == (trace is held)
    assert figure.layout.xaxis.range == figure.layout.yaxis.range
    assert list(traces["predicted = measured"].x) == list(traces["predicted = measured"].y)


def test_trials_in_order_with_the_best_so_far(realistic: ModuleType) -> None:
    result: BuildResult = realistic.make_result()
    figure = order(result)
    marks = [t for t in figure.data if t.mode == "markers"]
    trained = sorted(t.number for t in result.trials if t.rungs)
    for axis in ("y", "y2"):
        assert sorted(x for t in marks if (t.yaxis or "y") == axis for x in t.x) == trained
    above, below = [t for t in figure.data if t.name == "best so far inside all limits"]
    assert list(above.x) == list(below.x) == list(range(2, 12)), "from the first that kept all limits to the end"
    assert list(above.y) == sorted(above.y), "the most accurate so far"
    assert max(below.y) <= result.budget.latency_ms
    assert below.y[-1] == result.trials[realistic.WINNER].schemes[1].latency.p95_ms  # type: ignore[union-attr]
    assert not [t for t in order(realistic.make_not_met()).data if t.name == "best so far inside all limits"]
