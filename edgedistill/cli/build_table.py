"""The end of a build: verdict, one table, what was dropped, and where everything lies."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import typer
from pydantic import ValidationError
from rich.console import Console
from rich.text import Text

from edgedistill.base.errors import ExitCode
from edgedistill.base.units import format_bytes, format_percent, format_seconds
from edgedistill.cli import render
from edgedistill.documents.answers import Plan, PlannedTarget, PlannedTeacher
from edgedistill.documents.artifacts import Verified
from edgedistill.documents.measurements import Latency, MeasuredLatency, PredictedLatency, Proof, UnknownLatency
from edgedistill.documents.results import BuildIndex, BuildResult, Found, IndexEntry, SearchResult, SplitSizes
from edgedistill.documents.specs import Budget, ComputedBy, Percentile
from edgedistill.outputs.explain.shown import latency_text, quality_text, validation_text
from edgedistill.outputs.explain.winner import winning_artifact, winning_file, winning_trial
from edgedistill.outputs.report.proof_tables import sustained_text
from edgedistill.outputs.report.tables import reference_text
from edgedistill.outputs.report.verdict import prediction_text

STATUS_STYLES = {"met": "bold green", "not_met": "bold red", "unmeasured": "bold yellow"}
STATUS_WORDS = {"met": "budget met", "not_met": "not met", "unmeasured": "unmeasured"}
_MADE = {"build": "build.json", "report": "report.html", "package": "package"}


def status_text(status: str, verdict: str) -> Text:
    """How a build ended, in its status' colour, and why."""
    return Text.assemble((STATUS_WORDS[status], STATUS_STYLES[status]), f": {verdict}")


def end_with(result: Found | BuildIndex, file: Path, *, as_json: bool, require_measured: bool) -> None:
    """Show what a build or a search ended with and lies in `file`, and exit with the code of the worst outcome."""
    shown: dict[type, Callable[..., None]] = {
        BuildIndex: print_index,
        BuildResult: print_result,
        SearchResult: print_found,
    }
    render.answer(result, shown[type(result)], file, as_json=as_json)
    codes = {
        "met": ExitCode.OK,
        "not_met": ExitCode.BUDGET_NOT_MET,
        "unmeasured": ExitCode.UNREACHABLE if require_measured else ExitCode.OK,
    }
    statuses = [entry.status for entry in result.targets] if isinstance(result, BuildIndex) else [result.status]
    if code := max(codes[status] for status in statuses):
        raise typer.Exit(int(code))


def print_result(console: Console, result: BuildResult, file: Path) -> None:
    """Everything that a person needs to know of a finished build, whose result lies in `file`."""
    console.print(status_text(result.status, result.verdict), soft_wrap=True)
    render.line(console, f"budget {result.budget.claim} on {result.target}", style="dim")
    if (student := result.student) is not None:
        described = f"{student.family}, {student.described}, {student.parameters:,} parameters"
        render.line(console, f"student {described}", style="dim")
    _print_artifacts(console, result)
    if result.status == "not_met":
        _print_frontier(console, result)
    for artifact in result.artifacts:
        found = artifact.verification
        if isinstance(found, Verified) and found.computed_by is ComputedBy.REFERENCE:
            told = reference_text(result.metric, found)
            render.line(console, f"{artifact.path}: {result.metric} on the device unknown; {told}", style="dim")
        if isinstance(artifact.latency, UnknownLatency):
            render.line(console, f"{artifact.path}: latency unknown: {artifact.latency.reason}", style="dim")
        if isinstance(artifact.latency, PredictedLatency):
            render.line(console, f"{artifact.path}: {_prediction(artifact.latency, result.budget)}", style="dim")
        if artifact.fallbacks is not None and artifact.fallbacks.elsewhere:
            render.line(console, f"{artifact.path}: {artifact.fallbacks.sentence}", style="dim")
    render.line(console, *_dropped(result), style="dim")
    if result.sustained is not None:
        render.line(console, f"under load: {sustained_text(result.sustained, result.budget.percentile)}")
    render.line(console, *result.notes)
    made = {name: file.with_name(path) for name, path in _MADE.items()}
    render.line(console, *(f"{name:<8}{path}" for name, path in made.items() if path.exists()))
    render.line(console, f"took {format_seconds(result.seconds)}", style="dim")


