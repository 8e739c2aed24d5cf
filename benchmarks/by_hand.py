"""A teacher and a student by hand, with timm alone, beside what a build makes of the same pictures.

    python benchmarks/by_hand.py teacher BUILD.toml --model tf_efficientnet_lite2 --weights LITE2 --json TEACHER
    python benchmarks/by_hand.py fit BUILD.toml --json FITTED
    python benchmarks/by_hand.py student BUILD.toml --model NAME [--weights FILE] --teacher TEACHER --json STUDENT
    python benchmarks/by_hand.py measure BUILD.toml --student STUDENT [--build OUT] --json MEASURED

`by_hand_timm.py` has all that trains and exports. Only the files and labels of each split come from edgedistill.
`teacher` and `student` try each of `--rates` with seed 0, and train the other seeds at the rate that is best on the
validation split. `--epochs` counts passes over the training split, as `[teacher.fit] epochs` and the last rung do. Runs are
rows of the JSON file; a second start goes on. What follows takes the row that is best on the validation split. `fit` has the
build file's own teacher, as a build fits it, once for each seed.

`measure` exports the student, in fp32 and int8. With `--build` the file that this finished build proved runs in turn with
both, in one loop of plain ONNX Runtime with one thread. Latencies are medians of the sessions' percentiles. How far the
build's file is ahead is told with a 95% interval, of the pictures of the test split.
"""

from __future__ import annotations

import os
import statistics
import sys
import time
from argparse import ArgumentDefaultsHelpFormatter, ArgumentParser, Namespace
from hashlib import sha256
from itertools import product
from pathlib import Path

import torch
from by_hand_timm import Views, exported, fitted, restored, right, right_of_file, whole
from gain_work import seeded
from plain_latency import TURN_S, WARMUP_S, opened, quantile, run_for
from torch import Tensor
from trainings import Row, Rows, listen

from edgedistill.base.store import Store
from edgedistill.data.datasets import load_dataset
from edgedistill.data.folder import FolderImages
from edgedistill.distill.evaluate import split_quality
from edgedistill.documents.build_file import load_config
from edgedistill.documents.results import BuildResult
from edgedistill.documents.targets import load_target
from edgedistill.pipeline.prepare import open_bench
from edgedistill.pipeline.teacher import open_teacher


class Split:
    """The files of each split of a build file's data, with the classes and the background."""

    def __init__(self, build_file: Path) -> None:
        config = load_config(build_file).data
        dataset = load_dataset(config)
        images, splits = dataset.images, dataset.splits
        if not isinstance(images, FolderImages) or (config.crop, config.resize_filter) != ("stretch", "bilinear"):
            raise SystemExit(f"{build_file}: [data] must be a folder, with the default crop and resize_filter")
        files = [(Path(path), int(label)) for path, label in zip(images.paths, dataset.labels, strict=True)]
        parts = (splits.train, splits.validation, splits.test)
        self.train, self.validation, self.test = (tuple(files[index] for index in part) for part in parts)
        self.classes, self.background = len(dataset.classes), images.background
        self.identity = sha256(dataset.fingerprint.encode() + b"".join(part.tobytes() for part in parts)).hexdigest()


def best(rows: Rows) -> Row:
    """The row that is best on the validation split; of equals the first."""
    if not rows.document["rows"]:
        raise SystemExit(f"{rows.path} has no rows: run the stage that makes it first")
    return max(rows, key=lambda row: float(row["validation"]))


def core_seconds(rows: Rows) -> int:
    """Seconds of all cores in the trainings of these rows."""
    return sum(int(row["core_seconds"]) for row in rows)


