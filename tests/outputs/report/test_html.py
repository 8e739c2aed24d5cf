"""The page: complete, safe with any text, self-contained."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path
from types import ModuleType
from typing import Any

import plotly.graph_objects as go
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgedistill.base.errors import InputError
from edgedistill.documents.results import AccuracyLimit
from edgedistill.outputs.explain.build_folder import ReportProfiles, read_profiles
from edgedistill.outputs.report.html import embedded_json, render_report, write_report
from edgedistill.outputs.report.proof_tables import alternating

HOSTILE = "</script><script>document.title='owned'</script><img src=x onerror=\"document.title='owned'\">"
SECTIONS = [
    "The proof",
    "Accuracy against latency",
    "Latency, run by run",
    "Operators by time",
    "Shipped artifacts",
    "The search",
    "Candidates, rung by rung",
    "Tried and dropped",
    "Environment",
    "Repeat it yourself",
    "Reproduce",
]


class Page(HTMLParser):
    """What a browser would see: elements with attributes, the text of headings, JSON scripts, text outside scripts."""

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.headings: dict[str, list[str]] = {"h1": [], "h2": [], "h3": []}
        self.figures: list[Any] = []
        self.text = ""
        self._open: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in ("meta", "br", "img", "link"):
            self._open.append(tag)
        if tag in self.headings:
            self.headings[tag].append("")

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag, f"</{tag}> closes nothing"

    def handle_data(self, data: str) -> None:
        if self._open and self._open[-1] == "script":
            if self.elements[-1][1].get("type") == "application/json":
                self.figures.append(json.loads(data))
        elif self._open and self._open[-1] != "style":
            self.text += data
            for tag in self.headings:
                if tag in self._open:
                    self.headings[tag][-1] += data

    def count(self, tag: str) -> int:
        return sum(name == tag for name, _ in self.elements)


def profiles_for(result: Any, realistic: ModuleType) -> ReportProfiles:
    proof = result.proof
    anchor_ms = 1.94 if proof and proof.share else None
    winner = realistic.make_profile(proof.artifact_sha256, 0.198, anchor_ms=anchor_ms) if proof else None
    return ReportProfiles(winner, realistic.make_profile("t" * 64, 1.94, seed=1, sessions=6))


def hostile(value: Any) -> Any:
    """The document with every free text replaced by markup; what other fields refer to (hashes, kinds) stays."""
    kept = {
        "kind",
        "objective",
        "computed_by",
        "calibration",
        "format",
        "precision",
        "runtime",
        "percentile",
        "state",
        "status",
        "sha256",
        "artifact_sha256",
        "anchor_sha256",
        "at",
        "began_at",
        "right",
        "build_key",
    }
    if isinstance(value, dict):
        return {k: v if k in kept and isinstance(v, str) else hostile(v) for k, v in value.items()}
    if isinstance(value, list):
        return [hostile(item) for item in value]
    return f"{value}{HOSTILE}" if isinstance(value, str) and value else value


@pytest.mark.parametrize("make", ["make_result", "make_not_met", "make_unmeasured"])
def test_every_section_in_its_order(realistic: ModuleType, make: str) -> None:
    result = getattr(realistic, make)()
    profiles = profiles_for(result, realistic) if make == "make_result" else ReportProfiles()
    page = Page(render_report(result, profiles))
    assert page.headings["h2"] == SECTIONS
    (title,) = page.headings["h1"]
    assert title == {"met": "✓Budget met", "not_met": "✕Not met", "unmeasured": "?Not measured"}[result.status]
    assert page.count("table") == page.count("caption")
    assert len(page.figures) == {"make_result": 7, "make_not_met": 4, "make_unmeasured": 3}[make]
    assert result.verdict in page.text
    assert "None" not in page.text.replace("model.run(None, feed)", "") and "nan" not in page.text.split()


def test_the_figures_of_the_result_stand_in_the_page(realistic: ModuleType) -> None:
    result = realistic.make_result()
    text = Page(render_report(result, profiles_for(result, realistic))).text
    for expected in (
        "is proven inside 0.412 ms at p95 on this machine. It was measured on Intel Xeon",
        "97.4% [94.7% to 98.7%] of the test images are right (teacher 98.5% [96.3% to 99.4%])",
        "1.1 points below the teacher's 98.5%",
        "Proven: in 22 sessions of 3.0 s over 1 min 28 s p95 was 10.0% to 10.5% of the teacher's; with 95% "
        "confidence at least 80% of such sessions stay below 20.0% of the teacher's.",
        "this look errs with 0.83%, all together with less than 5%",
        "2210.5% of the teacher's✓ yes",  # the last session
        "reference arithmetic24.0 µs26.2 µs",
        "clock2900 MHz2812 MHz",
        "temperatureunknownunknown",
        "ready and without a processor44.0 ms in all",
        "processors given to others88.0 ms in all",
        "in turn withthe teacher's fp32 file",
        "CPU 1, shares its core with CPU 0",
        "2026-01-02 03:04:09 UTC500",  # begun, runs
        "24.1 to 24.22.00 ms3.00 ms",  # reference, waited, stolen
        "measured,22 sessions",
        "measured,6 sessions",
        "measured,1 session",
        "97.41%94.7% to 98.7%",
        "no NVIDIA GPU in this machine",
        "the CPU has no fp16 kernels",
        "the loss was not finite in epoch 2 (batch 31)",
        "loses 1.4 points of validation accuracy",
        "edgedistill build BUILD.toml --target host --budget 20%@p95",
        "edgedistill build BUILD.toml --target host --budget 20%@p95 --remeasure",
        "edgedistill profile package/student-int8.onnx --target host --beside teacher.onnx",
        "is the fastest of 2 students as accurate as the most accurate one (within 2.0 points, 95% confidence), of 3 "
        "students whose files keep every limit, of 13 tried",
        "10.0% to 10.5% of the teacher's in 22 sessions",
        "The search stopped because no untried candidate is likely enough to do better.",
        "5 of 6 predicted intervals held what was measured (1 of 1 calibrated ones); median error 7.5%.",
        "p95 0.496 ms in int8 (24.1% of the teacher's by way of the anchor): 20.3% over",
        "between trials 5 and 6",
        "mobileone w0.75 d1 @24, int8, not trained",
        "≈ 13.4%10.7% to20.2%",
        result.data.fingerprint,
        result.build_key,
    ):
        assert expected in text, expected


def test_a_proof_in_milliseconds_speaks_of_no_teacher(realistic: ModuleType) -> None:
    result = realistic.make_proven_in_ms()
    page = Page(render_report(result, profiles_for(result, realistic)))
    proof = page.text[page.text.index("The proof") : page.text.index("Accuracy against latency")]
    assert "stay below 0.412 ms" in proof and "teacher" not in proof
    assert "alternating" not in page.text, "nothing ran in turn with it"


def test_an_earlier_proof_stands_beside_this_one_and_load_is_told(realistic: ModuleType) -> None:
    result = realistic.make_measured_again()
    text = Page(render_report(result, profiles_for(result, realistic))).text
    newer, older = text.index("2026-01-02 03:04:05 UTCthis file"), text.index("2025-12-24 18:00:00 UTCthis file")
    assert newer < older
    assert "9.7% to 10.1% of the teacher's in 22 sessions20.0% of the teacher'sproven" in text
    assert "the machine has changed since 2025-12-24" in text
    assert "p95 was 0.210 ms in the first third of 1 min 0 s without a pause and 0.231 ms in the last (+10.0%)" in text
    assert "Measured again" not in Page(render_report(realistic.make_result(), ReportProfiles())).text


def test_a_file_that_is_not_proven_is_called_so(realistic: ModuleType) -> None:
    result = realistic.disproven(realistic.make_result(), 5, (0.08,) * 20 + (0.21, 0.22))
    text = Page(render_report(result, ReportProfiles())).text
    assert "trial 5, mobileone w0.5 d0.5 @16, int8: in 22 sessions of 3.0 s over 1 min 28 s p95 was" in text
    assert "2 of them were over 20.0% of the teacher's, at most 0 may be" in text
    assert "int8 6.9%not proven" in text


def test_a_limit_that_the_split_cannot_tell_is_unresolved(realistic: ModuleType) -> None:
    result = realistic.make_result()
    told = AccuracyLimit(limit=0.97, accuracy_validation=0.974, lower_bound=0.951, resolved=False, kept=True)
    text = Page(
        render_report(result.model_copy(update={"constraints": (*result.constraints, told)}), ReportProfiles())
    ).text
    assert "97.40%, unresolved: the split is too small to tell" in text


def test_ratios_of_medians_are_not_passed_off_as_ratios_of_p95(realistic: ModuleType) -> None:
    """400 runs of each resolve p95: sessions of 500 do, those of 300 do not."""
    result = realistic.make_result()
    profiles = profiles_for(result, realistic)
    assert "compared by median" not in Page(render_report(result, profiles)).text
    cut = [
        s.model_copy(update={"samples_ns": s.samples_ns[:300], "anchor_ns": s.anchor_ns[:300], "turns": ((5, 5),) * 60})
        for s in profiles.winner.sessions[:3]
    ]
    sessions = (*cut, *profiles.winner.sessions[3:])
    short = ReportProfiles(profiles.winner.model_copy(update={"sessions": sessions}))
    told = "compared by median3 of 22 sessions: p95 takes 400 runs of each model"
    assert told in Page(render_report(result, short)).text


def test_longer_turns_are_asked_for_where_alternating_changes_much(realistic: ModuleType) -> None:
    result = realistic.make_result()
    profiles = profiles_for(result, realistic)
    assert (
        "student, measured in turn with another file: alternating changes the ratio by "
        in Page(render_report(result, profiles)).text
    )
    slow_first = tuple(500_000 if number % 5 < 3 else 198_000 for number in range(500))
    cold = profiles.winner.model_copy(
        update={"sessions": tuple(s.model_copy(update={"samples_ns": slow_first}) for s in profiles.winner.sessions)}
    )
    told, warn = alternating(cold)
    assert warn and told.startswith("alternating changes the ratio by +152.6%: too much; raise burst in [profile]")
    assert (
        f"Warning: student, measured in turn with another file: {told}."
        in Page(render_report(result, ReportProfiles(cold))).text
    )


def test_an_unmeasured_build_calls_nothing_measured(realistic: ModuleType) -> None:
    page = Page(render_report(realistic.make_unmeasured(), ReportProfiles()))
    assert "so whether 5.00 ms at p95 is kept is unknown; predicted is 3.20 ms at p95 in int8" in page.text
    assert "✓ yes" not in page.text
    names = [trace["name"] for trace in page.figures[0]["data"]]
    assert names == ["predicted, not measured", "budget 5.00 ms at p95"]
    names = [trace["name"] for trace in page.figures[1]["data"] if trace.get("showlegend", True)]
    assert names == ["most accurate so far", "latency predicted, not measured", "budget 5.00 ms at p95"]
    assert "No latency was measured." in page.text and "interpolated" not in page.text


def test_what_a_reference_interpreter_computed_is_not_called_the_devices(realistic: ModuleType) -> None:
    result = realistic.with_reference()
    page = Page(render_report(result, profiles_for(result, realistic)))
    assert "99.60%± 0.0085reference" in page.text
    assert (
        "Accuracy on the device unknown; a reference interpreter, not the device, gets 99.22% (97.2% to 99.8%) of 256 "
        "validation images right" in page.text
    )


def test_no_text_becomes_markup(realistic: ModuleType) -> None:
    """Every string of the result and of the profiles hostile at once: the elements of the page are the same as ever."""
    result = realistic.make_result()
    profiles = profiles_for(result, realistic)
    evil = type(result).model_validate(hostile(result.model_dump(mode="json")))
    profile_type = type(profiles.winner)
    evil_profiles = ReportProfiles(
        *(profile_type.model_validate(hostile(p.model_dump(mode="json"))) for p in (profiles.winner, profiles.teacher))
    )
    tame, wild = Page(render_report(result, profiles)), Page(render_report(evil, evil_profiles))
    assert [tag for tag, _ in wild.elements] == [tag for tag, _ in tame.elements]
    assert [sorted(attributes) for _, attributes in wild.elements] == [sorted(a) for _, a in tame.elements]
    assert HOSTILE in wild.text, "shown as the text that it is"
    drawn = json.dumps(wild.figures)
    assert "&lt;/script&gt;" in drawn, "Plotly gets it as text"
    assert "<script" not in drawn and "<img" not in drawn


@given(st.text())
def test_embedded_json_ends_no_element_and_reads_back(text: str) -> None:
    embedded = embedded_json(go.Figure(go.Scatter(x=[1], y=[2], name=text)))
    assert not re.search("[<>&\u2028\u2029]", embedded)
    assert json.loads(embedded)["data"][0].get("name", "") == text


def test_nothing_is_loaded_from_anywhere(realistic: ModuleType) -> None:
    result = realistic.make_result()
    page = Page(render_report(result, profiles_for(result, realistic)))
    assert not {"link", "img", "iframe"} & {tag for tag, _ in page.elements}
    links = [a.get("src") or a.get("href") for _, a in page.elements if "src" in a or "href" in a]
    assert links and all(link and link.startswith("#") for link in links)
    policy = next(a["content"] for tag, a in page.elements if tag == "meta" and "http-equiv" in a)
    assert policy is not None and policy.startswith("default-src 'none'")


def test_write_reads_the_output_folder(tmp_path: Path, realistic: ModuleType) -> None:
    """The student's profile is found by the hash of the file, not by its name; a stale one of another file is not."""
    result = realistic.make_result()
    profiles = profiles_for(result, realistic)
    (tmp_path / "profiles").mkdir()
    (tmp_path / "build.json").write_text(result.model_dump_json())
    (tmp_path / "profiles/teacher.json").write_text(profiles.teacher.model_dump_json())
    (tmp_path / "profiles/a.json").write_text(realistic.make_profile("0" * 64, 9.0).model_dump_json())
    assert read_profiles(tmp_path, result) == ReportProfiles(None, profiles.teacher)
    (tmp_path / "profiles/b.json").write_text(profiles.winner.model_dump_json())
    assert read_profiles(tmp_path, result) == profiles
    path = write_report(tmp_path)
    assert path == tmp_path / "report.html"
    assert path.read_text(encoding="utf-8") == render_report(result, profiles)
    assert read_profiles(tmp_path, realistic.make_unmeasured()).teacher is None, "not the teacher of this build"


