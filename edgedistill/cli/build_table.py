"""The end of a build: verdict, one table, what was dropped, and where everything lies."""

from __future__ import annotations

import math
from pathlib import Path

from rich.console import Console
from rich.text import Text

from edgedistill.artifacts import Latency, MeasuredLatency, UnknownLatency, Verified
from edgedistill.cli import render
from edgedistill.documents import Plan
from edgedistill.report.tables import reference_text
from edgedistill.results import BuildIndex, BuildResult, Found, SearchResult, ShippedArtifact
from edgedistill.specs import Budget, ComputedBy, Percentile
from edgedistill.units import format_bytes, format_ms, format_percent, format_seconds

STATUS_STYLES = {"met": "bold green", "not_met": "bold red", "unmeasured": "bold yellow"}
STATUS_WORDS = {"met": "budget met", "not_met": "budget not met", "unmeasured": "unmeasured"}


def print_result(console: Console, result: BuildResult, out: Path) -> None:
    """Everything that a person needs to know of a finished build in `out`."""
    status = Text.assemble((STATUS_WORDS[result.status], STATUS_STYLES[result.status]), f": {result.verdict}")
    console.print(status, soft_wrap=True)
    render.line(console, f"budget {budget_text(result.budget)} on {result.target}", style="dim")
    if result.student is not None:
        student = result.student
        render.line(
            console,
            f"student {student.family}, {student.described}, {student.parameters:,} parameters",
            style="dim",
        )
    _print_artifacts(console, result)
    if result.status == "not_met":
        _print_frontier(console, result)
    for artifact in result.artifacts:
        found = artifact.verification
        if isinstance(found, Verified) and found.computed_by is ComputedBy.REFERENCE:
            render.line(
                console, f"{artifact.path}: accuracy on the device unknown; {reference_text(found)}", style="dim"
            )
        if isinstance(artifact.latency, UnknownLatency):
            render.line(console, f"{artifact.path}: latency unknown: {artifact.latency.reason}", style="dim")
        if artifact.fallbacks is not None and artifact.fallbacks.elsewhere:
            render.line(console, f"{artifact.path}: {artifact.fallbacks.sentence}", style="dim")
    for dropped in result.dropped:
        render.line(console, f"dropped {dropped.format} {dropped.precision}: {dropped.reason}", style="dim")
    for note in result.notes:
        render.line(console, note)
    _print_paths(console, result, out)


def print_found(console: Console, result: SearchResult, out: Path) -> None:
    """What a search found, and the command that ships it."""
    status = Text.assemble((STATUS_WORDS[result.status], STATUS_STYLES[result.status]), f": {result.verdict}")
    console.print(status, soft_wrap=True)
    render.line(console, f"budget {budget_text(result.budget)} on {result.target}", style="dim")
    if result.status == "not_met":
        _print_frontier(console, result)
    count = len(result.trials)
    tried = f"{count} candidate{'s' * (count != 1)} tried in {format_seconds(result.seconds)}"
    render.line(console, f"{tried}; {result.stopped}" if result.stopped else tried, style="dim")
    for note in result.notes:
        render.line(console, note)
    render.line(console, f"{out / 'search.json'}", style="dim")


def print_index(console: Console, index: BuildIndex, out: Path) -> None:
    """A row for each target of a build for several."""
    for entry in index.targets:
        head = Text.assemble(
            (f"{entry.target}: ", "bold"),
            (STATUS_WORDS[entry.status], STATUS_STYLES[entry.status]),
            f": {entry.verdict}",
        )
        console.print(head, soft_wrap=True)
        render.line(console, f"{out / entry.folder / 'report.html'}", style="dim")
    render.line(console, f"{out / 'build.json'}   {format_seconds(index.seconds)}", style="dim")


def print_plan(console: Console, plan: Plan) -> None:
    """What would be done, a paragraph a target."""
    for target in plan.targets:
        families = ", ".join(f"{name} {count}" for name, count in target.families.items())
        render.line(console, f"{target.target}: {target.candidates} candidates ({families})", style="bold")
        if target.measured:
            render.line(console, f"  measure {target.probes} with random weights in {', '.join(target.precisions)}")
        else:
            render.line(console, "  measure nothing: the device is not attached")
        for rung in target.rungs:
            render.line(
                console,
                f"  train {rung.students} to epoch {rung.epochs}: {rung.image_passes:,} images through a student",
            )
        render.line(console, f"  further brackets while they may do better, {target.trials} candidates at most")
        took = "unknown, nothing was trained here yet"
        if target.train_seconds is not None:
            took = f"about {format_seconds(target.train_seconds)}, as fast as what the cache remembers"
        render.line(console, f"  training of the first bracket: {took}")
        render.line(console, f"  its measurements: at most {format_seconds(target.measure_seconds)}")


