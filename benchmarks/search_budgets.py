"""The search at ten budgets, over students that brute force trained and measured, beside random search and prediction
alone.

    python benchmarks/search_budgets.py benchmarks/fashion_search.toml --rows benchmarks/results/brute_force.json \\
        --json FILE [--plot FILE.html] [--prove] [--stranger 20] [--times 1.1,1.25,1.5 --of 3 [--true FILE]]

`--rows` is what brute_force.py --measure wrote; a file that is not in the cache is made when it is asked for. A
training is replayed at its recorded cost and gives its recorded accuracy; a comparison with the anchor gives the
recorded ratio. With `--prove` the anchor is measured anew and each finalist's file is proven in new sessions, as a
build does it; without it, the recorded latency is taken for the proof. Brute force is asked too what it could prove:
its files inside the budget, the most accurate first, until one is proven; the sessions of a file at one budget are
taken once. With `--stranger N` plain ONNX Runtime takes N sessions of each proven file afterwards, nothing left out
(plain_latency.py), and 60 more where fewer than 16 of 20 are inside.

Beside it: the same search without its quality model, with as many candidates ("by size"); random search; prediction
alone. `--resamples N` compares the search and the one by size on N draws of three quarters of the students as well, at
five budgets each, with 16 and 24 candidates; those that end with `nothing` are counted and are in no mean.

Budgets lie between the fastest and the slowest student's best file, evenly by rank; with `--times` they are so many
times the p95 of `--of` students' best files, which plain ONNX Runtime found in 60 sessions, or had found in an earlier
result, FILE. For each: the accuracy of what was found beside the best that brute force has inside the budget (validation
split, points), the same on the test split, and the training that it took, as a share of brute force's. Random search
trains students in a random order, each to the end, until it has spent what the search spent; prediction alone trains as
many as the search had finalists, those that the latency model predicts inside the budget, the largest first, and ships
the most accurate without measuring it.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from budgets_plot import draw
from plain_latency import judged, plain_sessions
from recorded_files import RecordedFiles
from replay import ReplayLab, Student, proven, read_students

from edgedistill.base.store import Store
from edgedistill.devices.proof import aim
from edgedistill.documents.build_file import BuildConfig, SearchConfig, load_config
from edgedistill.documents.specs import Budget, Goal, Percentile, StudentSpec, Target
from edgedistill.documents.targets import load_target
from edgedistill.pipeline.measure import scale_alone
from edgedistill.pipeline.prepare import open_bench
from edgedistill.pipeline.workbench import Workbench
from edgedistill.selection.goal import comparable_ms, validation_quality
from edgedistill.selection.on_target import OnTarget
from edgedistill.selection.search import Search, Settings
from edgedistill.selection.study import Study

BUDGETS = 10
RANDOM_SEEDS = 20
TRUE_SESSIONS = 60
Row = dict[str, Any]
T = TypeVar("T")


def best_inside(students: Sequence[Student], goal: Goal) -> float | None:
    """The highest file accuracy that any of the students has inside the budget."""
    return max((validation_quality(f) for s in students for f in s.kept(goal)), default=None)


def best_provable(lab: ReplayLab, goal: Goal) -> float | None:
    """The highest file accuracy that brute force can prove inside the budget: its files that measured inside, the most
    accurate first, until one is proven."""
    entries = [(spec, f) for spec, student in lab.students.items() for f in student.kept(goal)]
    for spec, result in sorted(entries, key=lambda entry: -validation_quality(entry[1])):
        if proven(lab, spec, result, goal.budget).met:
            return validation_quality(result)
    return None


def budgets_of(students: Sequence[Student], percentile: Percentile) -> list[float]:
    """Between the fastest and the slowest of the students' fastest files, evenly by rank, from tight to loose."""
    anything = Goal(budget=Budget(latency_ms=1e9, percentile=percentile))
    fastest = sorted(min(comparable_ms(f, anything) for f in s.files if not f.dropped) for s in students)
    return [float(np.quantile(fastest, (k + 0.5) / BUDGETS)) for k in range(BUDGETS)]


def settings_of(config: SearchConfig, rows: Sequence[Row]) -> Settings:
    """How the build file lets its search spend, over the rungs that brute force recorded."""
    rungs = next(row["rungs"] for row in rows if row.get("files"))
    return Settings(
        probes=config.probes,
        candidates=config.candidates,
        rungs=tuple(rung["epochs"] for rung in rungs),
        keep=config.keep,
        trials=config.trials,
    )


class SearchBySize(Search):
    """The search without what it learns of quality: every batch is proposed by size, no student is stopped early for what
    the rungs of others say."""

    def quality_model(self) -> None:
        return None