def print_found(console: Console, result: Found, file: Path) -> None:
    """What a search found, and where it is written."""
    console.print(status_text(result.status, result.verdict), soft_wrap=True)
    render.line(console, f"budget {result.budget.claim} on {result.target}", style="dim")
    if result.status == "not_met":
        _print_frontier(console, result)
    count = len(result.trials)
    tried = f"{count} candidate{'s' * (count != 1)} tried in {format_seconds(result.seconds)}"
    render.line(console, f"{tried}; {result.stopped}" if result.stopped else tried, style="dim")
    render.line(console, *_dropped(result), style="dim")
    render.line(console, *result.notes)
    render.line(console, str(file), style="dim")


def print_index(console: Console, index: BuildIndex, path: Path) -> None:
    """Of a build or search for several targets why each ended as it did, then a row for each; `path` is the index's own."""
    results = [_found(path, entry) for entry in index.targets]
    metric = next((found.metric for found in results if found is not None), "accuracy")
    columns = ("target", "status", "student", "precision", "latency", metric)
    table = render.table(*columns, right=("latency", metric), whole=("target",), least=("precision",))
    for entry, found in zip(index.targets, results, strict=True):
        of = (f"{entry.target}: ", "bold")
        console.print(Text.assemble(of, status_text(entry.status, entry.verdict)), soft_wrap=True)
        if found is not None:
            render.line(console, *(f"{entry.target}: {dropped}" for dropped in _dropped(found)), style="dim")
        # A search draws none: one that lies there is an earlier build's.
        own = "report.html" if path.name == "build.json" else path.name
        render.line(console, str(path.parent / entry.folder / own), style="dim")
        status = Text(STATUS_WORDS[entry.status], style=STATUS_STYLES[entry.status])
        table.add_row(entry.target, status, *_winner_cells(found))
    console.print(table)
    split = "test" if path.name == "build.json" else "validation"
    told = f"latency at batch 1; {metric} on the {split} split with its 95% interval"
    render.line(console, told, f"{path}   {format_seconds(index.seconds)}", style="dim")


def _found(path: Path, entry: IndexEntry) -> Found | None:
    """What the build or search for one target left in its folder; None where it is gone or cannot be read. The index at
    `path` bears the name of each target's own."""
    kind = BuildResult if path.name == "build.json" else SearchResult
    with suppress(OSError, ValidationError):
        return kind.model_validate_json((path.parent / entry.folder / path.name).read_bytes())
    return None


def _winner_cells(result: Found | None) -> tuple[str, str, str, str]:
    """The student that won, its precision, latency and quality, as far as they are known."""
    if result is None or result.student is None:
        return "–", "–", "–", "–"
    student, percentile = result.student.label, result.budget.percentile
    if isinstance(result, BuildResult):
        if (artifact := winning_artifact(result)) is not None:
            quality = quality_text(artifact.quality, artifact.quality_interval)
            return student, artifact.precision.value, _latency_cell(artifact.latency, percentile), quality
    elif (file := winning_file(result)) is not None:
        seen, quality = file.verification, "unknown"
        if isinstance(seen, Verified):
            quality = validation_text(seen.quality_validation, seen.parity.images)
        return student, file.scheme.precision.value, _latency_cell(file.latency, percentile), quality
    return student, "–", "unknown", "unknown"


def _latency_cell(latency: Latency, percentile: Percentile) -> str:
    """`p95 0.211 ms`; a prediction from too little to be calibrated is called a guess."""
    guess = "guess " if isinstance(latency, PredictedLatency) and not latency.calibrated else ""
    text = latency_text(latency, percentile)
    return text if text == "unknown" else f"{percentile} {guess}{text}"


def _prediction(latency: PredictedLatency, budget: Budget) -> str:
    """Where the latency of a file that was not measured comes from, and how far it is to be believed."""
    told = "predicted" if latency.calibrated else "a guess"
    return f"latency {told}, not measured: {prediction_text(latency, budget)}, from {latency.basis}"


