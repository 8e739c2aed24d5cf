"""`edgedistill doctor`: what works here, and what to install for the rest."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgedistill.cli.options import AsJson

if TYPE_CHECKING:
    from rich.console import Console

    from edgedistill.documents.answers import Diagnosis

_TITLES = {"format": "formats", "package": "packages", "device": "devices", "tool": "tools"}


def doctor(as_json: AsJson = False) -> None:
    """Say which formats, runtimes, devices and tools are usable here, and how to get the rest."""
    from edgedistill.cli import errors, live, render
    from edgedistill.commands.doctor import diagnose

    with errors.answering(as_json=as_json):
        with live.watching() as listener:
            diagnosis = diagnose(listener)
        render.answer(diagnosis, print_diagnosis, as_json=as_json)


def print_diagnosis(console: Console, diagnosis: Diagnosis) -> None:
    """The machine, the cache, a table of each kind of thing, then the commands that bring what is missing."""
    from rich.text import Text

    from edgedistill.base.units import format_bytes
    from edgedistill.cli import render

    machine, cache = diagnosis.machine, diagnosis.cache
    memory = f", {format_bytes(machine.memory_bytes)} of memory" if machine.memory_bytes else ""
    free = f", {format_bytes(cache.free_bytes)} free" if cache.free_bytes is not None else ""
    render.facts(
        console,
        [
            ("edgedistill", f"{diagnosis.edgedistill_version}, Python {machine.python}"),
            ("system", f"{machine.system}, {machine.machine}"),
            ("processor", f"{machine.cpu}, {machine.cpus} CPUs{memory}"),
            ("features", ", ".join(machine.cpu_features) or "none known"),
            ("cache", cache.problem or f"{cache.path}, {format_bytes(cache.bytes)} used{free}"),
        ],
    )
    for kind, title in _TITLES.items():
        rows = [
            (
                check.name,
                Text("yes", style="green") if check.usable else Text("no", style="yellow"),
                check.version,
                check.detail,
            )
            for check in diagnosis.checks
            if check.kind == kind
        ]
        columns = (title, "", "version", "what")
        console.print(render.table(*columns, whole=(title,), prose=("version", "what"), least=("version",), rows=rows))
    fixes: dict[str, list[str]] = {}
    for check in diagnosis.checks:
        if check.fix:
            fixes.setdefault(check.fix, []).append(check.name)
    if fixes:
        render.line(console, "to get what is missing", style="bold")
        render.line(console, *(f"  {fix}  # {', '.join(dict.fromkeys(names))}" for fix, names in fixes.items()))
