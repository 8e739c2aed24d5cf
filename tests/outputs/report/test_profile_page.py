"""The page of one file's profile."""

from __future__ import annotations

import json
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from browser import BROWSER, opened
from report_page import HOSTILE, Page, hostile

from edgedistill.commands.kept_profiles import kept_of, since
from edgedistill.devices.latency.roofs import placed
from edgedistill.devices.stats import measured_latency
from edgedistill.documents.measurements import OpTiming, Profile
from edgedistill.documents.profiled import Comparison, Gate, GateLimit, ProfileResult, Roofs
from edgedistill.documents.specs import Format
from edgedistill.outputs.report.plots.roofline import LARGEST, roofline
from edgedistill.outputs.report.profile_page import render_profile, write_profile_report

ROOFS = Roofs(
    fp32_multiply_adds_per_s=40e9, int8_multiply_adds_per_s=150e9, memory_bytes_per_s=12e9, cache_bytes_per_s=60e9
)


def conv(name: str, us: float, side: int = 16, op_type: str = "FusedConv") -> OpTiming:
    image = (1, 32, side, side)
    shapes = {"inputs": (image, (32, 32, 3, 3)), "outputs": (image,), "bytes": 8 * 32 * side**2 + 4 * 9 * 32**2}
    return OpTiming(name=name, op_type=op_type, median_us=us, unit="CPUExecutionProvider", **shapes)


@pytest.fixture
def taken(realistic: ModuleType) -> Profile:
    profile: Profile = realistic.make_profile("a" * 64, 0.4, sessions=4, anchor_ms=0.5)
    timings = (
        conv("first", 120),
        conv("second", 60, side=8),
        conv("relu", 4, op_type="Relu"),
        OpTiming(name="unknown", op_type="Attention", median_us=9),
    )
    return profile.model_copy(update={"op_timings": timings})


def result(profile: Profile, **changes: Any) -> ProfileResult:
    fields: dict[str, Any] = {
        "path": "folder/model.onnx",
        "format": Format.ONNX,
        "sha256": profile.artifact_sha256,
        "bytes": 318_000,
        "latency": measured_latency(profile),
        "peak_memory_bytes": 61_300_000,
        "load_ms": 18.4,
        "first_run_ms": 2.6,
        "op_timings": profile.op_timings,
        "environment": profile.environment,
        "notes": ("inputs are random numbers",),
    }
    return ProfileResult.model_validate(fields | changes)


def whole(profile: Profile) -> ProfileResult:
    """With all that a result may have."""
    before = profile.model_copy(update={"sessions": profile.sessions[:2]})
    made = result(profile)
    gate = Gate(limit=GateLimit.parse("5ms"), values=(0.4, 0.41, 0.42, 0.43), over=0)
    comparison = Comparison(other="folder/other.onnx", p50_ratio=0.8, interval=(0.79, 0.81), p95_ratio=0.82)
    changed = since(kept_of(made, before), kept_of(made, profile))
    return result(profile, gate=gate, comparison=comparison, since=changed, roofs=ROOFS)


def test_memory_that_the_system_does_not_tell_is_unknown(taken: Profile) -> None:
    unknown = {"peak_memory_bytes": None, "model_memory_bytes": None}
    sessions = tuple(session.model_copy(update=unknown) for session in taken.sessions)
    without = taken.model_copy(update={"sessions": sessions})
    assert without.peak_memory_bytes is None
    made = result(without, peak_memory_bytes=None)
    changed = since(kept_of(made, without), kept_of(result(taken), taken))
    html = render_profile(result(without, peak_memory_bytes=None, since=changed), without)
    assert "0 B" not in html and "unknown then, unknown now" in html
    one = taken.model_copy(update={"sessions": (*taken.sessions[1:], sessions[0])})
    assert one.peak_memory_bytes is None, "a session that does not tell may be the worst"


def test_it_says_what_was_asked(taken: Profile) -> None:
    page = Page(render_profile(whole(taken), taken))
    assert page.headings["h1"] == ["model.onnx"]
    assert page.headings["h2"] == [
        "Latency over time",
        "Latency, run by run",
        "Operators by time",
        "Roofline",
        "Since the last profile",
        "Environment",
    ]
    assert len(page.figures) == 4
    assert "Gate 5.00 ms@p95: kept by all 4 sessions." in page.text
    assert "model.onnx is faster than other.onnx: p50 is 0.800 times (0.790 to 0.810)" in page.text
    assert "CPUExecutionProvider" in page.text
    assert "Operators held against the roofs: 3 of 4. They took 184 µs" in page.text
    assert "without known arithmetic or without a time are left out" in page.text