def train(options: Namespace, split: Split) -> None:
    """The rows of a teacher or a student that are missing."""
    free, teacher = ("build_file", "json", "rates", "seeds", "workers", "weights", "teacher"), None
    settings = {key: value for key, value in vars(options).items() if key not in free}
    settings |= {"weights": str(options.weights), "data": split.identity}
    if options.stage == "student":
        taught = Rows.open(options.teacher, ("rate", "seed"), {"stage": "teacher", "data": split.identity})
        settings |= {"teacher_test": best(taught)["test"], "teacher_core_seconds": core_seconds(taught)}
        teacher = restored(taught.document["model"], split.classes, Path(best(taught)["weights"]))
        settings["view_resolution"] = max(options.resolution, taught.document["resolution"])
    rows = Rows.open(options.json, ("rate", "seed"), settings)
    views = Views(split.train, settings.get("view_resolution", options.resolution), split.background)
    validation, test = (whole(part, options.resolution, split.background) for part in (split.validation, split.test))
    rates = [float(rate) for rate in options.rates.split(",")]

    def do(rate: float, seed: int) -> None:
        if rows.have(rate, seed):
            return
        own, weights = {"rate": rate, "seed": seed}, options.json.with_suffix("") / f"{rate:g}-{seed}.safetensors"
        began = time.process_time()
        made = fitted(Namespace(**vars(options), **own), views, validation, split.classes, teacher, weights)
        made["core_seconds"] = round(time.process_time() - began)
        tested = right(restored(options.model, split.classes, weights), test, torch.device("cpu"))
        rows.add([{**own, **made, "test": tested}])

    for rate in rates:
        do(rate, 0)
    tuned = max(rates, key=lambda rate: next(r["validation"] for r in rows if (r["rate"], r["seed"]) == (rate, 0)))
    for seed in range(1, options.seeds):
        do(tuned, seed)
    tests = [row["test"] for row in rows if row["rate"] == tuned and row["seed"] < options.seeds]
    rows.write(tuned_rate=tuned, test_mean=statistics.fmean(tests))
    print(f"rate {tuned:g}: {statistics.fmean(tests):.2%} of the test split, mean of {len(tests)} seeds")
    print(f"best on validation: {best(rows)['validation']:.2%} of it, {best(rows)['test']:.2%} of the test split")


def fit(options: Namespace, split: Split) -> None:
    """A row for each seed with which a build fits its teacher."""
    config, base = load_config(options.build_file), options.build_file.parent.absolute()
    if config.teacher.fit is None:
        raise SystemExit(f"{options.build_file}: [teacher] has no fit")
    rows = Rows.open(options.json, ("seed",), {"data": split.identity, "epochs": config.teacher.fit.epochs})
    for seed in range(options.seeds):
        if rows.have(seed):
            continue
        own = config.model_copy(update={"teacher": seeded(config.teacher, seed)})
        bench = open_bench(own, load_target("host"), Store(listener=listen), base=base, require_measured=False)
        teacher, splits = open_teacher(bench), bench.dataset.splits
        parts = {"validation": splits.validation, "test": splits.test}
        share = {part: split_quality(teacher.module, bench.dataset, of, teacher.contract) for part, of in parts.items()}
        rows.add([{"seed": seed, **share}])
    tests = [row["test"] for row in rows]
    rows.write(test_mean=statistics.fmean(tests), test_images=len(split.test))
    print(f"{statistics.fmean(tests):.2%} of the test split, mean of {len(tests)} seeds")


def latencies(files: dict[str, Path], seconds: float, sessions: int) -> dict[str, dict[int, list[float]]]:
    """By file its p50 and p95 in ms, one for each session; all files in turn, for so many seconds each."""
    found = {name: {percent: list[float]() for percent in (50, 95)} for name in files}
    if sys.platform == "linux":
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    for _ in range(sessions):
        runs = {name: opened(str(file)) for name, file in files.items()}
        taken = {name: run_for(run, WARMUP_S)[:0] for name, run in runs.items()}
        for _ in range(max(1, round(seconds / TURN_S))):
            for name, run in runs.items():
                taken[name] += run_for(run, TURN_S)
        for name, percent in product(files, (50, 95)):
            found[name][percent].append(1e3 * quantile(taken[name], percent / 100))
    return found


def proven(out: Path) -> tuple[Path, Row]:
    """The file that a finished build proved, and what the build states: the accuracy of it and of its teacher on the test
    split, and its own duration."""
    result = BuildResult.model_validate_json((out / "build.json").read_text())
    proved = result.proof.artifact_sha256 if result.proof else None
    file = next((a for a in result.artifacts if a.measured_sha256 == proved and a.format == "onnx"), None)
    if file is None:
        raise SystemExit(f"the build in {out} proved no ONNX file")
    stated = {"build_states_test": file.quality, "build_teacher_test": result.teacher.quality}
    student = result.student.spec.label if result.student else None
    return out / file.path, stated | {"build_student": student, "build_seconds": round(result.seconds)}


