"""`edgedistill.quantize`: the smallest integers that lose no more than allowed."""

from __future__ import annotations

from pathlib import Path
from typing import Unpack

from edgedistill.base.errors import Collected
from edgedistill.base.progress import Listener, loading, silent
from edgedistill.base.units import format_percent
from edgedistill.commands.options import ModelOptions
from edgedistill.commands.requests import ModelRequest, parse_beside, parse_share
from edgedistill.data.argument import data_config
from edgedistill.documents.answers import FormatLadder, QuantizeResult
from edgedistill.selection.ladder import Margins


def quantize(
    model: str,
    *,
    data: str,
    out: Path | str = "quantized",
    max_loss: str = "0.5%",
    formats: str = "onnx",
    also: str = "fp16",
    device: str = "",
    listener: Listener = silent,
    **options: Unpack[ModelOptions],
) -> QuantizeResult:
    """Quantise a model (what `export` takes) to int8, or as much of it as loses no more than `max_loss` of its quality on
    `data` (see `--data`), by the first rung of the ladder that does in each format of `formats`; winners are written to
    `out`. `also` are precisions tried beside ("fp16,int8-weights"); see ModelOptions for the others. `device` is where the
    target is measured, as in `profile`; one that is named has to answer. Raises InputError for bad input, UnreachableError
    where such a device does not answer."""
    wrong = Collected()
    asked = ModelRequest.of(model, formats, Path(out), options, "quantised", wrong)
    with wrong:
        beside = parse_beside(also)
    with wrong:
        margins = Margins(max_loss=parse_share(max_loss, "--max-loss"))
    with wrong:
        images = data_config(data)
    wrong.raise_any()
    with loading(listener):
        from edgedistill.commands.quantize_files import quantize_files

    return quantize_files(asked, images, data, margins, beside, listener, device)


def way_out(ladder: FormatLadder, max_loss: float) -> str:
    """What to do where no rung was accepted, with the best that was seen."""
    if ladder.problem:
        return ladder.problem
    seen = [rung for rung in ladder.rungs if rung.loss is not None]
    if not seen:
        return f"no int8 file could be made or run: {ladder.rungs[-1].reason}" if ladder.rungs else "nothing was tried"
    best = min(seen, key=lambda rung: rung.loss or 0.0)
    if best.loss is not None and best.loss <= max_loss:
        return f"{best.scheme.details} is inside the loss and {best.reason}: ship fp32 or fp16"
    return (
        f"the best is {best.scheme.details}, which loses {format_percent(best.loss or 0.0, 2)}: allow that with --max-loss, "
        "or let a build train the student under rounding, for which it needs its teacher"
    )