@pytest.mark.parametrize(("text", "says"), [(None, "cannot be read"), ("{}", "not what this version")])
def test_a_missing_or_foreign_result_is_a_users_error(tmp_path: Path, text: str | None, says: str) -> None:
    if text is not None:
        (tmp_path / "build.json").write_text(text)
    with pytest.raises(InputError, match=says):
        write_report(tmp_path)


BROWSER = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
PROBE = """
<script>const errors = []; addEventListener("error", (event) => errors.push(event.message));
addEventListener("load", () => setTimeout(() => {
  const wide = document.documentElement.scrollWidth > innerWidth;
  const drawn = document.querySelectorAll(".canvas.js-plotly-plot").length;
  const bar = document.querySelector("#plot-operators .point path");
  const report = {errors, title: document.title, wide, drawn, width: innerWidth, fill: bar && getComputedStyle(bar).fill};
  document.body.setAttribute("data-probe", JSON.stringify(report));
}, 500))</script>"""


@pytest.mark.skipif(BROWSER is None, reason="no Chromium to open the report in")
@pytest.mark.parametrize(("width", "dark"), [(1280, False), (500, True)])
def test_in_a_browser(tmp_path: Path, realistic: ModuleType, width: int, dark: bool) -> None:
    """Hostile texts run nothing, all plots are drawn in the scheme's colours, and the page does not scroll sideways."""
    result = realistic.make_result()
    evil = type(result).model_validate(hostile(result.model_dump(mode="json")))
    html = render_report(evil, profiles_for(result, realistic)).replace("<body>", f"<body>{PROBE}")
    (tmp_path / "r.html").write_text(html, encoding="utf-8")
    command = [
        str(BROWSER),
        *("--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"),
        *("--disable-sync", "--disable-component-update", f"--user-data-dir={tmp_path / 'browser'}"),
        *(f"--window-size={width},900", "--virtual-time-budget=8000", "--dump-dom"),
        f"--blink-settings=preferredColorScheme={0 if dark else 1}",
        (tmp_path / "r.html").as_uri(),
    ]
    dom = subprocess.run(command, capture_output=True, text=True, timeout=90).stdout
    found = re.search(r'data-probe="([^"]*)"', dom)
    assert found is not None, "the page's scripts did not run to their end"
    probe = json.loads(found[1].replace("&quot;", '"').replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&"))
    assert probe["errors"] == []
    assert probe["title"].startswith("Budget met")
    assert probe["drawn"] == 7
    assert not probe["wide"], f"scrolls sideways at {probe['width']} px"
    assert probe["fill"] == ("rgb(111, 177, 255)" if dark else "rgb(11, 92, 194)")
