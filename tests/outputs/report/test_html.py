"""The page: complete, safe with any text, self-contained."""

from __future__ import annotations

import json
import re
from pathlib import Path
from types import ModuleType

import plotly.graph_objects as go
import pytest
from hypothesis import given
from hypothesis import strategies as st
from plotly.offline import get_plotlyjs_version
from report_page import HOSTILE, Page, hostile, profiles_for

from edgedistill.base.errors import InputError
from edgedistill.documents.results import QualityLimit
from edgedistill.outputs.explain.build_folder import ReportProfiles, read_profiles
from edgedistill.outputs.report import html
from edgedistill.outputs.report.html import render_report, write_report
from edgedistill.outputs.report.page import embedded_json
from edgedistill.outputs.report.proof_tables import alternating

SECTIONS = [
    "The proof",
    "Accuracy against latency",
    "Latency, run by run",
    "Operators by time",
    "Shipped artifacts",
    "The search",
    "Candidates, rung by rung",
    "Rejected, pruned, dropped or failed",
    "Environment",
    "Repeat it yourself",
    "Reproduce",
]


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
        "edgedistill build BUILD.toml --target host --budget 20%@p95 --out .\nedgedistill build",
        "edgedistill build BUILD.toml --target host --budget 20%@p95 --out . --remeasure",
        "edgedistill profile package/student-int8.onnx --target host --beside teacher.onnx",
        "is the fastest of 2 students as accurate as the most accurate one (within 2.0 points, 95% confidence), of 3 "
        "students whose files keep every limit, of 13 tried",
        "10.0% to 10.5% of the teacher's in 22 sessions",
        "The search stopped because no untried candidate is likely enough to do better.",
        "5 of 6 predicted intervals held what was measured (1 of 1 calibrated ones); median error 7.5%.",
        "p95 0.496 ms in int8 (24.1% of the teacher's by way of the anchor): 20.3% over",
        "between trials 5 and 6",
        "mobileone w0.75 d1 @24, int8, not trained",
        "≈ 13.4%10.7% to 20.2%",
        "The student that ships reached 95.60% after 4 epochs, 96.70% after 8 epochs, 97.80% after 16 epochs.",
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
    assert (
        "The median session of this proof measured 10.2% of the teacher's, and 9.9% of the teacher's in the proof before "
        "it, begun 2025-12-24 18:00:00 UTC, of the same file: +3.4%." in text
    )
    assert "Beside earlier builds" not in Page(render_report(realistic.make_result(), ReportProfiles())).text


def test_a_file_that_is_not_proven_is_called_so(realistic: ModuleType) -> None:
    result = realistic.disproven(realistic.make_result(), 5, (0.08,) * 20 + (0.21, 0.22))
    text = Page(render_report(result, ReportProfiles())).text
    row = "trial 5, mobileone w0.5 d0.5 @16, int8\nfile\nnot proven\nin 22 sessions of 3.0 s over 1 min 28 s p95 was"
    assert row in text
    assert "2 of them were over 20.0% of the teacher's, at most 0 may be" in text
    assert "int8 6.9%, not proven" in text


def test_a_limit_that_the_split_cannot_tell_is_unresolved(realistic: ModuleType) -> None:
    result = realistic.make_result()
    told = QualityLimit(limit=0.97, quality_validation=0.974, lower_bound=0.951, resolved=False, kept=True)
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


# -- light, and drawn by what it carries --------------------------------------------------------------------------


@pytest.mark.parametrize("sessions", [22, 220])
def test_the_page_is_light(realistic: ModuleType, sessions: int) -> None:
    """With as many sessions as the longest proof takes, too."""
    result = realistic.make_result()
    winner = realistic.make_profile(result.proof.artifact_sha256, 0.198, sessions=sessions, anchor_ms=1.94)
    teacher = realistic.make_profile("t" * 64, 1.94, seed=1, sessions=6)
    assert len(render_report(result, ReportProfiles(winner, teacher)).encode()) < 1_500_000