def searched(
    students: dict[StudentSpec, Student],
    goal: Goal,
    settings: Settings,
    lab: ReplayLab,
    kind: type[Search] = Search,
) -> Row:
    """What the search finds."""
    candidates = [student.candidate for student in students.values()]
    with tempfile.TemporaryDirectory() as folder:
        study = Study(Path(folder) / "study.journal", "replay", list(students), Path(folder) / "turn")
        began = time.monotonic()
        (outcome,) = kind([OnTarget(lab, goal)], settings, candidates, study).run().values()
        wall_s = time.monotonic() - began
    winner = outcome.winner
    scheme = winner.scheme if winner else None
    return {
        "student": winner.trial.spec.label if winner else None,
        "precision": scheme.scheme.label if scheme else None,
        "quality": validation_quality(scheme) if scheme else None,
        "latency_ms": comparable_ms(scheme, goal) if scheme else None,
        "file": str(scheme.artifact.path) if scheme else None,
        "sha256": scheme.artifact.sha256 if scheme else "",
        "proof": winner.proof.model_dump(mode="json") if winner and winner.proof else None,
        "proven": bool(winner and winner.proof and winner.proof.met),
        "failed_proofs": len(outcome.attempts),
        "trials": len(outcome.trials),
        "finished": sum(len(trial.rungs) == len(settings.rungs) for trial in outcome.trials),
        "measured": lab.measured,
        "train_seconds": lab.spent_s,
        "wall_seconds_beside_training": round(wall_s, 1),
        "stopped": outcome.stopped,
    }


def random_search(students: Sequence[Student], goal: Goal, seconds: float, seed: int) -> float | None:
    """The best inside the budget of students trained to the end in a random order while they cost no more than
    `seconds`."""
    order = list(students)
    random.Random(seed).shuffle(order)
    spent, tried = 0.0, []
    for student in order:
        if spent + sum(student.seconds) > seconds:
            break
        spent += sum(student.seconds)
        tried.append(student)
    return best_inside(tried, goal)


def predicted_alone(students: dict[StudentSpec, Student], goal: Goal, settings: Settings, count: int) -> Row:
    """The most accurate of `count` students that the latency model, taught by the probes alone, holds for inside the
    budget; whether its measured file is."""
    lab = ReplayLab(students, load_target("host"), None)
    candidates = [student.candidate for student in students.values()]
    on_target = OnTarget(lab, goal)
    on_target.probe(candidates, settings.probes)
    models = on_target.prospect().models
    limit = goal.budget.latency_ms
    fits = [
        (candidate, precision)
        for candidate in candidates
        for precision, model in models.items()
        if model.latency.predict(candidate.structure).value <= limit
    ]
    fits.sort(key=lambda entry: -entry[0].multiply_adds)
    chosen = list(dict.fromkeys(candidate.spec for candidate, _ in fits))[:count]
    allowed = {(candidate.spec, precision) for candidate, precision in fits}
    files = [
        f for spec in chosen for f in students[spec].files if not f.dropped and (spec, f.scheme.precision) in allowed
    ]
    if not files:
        return {"quality": None, "inside": False}
    shipped = max(files, key=validation_quality)
    return {"quality": validation_quality(shipped), "inside": comparable_ms(shipped, goal) <= limit}


