"""What distillation gives: one student, equal epochs, the same views; trained with labels only and distilled.

    python benchmarks/distillation_gain.py examples/fashion_mnist/build.toml \
        (--out examples/fashion_mnist/out | --student resnet,0.1875,0.5,16) [--seeds 3] [--json FILE]

Takes the student that the finished build in OUT chose, or the one named by family, width, depth and resolution, and
trains it once a seed with each recipe for the last rung's epochs. Accuracy is the fp32 torch program's, on the validation
split that the build decides by and on the test split. Teacher and stored views are the build's own, found in the cache.
Runs go on where an interrupted call stopped.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from pathlib import Path
from typing import Any

from trainings import parse_student

from edgedistill.base.progress import Event, Note, StageAdvanced, StageFinished
from edgedistill.base.store import Store
from edgedistill.distill.evaluate import split_quality
from edgedistill.distill.train import load_student
from edgedistill.documents.build_file import load_config
from edgedistill.documents.results import BuildResult
from edgedistill.documents.specs import StudentSpec
from edgedistill.documents.targets import load_target
from edgedistill.pipeline.prepare import open_bench, open_store
from edgedistill.pipeline.train import train
from edgedistill.pipeline.workers import Processes

RECIPES = ("labels", "kd")


def listen(event: Event) -> None:
    """Stages as they end, on stderr."""
    if isinstance(event, StageFinished) and event.stage in ("teacher", "views", "train"):
        print(event.stage, event.subject, "reused" if event.reused else f"{event.seconds:.0f} s", file=sys.stderr)
    elif isinstance(event, StageAdvanced | Note):
        return


def chosen_student(out: Path) -> StudentSpec:
    """The student that a finished build chose."""
    chosen = BuildResult.model_validate_json((out / "build.json").read_text()).student
    if chosen is None:
        raise SystemExit(f"the build in {out} chose no student")
    return chosen.spec


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("build", type=Path)
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument("--out", type=Path)
    which.add_argument("--student", type=parse_student)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    config = load_config(arguments.build)
    spec = arguments.student or chosen_student(arguments.out)
    base = arguments.build.parent.absolute()
    bench = open_bench(config, load_target("host"), Store(listener=listen), base=base, require_measured=False)
    with Processes(1, listen) as bench.executor:
        views = open_store(bench)
    contract = bench.contract(spec.resolution)
    epochs = bench.rungs[-1]
    rows: list[dict[str, Any]] = []
    for seed in range(arguments.seeds):
        for recipe in RECIPES:
            settings = config.train.model_copy(update={"recipe": recipe, "seed": seed})
            bench.config = config.model_copy(update={"train": settings})
            trained = train(bench, spec, views, epochs=epochs, total_epochs=epochs, previous=None)
            module = load_student(trained, contract)
            test = split_quality(module, bench.dataset, bench.dataset.splits.test, contract)
            row = {"seed": seed, "recipe": recipe, "validation": trained.quality_validation, "test": test}
            rows.append(row)
            print(json.dumps(row), flush=True)
    summary = {
        recipe: {
            split: {
                "mean": statistics.fmean(values),
                "low": min(values),
                "high": max(values),
            }
            for split in ("validation", "test")
            for values in [[row[split] for row in rows if row["recipe"] == recipe]]
        }
        for recipe in RECIPES
    }
    print(f"\n{spec.label}, {epochs} epochs, {arguments.seeds} seeds: mean (lowest to highest)")
    for recipe, splits in summary.items():
        shown = "   ".join(f"{s} {v['mean']:.2%} ({v['low']:.2%} to {v['high']:.2%})" for s, v in splits.items())
        print(f"{recipe:14} {shown}")
    if arguments.json:
        document = {"student": spec.model_dump(mode="json"), "epochs": epochs, "rows": rows, "summary": summary}
        arguments.json.write_text(json.dumps(document, indent=1) + "\n")


if __name__ == "__main__":
    main()
