"""Quantities: what is read, what is refused, and that what is written reads back."""

from __future__ import annotations

import math

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from edgedistill.base.errors import InputError
from edgedistill.base.units import (
    Color,
    format_bytes,
    format_color,
    format_ms,
    format_percent,
    format_seconds,
    parse_bytes,
    parse_color,
    parse_duration_ms,
    parse_fraction,
    parse_latency_ms,
)
from edgedistill.documents.specs import Budget, BudgetRequest, Percentile


@pytest.mark.parametrize(
    ("text", "expected_ms"),
    [
        ("5ms", 5),
        (" 5 ms ", 5),
        ("800us", 0.8),
        ("800µs", 0.8),
        ("1.5s", 1500),
        (".5ms", 0.5),
        ("2e1ms", 20),
        ("1ns", 1e-6),
        ("90s", 90_000),
        ("4m", 240_000),
        ("4min", 240_000),
        ("2h", 7_200_000),
        ("1h30m", 5_400_000),
        ("1h 30min", 5_400_000),
        ("1m30s", 90_000),
        ("1h0m5s", 3_605_000),
    ],
)
def test_durations_that_are_read(text: str, expected_ms: float) -> None:
    assert parse_duration_ms(text) == pytest.approx(expected_ms)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "ms",
        "5",
        "5 parsec",
        "5MS",
        "0ms",
        "-5ms",
        "infms",
        "nanms",
        "1e999ms",
        "5ms5",
        "five ms",
        "0x5ms",
        "5 m s",
        "1_0ms",
        "30m1h",
        "1h30",
        "1h30m30",
        "0h0m",
        "1d",
        "1h-5m",
        "9" * 400 + "h5m",
    ],
)
def test_durations_that_are_refused_with_an_example(text: str) -> None:
    with pytest.raises(InputError) as caught:
        parse_duration_ms(text)
    assert "5ms" in caught.value.fix


def test_a_latency_in_minutes_is_a_slip() -> None:
    assert parse_latency_ms("5ms") == 5
    for text in ("5m", "1h30m"):
        with pytest.raises(InputError) as caught:
            parse_latency_ms(text)
        assert "5ms" in caught.value.fix


@pytest.mark.parametrize(("text", "expected"), [("8GB", 8e9), ("512MiB", 512 * 2**20), ("1B", 1), ("1.5KiB", 1536)])
def test_sizes_that_are_read(text: str, expected: float) -> None:
    assert parse_bytes(text) == expected


@pytest.mark.parametrize("text", ["8", "8gb", "-1MB", "0B", "1 TB of it"])
def test_sizes_that_are_refused(text: str) -> None:
    with pytest.raises(InputError):
        parse_bytes(text)


@pytest.mark.parametrize(
    ("text", "color"), [("white", (255, 255, 255)), (" Black", (0, 0, 0)), ("#0a10FF", (10, 16, 255))]
)
def test_colours_that_are_read(text: str, color: Color) -> None:
    assert parse_color(text) == color


@given(st.tuples(*[st.integers(0, 255)] * 3))
def test_colours_read_back(color: Color) -> None:
    assert parse_color(format_color(color)) == color


@pytest.mark.parametrize("text", ["", "whit", "#fff", "#gggggg", "255,255,255", "#1234567"])
def test_colours_that_are_refused_with_an_example(text: str) -> None:
    with pytest.raises(InputError, match="is not a colour") as caught:
        parse_color(text)
    assert "#f0f0f0" in caught.value.fix


@pytest.mark.parametrize("text", ["20", "%", "inf%", "nan%", "twenty%", "20%%"])
def test_percentages_that_are_refused(text: str) -> None:
    with pytest.raises(InputError):
        parse_fraction(text)


@given(st.floats(min_value=1e-3, max_value=1e7))
def test_milliseconds_read_back_within_three_digits(value_ms: float) -> None:
    assert parse_duration_ms(format_ms(value_ms)) == pytest.approx(value_ms, rel=0.06 if value_ms < 0.01 else 0.006)


