"""What the plots show is what the result holds."""

from __future__ import annotations

from itertools import groupby
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from factories import make_session
from hypothesis import given
from hypothesis import strategies as st

from edgedistill.documents.measurements import MeasuredLatency, OpTiming
from edgedistill.documents.results import BuildResult
from edgedistill.documents.specs import Budget, Percentile
from edgedistill.outputs.explain.operators import operator_kinds
from edgedistill.outputs.report.plots.axes import time_axis, time_range, without_outliers
from edgedistill.outputs.report.plots.distribution import (
    LEGEND_WIDTH,
    MOST_FAINT,
    SHARES,
    Sampled,
    curve_ms,
    curves,
    distribution,
)
from edgedistill.outputs.report.plots.frontier import frontier
from edgedistill.outputs.report.plots.halving import halving
from edgedistill.outputs.report.plots.operators import TOP_OPERATORS, operators
from edgedistill.outputs.report.plots.order import order
from edgedistill.outputs.report.plots.over_time import begins_s, over_time, run_starts_s, stretches_of
from edgedistill.outputs.report.plots.placed import place
from edgedistill.outputs.report.plots.predictions import predictions
from edgedistill.outputs.report.plots.style import new_figure
from edgedistill.outputs.report.tables import unknowns


def within(latency_ms: float) -> Budget:
    return Budget(latency_ms=latency_ms, percentile=Percentile.P95)


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
    assert traces["budget 20.0% of the teacher's p95"].x == (0.412, 0.412)
    assert traces["teacher, measured"].y == (result.teacher.quality_validation,)


def test_kinds_differ_in_shape_and_not_in_colour_alone(realistic: ModuleType) -> None:
    traces = [t for t in frontier(realistic.make_result()).data if t.marker.symbol]
    assert len({t.marker.symbol for t in traces}) >= len(traces) - 1, "the ring round the student repeats a shape"
    assert all(str(t.marker.color).startswith("var(--") for t in traces), "the page resolves the scheme's colours"


def test_a_ring_marks_the_student(realistic: ModuleType) -> None:
    result: BuildResult = realistic.make_result()
    (ring,) = [t for t in frontier(result).data if t.name == "the student that ships"]
    assert ring.x == (result.trials[realistic.WINNER].schemes[1].latency.p95_ms,)  # type: ignore[union-attr]


def test_axes_tell_latency_in_the_unit_of_the_budget(realistic: ModuleType) -> None:
    share, alone = (make().budget for make in (realistic.make_result, realistic.make_proven_in_ms))
    axis = frontier(realistic.make_result()).layout.xaxis
    assert "% of the teacher's" in axis.title.text
    assert dict(zip(axis.ticktext, axis.tickvals, strict=True))["20"] == pytest.approx(share.latency_ms)
    assert ", ms" in frontier(realistic.make_proven_in_ms()).layout.xaxis.title.text
    for highest_ms in (0.41, 0.8, 2.3):
        figure = new_figure(100)
        assert not time_axis(figure, [0.4, highest_ms], "latency", budget=share)
        ticks = figure.layout.xaxis.tickvals
        assert 4 <= len(ticks) <= 11 and time_range([0.4, highest_ms], False)[0] <= ticks[0]
    time_axis(figure, [0.4, 0.8], "latency", budget=alone)
    assert figure.layout.xaxis.title.text == "latency, ms"


def test_nothing_to_place_gives_no_plot(realistic: ModuleType) -> None:
    assert frontier(realistic.make_unmeasured().model_copy(update={"trials": ()})) is None
    assert halving(realistic.make_result(trials=())) is None
    assert order(realistic.make_result(trials=())) is None
    assert predictions(realistic.make_unmeasured()) is None
    assert distribution(None, None, within(1.0), 1.0) is None
    assert operators(()) is None


@given(st.lists(st.integers(1, 10**9), min_size=1, max_size=3000))
def test_the_curve_tells_true_shares_from_the_fastest_run_to_the_slowest(samples: list[int]) -> None:
    curve = curve_ms(samples).tolist()
    assert (curve[0], curve[-1]) == (min(samples) / 1e6, max(samples) / 1e6)
    assert curve == sorted(curve)
    for ms, share in zip(curve, SHARES.tolist(), strict=True):
        assert sum(s / 1e6 <= ms for s in samples) / len(samples) >= share - 1e-12
        assert sum(s / 1e6 < ms for s in samples) / len(samples) <= share + 1e-12