def resampled(
    students: dict[StudentSpec, Student], settings: Settings, percentile: Percentile, draws: int
) -> list[Row]:
    """The search and the one by size on draws of three quarters of the students: does what is learnt of quality
    help?"""
    everyone = sorted(students.items(), key=lambda entry: entry[0].label)
    target, rows = load_target("host"), []
    for trials in (16, 24):
        limited = replace(settings, trials=trials)
        for name, kind in (("search", Search), ("by_size", SearchBySize)):
            below: list[float] = []
            shares: list[float] = []
            nothing = 0
            for seed in range(draws):
                some = dict(random.Random(seed).sample(everyone, 3 * len(everyone) // 4))
                total_s = sum(sum(student.seconds) for student in some.values())
                for limit_ms in budgets_of(list(some.values()), percentile)[1::2]:
                    goal = Goal(budget=Budget(latency_ms=limit_ms, percentile=percentile))
                    best = best_inside(list(some.values()), goal)
                    assert best is not None
                    found = searched(some, goal, limited, ReplayLab(some, target, None), kind)
                    shares.append(found["train_seconds"] / total_s)
                    missed = points(found["quality"], best)
                    if missed is None:
                        nothing += 1
                    else:
                        below.append(missed)
            rows.append(
                {
                    "kind": name,
                    "trials": trials,
                    "searches": len(shares),
                    "nothing": nothing,
                    "points_below_mean": statistics.fmean(below),
                    "points_below_worst": max(below),
                    "within_half_a_point": sum(b <= 0.5 for b in below) / len(shares),
                    "train_share": statistics.fmean(shares),
                }
            )
            print(rows[-1], flush=True)
    return rows


def points(quality: float | None, best: float | None) -> float | None:
    return None if quality is None or best is None else round(100 * (best - quality), 3)


def worst(rows: Sequence[Row], key: str) -> float | None:
    """Of the budgets at which the search found something and there is something to hold it against."""
    return max((row["search"][key] for row in rows if row["search"][key] is not None), default=None)


def true_p95s(files: RecordedFiles, students: Sequence[Student], goal: Goal, count: int) -> list[Row]:
    """The p95 in ms that plain ONNX Runtime finds, as the median of its sessions, for the best files of students evenly
    by rank."""
    best = [(s.candidate, min(s.files, key=lambda f: comparable_ms(f, goal))) for s in students]
    best.sort(key=lambda pair: comparable_ms(pair[1], goal))
    rows = []
    for candidate, result in evenly(best, count):
        path = files.of(candidate, result).path
        values = list(islice(plain(files.bench, path, goal.budget.percentile), TRUE_SESSIONS))
        rows.append({"file": str(result.artifact.path), "p95_ms": statistics.median(values), "values": values})
        print(f"{result.artifact.path}: p95 {statistics.median(values):.4f} ms", flush=True)
    return rows


def earlier(result: Path, count: int) -> list[Row]:
    """Of the true p95s that an earlier run took, so many evenly by rank."""
    return evenly(json.loads(result.read_text())["true_p95s"], count)


def evenly(ranked: Sequence[T], count: int) -> list[T]:
    return [ranked[(2 * place + 1) * len(ranked) // (2 * count)] for place in range(count)]


def plain(bench: Workbench, path: Path, percentile: Percentile) -> Iterator[float]:
    """Sessions of a file by plain ONNX Runtime, of a proof's length."""
    return plain_sessions(path, bench.meter.settings.session / 1000, percentile.fraction, None, 1.0)


def found_file(files: RecordedFiles, students: dict[StudentSpec, Student], found: Row) -> Path:
    """Where the file lies that a search found."""
    pairs = ((student.candidate, result) for student in students.values() for result in student.files)
    return next(files.of(*pair).path for pair in pairs if pair[1].artifact.sha256 == found["sha256"])


def open_scale(config: BuildConfig, target: Target, base: Path) -> Workbench:
    """A bench on which proofs are taken now, and the anchor's own latency."""
    bench = open_bench(config, target, Store(), base=base, require_measured=True)
    bench.meter.occasion = datetime.now(UTC).isoformat(timespec="seconds")
    scale_alone(bench)
    assert bench.meter.scale is not None
    print(
        f"anchor p95 {bench.meter.scale.anchor_ms.p95:.4f} ms, sessions differ by {bench.meter.scale.spread:.1%}",
        flush=True,
    )
    return bench


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("build", type=Path)
    parser.add_argument("--rows", type=Path, required=True)
    parser.add_argument("--prove", action="store_true")
    parser.add_argument("--stranger", type=int, default=0, metavar="N")
    parser.add_argument("--times", default="", help="budgets as multiples of true p95s: 1.1,1.25,1.5")
    parser.add_argument("--of", type=int, default=3, help="of so many students")
    parser.add_argument("--true", type=Path, metavar="FILE", help="an earlier result: its true p95s are taken")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--plot", type=Path)
    parser.add_argument("--resamples", type=int, default=0)
    arguments = parser.parse_args()
    config, target = load_config(arguments.build), load_target("host")
    bench = open_scale(config, target, arguments.build.parent.absolute()) if arguments.prove else None
    recorded = json.loads(arguments.rows.read_text())
    students = read_students(recorded, config, target, bench)
    files = None if bench is None else RecordedFiles(bench)
    test = {sha256: quality for row in recorded["rows"] for sha256, quality in row.get("quality_test", {}).items()}
    everyone = list(students.values())
    settings = settings_of(config.search, recorded["rows"])
    brute_s = sum(sum(student.seconds) for student in everyone)
    percentile = config.budget.percentile
    anything = Goal(budget=Budget(latency_ms=1e9, percentile=percentile))
    true: list[Row] = []
    limits: list[tuple[float, float | None]] = [(limit_ms, None) for limit_ms in budgets_of(everyone, percentile)]
    if arguments.times:
        assert files is not None, "--times needs --prove"
        true = (
            earlier(arguments.true, arguments.of)
            if arguments.true
            else true_p95s(files, everyone, anything, arguments.of)
        )
        limits = [(float(times) * row["p95_ms"], float(times)) for row in true for times in arguments.times.split(",")]
    rows: list[Row] = []
    document: Row = {"students": len(everyone), "brute_force_train_seconds": brute_s, "true_p95s": true, "rows": rows}
    if bench is not None and bench.meter.scale is not None:
        document["scale"] = {"anchor_ms": bench.meter.scale.anchor_ms.model_dump(), "spread": bench.meter.scale.spread}
    for limit_ms, times in limits:
        aim_ms = (
            aim(limit_ms, bench.meter.scale.spread) if bench is not None and bench.meter.scale is not None else None
        )
        goal = Goal(budget=Budget(latency_ms=limit_ms, percentile=percentile), aim_ms=aim_ms)
        best = best_inside(everyone, goal)
        lab = ReplayLab(students, target, files)
        found = searched(students, goal, settings, lab)
        # For brute force no limit lies below the budget: it may try every file.
        provable = best if bench is None or times else best_provable(lab, goal.model_copy(update={"aim_ms": None}))
        same = replace(settings, trials=found["trials"])
        by_size = searched(students, goal, same, ReplayLab(students, target, None), SearchBySize)
        by_chance = [random_search(everyone, goal, found["train_seconds"], seed) for seed in range(RANDOM_SEEDS)]
        misses = [points(a, best) for a in by_chance if a is not None]
        alone = predicted_alone(students, goal, settings, max(found["finished"], 1))
        kept = [f for s in everyone for f in s.kept(goal)]
        best_test = test.get(max(kept, key=validation_quality).artifact.sha256) if kept else None
        found["quality_test"] = test.get(found["sha256"])
        row = {
            "budget_ms": limit_ms,
            "times_true_p95": times,
            "aim_ms": aim_ms,
            "inside": sum(bool(student.kept(goal)) for student in everyone),
            "best_quality": best,
            "best_provable": provable,
            "best_quality_test": best_test,
            "search": found
            | {
                "points_below": points(found["quality"], best),
                "points_below_provable": points(found["quality"], provable),
                "points_below_test": points(found["quality_test"], best_test),
            },
            "train_share": found["train_seconds"] / brute_s,
            "by_size": {
                "points_below": points(by_size["quality"], best),
                "train_share": by_size["train_seconds"] / brute_s,
            },
            "random": {
                "points_below": statistics.fmean(m for m in misses if m is not None) if misses else None,
                "worst": max((m for m in misses if m is not None), default=None),
                "nothing": sum(a is None for a in by_chance),
            },
            "prediction_alone": alone | {"points_below": points(alone["quality"], best)},
        }
        if bench is not None and found["proven"] and arguments.stranger:
            assert files is not None
            values, inside = judged(
                plain(bench, found_file(files, students, found), percentile), limit_ms, arguments.stranger
            )
            row["stranger"] = {"sessions": len(values), "inside": inside, "values": values}
        rows.append(row)
        print(told(row), flush=True)
        document |= {
            "proven": sum(row["search"]["proven"] for row in rows),
            "provable": sum(row["best_provable"] is not None for row in rows),
            "worst_points_below": worst(rows, "points_below"),
            "worst_points_below_provable": worst(rows, "points_below_provable"),
            "worst_points_below_test": worst(rows, "points_below_test"),
            "largest_train_share": max(row["train_share"] for row in rows),
            "prediction_alone_outside": sum(not row["prediction_alone"]["inside"] for row in rows),
        }
        if arguments.json:
            arguments.json.write_text(json.dumps(document, indent=1) + "\n")
    if arguments.resamples:
        document["resampled"] = resampled(students, settings, percentile, arguments.resamples)
    if arguments.json:
        arguments.json.write_text(json.dumps(document, indent=1) + "\n")
    if arguments.plot:
        draw(rows, arguments.plot)


def told(row: Row) -> str:
    found, stranger = row["search"], row.get("stranger")
    outside = f"; a stranger finds {stranger['inside']} of {stranger['sessions']} inside" if stranger else ""
    return (
        f"{row['budget_ms']:.4f} ms: {row['inside']} inside, best {row['best_quality'] or 0:.2%}, provable "
        f"{row['best_provable'] or 0:.2%}; search {found['student']} {found['precision']}, proven {found['proven']}, "
        f"{found['points_below_provable']} points below that, {found['points_below_test']} on the test split, "
        f"{row['train_share']:.0%} of the training{outside}; by size {row['by_size']}; random "
        f"{row['random']['points_below']}; prediction alone {row['prediction_alone']}"
    )


if __name__ == "__main__":
    main()
