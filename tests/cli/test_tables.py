"""Tables on a narrow terminal: names that one has to type stay whole, what matters least is left out."""

from __future__ import annotations

import io
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from rich.console import Console

from edgedistill.cli import render
from edgedistill.cli.build_table import print_result
from edgedistill.cli.explain_tables import print_explanation
from edgedistill.cli.export import print_export
from edgedistill.documents.answers import ExportedFile, ExportResult
from edgedistill.documents.artifacts import Parity
from edgedistill.documents.results import BuildResult
from edgedistill.documents.specs import ComputedBy, Format, Percentile, Precision
from edgedistill.documents.targets import all_targets
from edgedistill.outputs.explain.build_folder import ReportProfiles
from edgedistill.outputs.explain.explain import explain_build

NAME = "a-name-to-type"
WHY = "some words that go on and on, and on"


def printed(width: int, what: object) -> list[str]:
    console = Console(file=io.StringIO(), width=width)
    console.print(what)
    assert isinstance(console.file, io.StringIO)
    lines = console.file.getvalue().splitlines()
    assert max(map(len, lines)) <= width
    return lines


def listing() -> render.Listing:
    """Two figures that may be left out, of 5 and 10 characters, beside a name and a sentence."""
    columns = ("name", "first", "second", "why")
    made = render.table(*columns, whole=("name",), prose=("why",), least=("second", "first"))
    made.add_row(NAME, "12345", "1234567890", WHY)
    return made


@pytest.mark.parametrize(
    ("width", "columns"),
    [
        (200, ["name", "first", "second", "why"]),
        (72, ["name", "first", "second", "why"]),
        (71, ["name", "first", "why"]),
        (59, ["name", "first", "why"]),
        (58, ["name", "why"]),
        (40, ["name", "why"]),
    ],
)
def test_columns_give_way_in_their_order_and_the_name_never(width: int, columns: list[str]) -> None:
    lines = printed(width, listing())
    head = next(line for line in lines if "name" in line)
    assert head.split() == columns
    assert any(NAME in line for line in lines)
    assert " ".join(word for line in lines for word in line.split() if word in WHY.split()) == WHY


def test_nothing_is_cut_where_not_even_the_name_fits() -> None:
    text = "".join("".join(line.split()) for line in printed(18, listing()))
    assert sorted(text.replace("─", "")) == sorted(f"namewhy{NAME}{WHY}".replace(" ", ""))


def test_lines_between_sections_stay_where_they_are() -> None:
    made = render.table("name", "size", rows=[("a", "1")])
    made.add_section()
    made.add_row("all", "1")
    rows = [line.split() for line in printed(80, made)]
    first = rows.index(["a", "1"])
    assert rows[first + 1 : first + 3] == [[], ["all", "1"]]


@pytest.mark.parametrize("columns", ["80", "100", "200"])
def test_targets_are_listed_by_whole_names(
    command: Any, columns: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", columns)
    assert command("targets") == 0
    lines = capsys.readouterr().out.splitlines()
    table = lines[:-1]
    assert max(map(len, table)) <= int(columns)
    firsts = {line.split()[0] for line in table if line.strip()}
    assert {target.name for target in all_targets()} <= firsts
    assert any("Raspberry Pi 5" in line for line in table)


def test_exported_files_are_listed_by_whole_names() -> None:
    names = [f"mobilenetv4_conv_small.{precision}.onnx" for precision in ("fp32", "int8")]
    files = tuple(
        ExportedFile(
            format=Format.ONNX,
            precision=precision,
            path=name,
            bytes=3_000_000,
            sha256="0" * 64,
            parity=Parity(max_abs_error=1e-6, top1_agreement=1.0, images=8),
            computed_by=ComputedBy.REFERENCE,
            not_run="",
            checks=(),
            record={},
            fallbacks=None,
            seconds_conversion=1.2,
            seconds_verification=0.1,
        )
        for name, precision in zip(names, (Precision.FP32, Precision.INT8), strict=True)
    )
    result = ExportResult(
        edgedistill_version="1", model="m", contract=None, parameters=None, files=files, failures=(), notes=()
    )
    console = Console(file=io.StringIO(), width=80)
    folder = Path("/home/someone/work") / ("deep/" * 20)
    print_export(console, result, folder)
    assert isinstance(console.file, io.StringIO)
    lines = console.file.getvalue().splitlines()
    assert all(any(name in line for line in lines) for name in names)
    assert f"files in {folder}" in lines, "a path that can be copied"


@pytest.mark.parametrize("width", [80, 100, 200])
def test_an_explanation_has_every_label_whole(realistic: ModuleType, width: int) -> None:
    result = realistic.make_result()
    profile = realistic.make_profile(result.proof.artifact_sha256, 0.198)
    explained = explain_build(result, ReportProfiles(profile), Path("out"))
    console = Console(file=io.StringIO(), width=width)
    print_explanation(console, explained, 3, False)
    assert isinstance(console.file, io.StringIO)
    lines = console.file.getvalue().splitlines()
    table = lines[lines.index("what the next ones lacked") : lines.index("which operators cost the time")]
    assert [other.label for other in explained.others[:3] if not any(other.label in line for line in table)] == []
    assert any("mobileone w0.75 d1 @24, int8, not trained" in line for line in lines)
    assert len(lines) <= {80: 62, 100: 52, 200: 45}[width]


def shipped(result: BuildResult, width: int) -> list[str]:
    """The table of what a build ships, as it ends."""
    console = Console(file=io.StringIO(), width=width)
    print_result(console, result, Path("out/build.json"))
    assert isinstance(console.file, io.StringIO)
    lines = console.file.getvalue().splitlines()
    first = next(number for number, line in enumerate(lines) if line.split()[:1] == ["artifact"])
    last = next(number for number, line in enumerate(lines) if line.startswith("accuracy on "))
    assert max(map(len, lines[first:last])) <= width
    return [line for line in lines[first:last] if line.strip()]


@pytest.mark.parametrize(
    ("width", "percentile", "columns"),
    [
        (80, Percentile.P95, "artifact accuracy p95 budget"),
        (80, Percentile.P99, "artifact accuracy p99 budget"),
        (100, Percentile.P95, "artifact accuracy p95 measured in budget"),
        (200, Percentile.P95, "artifact precision size accuracy p50 p95 measured in budget"),
        (200, Percentile.P99, "artifact precision size accuracy p50 p95 p99 measured in budget"),
    ],
)
def test_what_a_build_ships_is_a_line_each_and_the_budget_s_percentile_stays(
    realistic: ModuleType, width: int, percentile: Percentile, columns: str
) -> None:
    result = realistic.make_result()
    (limit,) = result.constraints
    budget = limit.budget.model_copy(update={"percentile": percentile})
    result = result.model_copy(update={"constraints": (limit.model_copy(update={"budget": budget}),)})
    head, _, *rows = shipped(result, width)
    assert " ".join(head.split()) == columns
    assert [row.split()[0] for row in rows] == [*(artifact.path for artifact in result.artifacts), "teacher"]


def test_where_not_all_fits_figures_are_broken_and_no_name_is(realistic: ModuleType) -> None:
    result = realistic.make_unmeasured()
    rows = shipped(result, 80)
    assert len(rows) > len(result.artifacts) + 3, "its latencies are sentences"
    assert {artifact.path for artifact in result.artifacts} <= {row.split()[0] for row in rows}