def test_sessions_are_faint_behind_their_median_and_all_of_it_is_light(realistic: ModuleType) -> None:
    near, far = realistic.make_profile("a", 0.2), realistic.make_profile("b", 9.0, sessions=6)
    both = distribution(near, far, within(0.4), 0.4)
    assert [trace.name for trace in both.data[:-1]] == [None, "student, 22 sessions", None, "teacher, 6 sessions"]
    groups = [trace.legendgroup for trace in both.data[:-1]]
    assert groups[0] == groups[1] != groups[2] == groups[3], "a file's entry stands for all its curves"
    faint, middle = both.data[:2]
    assert faint.opacity < 0.5 and faint.line.width < middle.line.width
    assert list(faint.x).count(None) == 21, "a gap between any two sessions"
    assert middle.x[30] == pytest.approx(np.median([curve_ms(s.samples_ns)[30] for s in near.sessions]), rel=1e-6)
    assert len(both.to_json()) < 60_000
    assert both.layout.xaxis.type == "log"
    one = distribution(realistic.make_profile("a", 0.2, sessions=1), None, within(0.25), 0.25)
    assert [trace.name for trace in one.data[:-1]] == ["student, 1 session"]
    assert one.layout.xaxis.type == "linear"
    named = Sampled("a-folder-of-mine-mobilenetv4_conv_small.fp32.onnx", [[1, 2]], "red")
    (long, *_) = curves([named], Percentile.P95).data
    lines = long.name.split("<br>")
    assert "".join(lines).replace(" ", "") == f"{named.name},1session", "all of it is told"
    assert len(lines) == 2 and max(map(len, lines)) <= LEGEND_WIDTH


# -- over time ----------------------------------------------------------------------------------------------------


def traces(figure: Any) -> dict[str, Any]:
    return {trace.name: trace for trace in figure.data}


def test_sessions_over_time_keep_begin_and_end_and_stay_light(realistic: ModuleType) -> None:
    profile = realistic.make_profile("a", 0.2, sessions=40)
    proof = realistic.make_proof(realistic.proof_values(0.21), 0.412, share=False, sha256="a")
    figure = over_time(profile, proof, Percentile.P95)
    drawn = traces(figure)
    median, tail = drawn["median of a stretch of runs"], drawn["95th percentile of a stretch of runs"]
    shown = sum(value is not None for trace in figure.data for value in trace.x)
    assert shown <= 2100
    assert list(median.x) == list(tail.x)
    pieces = [list(piece) for split, piece in groupby(median.x, lambda x: x is None) if not split]
    assert len(pieces) == 40, "no line from one session to the next"
    for number, (piece, session) in enumerate(zip(pieces, profile.sessions, strict=True)):
        whole_s = (sum(session.samples_ns) - session.samples_ns[-1]) / 1e9
        assert piece[0] == pytest.approx(4.0 * number, abs=1e-3), "by the clock, the pauses too"
        assert piece[-1] == pytest.approx(4.0 * number + whole_s, rel=1e-4)
        assert piece == sorted(piece)


def test_runs_in_turn_stand_where_they_were() -> None:
    """Two turns of 2 and 1 runs of the file, each before 1 and 2 of the anchor."""
    session = make_session((10, 20, 30), (100, 200, 300), turns=((2, 1), (1, 2)))
    assert run_starts_s(session).tolist() == pytest.approx([0, 10e-9, 130e-9])
    assert run_starts_s(make_session((10, 20, 30))).tolist() == pytest.approx([0, 10e-9, 30e-9])


def test_sessions_without_a_clock_follow_one_another() -> None:
    sessions = [make_session((1_000_000_000,) * 3), make_session((2_000_000_000,))]
    assert begins_s(sessions) == [0.0, 3.0]


def test_a_stretch_is_its_own_runs_and_a_single_run_is_one() -> None:
    found = stretches_of(make_session([1_000_000] * 10 + [3_000_000] * 10), 5.0, 2)
    assert found.median_ms.tolist() == found.p95_ms.tolist() == [1.0, 3.0]
    assert (found.at_s[0], found.at_s[-1]) == (5.0, pytest.approx(5.037))
    alone = stretches_of(make_session((7_000_000,)), 0.0, 40)
    assert (alone.at_s.tolist(), alone.median_ms.tolist()) == ([0.0], [7.0])


def test_a_share_is_proven_by_ratios_and_drawn_as_such(realistic: ModuleType) -> None:
    result = realistic.make_result()
    profile = realistic.make_profile(result.proof.artifact_sha256, 0.2, anchor_ms=2.0)
    figure = over_time(profile, result.proof, Percentile.P95)
    drawn = traces(figure)
    ratio, limit = drawn["p95 over the teacher's"], drawn["limit 20.0% of the teacher's"]
    assert tuple(ratio.y) == result.proof.values and ratio.yaxis == limit.yaxis == "y2"
    assert set(ratio.marker.symbol) == {"circle"}
    reference = drawn["reference arithmetic around a session"]
    assert reference.yaxis == "y3"
    values = [value for value in reference.y if value is not None]
    assert values[:2] == [24.0, 24.075] and len(values) == 2 * 22


