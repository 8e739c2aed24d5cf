"""Which families of students become which formats, at which resolutions.

    python benchmarks/families.py --json OUT [--families ...] [--resolutions 28,96,224] [--formats ...] [--axes]

The smallest student of each family, with random weights, is exported as `edgedistill export` exports; each file is run and
compared with its module where something here runs it. With --axes, its smallest students of every kernel and expansion worth
asking for in place of it. A row a student and format; rows that are there are kept.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from itertools import product
from pathlib import Path
from typing import Any

import torch

from edgedistill.base.progress import silent
from edgedistill.base.store import Store
from edgedistill.commands.export_files import Exporting, ExportMaker, probes_of
from edgedistill.documents.answers import ExportedFile, ExportFailure
from edgedistill.documents.specs import Contract, Format, Precision, StudentSpec
from edgedistill.documents.targets import load_target
from edgedistill.networks.build import build_student
from edgedistill.networks.deploy import deploy
from edgedistill.networks.families.registry import FAMILIES
from edgedistill.pipeline.bench import Source

LABELS = tuple("abcdefghij")


def students(name: str, resolution: int, axes: bool) -> list[StudentSpec]:
    """The smallest student of a family; with `axes` one of each kernel and of each expansion."""
    family = FAMILIES[name]
    smallest = StudentSpec(family=name, width=family.widths[0], depth=family.depths[0], resolution=resolution)
    if not axes:
        return [smallest]
    return [smallest.model_copy(update={axis: v}) for axis in ("kernel", "expansion") for v in family.choices(axis)]


def export(spec: StudentSpec, formats: tuple[Format, ...]) -> list[dict[str, Any]]:
    target = load_target("host")
    contract = Contract(resolution=spec.resolution, mean=(120.0, 110.0, 100.0), std=(60.0, 61.0, 62.0), labels=LABELS)
    torch.manual_seed(0)
    module = deploy(build_student(spec, contract))
    source = Source(spec.label, spec.label, contract, lambda: module)
    with tempfile.TemporaryDirectory() as folder:
        asked = target.model_copy(update={"formats": formats, "machine": "x86_64"})
        maker = ExportMaker(target=asked, store=Store(Path(folder) / "store"), images=None, contract=contract)
        exporting = Exporting(maker, source, contract, probes_of(source), Path(folder))
        found = [exporting.one(form, Precision.FP32, silent) for form in formats]
    student = {"family": spec.family, "resolution": spec.resolution, "student": spec.label}
    return [student | row_of(one) for one in found]


def row_of(one: ExportedFile | ExportFailure) -> dict[str, Any]:
    if isinstance(one, ExportFailure):
        return {"format": one.format, "ok": False, "error": None, "bytes": None, "cause": one.cause}
    error = one.parity.max_abs_error if one.parity else None
    return {"format": one.format, "ok": True, "error": error, "bytes": one.bytes, "cause": ""}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, required=True)
    parser.add_argument("--families", default=",".join(FAMILIES))
    parser.add_argument("--resolutions", default="28,96,224")
    parser.add_argument("--formats", default="onnx,coreml,tensorrt,litert,executorch")
    parser.add_argument("--axes", action="store_true", help="a student of every kernel and expansion")
    arguments = parser.parse_args()
    formats = tuple(map(Format, arguments.formats.split(",")))
    rows: list[dict[str, Any]] = json.loads(arguments.json.read_text())["rows"] if arguments.json.is_file() else []
    for resolution, name in product(map(int, arguments.resolutions.split(",")), arguments.families.split(",")):
        for spec in students(name, resolution, arguments.axes):
            there = {row["format"] for row in rows if row["student"] == spec.label}
            missing = tuple(form for form in formats if form not in there)
            if not missing:
                continue
            began = time.monotonic()
            rows += (made := export(spec, missing))
            passed = sum(row["ok"] for row in rows)
            document = {"passed": passed, "of": len(rows), "rows": rows}
            arguments.json.write_text(json.dumps(document, indent=1) + "\n")
            told = ", ".join(f"{row['format']} {'ok' if row['ok'] else 'FAILED: ' + row['cause']}" for row in made)
            print(f"{spec.label}: {told} ({time.monotonic() - began:.0f} s)", flush=True)


if __name__ == "__main__":
    main()
