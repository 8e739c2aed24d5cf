"""`edgedistill profiles`: the device profiles that latencies can be predicted from, and what comes and goes of them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from edgedistill.cli.completion import complete_target
from edgedistill.cli.options import AsJson

if TYPE_CHECKING:
    from rich.console import Console

    from edgedistill.commands.profiles import ImportResult, ProfilesShown
    from edgedistill.devices.latency.compared import ProfilesDiff
    from edgedistill.devices.latency.profiles import ListedProfile, ProfilesResult
    from edgedistill.documents.imported import ImportedLatency

app = typer.Typer()
OfTarget = Annotated[str, typer.Argument(metavar="TARGET", autocompletion=complete_target, help="A target's name.")]


@app.callback(invoke_without_command=True)
def root(context: typer.Context, as_json: AsJson = False) -> None:
    """List the profiles that come with edgedistill and your own, with their error, and where this machine is another one."""
    if context.invoked_subcommand is None:
        _list(as_json)


@app.command("list", epilog="Example: edgedistill profiles list --json")
def list_all(as_json: AsJson = False) -> None:
    """List all device profiles, as the command alone does."""
    _list(as_json)


@app.command("show", epilog="Example: edgedistill profiles show host")
def show(target: OfTarget, as_json: AsJson = False) -> None:
    """Show what is known of latencies on a target: its device profiles, and what was imported."""
    from edgedistill.cli import errors, render
    from edgedistill.commands.profiles import show_profiles

    with errors.answering(as_json=as_json):
        render.answer(show_profiles(target), print_shown, as_json=as_json)


@app.command("export", epilog="Example: edgedistill profiles export my-board my-board-profiles.json")
def export(
    target: OfTarget,
    out: Annotated[Path, typer.Argument(metavar="FILE.json", help="The file to write, for others to import.")],
) -> None:
    """Write your own device profiles of a target, and what was imported for it, to one file."""
    from edgedistill.cli import errors, render
    from edgedistill.commands.profiles import export_profiles

    with errors.answering():
        render.line(render.results(), str(export_profiles(target, out)))


@app.command("import", epilog="Example: edgedistill profiles import benchmark.txt --build out")
def import_(
    path: Annotated[
        Path,
        typer.Argument(
            metavar="FILE",
            help="From `profiles export` or `calibrate`; or what an app's kit or a vendor's program says of one file.",
        ),
    ],
    build: Annotated[
        Path | None, typer.Option(metavar="OUT", help="Output folder of the build whose file was measured.")
    ] = None,
    file: Annotated[str, typer.Option(metavar="NAME", help="That file, where the text does not name it.")] = "",
    target: Annotated[
        str,
        typer.Option(
            metavar="NAME", autocompletion=complete_target, help="Where it was measured.", show_default="the build's"
        ),
    ] = "",
    as_json: AsJson = False,
) -> None:
    """Take what was measured elsewhere. It serves predictions of later builds, and never proves a budget.

    Programs: benchmark_model, onnxruntime_perf_test (its output or its file of results), trtexec, and the apps of `kit`.
    """
    from edgedistill.cli import errors, render
    from edgedistill.commands.profiles import import_profiles

    with errors.answering(as_json=as_json):
        found = import_profiles(path, build=build, file=file, target=target)
        render.answer(found, print_imported, as_json=as_json)


@app.command("diff", epilog="Example: edgedistill profiles diff before.json after.json")
def diff(
    before: Annotated[str, typer.Argument(metavar="FILE|TARGET", help="The earlier device profile.")],
    after: Annotated[str, typer.Argument(metavar="FILE|TARGET", help="The later one.")],
    as_json: AsJson = False,
) -> None:
    """Compare two device profiles: what is different around them, and by how much the same files differ."""
    from edgedistill.cli import errors, render
    from edgedistill.commands.profiles import diff_profiles

    with errors.answering(as_json=as_json):
        render.answer(diff_profiles(before, after), print_diff, as_json=as_json)


def _list(as_json: bool) -> None:
    import edgedistill as api
    from edgedistill.cli import errors, render

    with errors.answering(as_json=as_json):
        render.answer(api.profiles(), print_profiles, as_json=as_json)


def print_profiles(console: Console, result: ProfilesResult) -> None:
    """A row for each profile, then what warns of using it."""
    from edgedistill.cli import render

    if result.profiles:
        _table(console, result.profiles)
        own = [entry for entry in result.profiles if not entry.shipped]
        told = (f"{entry.target} from {entry.measured_at[:10]}: {entry.path}" for entry in own)
        render.line(console, *told, style="dim")
    else:
        render.line(console, "no profiles yet; measure one: edgedistill calibrate --target host")
    _warn(console, result.profiles, result.problems)


def print_shown(console: Console, shown: ProfilesShown) -> None:
    """Each device profile with where it was measured, then what was imported."""
    from edgedistill.cli import render

    if shown.profiles:
        _table(console, shown.profiles)
    for entry, profile in zip(shown.profiles, shown.details, strict=True):
        where = profile.environment
        render.line(console, f"{entry.path}", style="bold")
        facts = ", ".join(f"{name} {value}" for name, value in profile.facts.items())
        render.line(console, f"  {where.os}; {where.provider}, {where.threads} threads; {facts}")
        render.line(console, *(f"  {note}" for note in (*profile.notes, *profile.failures)), style="dim")
    _warn(console, shown.profiles, ())
    if shown.imported:
        _latencies(console, shown.imported)


def print_imported(console: Console, found: ImportResult) -> None:
    """What was taken, and where it lies."""
    from edgedistill.cli import render

    render.line(console, *(f"device profile of {found.target}: {path}" for path in found.profiles))
    if found.latencies:
        _latencies(console, found.latencies)
        render.line(console, "it serves predictions, and proves no budget", style="dim")
    render.line(console, found.path, style="dim")


def print_diff(console: Console, found: ProfilesDiff) -> None:
    """What is different, then a row for each precision, then the files that changed most."""
    from edgedistill.base.units import format_ms
    from edgedistill.cli import render

    render.line(console, *(found.differences or ("nothing around them is different",)))
    rows = [
        (
            change.precision,
            str(change.common),
            "unknown" if change.ratio is None else f"{change.ratio:.3f}",
            "unknown" if change.lowest is None else f"{change.lowest:.3f} to {change.highest:.3f}",
            f"{change.before_alone} and {change.after_alone}",
        )
        for change in found.precisions
    ]
    columns = ("precision", "files of both", "p50 now over then", "from and to", "of one alone")
    console.print(render.table(*columns, rows=rows))
    for change in found.precisions:
        told = (
            f"  {one.student} {change.precision}: {format_ms(one.before_ms)} became {format_ms(one.after_ms)}"
            for one in change.most
        )
        render.line(console, *told)
    render.line(console, "the two did not run in turn: neighbours, clocks and heat count in", style="dim")


def _table(console: Console, listed: tuple[ListedProfile, ...]) -> None:
    from edgedistill.cli import render

    columns = ("target", "device", "runtime", "precisions", "files", "mean error of latency", "measured", "profile")
    rows = [
        (
            entry.target,
            entry.device,
            f"{entry.runtime} {entry.runtime_version}",
            ", ".join(entry.precisions),
            str(entry.rows),
            _errors(entry),
            entry.measured_at[:10],
            "shipped" if entry.shipped else "your own",
        )
        for entry in listed
    ]
    least = ("files", "measured", "runtime", "precisions", "device")
    console.print(
        render.table(*columns, right=("files",), whole=("target",), prose=("device",), least=least, rows=rows)
    )


def _latencies(console: Console, imported: tuple[ImportedLatency, ...]) -> None:
    from edgedistill.base.units import format_ms
    from edgedistill.cli import render

    def shown(value: float | None) -> str:
        return "unknown" if value is None else format_ms(value)

    rows = [
        (
            one.figures.file,
            one.precision,
            one.target,
            shown(one.figures.p50_ms),
            shown(one.figures.p95_ms),
            shown(one.figures.mean_ms),
            shown(one.figures.first_run_ms),
            one.figures.program,
            one.imported_at[:10],
        )
        for one in imported
    ]
    columns = ("file", "precision", "target", "p50", "p95", "mean", "first run", "measured by", "imported")
    least = ("imported", "first run", "precision", "target")
    console.print(render.table(*columns, title="imported", prose=("file",), least=least, rows=rows))


def _warn(console: Console, listed: tuple[ListedProfile, ...], problems: tuple[str, ...]) -> None:
    from edgedistill.cli import render

    differences = [
        f"{entry.target} from {entry.measured_at[:10]}: {difference}"
        for entry in listed
        for difference in entry.differences or ()
    ]
    render.line(console, *(f"warning: {what}" for what in (*differences, *problems)), style="yellow")


def _errors(entry: ListedProfile) -> str:
    from edgedistill.base.units import format_percent
    from edgedistill.devices.latency.profile import Quantity

    of = [error for error in entry.errors if error.quantity is Quantity.LATENCY]
    return ", ".join(f"{error.precision} {format_percent(error.mape)}" for error in of) or "unknown"