def test_a_session_over_the_limit_is_marked(realistic: ModuleType) -> None:
    values = (*realistic.proof_values(0.21)[:-1], 0.5)
    proof = realistic.make_proof(values, 0.412, share=False, sha256="a")
    drawn = traces(over_time(realistic.make_profile("a", 0.2), proof, Percentile.P95))
    assert drawn["p95 of a session"].marker.symbol == ("circle",) * 21 + ("x",)
    assert "limit 0.412 ms" in drawn
    unproven = traces(over_time(realistic.make_profile("a", 0.2, sessions=1), None, Percentile.P95))
    assert len(unproven["p95 of a session"].y) == 1 and not any(name.startswith("limit") for name in unproven)


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


def test_each_unknown_has_its_reason(realistic: ModuleType) -> None:
    rows = dict(unknowns(realistic.make_result()))
    assert set(rows) == {"package/student-fp16.mlpackage", "package/student-fp16.engine"}
    assert "Checked instead: the file was read back" in rows["package/student-fp16.engine"]
    assert "teacher" in dict(unknowns(realistic.make_unmeasured()))


def test_students_that_were_not_trained_are_marked_with_both_intervals(realistic: ModuleType) -> None:
    result: BuildResult = realistic.make_result()
    figure = frontier(result)
    (expected,) = [t for t in figure.data if t.name == "not trained: latency and accuracy predicted"]
    assert list(expected.x) == [p.latency.latency_ms for p in result.predicted]
    assert list(expected.y) == [p.quality_validation for p in result.predicted]
    for bars, ends in (
        (expected.error_x, [(p.latency.latency_ms, p.latency.low_ms, p.latency.high_ms) for p in result.predicted]),
        (
            expected.error_y,
            [(p.quality_validation, p.quality_validation_low, p.quality_validation_high) for p in result.predicted],
        ),
    ):
        assert list(bars.arrayminus) == pytest.approx([middle - low for middle, low, _ in ends])
        assert list(bars.array) == pytest.approx([high - middle for middle, _, high in ends])
    assert all("not trained, not measured" in text for text in expected.hovertext)
    assert expected.marker.symbol == "diamond-open", "open as all that is predicted, and unlike those that were trained"
    low, high = figure.layout.meta["views"]["all"]["yaxis"]["range"]
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
    assert max(below.y) <= result.budget.latency_ms
    assert list(below.y) == sorted(below.y, reverse=True), "of those as accurate the fastest"
    assert below.y[-1] == result.trials[realistic.WINNER].schemes[1].latency.p95_ms  # type: ignore[union-attr]
    assert not [t for t in order(realistic.make_not_met()).data if t.name == "best so far inside all limits"]


def test_the_best_so_far_steps_on_no_file_whose_proof_is_not_met(realistic: ModuleType) -> None:
    """A file faster than the winner's and as accurate, which would be the best, were it proven."""
    result: BuildResult = realistic.make_result()
    winner = result.trials[realistic.WINNER]
    fast = winner.schemes[1].latency.model_copy(update={"p95_ms": 0.15, "relative": None})
    scheme = winner.schemes[1].model_copy(update={"latency": fast, "proof": None})
    scheme = scheme.model_copy(update={"artifact": scheme.artifact.model_copy(update={"sha256": "b" * 64})})
    other = result.trials[2].model_copy(update={"schemes": (winner.schemes[0], scheme)})
    trials = (*result.trials[:2], other, *result.trials[3:])
    tried = realistic.disproven(result.model_copy(update={"trials": trials}), 2, (0.1,) * 20 + (0.25, 0.26))

    def lowest(build: BuildResult) -> float:
        (line,) = [t for t in order(build).data if t.name == "best so far inside all limits" and t.yaxis == "y2"]
        return float(min(line.y))

    assert lowest(result.model_copy(update={"trials": trials})) == 0.15
    assert lowest(tried) == winner.schemes[1].latency.p95_ms  # type: ignore[union-attr]
    shown = traces(frontier(tried))["measured, not proven"]
    assert min(shown.x) > result.budget.latency_ms, "at what its proof saw, not at what one session measured"
    assert "not proven" in shown.hovertext[0]


