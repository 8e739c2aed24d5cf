"""`edgedistill views`: what students learn from, made ahead of a build, told, and held against the teacher."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

import edgedistill as api
from edgedistill.cli.options import AsJson, help_without_command

if TYPE_CHECKING:
    from rich.console import Console

    from edgedistill.documents.answers import ViewsCheck, ViewsInfo

app = typer.Typer()
BuildFile = Annotated[Path, typer.Argument(metavar="BUILD.toml", help="The build file.")]


@app.callback(invoke_without_command=True)
def root(context: typer.Context) -> None:
    """Make, see or check what a build's students learn from: views of the images, and the teacher's outputs on them."""
    help_without_command(context)


@app.command("build", epilog="Example: edgedistill views build build.toml --jobs 4")
def build(
    path: BuildFile,
    jobs: Annotated[int, typer.Option("-j", "--jobs", metavar="N", help="Views labelled at a time.")] = 1,
    executor: Annotated[
        str, typer.Option(metavar="local|ray", help="What labels: this machine, or a Ray cluster.")
    ] = "local",
    as_json: AsJson = False,
) -> None:
    """Fit the teacher where the file asks for it, and label the views; a build finds them."""
    from edgedistill.cli import errors, live, render

    with errors.answering(as_json=as_json, resumable=True):
        with live.watching() as listener:
            found = api.build_views(path, jobs=jobs, executor=executor, listener=listener)
        render.answer(found, _print_info, as_json=as_json)


@app.command("info", epilog="Example: edgedistill views info build.toml")
def info(path: BuildFile, as_json: AsJson = False) -> None:
    """Tell how sure the teacher is, how often it agrees with the labels, and what a recipe can make of it."""
    from edgedistill.cli import errors, live, render

    with errors.answering(as_json=as_json):
        with live.watching() as listener:
            found = api.views_info(path, listener=listener)
        render.answer(found, _print_info, as_json=as_json)


@app.command("check", epilog="Example: edgedistill views check build.toml --images 500")
def check(
    path: BuildFile,
    images: Annotated[int, typer.Option(metavar="N", help="Training images to draw.")] = 256,
    as_json: AsJson = False,
) -> None:
    """Ask the teacher again about some images, and hold what is stored against it."""
    from edgedistill.cli import errors, live, render

    with errors.answering(as_json=as_json):
        with live.watching() as listener:
            found = api.check_views(path, images=images, listener=listener)
        render.answer(found, _print_check, as_json=as_json)


def _print_info(console: Console, info: ViewsInfo) -> None:
    from edgedistill.base.units import format_bytes
    from edgedistill.cli import render

    labels = f", {info.labelled:,} with a label" if info.labelled < info.images else ""
    left = f"; {info.learnt:,} are learnt from" if info.learnt < info.images else ""
    render.line(console, f"{info.views} views of {info.images:,} images{labels}{left}", style="bold")
    rows = [("views", "", format_bytes(info.bytes), info.path)]
    rows += [(one.tap, f"{one.width:,}", format_bytes(one.bytes), one.path) for one in info.signals]
    console.print(
        render.table("stored", "numbers", "size", "path", right=("numbers", "size"), least=("path",), rows=rows)
    )
    render.line(console, *_sentences(info))
    for advice in info.advice:
        render.line(console, advice)


def _sentences(info: ViewsInfo) -> Iterator[str]:
    said = info.logits
    if said is None:
        return
    if said.agreement_labels is not None:
        yield f"the teacher's class is the label in {said.agreement_labels:.1%} of views of labelled images"
    yield f"it names the same class for an image in {said.agreement_views:.1%} of its views"
    sure = f"its largest probability is {said.confidence:.1%} in the mean"
    if said.confidence_unlabelled is not None:
        sure += f", {said.confidence_unlabelled:.1%} without a label"
    yield f"{sure}; its entropy {said.entropy_nats:.3f} nats"
    if said.error_mean is not None and said.error_largest is not None:
        yield (
            f"not all classes are kept: at temperature 2 what is read differs by {said.error_mean:.1%} in the mean, "
            f"{said.error_largest:.1%} at most"
        )


def _print_check(console: Console, check: ViewsCheck) -> None:
    from edgedistill.cli import render

    render.line(console, f"{check.images:,} images in {check.views} views, beside the live teacher", style="bold")
    for one in check.signals:
        text = (
            f"{one.tap}: differ by {one.error_mean:.2g} in the mean, {one.error_largest:.2g} at most; the largest is "
        )
        text += f"{one.value_largest:.3g}"
        if one.top_differs is not None:
            text += f"; another class is the largest in {one.top_differs:,} of {one.rows:,}"
        render.line(console, text)
