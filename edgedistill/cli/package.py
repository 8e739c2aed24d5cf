"""`edgedistill package`: packages that builds made, checked before they ship."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

import edgedistill as api
from edgedistill.cli.options import AsJson, TargetName, help_without_command

if TYPE_CHECKING:
    from rich.console import Console

    from edgedistill.documents.answers import ChangedAnswers, PackageDiff, PackageVerifyResult

app = typer.Typer()


@app.callback(invoke_without_command=True)
def root(context: typer.Context) -> None:
    """Check the package of a build before an app ships it, or compare it with another."""
    help_without_command(context)


@app.command("verify", epilog="Example: edgedistill package verify out/package")
def verify(
    path: Annotated[Path, typer.Argument(metavar="DIR", help="The package, or the output folder of its build.")],
    target: TargetName = "host",
    as_json: AsJson = False,
) -> None:
    """Check each file by its hash, the documents beside the model files, and the outputs for the golden pictures."""
    from edgedistill.base.errors import ExitCode
    from edgedistill.cli import errors, render

    with errors.answering(as_json=as_json):
        found = api.verify_package(path, target=target)
        render.answer(found, _print, as_json=as_json)
        if not found.ok:
            raise typer.Exit(int(ExitCode.BAD_INPUT))


@app.command("diff", epilog="Example: edgedistill package diff shipped/package out --data photos --max-changed 1%")
def diff(
    first: Annotated[Path, typer.Argument(metavar="A", help="The package that the app ships.")],
    second: Annotated[Path, typer.Argument(metavar="B", help="The one that may take its place.")],
    data: Annotated[
        str | None, typer.Option(metavar="digits|FOLDER", help="Images by class, to compare the answers on.")
    ] = None,
    split: Annotated[str, typer.Option(metavar="train|validation|test", help="Which images of --data.")] = "test",
    max_changed: Annotated[
        str | None, typer.Option(metavar="1%", help="Exit with 3 where a larger share of answers changes.")
    ] = None,
    target: TargetName = "host",
    as_json: AsJson = False,
) -> None:
    """Tell what an app gets with another package: changes of labels and steps, size, quality, latency and answers."""
    from edgedistill.base.errors import ExitCode
    from edgedistill.cli import errors, live, render
    from edgedistill.documents.fields import parse_percent

    with errors.answering(as_json=as_json):
        most = None if max_changed is None else parse_percent(max_changed, all_of_it=True)
        with live.watching() as listener:
            found = api.diff_packages(
                first, second, data=data, split=split, max_changed=most, target=target, listener=listener
            )
        render.answer(found, _print_diff, as_json=as_json)
        if not found.ok:
            raise typer.Exit(int(ExitCode.BUDGET_NOT_MET))


def _print_diff(console: Console, found: PackageDiff) -> None:
    from edgedistill.cli import render

    changes = found.contract or ("an app does the same with both",)
    render.line(console, *changes, style="yellow" if found.contract else "green")
    shown = (
        {"on golden pictures": "on_golden", f"on {found.data}": "on_data"} if found.data else {"changed": "on_golden"}
    )
    columns = ("file", "size", found.metric, "p95", *shown)
    rows = [
        (
            " → ".join(dict.fromkeys(name or "none" for name in one.files)),
            " → ".join(_size(value) for value in one.bytes),
            " → ".join(_quality(value) for value in one.quality),
            " → ".join("–" if value is None else render.latency_cells(value)[1] for value in one.latency),
            *(_changed(getattr(one, field)) for field in shown.values()),
        )
        for one in found.files
    ]
    console.print(render.table(*columns, whole=("file",), rows=rows))
    render.line(console, *(f"{one.format}: not compared: {one.not_run}" for one in found.files if one.not_run))
    if found.max_changed is not None:
        kept, most = "kept" if found.ok else "MISSED", f"{found.max_changed:.1%}"
        render.line(
            console, f"at most {most} of answers may change: {kept}", style="bold green" if found.ok else "bold red"
        )


def _size(value: int | None) -> str:
    from edgedistill.base.units import format_bytes

    return "–" if value is None else format_bytes(value)


def _quality(value: float | None) -> str:
    from edgedistill.base.units import format_percent

    return "unknown" if value is None else format_percent(value, 2)


def _changed(found: ChangedAnswers | None) -> str:
    if found is None:
        return "–"
    told = f"{found.changed} of {found.images}"
    return told if found.gained is None else f"{told}: +{found.gained} right, -{found.lost}"


def _print(console: Console, found: PackageVerifyResult) -> None:
    from edgedistill.cli import render

    style = "bold green" if found.ok else "bold red"
    render.line(console, f"{found.path}: {'ok' if found.ok else 'NOT ok'}, {found.files} files", style=style)
    render.line(console, *(f"! {failure}" for failure in found.failures), style="red")
    render.line(console, *(f"- {check}" for check in found.checks))
    for one in found.verified:
        said = f"not run: {one.not_run}" if one.not_run else one.parity.sentence if one.parity else "read, not compared"
        render.line(console, f"- {Path(one.path).name}: {said}")