def budget_text(budget: Budget) -> str:
    """`5.00 ms at p95`, with the share of the teacher that it came from."""
    text = f"{format_ms(budget.latency_ms)} at {budget.percentile}"
    if budget.share_of_teacher is not None:
        text += f" ({format_percent(budget.share_of_teacher)} of the teacher's)"
    return text


def standing(latency: Latency, budget: Budget, *, proven: bool) -> tuple[str, str]:
    """Whether an artifact is inside the budget, and the colour to say it in. Only a measurement can say yes or no, and only
    the acceptance rule makes it `met`."""
    if not isinstance(latency, MeasuredLatency):
        return "unknown", "yellow"
    if proven:
        return "met", "green"
    return ("inside", "green") if latency.at(budget.percentile) <= budget.latency_ms else ("over", "red")


def _print_artifacts(console: Console, result: BuildResult) -> None:
    with_p99 = result.budget.percentile is Percentile.P99
    columns = ("artifact", "precision", "size", "accuracy", "p50", "p95", *(("p99",) if with_p99 else ()), "budget")
    table = render.table(*columns, right=("size", "accuracy", "p50", "p95", "p99"))
    for artifact in result.artifacts:
        word, colour = standing(artifact.latency, result.budget, proven=_proven(result, artifact))
        cells = render.latency_cells(artifact.latency)
        table.add_row(
            artifact.path,
            artifact.scheme.details,
            format_bytes(artifact.bytes),
            "unknown" if artifact.accuracy is None else format_percent(artifact.accuracy, 2),
            *(cells if with_p99 else cells[:2]),
            Text(word, style=colour),
        )
    teacher = result.teacher
    cells = render.latency_cells(teacher.latency)
    table.add_section()
    table.add_row(
        f"teacher {teacher.name}",
        "fp32",
        format_bytes(teacher.bytes),
        format_percent(teacher.accuracy, 2),
        *(cells if with_p99 else cells[:2]),
        "",
    )
    console.print(table)
    render.line(
        console,
        f"accuracy on {result.data.test:,} test images; latency at batch 1"
        + (f" on {device}" if (device := _device(result)) else ""),
        style="dim",
    )


def _print_frontier(console: Console, result: Found) -> None:
    if result.fastest_ms is not None:
        render.line(console, f"fastest seen: {format_ms(result.fastest_ms)} at {result.budget.percentile}")
    if result.frontier:
        table = render.table("student", "precision", "latency", "accuracy", title="frontier (measured, validation)")
        specs = {trial.number: trial.spec for trial in result.trials}
        for point in result.frontier:
            name = specs[point.trial].label if point.trial in specs else f"trial {point.trial}"
            accuracy = format_percent(point.accuracy_validation, 2)
            table.add_row(name, point.precision, format_ms(point.latency_ms), accuracy)
        console.print(table)
    if result.budget_that_would_do_ms is not None:
        would_do = f"{_rounded_up(result.budget_that_would_do_ms)}ms@{result.budget.percentile}"
        render.line(console, f"a budget that would do: --budget {would_do}", style="bold")


def _print_paths(console: Console, result: BuildResult, out: Path) -> None:
    for name, path in (("build", out / "build.json"), ("report", out / "report.html"), ("package", out / "package")):
        if path.exists():
            render.line(console, f"{name:<8}{path}")
    render.line(console, f"took {format_seconds(result.seconds)}", style="dim")


def _proven(result: BuildResult, artifact: ShippedArtifact) -> bool:
    proof = result.proof
    return proof is not None and proof.met and proof.artifact_sha256 == artifact.sha256


def _device(result: BuildResult) -> str:
    measured = [a.latency for a in result.artifacts if isinstance(a.latency, MeasuredLatency)]
    if not measured and isinstance(result.teacher.latency, MeasuredLatency):
        measured = [result.teacher.latency]
    return measured[0].device if measured else ""


def _rounded_up(value_ms: float) -> str:
    """Three significant digits, never below `value_ms`: it is shown as a budget to be met."""
    decimals = max(0, 2 - math.floor(math.log10(value_ms)))
    return f"{math.ceil(value_ms * 10**decimals) / 10**decimals:.{decimals}f}"
