"""`edgedistill.export`: one model as files of several formats."""

from __future__ import annotations

from pathlib import Path
from typing import Unpack

from edgedistill.base.errors import Collected
from edgedistill.base.progress import Listener, loading, silent
from edgedistill.commands.options import ModelOptions
from edgedistill.commands.requests import ModelRequest, parse_precisions
from edgedistill.data.argument import data_config
from edgedistill.documents.answers import ExportResult


def export(
    model: str,
    *,
    out: Path | str,
    formats: str = "onnx",
    precisions: str = "fp32",
    data: str | None = None,
    verify: bool = True,
    listener: Listener = silent,
    **options: Unpack[ModelOptions],
) -> ExportResult:
    """Export a model (`timm:NAME`, `module:function`, a .pt2 program or an .onnx file) to the folder `out`, in every format
    of `formats` ("onnx,coreml" or "all") and precision of `precisions`, each file run and compared with the model unless
    `verify` is off. `data` (see `--data`) calibrates int8; see ModelOptions for the others. What fails is in the result's
    `failures`. Raises InputError for bad input, UnsupportedError or TrialFailure where there is no torch program to make
    anything from."""
    wrong = Collected()
    asked = ModelRequest.of(model, formats, Path(out), options, "exported", wrong)
    with wrong:
        kinds = parse_precisions(precisions)
    with wrong:
        images = None if data is None else data_config(data)
    wrong.raise_any()
    with loading(listener):
        from edgedistill.commands.export_files import export_files

    return export_files(asked, kinds, images, verify=verify, listener=listener)
