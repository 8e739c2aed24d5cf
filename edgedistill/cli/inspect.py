"""`edgedistill inspect`: what is in a model file."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgedistill.cli.options import AsJson, ModelFile, TargetName

if TYPE_CHECKING:
    from rich.console import Console

    from edgedistill.documents import InspectResult


def inspect(path: ModelFile, target: TargetName = "host", as_json: AsJson = False) -> None:
    """Show what is in a model file: inputs, outputs, contract, operations, precision by layer, size by part, fallbacks."""
    from edgedistill import api
    from edgedistill.cli import render
    from edgedistill.cli.errors import answering

    with answering(as_json=as_json):
        result = api.inspect(path, target=target)
        if as_json:
            render.write_json(result.model_dump_json())
        else:
            _print(render.results(), result)


def _print(console: Console, result: InspectResult) -> None:
    from edgedistill.cli import render
    from edgedistill.units import format_bytes

    render.line(console, result.path, style="bold")
    rows = [
        ("format", result.format),
        ("precision", result.precision),
        ("size", format_bytes(result.bytes)),
        ("sha256", result.sha256),
    ]
    if (contract := result.contract) is not None:
        how = (
            f"{contract.color} {contract.resolution} x {contract.resolution}, {contract.crop}, {contract.resize_filter}"
        )
        rows.append(("contract", f"{how}; {len(contract.labels)} classes"))
    else:
        rows.append(("contract", "none: the file was not made by edgedistill"))
    rows += [(name.replace("_", " "), value) for name, value in result.facts.items() if name != "log"]
    render.facts(console, list(rows))
    for check in result.checks:
        render.line(console, f"- {check}")
