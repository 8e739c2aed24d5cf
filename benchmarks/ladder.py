"""The quantisation ladder on Fashion-MNIST: six networks, four formats, which rung each needs.

    python benchmarks/ladder.py --work DIR --json OUT [--formats onnx,litert,executorch,coreml] [--models ...] [--measure]

Networks, their training and their data are those of ladder_models.py (short runs; three student families at 32 pixels,
three timm models at 64). A rung is judged on the validation split (VALIDATION_IMAGES; Core ML by the reference interpreter
on the first 256 of them), loses at most half a point to the fp32 file of its format, and calibrates on 256 training images.
The test split is only reported: fp32's and the winner's accuracy on all of its 10,000 images (Core ML: 256).

Rows are written after each ladder, and found ones are not climbed again, so that the benchmark can be run format by format.
`--measure` times every file that runs here at the end, one session each in turn, several rounds: p50 is the median of the
rounds' medians. QAT is the last rung, over the stored views, with the student's own recipe.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import statistics
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ladder_models import FASHION_MNIST, NAMES, TRAINING, load_model, open_data, open_store
from measuring import one_session
from torch import nn

from edgedistill.base.errors import EdgedistillError
from edgedistill.base.store import Store, digest
from edgedistill.data.datasets import Dataset
from edgedistill.data.preprocessing import prepare
from edgedistill.devices.stats import measured_latency
from edgedistill.distill.stored.split_store import SplitStore
from edgedistill.distill.train import Lessons
from edgedistill.distill.under_rounding import tune
from edgedistill.documents.artifacts import CompiledArtifact, answers_of
from edgedistill.documents.build_file import DataConfig, ExportConfig
from edgedistill.documents.specs import ComputedBy, Format, Precision, QuantScheme
from edgedistill.documents.targets import load_target
from edgedistill.formats import format_for
from edgedistill.formats.running import REFERENCE_IMAGES, test_quality
from edgedistill.pipeline.bench import Bench, Source
from edgedistill.pipeline.judge import QAT_EPOCHS, beside, climbed, made, origin_of
from edgedistill.pipeline.meter import Meter

CALIBRATION_IMAGES, MAX_LOSS, ROUNDS = 256, 0.005, 5


@dataclass(frozen=True, eq=False)
class Tuned:
    """Trains a network of ladder_models.py under rounding, in a folder of its own."""

    name: str
    dataset: Dataset
    views: SplitStore
    work: Path
    bench: Bench

    @property
    def key(self) -> str:
        return self.views.key

    def of(self, source: Source, scheme: QuantScheme) -> Source:
        folder = self.work / self.name / f"qat-{digest(scheme.model_dump(mode='json'))[:12]}"
        folder.mkdir(exist_ok=True)
        images = self.bench.calibration.pixels(source.contract)

        def load() -> nn.Module:
            lessons = Lessons(self.dataset, TRAINING, self.views)
            return tune(source.load(), source.contract, images, scheme, lessons, folder)

        return Source(source.label, digest([source.key, folder.name]), source.contract, load)


def climb_one(name: str, form: Format, dataset: Dataset, views: SplitStore, work: Path) -> dict[str, Any]:
    """The row of one network in one format; its fp32 file and the winner's are kept in `work`/files."""
    model = load_model(name, dataset, views, work)
    source, contract, host = model.source, model.contract, load_target("host")
    began = time.monotonic()
    files = work / "files"
    files.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=work) as scratch:
        bench = Bench(
            target=host.model_copy(update={"formats": (form,)}),
            store=Store(Path(scratch)),
            data=DataConfig(source="idx", path=FASHION_MNIST),
            dataset=dataset,
            mean=contract.mean,
            std=contract.std,
            export=ExportConfig(calibration_images=CALIBRATION_IMAGES).model_copy(
                update={"max_quality_loss": MAX_LOSS}
            ),
            meter=Meter(host, None, "nothing is timed here"),
        )
        tuned = Tuned(name, dataset, views, work, bench)
        try:
            baseline = made(bench, source, QuantScheme(precision=Precision.FP32), form)
            rungs = climbed(bench, source, form, baseline, tuned)
        except EdgedistillError as error:
            return {"model": name, "format": form, "problem": f"{error.message} {error.fix}".strip()}
        half, _ = beside(bench, source, QuantScheme(precision=Precision.FP16), form, baseline)
        winner = next((rung for rung in rungs if rung.accepted), None)
        found = {"fp32": baseline}
        if winner is not None:
            found["winner"] = made(bench, source, winner.scheme, form, origin_of(source, winner.scheme, tuned))
        count = REFERENCE_IMAGES if format_for(form).computed_by is ComputedBy.REFERENCE else None
        images, labels = (
            prepare(dataset.images, dataset.splits.test[:count], contract),
            dataset.labels[dataset.splits.test],
        )
        kept = {}
        for what, result in found.items():
            quality = test_quality(format_for(form), result.artifact, bench.task, images, labels[:count])
            kept[what] = {"file": keep(result.artifact, files, f"{name}-{form}-{what}"), "quality_test": quality}
    answers = answers_of(baseline)
    return {
        "model": name,
        "format": form,
        "resolution": contract.resolution,
        "parameters": sum(p.numel() for p in source.load().parameters()),
        "quality_validation": answers and answers.quality,
        "bytes": baseline.artifact.bytes,
        "rungs": [rung.model_dump(mode="json") for rung in rungs],
        "fp16": half.model_dump(mode="json"),
        "winner": winner.model_dump(mode="json") if winner else None,
        "needed": winner.scheme.details if winner else None,
        "images": {"validation": count or len(dataset.splits.validation), "test": len(images)},
        "kept": kept,
        "seconds": round(time.monotonic() - began),
    }