def test_plotly_is_the_basic_distribution_and_fits_the_figures(realistic: ModuleType) -> None:
    """Its major version is that of the script that Python's plotly makes figures for, or a later one."""
    script = (Path(html.__file__).parent / "plotly-basic.min.js").read_text(encoding="utf-8")
    head = re.search(r"plotly\.js \(basic[^)]*\) v(\d+)\.", script[:300])
    assert head is not None, script[:300]
    assert int(head[1]) >= int(get_plotlyjs_version().split(".")[0])
    assert "MIT" in script[:300], "its license goes with it"
    assert "</script" not in script.lower() and "<!--" not in script
    result = realistic.make_result()
    page = render_report(result, profiles_for(result, realistic))
    assert page.count(script) == 1
    drawn = {trace.get("type", "scatter") for figure in Page(page).figures for trace in figure["data"]}
    assert drawn <= {"scatter", "bar", "pie"}


# -- what is asked for --------------------------------------------------------------------------------------------


def test_predictions_are_off_until_they_are_asked_for(realistic: ModuleType) -> None:
    result = realistic.make_result()
    page = Page(render_report(result, profiles_for(result, realistic)))
    boxes = [a for tag, a in page.elements if tag == "input"]
    assert [a["type"] for a in boxes] == ["checkbox"] and "checked" not in boxes[0]
    (figure,) = [figure for figure in page.figures if "views" in figure["layout"].get("meta", {})]
    off = {trace["name"] for trace in figure["data"] if trace.get("visible") == "legendonly"}
    assert off == {"predicted, not measured", "not trained: latency and accuracy predicted"}
    assert off == {trace["name"] for trace in figure["data"] if trace.get("meta") == "prediction"}
    # Without a measurement they are all that there is to see.
    alone = Page(render_report(realistic.make_unmeasured(), ReportProfiles()))
    assert alone.count("input") == 0
    assert all("visible" not in trace for trace in alone.figures[0]["data"])


def test_a_noisy_measurement_is_marked_with_the_figure_that_says_so(realistic: ModuleType) -> None:
    result = realistic.make_result()
    calm = Page(render_report(result, profiles_for(result, realistic)))
    assert "Noisy measurement" not in calm.text
    assert "1.3% (standard deviation of the log); a measurement is marked as noisy above 10%" in calm.text
    values = tuple(0.1 * 1.3 ** (number % 2) for number in range(22))
    noisy = result.model_copy(update={"proof": result.proof.model_copy(update={"values": values})})
    page = Page(render_report(noisy, profiles_for(result, realistic)))
    assert (
        "▲Noisy measurement. The 22 sessions of the proof differ by 13.4% (standard deviation of the logarithm of each "
        "session's p95 over that of the teacher). Above 10% a measurement is marked as noisy." in page.text
    )
    assert page.text.index("Noisy measurement") < page.text.index("The proof")


def test_every_plot_says_how_its_figures_were_taken(realistic: ModuleType) -> None:
    result = realistic.make_result()
    page = Page(render_report(result, profiles_for(result, realistic)))
    taken = [a for tag, a in page.elements if tag == "strong" and a.get("class") == "taken"]
    assert len(taken) == len(page.figures) == page.count("figcaption")
    for expected in (
        "Measured in the proof's 22 sessions.",
        "Measured: student in 22 sessions, teacher in 6 sessions.",
        "Measured in 1 session apart from the latency samples.",
        "Accuracy of the fp32 torch model, measured on 270 validation images.",
        "Predicted before training, then measured in 1 session in turn with the anchor.",
        "open marks are predicted.",
    ):
        assert expected in page.text, expected
    unmeasured = Page(render_report(realistic.make_unmeasured(), ReportProfiles())).text
    assert "Latencies are predicted; nothing was measured." in unmeasured


def test_what_lies_beyond_the_axes_is_named_below_them(realistic: ModuleType) -> None:
    result = realistic.make_result()
    assert "Beyond the axes" not in Page(render_report(result, ReportProfiles())).text
    slow = result.teacher.latency.model_copy(update={"p95_ms": 50.0})
    far = result.model_copy(update={"teacher": result.teacher.model_copy(update={"latency": slow})})
    assert "Beyond the axes: the teacher (98.9% right, at 2427.2%)." in Page(render_report(far, ReportProfiles())).text