def _dropped(result: Found) -> Iterator[str]:
    """Each format and precision of the winner that is not kept, and why. A search makes the files of the target's runtime
    alone."""
    if isinstance(result, BuildResult):
        yield from (f"dropped {one.format} {one.precision}: {one.reason}" for one in result.dropped)
    elif (trial := winning_trial(result)) is not None:
        for file in trial.schemes:
            if file.dropped:
                yield f"dropped {file.artifact.format} {file.scheme.precision}: {file.dropped}"


def print_plan(console: Console, plan: Plan) -> None:
    """What would be done: the data, the teacher, then a paragraph a search."""
    stored = f"  stored views of each training image: {plan.views}"
    render.line(console, _data_line(plan.data), stored)
    for teacher in (plan.teacher, *plan.teachers):
        render.line(console, *_teacher_lines(teacher))
    for search in plan.searches:
        families = ", ".join(f"{name} {count}" for name, count in search.families.items())
        names = ", ".join(target.target for target in search.targets)
        head = names if len(search.targets) == 1 else f"one student for {names}"
        render.line(console, f"{head}: {search.candidates} candidates ({families})", style="bold")
        for target in search.targets:
            on = "" if len(search.targets) == 1 else f"on {target.target}: "
            render.line(console, *(f"  {on}{line}" for line in _target_lines(target)))
        if pilot := search.pilot:
            passes = f"{pilot.image_passes:,} images through a student"
            one = f"a student to epoch {pilot.epochs} by each of {pilot.students}"
            render.line(console, f"  choose the recipe by {one}: {passes}")
        if assistant := search.assistant:
            passes = f"{assistant.image_passes:,} images through a student"
            tried = f"{assistant.students} assistants" if assistant.students > 1 else "an assistant"
            render.line(console, f"  try {tried} of a size between teacher and students, and train one: {passes}")
        render.line(
            console,
            *(
                f"  train {rung.students} to epoch {rung.epochs}: {rung.image_passes:,} images through a student"
                for rung in search.rungs
            ),
        )
        if crossed := search.crossed:
            passes = f"{crossed.image_passes:,} images through a student"
            one = f"{crossed.students} students to epoch {crossed.epochs}"
            render.line(console, f"  cross-validate the finalists by {one}: {passes}")
        took = "unknown, nothing was trained here yet"
        if search.train_seconds is not None:
            took = f"about {format_seconds(search.train_seconds)}, as fast as what the cache remembers"
        render.line(
            console,
            f"  training up to there: {took}",
            f"  further brackets while they may do better, {search.trials} candidates at most",
        )


def _data_line(data: SplitSizes) -> str:
    sizes = f"{data.training}, {data.validation:,} validation and {data.test:,} test images"
    return f"data {data.source}: {data.labels}; {sizes}"


def _teacher_lines(teacher: PlannedTeacher) -> Iterator[str]:
    if teacher.parameters is None:
        yield f"teacher {teacher.model}: what it said of each image"
        return
    cost = f"{teacher.parameters:,} parameters"
    if teacher.multiply_adds is not None:
        cost += f", {teacher.multiply_adds:,} multiply-adds for an image"
    yield f"teacher {teacher.model} at {teacher.resolution} px: {cost}"
    if teacher.fit_epochs is not None:
        took = "in a time that is not known yet"
        if teacher.fit_seconds is not None:
            took = f"which took {format_seconds(teacher.fit_seconds)} and is in the cache"
        yield f"  fit for {teacher.fit_epochs} epoch{'s' * (teacher.fit_epochs != 1)}, {took}"
        if teacher.crossfit is not None:
            share = f"{(teacher.crossfit - 1) / teacher.crossfit:.0%}"
            times = f"fit {teacher.crossfit} times more, to {share} of the images each"
            yield f"  {times}: each labels those that it has not seen"