@given(st.integers(min_value=0, max_value=2**45))
def test_sizes_read_back(value: int) -> None:
    if value:
        assert parse_bytes(format_bytes(value)) == pytest.approx(value, rel=0.06)
    else:
        assert format_bytes(value) == "0 B"


@given(st.floats(min_value=0, max_value=1))
def test_percentages_read_back(fraction: float) -> None:
    assert parse_fraction(format_percent(fraction, 3)) == pytest.approx(fraction, abs=6e-6)


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [(0.42, "0.4 s"), (42.4, "42 s"), (190, "3 min 10 s"), (7500, "2 h 5 min"), (59.4, "59 s")],
)
def test_seconds_as_a_person_waits(seconds: float, expected: str) -> None:
    assert format_seconds(seconds) == expected


@given(st.floats(min_value=0.06, max_value=1e6))
def test_spans_read_back_as_well_as_they_are_shown(seconds: float) -> None:
    shown = parse_duration_ms(format_seconds(seconds)) / 1000
    assert shown == pytest.approx(seconds, abs=0.06 if seconds < 9.9 else 0.6 if seconds < 3599 else 60)


@given(st.floats(min_value=0, max_value=70) | st.floats(min_value=0, max_value=1e6))
@example(59.7)
@example(9.97)
@example(3599.8)
def test_no_minute_has_sixty_seconds(seconds: float) -> None:
    assert not format_seconds(seconds).endswith(("60 s", "60 min", "10.0 s"))


# -- budgets ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "latency_ms", "share", "percentile"),
    [
        ("5ms", 5.0, None, Percentile.P95),
        ("5ms@p99", 5.0, None, Percentile.P99),
        ("20%@p50", None, 0.2, Percentile.P50),
        (" 800us ", 0.8, None, Percentile.P95),
        ("99.9%", None, 0.999, Percentile.P95),
    ],
)
def test_budgets_that_are_read(
    text: str, latency_ms: float | None, share: float | None, percentile: Percentile
) -> None:
    request = BudgetRequest.parse(text)
    assert request.latency_ms == (pytest.approx(latency_ms) if latency_ms else None)
    assert request.share_of_teacher == (pytest.approx(share) if share else None)
    assert request.percentile is percentile


@pytest.mark.parametrize(
    "text",
    [
        "",
        "@p95",
        "5ms@",
        "5ms@p90",
        "5ms@95",
        "0%",
        "100.1%",
        "150%",
        "-20%",
        "inf%",
        "0ms",
        "-1ms",
        "infms",
        "5",
        "5ms@p95@p99",
        "5m",
        "5m@p95",
    ],
)
def test_budgets_that_are_refused(text: str) -> None:
    with pytest.raises(InputError) as caught:
        BudgetRequest.parse(text)
    assert caught.value.fix


def test_what_is_no_budget_is_answered_with_both_ways_to_write_one() -> None:
    with pytest.raises(InputError) as caught:
        BudgetRequest.parse("fast")
    assert "5ms" in caught.value.fix and "20%" in caught.value.fix


@given(st.floats(min_value=0.001, max_value=1e6), st.sampled_from(Percentile))
def test_a_budget_in_milliseconds_stays_what_it_is(latency_ms: float, percentile: Percentile) -> None:
    request = BudgetRequest.parse(f"{latency_ms!r}ms@{percentile}")
    assert request.resolve(None) == Budget(latency_ms=latency_ms, percentile=percentile)


@given(st.floats(min_value=0.001, max_value=0.999), st.floats(min_value=1e-3, max_value=1e5))
def test_a_share_is_of_the_teachers_latency(share: float, teacher_ms: float) -> None:
    budget = BudgetRequest(share_of_teacher=share).resolve(teacher_ms)
    assert budget.latency_ms == pytest.approx(share * teacher_ms)
    assert budget.share_of_teacher == share


def test_a_share_of_an_unmeasured_teacher_asks_for_milliseconds() -> None:
    with pytest.raises(InputError) as caught:
        BudgetRequest.parse("20%").resolve(None)
    assert "--budget 5ms" in caught.value.fix
    assert not math.isnan(BudgetRequest.parse("5ms").resolve(None).latency_ms)