def test_it_is_as_short_as_what_is_known(taken: Profile) -> None:
    alone = taken.model_copy(
        update={
            "op_timings": (),
            "anchor_sha256": None,
            "sessions": tuple(s.model_copy(update={"anchor_ns": (), "turns": ()}) for s in taken.sessions),
        }
    )
    page = Page(render_profile(result(alone), alone))
    assert "Since the last profile" not in page.headings["h2"] and len(page.figures) == 2
    assert "does not tell what its operators take and give" in page.text
    assert "The operators were not timed" in page.text
    assert [trace.get("name") for trace in page.figures[1]["data"]] == [None, "model.onnx, 4 sessions"]


def test_no_text_becomes_markup(taken: Profile) -> None:
    made = whole(taken)
    evil_result = ProfileResult.model_validate(hostile(made.model_dump(mode="json")))
    evil = Profile.model_validate(hostile(taken.model_dump(mode="json")))
    # What an operator multiplies is read off its type: that of two stays, so that there is a roofline.
    kinds = [timing.op_type for timing in taken.op_timings[:2]] + [timing.op_type for timing in evil.op_timings[2:]]
    typed = [t.model_copy(update={"op_type": kind}) for t, kind in zip(evil.op_timings, kinds, strict=True)]
    evil = evil.model_copy(update={"op_timings": tuple(typed)})
    tame, wild = Page(render_profile(made, taken)), Page(render_profile(evil_result, evil))
    assert [tag for tag, _ in wild.elements] == [tag for tag, _ in tame.elements]
    assert HOSTILE in wild.text
    drawn = json.dumps(wild.figures)
    assert "<script" not in drawn and "<img" not in drawn


def test_nothing_is_loaded_from_anywhere(taken: Profile) -> None:
    page = Page(render_profile(whole(taken), taken))
    links = [a.get("src") or a.get("href") for _, a in page.elements if "src" in a or "href" in a]
    assert links and all(link and link.startswith("#") for link in links)
    policy = next(a["content"] for tag, a in page.elements if tag == "meta" and "http-equiv" in a)
    assert policy is not None and policy.startswith("default-src 'none'")


def test_temperature_and_clock_stand_below_the_latency(taken: Profile) -> None:
    """Where the system tells them; a panel each."""
    figure = Page(render_profile(result(taken), taken)).figures[0]
    titles = [figure["layout"][f"yaxis{number}"]["title"]["text"] for number in (2, 3)]
    assert titles == ["reference, µs", "clock, MHz"] and "yaxis4" not in figure["layout"]
    warm = [
        s.model_copy(update={"end": s.end.model_copy(update={"temperature_c": 50.0 + n, "throttle": "light"})})
        for n, s in enumerate(taken.sessions)
        if s.end is not None
    ]
    hot = taken.model_copy(update={"sessions": tuple(warm)})
    page = Page(render_profile(result(hot), hot))
    assert page.figures[0]["layout"]["yaxis4"]["title"]["text"] == "temperature, °C"
    (line,) = [trace for trace in page.figures[0]["data"] if trace["name"].startswith("temperature")]
    assert [value for value in line["y"] if value is not None] == [50.0, 51.0, 52.0, 53.0]
    assert "held back by" in page.text and "light" in page.text


def test_the_roofline_has_a_mark_for_each_operator_that_multiplies(taken: Profile) -> None:
    drawn = [found for timing in taken.op_timings if (found := placed(timing, ROOFS)) is not None]
    figure = roofline(drawn, ROOFS)
    assert figure is not None
    roofs = [trace for trace in figure.data if trace.mode == "lines"]
    marks = [trace for trace in figure.data if trace.mode == "markers"]
    assert [trace.name for trace in roofs] == ["fp32 roof, data from a cache", "fp32 roof, data from memory"]
    assert max(roofs[0].y) == pytest.approx(40) and len(marks) == 1
    first = next(one for one in drawn if one.timing.name == "first")
    assert marks[0].x[0] == pytest.approx(first.multiply_adds / first.bytes)
    assert marks[0].y[0] == pytest.approx(first.multiply_adds / 120e-6 / 1e9)
    sizes = marks[0].marker.size
    assert sizes[0] == LARGEST and sizes[1] == pytest.approx(LARGEST * 0.5**0.5), "areas are as times"
    assert roofline([one for one in drawn if one.multiply_adds == 0], ROOFS) is None


def test_it_is_written_whole(taken: Profile, tmp_path: Path) -> None:
    write_profile_report(tmp_path / "page.html", whole(taken), taken)
    assert [path.name for path in tmp_path.iterdir()] == ["page.html"]


@pytest.mark.skipif(BROWSER is None, reason="no Chromium to open the page in")
@pytest.mark.parametrize("width", [1280, 360])
def test_in_a_browser(tmp_path: Path, taken: Profile, width: int) -> None:
    probe = opened(tmp_path, render_profile(whole(taken), taken), width)
    assert probe["errors"] == [] and probe["requests"] == []
    assert probe["drawn"] == 4 and probe["width"] == width and not probe["wide"]
    assert probe["cut"] == [], "texts that reach out of their plot"