def _target_lines(target: PlannedTarget) -> Iterator[str]:
    if target.measured:
        yield f"measure {target.probes} with random weights in {', '.join(target.precisions)}"
        seconds = format_seconds(target.measure_seconds)
        yield f"with those of the first bracket, {seconds} of measuring where all come to that"
    else:
        yield "measure nothing: the device is not attached"
    yield f"make files of the winner for {', '.join(target.formats)}"


def standing(latency: Latency, budget: Budget, proof: Proof | None) -> tuple[str, str]:
    """Whether an artifact is inside the budget, and the colour to say it in. Only a measurement can say yes or no, and only
    a proof makes it `met`; where one was tried, nothing else says more."""
    if not isinstance(latency, MeasuredLatency):
        return "unknown", "yellow"
    if proof is not None:
        return ("met", "green") if proof.met else ("not proven", "red")
    return ("inside", "green") if latency.comparable(budget.percentile) <= budget.latency_ms else ("over", "red")


def _print_artifacts(console: Console, result: BuildResult) -> None:
    shown = ("p50", "p95", "p99")[: 3 if result.budget.percentile is Percentile.P99 else 2]
    columns = ("artifact", "precision", "size", result.metric, *shown, "measured in", "budget")
    beside_the_budget = tuple(name for name in shown if name != result.budget.percentile)
    least = ("precision", *beside_the_budget, "size", "measured in")
    table = render.table(*columns, right=("size", result.metric, *shown), whole=("artifact",), least=least)
    for artifact in result.artifacts:
        word, colour = standing(artifact.latency, result.budget, artifact.proof)
        table.add_row(
            artifact.path,
            artifact.scheme.details,
            format_bytes(artifact.bytes),
            quality_text(artifact.quality, artifact.quality_interval),
            *render.latency_cells(artifact.latency)[: len(shown)],
            render.sessions_cell(artifact.latency),
            Text(word, style=colour),
        )
    teacher = result.teacher
    table.add_section()
    table.add_row(
        f"teacher {teacher.name}",
        "fp32",
        "unknown" if teacher.bytes is None else format_bytes(teacher.bytes),
        quality_text(teacher.quality, teacher.quality_interval),
        *render.latency_cells(teacher.latency)[: len(shown)],
        render.sessions_cell(teacher.latency),
        "",
    )
    console.print(table)
    latencies = (*(artifact.latency for artifact in result.artifacts), teacher.latency)
    on = next((f" on {latency.device}" for latency in latencies if isinstance(latency, MeasuredLatency)), "")
    told = f"{result.metric} on {result.data.test:,} test images with its 95% interval; latency at batch 1{on}"
    render.line(console, told, style="dim")


def _print_frontier(console: Console, result: Found) -> None:
    shown = result.budget.in_its_unit
    if result.fastest_ms is not None:
        render.line(console, f"fastest seen: {shown(result.fastest_ms)} at {result.budget.percentile}, in 1 session")
    if result.frontier:
        table = render.table(
            "student",
            "precision",
            "latency",
            result.metric,
            title="frontier (measured in 1 session beside the anchor, validation)",
            whole=("student",),
        )
        specs = {trial.number: trial.spec for trial in result.trials}
        for point in result.frontier:
            name = specs[point.trial].label if point.trial in specs else f"trial {point.trial}"
            quality = format_percent(point.quality_validation, 2)
            table.add_row(name, point.precision, shown(point.latency_ms), quality)
        console.print(table)
    if result.budget_that_would_do_ms is not None:
        would_do = f"{_rounded_up(result.budget, result.budget_that_would_do_ms)}@{result.budget.percentile}"
        render.line(console, f"a budget that would do: --budget {would_do}", style="bold")


def _rounded_up(budget: Budget, value_ms: float) -> str:
    """`12.4ms` or `12.4%`, three significant digits, never below `value_ms`: it is shown as a budget to be met."""
    share = budget.share_of_teacher
    value, unit = (value_ms, "ms") if share is None else (100 * share * value_ms / budget.latency_ms, "%")
    decimals = max(0, 2 - math.floor(math.log10(value)))
    return f"{math.ceil(value * 10**decimals) / 10**decimals:.{decimals}f}{unit}"
