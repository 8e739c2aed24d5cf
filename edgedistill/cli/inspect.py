"""`edgedistill inspect`: what is in a model file."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from edgedistill.cli.options import AsJson, ModelFile, TargetName

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.console import Console

    from edgedistill.documents.answers import InspectResult
    from edgedistill.documents.artifacts import Layer

ByLayer = Annotated[bool, typer.Option("--layers", help="Also list each layer with weights, and what it computes in.")]
_NAMED = 6
"""So many layers at most are named where others compute otherwise."""


def inspect(path: ModelFile, layers: ByLayer = False, target: TargetName = "host", as_json: AsJson = False) -> None:
    """Show what is in a model file: inputs, outputs, contract, operations, precision by layer, size by part, fallbacks."""
    import edgedistill as api
    from edgedistill.cli import errors, render

    with errors.answering(as_json=as_json):
        result = api.inspect(path, target=target)
        render.answer(result, _print, layers, as_json=as_json)


def _print(console: Console, result: InspectResult, layers: bool) -> None:
    from edgedistill.base.units import format_bytes, format_percent
    from edgedistill.cli import render

    render.line(console, result.path, style="bold")
    parts = ", ".join(f"{name} {format_bytes(size)}" for name, size in result.bytes_by_part.items())
    rows = [
        ("format", f"{result.format}, {result.precision}"),
        ("size", format_bytes(result.bytes) + (f": {parts}" if parts else "")),
        ("sha256", result.sha256),
    ]
    told = "none: the file was not made by edgedistill"
    if (contract := result.contract) is not None:
        of_classes, vectors = f"{len(contract.labels)} classes", f"vectors of {contract.width}, of length 1"
        told = (
            f"{contract.color} {contract.resolution} x {contract.resolution}, {contract.crop}, {contract.resize_filter}"
            f"; {of_classes if contract.vector is None else vectors}"
        )
    rows.append(("contract", told))
    if (own := result.probabilities) is not None:
        none = "" if own.none_below is None else f'; "none of these" below {format_percent(own.none_below)}'
        rows.append(("probabilities", f"softmax of the logits divided by {own.temperature:.3f}{none}"))
    rows += [
        (name, ", ".join(tensor.shown for tensor in tensors) or "not known")
        for name, tensors in (("inputs", result.inputs), ("outputs", result.outputs))
    ]
    operations = sorted(result.operations.items(), key=lambda item: (-item[1], item[0]))
    rows.append(("operations", ", ".join(f"{name} {count}" for name, count in operations) or "not known"))
    rows += [("layers" if not index else "", text) for index, text in enumerate(_by_precision(result.layers))]
    if result.fallbacks is not None:
        rows.append(("fallbacks", result.fallbacks.sentence))
    rows += [(name.replace("_", " "), value) for name, value in result.facts.items() if value]
    render.facts(console, rows)
    render.line(console, *(f"- {check}" for check in result.checks))
    if layers:
        listed = [(layer.name, f"{layer.parameters:,}", layer.weights, layer.arithmetic) for layer in result.layers]
        columns = ("layer", "parameters", "weights", "arithmetic")
        console.print(render.table(*columns, right=("parameters",), rows=listed))


def _by_precision(layers: tuple[Layer, ...]) -> Iterator[str]:
    """`52 of 53 with weights: int8`, most frequent first; those that stand out are named."""
    kinds: dict[str, list[str]] = {}
    for layer in layers:
        kinds.setdefault(layer.described, []).append(layer.name)
    for place, (kind, names) in enumerate(sorted(kinds.items(), key=lambda item: -len(item[1]))):
        named = f" ({', '.join(names)})" if place and len(names) <= _NAMED else ""
        yield f"{len(names)} of {len(layers)} with weights: {kind}{named}"