def keep(artifact: CompiledArtifact, folder: Path, stem: str) -> dict[str, Any]:
    """Move a file out of the scratch folder; what is needed to open it again."""
    path = folder / f"{stem}{artifact.path.suffix}"
    if path.is_dir():
        shutil.rmtree(path)
    shutil.move(artifact.path, path)
    content: dict[str, Any] = artifact.model_copy(update={"path": Path(path.name)}).model_dump(mode="json")
    return content


def measure(rows: list[dict[str, Any]], dataset: Dataset, views: SplitStore, work: Path) -> None:
    """p50 of every kept file that this machine times, side by side: in each round every file has one session."""
    jobs = []
    for row in rows:
        if row["format"] == Format.COREML:
            continue
        contract = load_model(row["model"], dataset, views, work).contract
        images = prepare(dataset.images, dataset.splits.validation[:64], contract)
        for what in row.get("kept", {}).values():
            artifact = CompiledArtifact.model_validate(what["file"])
            what["p50_ms_rounds"] = []
            jobs.append((what, artifact.model_copy(update={"path": work / "files" / artifact.path}), images))
    for _ in range(ROUNDS):
        for what, artifact, images in jobs:
            what["p50_ms_rounds"].append(measured_latency(one_session(artifact, images, None, 2.0)).p50_ms)
    for what, _, _ in jobs:
        what["p50_ms"] = statistics.median(what["p50_ms_rounds"])


def told(row: dict[str, Any]) -> str:
    """One line of a row."""
    name = f"{row['model']} {row['format']}"
    if "problem" in row:
        return f"{name}: {row['problem']}"
    parts = [f"fp32 {row['quality_validation']:.2%}"]
    parts += [
        f"{rung['scheme']['precision']} {rung['loss'] * 100:+.2f}" if rung["loss"] is not None else rung["reason"][:40]
        for rung in row["rungs"]
    ]
    return f"{name}: {'; '.join(parts)} -> {row['needed']} ({row['seconds']} s)"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--json", type=Path, required=True)
    parser.add_argument("--data", type=Path, default=FASHION_MNIST)
    parser.add_argument("--formats", default="onnx,litert,executorch,coreml")
    parser.add_argument("--models", default=",".join(NAMES))
    parser.add_argument("--measure", action="store_true")
    arguments = parser.parse_args()
    dataset = open_data(arguments.data)
    views = open_store(dataset, arguments.data, arguments.work)
    rows: list[dict[str, Any]] = json.loads(arguments.json.read_text())["rows"] if arguments.json.is_file() else []

    def write() -> None:
        document = {
            "max_loss": MAX_LOSS,
            "calibration_images": CALIBRATION_IMAGES,
            "qat_epochs": QAT_EPOCHS,
            "machine": {"processor": platform.machine(), "cpus": os.cpu_count()},
            "rows": sorted(rows, key=lambda row: (NAMES.index(row["model"]), row["format"])),
        }
        arguments.json.write_text(json.dumps(document, indent=1) + "\n")

    for form in map(Format, arguments.formats.split(",")):
        for name in arguments.models.split(","):
            if any(row["model"] == name and row["format"] == form and "problem" not in row for row in rows):
                continue
            rows[:] = [row for row in rows if (row["model"], row["format"]) != (name, form)]
            rows.append(climb_one(name, form, dataset, views, arguments.work))
            print(told(rows[-1]), flush=True)
            write()
    if arguments.measure:
        measure(rows, dataset, views, arguments.work)
        write()
    return 0


if __name__ == "__main__":
    sys.exit(main())
