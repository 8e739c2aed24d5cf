"""Every student of a space trained through all rungs, and measured: what a search of that space is held against.

    python benchmarks/brute_force.py benchmarks/fashion_search.toml --json FILE
    python benchmarks/brute_force.py benchmarks/fashion_search.toml --json FILE --measure

The first call trains (teacher, views and all candidates, in the order of their work) and writes a row for each student:
validation accuracy and seconds of each rung. The second, on a quiet machine, makes the files of every precision of the
target, runs and measures them, and adds to the rows what it finds. Both go on where an interrupted call stopped; what an
earlier call trained costs nothing again. Seconds are those of the processor, so that a busy machine does not lengthen them.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any

from edgedistill.base.errors import TrialFailure
from edgedistill.base.progress import Event, Note, StageFinished
from edgedistill.base.store import Store, write_atomic
from edgedistill.distill.stored.split_store import SplitStore
from edgedistill.documents.artifacts import SchemeResult, TrainedStudent, Verified
from edgedistill.documents.build_file import load_config
from edgedistill.documents.measurements import MeasuredLatency
from edgedistill.documents.targets import load_target
from edgedistill.formats import format_for
from edgedistill.formats.running import test_quality
from edgedistill.networks.space import Candidate
from edgedistill.pipeline.judge import realise
from edgedistill.pipeline.prepare import open_bench, open_space, open_store, prepare_teacher
from edgedistill.pipeline.train import source_of, train
from edgedistill.pipeline.workbench import Workbench
from edgedistill.pipeline.workers import Processes

Row = dict[str, Any]


def listen(event: Event) -> None:
    """Stages as they end, on stderr."""
    if isinstance(event, StageFinished) and not event.reused and event.stage in ("teacher", "views", "train"):
        print(event.stage, event.subject, f"{event.seconds:.0f} s", file=sys.stderr, flush=True)
    elif isinstance(event, Note) and event.warning:
        print(event.text, file=sys.stderr, flush=True)


def trained_row(bench: Workbench, views: SplitStore, candidate: Candidate, known: Row | None) -> Row:
    """The student through all rungs. `known` is its row of an earlier call: a stage found in the cache has no seconds of its
    own, so those of that row stay. It has no rungs where the student failed."""
    rungs: list[Row] = []
    for trained, seconds in through_rungs(bench, views, candidate):
        earlier = known.get("rungs", []) if known else []
        before = earlier[len(rungs)]["seconds"] if len(earlier) > len(rungs) else seconds
        rungs.append({"epochs": trained.epochs, "quality_validation": trained.quality_validation, "seconds": before})
    return {
        "spec": candidate.spec.model_dump(mode="json"),
        "parameters": candidate.parameters,
        "multiply_adds": candidate.multiply_adds,
        "rungs": rungs,
    }


def through_rungs(bench: Workbench, views: SplitStore, candidate: Candidate) -> list[tuple[TrainedStudent, float]]:
    """The student after each rung, with the processor's seconds that this call took for it."""
    epochs = bench.rungs
    done: list[tuple[TrainedStudent, float]] = []
    for until in epochs:
        began = time.process_time()
        before = done[-1][0] if done else None
        trained = train(bench, candidate.spec, views, epochs=until, total_epochs=epochs[-1], previous=before)
        done.append((trained, round(time.process_time() - began, 2)))
    return done


def measured_files(bench: Workbench, views: SplitStore, candidate: Candidate) -> Row:
    """What each precision's file came to, as `SchemeResult`s; a precision that was dropped says why. Paths are those in the
    cache. Beside them each file's accuracy on the test split, which nothing reads but the tables at the end."""
    source = source_of(bench, through_rungs(bench, views, candidate)[-1][0])
    found = [
        result
        for result in realise(bench, source)
        if isinstance(result.verification, Verified) and isinstance(result.latency, MeasuredLatency)
    ]
    images, labels = bench.images("test", source.contract), bench.labels("test")
    return {
        "files": [portable_result(bench, result).model_dump(mode="json") for result in found],
        "quality_test": {
            result.artifact.sha256: test_quality(
                format_for(result.artifact.format), result.artifact, bench.task, images, labels
            )
            for result in found
        },
    }


def portable_result(bench: Workbench, result: SchemeResult) -> SchemeResult:
    path = result.artifact.path.relative_to(bench.store.root)
    artifact = result.artifact.model_copy(update={"path": path, "toolchain": {}, "record": {}})
    return result.model_copy(update={"artifact": artifact})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("build", type=Path)
    parser.add_argument("--json", type=Path, required=True)
    parser.add_argument("--measure", action="store_true")
    arguments = parser.parse_args()
    config = load_config(arguments.build)
    base = arguments.build.parent.absolute()
    bench = open_bench(config, load_target("host"), Store(listener=listen), base=base, require_measured=True)
    # What a busy machine measured while it trained is not what its files are compared by.
    bench.meter.occasion = "measure" if arguments.measure else ""
    teacher = prepare_teacher(bench)
    with Processes(1, listen) as bench.executor:
        views = open_store(bench)
    document: Row = json.loads(arguments.json.read_text()) if arguments.json.exists() else {"rows": []}
    document["teacher"] = {"name": teacher.teacher.name, "quality_validation": teacher.quality_validation}
    if isinstance(teacher.latency, MeasuredLatency):
        document["teacher"] |= {"p50_ms": teacher.latency.p50_ms, "p95_ms": teacher.latency.p95_ms}
    known = {json.dumps(row["spec"], sort_keys=True): row for row in document["rows"]}
    for candidate in sorted(open_space(bench), key=lambda c: (c.multiply_adds, c.spec.label)):
        name = json.dumps(candidate.spec.model_dump(mode="json"), sort_keys=True)
        try:
            row = trained_row(bench, views, candidate, known.get(name))
            if arguments.measure:
                row |= measured_files(bench, views, candidate)
        except TrialFailure as failure:
            row = {"spec": candidate.spec.model_dump(mode="json"), "failed": failure.message}
        known[name] = row
        document["rows"] = list(known.values())
        write_atomic(arguments.json, json.dumps(document, indent=1) + "\n")
        shown = ", ".join(f"{r['quality_validation']:.2%} ({r['seconds']:.0f} s)" for r in row.get("rungs", []))
        print(f"{candidate.spec.label}: {shown or row.get('failed')}", flush=True)


if __name__ == "__main__":
    main()
