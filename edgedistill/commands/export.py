"""`edgedistill.export`: one model as files of several formats."""

from __future__ import annotations

from pathlib import Path
from typing import Unpack

from edgedistill.base.errors import Collected
from edgedistill.base.progress import Listener, loading, silent
from edgedistill.commands.options import ModelOptions
from edgedistill.commands.requests import (
    ExportRequest,
    ModelSettings,
    parse_formats,
    parse_precisions,
    require_openable,
)
from edgedistill.data.argument import data_config
from edgedistill.documents.answers import ExportResult
from edgedistill.documents.specs import Format
from edgedistill.documents.targets import load_target
from edgedistill.pipeline.inputs import require_place


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
    wrong, forms = Collected(), tuple[Format, ...]()
    settings = ModelSettings.of(options, wrong)
    with wrong:
        forms = parse_formats(formats)
    with wrong:
        kinds = parse_precisions(precisions)
    with wrong:
        target = load_target(str(options.get("target", "host")))
    with wrong:
        images = None if data is None else data_config(data)
    with wrong:
        require_place(Path(out))
    with wrong:
        require_openable(model, settings, forms, Path.cwd(), "exported")
    wrong.raise_any()
    with loading(listener):
        from edgedistill.commands.export_files import export_files

    return export_files(ExportRequest(model, settings, forms, kinds, target, Path(out), images, verify), listener)