def lead(build: Tensor, file: Tensor) -> dict[str, float]:
    """How many points the build's file is ahead of another on the same pictures, and the half of the 95% interval, from the
    differences by picture. Both are bool [N]: which ones a file gets right."""
    points = 100 * (build.float() - file.float())
    return {"build_ahead": float(points.mean()), "build_ahead_within": 1.96 * float(points.std() / len(points) ** 0.5)}


def measure(options: Namespace, split: Split) -> None:
    """A row for each file: its accuracy and its latency."""
    made = Rows.open(options.student, ("rate", "seed"), {"stage": "student", "data": split.identity})
    weights, student, side = Path(best(made)["weights"]), made.document, made.document["resolution"]
    network = restored(student["model"], split.classes, weights)
    some, _ = whole(split.train[:: max(1, len(split.train) // 256)], side, split.background)
    files = exported(network, side, some, options.student.with_suffix(""))
    core = {"by_hand_teacher_core_seconds": student["teacher_core_seconds"], "by_hand_core_seconds": core_seconds(made)}
    stated = {"by_hand_teacher_test": student["teacher_test"], **core}
    if options.build:
        files["build"], of_build = proven(options.build)
        stated |= of_build
    rows = Rows.open(options.json, ("file",), {"data": split.identity, "student": student["model"]})
    for name, sessions in latencies(files, options.seconds, options.sessions).items():
        p50, p95 = (statistics.median(values) for values in sessions.values())
        parts = {"validation": split.validation, "test": split.test}
        found = {part: right_of_file(files[name], pictures, split.background) for part, pictures in parts.items()}
        share = {part: float(those.float().mean()) for part, those in found.items()}
        if options.build:
            share |= lead(right_of_file(files["build"], split.test, split.background), found["test"])
        rows.add([{"file": name, **share, "p50_ms": p50, "p95_ms": p95, "sessions_p95_ms": sessions[95]}])
        print(f"{name:6} p50 {p50:.3f} ms, p95 {p95:.3f} ms, {share['test']:.2%} of the test split")
    rows.write(**stated)
    print(", ".join(f"{name} {value}" for name, value in stated.items()))


def main() -> int:
    parser = ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    stages = parser.add_subparsers(dest="stage", required=True)
    for stage in ("teacher", "fit", "student", "measure"):
        one = stages.add_parser(stage, formatter_class=ArgumentDefaultsHelpFormatter)
        one.add_argument("build_file", type=Path)
        one.add_argument("--json", type=Path, required=True)
        if stage == "fit":
            one.add_argument("--seeds", type=int, default=3)
            continue
        if stage == "measure":
            one.add_argument("--student", type=Path, required=True, help="JSON file of the stage student")
            one.add_argument("--build", type=Path, help="output folder of a finished build")
            one.add_argument("--sessions", type=int, default=10)
            one.add_argument("--seconds", type=float, default=3.0)
            continue
        if stage == "student":
            one.add_argument("--teacher", type=Path, required=True, help="JSON file of the stage teacher")
        fine = stage == "teacher"
        one.add_argument("--model", required=True, help="timm's name")
        one.add_argument("--weights", type=Path, help="weights under timm's names; without it random ones")
        one.add_argument("--rates", default="3e-4,1e-3,3e-3")
        one.add_argument("--augment", default="rand-m6-mstd0.5-inc1", help="timm's policy; empty for colour jitter")
        numbers = {"resolution": 96, "epochs": 10, "batch": 64, "seeds": 3, "workers": 0, "ema": 0.99, "scale": 0.5}
        numbers |= {"layer-decay": 0.9 if fine else 1.0, "weight-decay": 0.05, "smoothing": 0.1}
        numbers |= dict.fromkeys(("drop", "drop-path", "erase"), 0.1 if fine else 0.0)
        numbers |= {"label-weight": 0.3, "temperature": 2.0}
        for name, value in numbers.items():
            one.add_argument(f"--{name}", type=type(value), default=value, help=" ")
    options = parser.parse_args()
    do = {"measure": measure, "fit": fit}.get(options.stage, train)
    do(options, Split(options.build_file))
    return 0


if __name__ == "__main__":
    sys.exit(main())