# -- what an axis shows -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "needed", "ends"),
    [
        ([0.95, 0.96, 0.97, 0.98, 0.30], [0.99], (0.95, 0.99)),
        ([0.95, 0.96, 0.97, 0.98, 0.30], [0.99, 0.30], (0.30, 0.99)),  # what is needed is no outlier
        ([0.98] * 6 + [0.97], [0.98], (0.97, 0.98)),  # outside the fence, and near enough to stay
        ([0.95, 0.98, 0.30], [0.99], (0.30, 0.99)),  # too few to tell
        ([], [0.99], (0.99, 0.99)),
    ],
)
def test_an_axis_leaves_out_only_outliers_that_squash_the_others(
    values: list[float], needed: list[float], ends: tuple[float, float]
) -> None:
    assert without_outliers(values, needed, 0.02) == ends


@given(st.lists(st.floats(1e-3, 1e3), min_size=1, max_size=40), st.lists(st.floats(1e-3, 1e3), max_size=3))
def test_an_axis_holds_what_is_needed_and_never_reaches_past_the_values(
    values: list[float], needed: list[float]
) -> None:
    low, high = without_outliers(values, needed, 0.1, np.log10)
    assert min([*values, *needed]) <= low <= high <= max([*values, *needed])
    assert all(low <= value <= high for value in needed)
    assert sum(low <= value <= high for value in values) >= len(values) / 2


def with_quality(result: BuildResult, number: int, quality: float) -> BuildResult:
    """`result`, the fp32 file of a trial being so accurate."""
    trial = result.trials[number]
    first, *rest = trial.schemes
    verification = first.verification.model_copy(update={"quality_validation": quality})
    schemes = (first.model_copy(update={"verification": verification}), *rest)
    trials = [t.model_copy(update={"schemes": schemes}) if t is trial else t for t in result.trials]
    return result.model_copy(update={"trials": tuple(trials)})


def test_outliers_do_not_squash_the_picture_and_are_named(realistic: ModuleType) -> None:
    result: BuildResult = realistic.make_result()
    usual = place(result)
    assert usual is not None and usual.beyond == ()
    far = with_quality(result, 10, 0.30)
    placed = place(far)
    assert placed is not None
    assert placed.beyond == ("trial 10, residual w0.5 d0.5 @16, fp32 (30.0% right, at 11.8%)",)
    assert frontier(far).layout.yaxis.range[0] > 0.9
    shown = [x for t in frontier(far).data if t.name.startswith("measured") for x in t.y]
    assert 0.30 in shown, "it is drawn all the same: a reader may zoom out"


def test_a_teacher_beyond_the_axis_has_its_word_at_the_edge(realistic: ModuleType) -> None:
    result: BuildResult = realistic.make_result()
    assert not frontier(result).layout.annotations
    slow = result.teacher.latency.model_copy(update={"p95_ms": 50.0})
    far = result.model_copy(update={"teacher": result.teacher.model_copy(update={"latency": slow})})
    figure = frontier(far)
    (word,) = figure.layout.annotations
    assert word.text == "teacher at 2427.2% →" and word.y == result.teacher.quality_validation
    placed = place(far)
    assert placed is not None and placed.view.latencies_ms[1] < 1


def test_axes_widen_where_predictions_are_asked_for(realistic: ModuleType) -> None:
    result: BuildResult = realistic.make_result()
    placed, figure = place(result), frontier(result)
    assert placed is not None and placed.hides_predictions
    views = figure.layout.meta["views"]
    assert list(figure.layout.xaxis.range) == views["measured"]["xaxis"]["range"]
    view, whole = placed.view, placed.whole
    for one, other in ((view.latencies_ms, whole.latencies_ms), (view.qualities, whole.qualities)):
        assert other[0] <= one[0] and one[1] <= other[1], "nothing that is measured is lost"
    assert whole.latencies_ms[0] < view.latencies_ms[0]
    unmeasured = realistic.make_unmeasured()
    alone = place(unmeasured)
    assert alone is not None and not alone.hides_predictions and alone.view == alone.whole
    assert frontier(unmeasured).layout.meta is None


@pytest.mark.parametrize("sessions", [3, 23, 220])
def test_many_sessions_have_fewer_points_each(realistic: ModuleType, sessions: int) -> None:
    faint, *_ = distribution(realistic.make_profile("a", 0.2, sessions=sessions), None, within(0.4), 0.4).data
    pieces = [list(piece) for split, piece in groupby(faint.y, lambda y: y is None) if not split]
    assert len(pieces) == sessions and sum(map(len, pieces)) <= MOST_FAINT + sessions
    assert all(piece[0] == 0 and piece[-1] == 1 for piece in pieces)
