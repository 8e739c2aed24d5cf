"""`edgedistill doctor`: what works here, and what to install for the rest."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgedistill.cli.options import AsJson

if TYPE_CHECKING:
    from rich.console import Console

    from edgedistill.commands.doctor import Diagnosis

_TITLES = {"format": "formats", "package": "packages", "device": "devices", "tool": "tools"}


def doctor(as_json: AsJson = False) -> None:
    """Say which formats, runtimes, devices and tools are usable here, and how to get the rest."""
    from edgedistill.cli import errors, render
    from edgedistill.commands.doctor import diagnose

    with errors.answering(as_json=as_json):
        with render.errors().status("looking around"):  # shows nothing where there is no terminal
            diagnosis = diagnose()
        render.answer(diagnosis, print_diagnosis, as_json=as_json)


def print_diagnosis(console: Console, diagnosis: Diagnosis) -> None:
    """The machine, the cache, then a table of each kind of thing."""
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
                check.fix,
            )
            for check in diagnosis.checks
            if check.kind == kind
        ]
        console.print(render.table(title, "", "version", "what", "to get it", rows=rows))
