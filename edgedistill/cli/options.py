"""Arguments that several commands have."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from edgedistill.cli.completion import complete_target

ModelFile = Annotated[Path, typer.Argument(metavar="FILE", help="A .onnx, .mlpackage, .engine, .tflite or .pte.")]
TargetName = Annotated[
    str, typer.Option(metavar="NAME|PATH.toml", autocompletion=complete_target, help="Device the file is for.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]
