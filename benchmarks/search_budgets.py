"""The search at ten budgets, over students that brute force trained and measured, beside random search and prediction alone.

    python benchmarks/search_budgets.py benchmarks/fashion_search.toml --rows benchmarks/results/brute_force.json \\
        --json FILE [--plot FILE.html] [--cache DIR]

`--rows` is what brute_force.py --measure wrote. A training is replayed at its recorded cost and gives its recorded accuracy;
a measurement gives the recorded latency. With `--cache`, where brute force worked, each winner's file is measured
anew in three sessions and must pass the acceptance rule; without it, the recorded percentile is taken for the proof. With
it brute force is asked too what it could prove: its files inside the budget, the most accurate first, until one passes; each
file has its three sessions once, whoever asks.

Beside it: the same search without its quality model, with as many candidates ("by size"); random search; prediction alone.
`--resamples N` compares the search and the one by size on N draws of three quarters of the students as well, at five budgets
each, with 16 and 24 candidates; those that end with `nothing` are counted and are in no mean.

Budgets lie between the fastest and the slowest student's best file, evenly by rank. For each: the accuracy of what was found
beside the best that brute force has inside the budget (validation split, points), and the training that it took, as a share
of brute force's. Random search trains students in a random order, each to the end, until it has spent what the search spent;
prediction alone trains as many as the search had finalists, those that the latency model predicts inside the budget, the
largest first, and ships the most accurate without measuring it.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from edgedistill.artifacts import MeasuredLatency, Proof, SchemeResult, Session, TrainedStudent
from edgedistill.config import BuildConfig, load_config
from edgedistill.devices.base import run_pushed
from edgedistill.devices.local import LocalDevice
from edgedistill.devices.stats import proof, samples_needed
from edgedistill.errors import TrialFailure
from edgedistill.laboratory import settings_of
from edgedistill.runtimes import runtime_for
from edgedistill.runtimes.base import MeasurementProtocol
from edgedistill.selection.goal import comparable_ms, validation_accuracy
from edgedistill.selection.lab import Figures, Training, figures_of
from edgedistill.selection.on_target import OnTarget
from edgedistill.selection.search import Search, Settings
from edgedistill.selection.study import Study
from edgedistill.specs import Budget, Goal, Percentile, Precision, StudentSpec, Target
from edgedistill.students.space import Candidate, enumerate_space
from edgedistill.targets import load_target

BUDGETS = 10
RANDOM_SEEDS = 20
PAUSE_S = 2.0
# A build's proofs wait up to 180 s in all for the speed at which its teacher was measured.
WAIT_S = 20.0
Row = dict[str, Any]


@dataclass(frozen=True)
class Student:
    """A row of brute force."""

    candidate: Candidate
    accuracy: tuple[float, ...]
    seconds: tuple[float, ...]
    files: tuple[SchemeResult, ...]

    def kept(self, goal: Goal) -> list[SchemeResult]:
        return [f for f in self.files if not f.dropped and comparable_ms(f, goal) <= goal.budget.latency_ms]


@dataclass(eq=False)
class ReplayLab:
    """A lab that looks everything up, and counts what it would have cost. `reference_us` is the processor's speed at which
    the teacher was measured (see Session): the sessions of a proof wait for it."""

    students: dict[StudentSpec, Student]
    target: Target
    cache: Path | None
    spent_s: float = 0.0
    measured: int = 0
    sessions: dict[str, tuple[Session, ...]] = field(default_factory=dict)
    reference_us: float | None = None
    measurable: bool = True

    @property
    def device(self) -> str:
        return self.target.name

    @property
    def precisions(self) -> tuple[Precision, ...]:
        return self.target.precisions

    def probe(self, candidate: Candidate) -> tuple[Figures, ...]:
        self.measured += 1
        return tuple(figures_of(self.students[candidate.spec].files))

    def train(self, wanted: Sequence[Training]) -> list[TrainedStudent | TrialFailure]:
        return [self._trained(one) for one in wanted]

    def _trained(self, wanted: Training) -> TrainedStudent:
        student = self.students[wanted.spec]
        self.spent_s += student.seconds[wanted.rung]
        return TrainedStudent(
            spec=wanted.spec,
            weights=Path("recorded"),
            epochs=wanted.rung,
            total_epochs=len(student.accuracy),
            accuracy_validation=student.accuracy[wanted.rung],
            train_seconds=student.seconds[wanted.rung],
        )

    def realise(self, trained: TrainedStudent, *, last: bool) -> tuple[SchemeResult, ...]:
        self.measured += 1
        return self.students[trained.spec].files

    def prove(self, trained: TrainedStudent, result: SchemeResult, budget: Budget) -> Proof:
        if self.cache is not None:
            return self.proven(trained.spec, result, budget)
        assert isinstance(result.latency, MeasuredLatency)
        bound = result.latency.comparable(budget.percentile)
        return Proof(
            artifact_sha256=result.artifact.sha256,
            sessions=1,
            samples_per_session=(result.latency.samples,),
            ranks=(result.latency.samples,),
            bounds_ms=(bound,),
            pause_s=0.0,
            met=bound <= budget.latency_ms,
        )

    def proven(self, spec: StudentSpec, result: SchemeResult, budget: Budget) -> Proof:
        """The acceptance rule on three sessions of the very file, taken when it is first asked for."""
        assert self.cache is not None
        sha256 = result.artifact.sha256
        if sha256 not in self.sessions:
            artifact = result.artifact.model_copy(update={"path": self.cache / result.artifact.path})
            protocol = MeasurementProtocol(
                target=self.target,
                sessions=3,
                pause_s=PAUSE_S,
                max_samples=2000,
                max_seconds=6.0,
                operators=False,
                execute=partial(run_pushed, LocalDevice()),
                min_samples=samples_needed(budget.percentile.fraction),
                reference_us=self.reference_us,
                wait_s=WAIT_S,
            )
            images = np.zeros((8, 3, spec.resolution, spec.resolution), np.uint8)
            self.sessions[sha256] = runtime_for(artifact.format).profile(artifact, images, protocol).sessions
        return proof(self.sessions[sha256], budget, PAUSE_S, sha256)

    def note(self, text: str, warning: bool = False) -> None:
        pass


def read_students(document: Row, config: BuildConfig, target: Target) -> dict[StudentSpec, Student]:
    """The rows of brute force that were trained and measured, by student."""
    side = 28
    space = enumerate_space(config.space, 10, side, target)
    by_spec = {candidate.spec: candidate for candidate in space.candidates}
    found = {}
    for row in document["rows"]:
        spec = StudentSpec.model_validate(row["spec"] | {"channel_multiple": target.channel_multiple})
        if row.get("files"):
            found[spec] = Student(
                by_spec[spec],
                tuple(rung["accuracy_validation"] for rung in row["rungs"]),
                tuple(rung["seconds"] for rung in row["rungs"]),
                tuple(SchemeResult.model_validate(file) for file in row["files"]),
            )
    return found


def best_inside(students: Sequence[Student], goal: Goal) -> float | None:
    """The highest file accuracy that any of the students has inside the budget."""
    return max((validation_accuracy(f) for s in students for f in s.kept(goal)), default=None)


def best_provable(lab: ReplayLab, goal: Goal) -> float | None:
    """The highest file accuracy that brute force can prove inside the budget: its files that measured inside, the most
    accurate first, until one passes the acceptance rule."""
    entries = [(spec, f) for spec, student in lab.students.items() for f in student.kept(goal)]
    for spec, result in sorted(entries, key=lambda entry: -validation_accuracy(entry[1])):
        if lab.proven(spec, result, goal.budget).met:
            return validation_accuracy(result)
    return None


def budgets_of(students: Sequence[Student], percentile: Percentile) -> list[float]:
    """Between the fastest and the slowest of the students' fastest files, evenly by rank, from tight to loose."""
    anything = Goal(budget=Budget(latency_ms=1e9, percentile=percentile))
    fastest = sorted(min(comparable_ms(f, anything) for f in s.files if not f.dropped) for s in students)
    return [float(np.quantile(fastest, (k + 0.5) / BUDGETS)) for k in range(BUDGETS)]


class SearchBySize(Search):
    """The search without what it learns of quality: every batch is proposed by size, nobody is stopped early for what the
    rungs of others say."""

    def quality(self) -> None:
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
        (outcome,) = kind([OnTarget(lab, goal)], settings, candidates, study).run().values()
    winner = outcome.winner
    scheme = winner.scheme if winner else None
    return {
        "student": winner.trial.spec.label if winner else None,
        "precision": scheme.scheme.label if scheme else None,
        "accuracy": validation_accuracy(scheme) if scheme else None,
        "latency_ms": comparable_ms(scheme, goal) if scheme else None,
        "file": str(scheme.artifact.path) if scheme else None,
        "bound_ms": max(winner.proof.bounds_ms) if winner and winner.proof else None,
        "proven": bool(winner and winner.proof and winner.proof.met),
        "failed_proofs": len(outcome.attempts),
        "trials": len(outcome.trials),
        "finished": sum(len(trial.rungs) == len(settings.rungs) for trial in outcome.trials),
        "measured": lab.measured,
        "train_seconds": lab.spent_s,
        "stopped": outcome.stopped,
    }


def random_search(students: Sequence[Student], goal: Goal, seconds: float, seed: int) -> float | None:
    """The best inside the budget of students trained to the end in a random order while they cost no more than `seconds`."""
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
    """The most accurate of `count` students that the latency model, taught by the probes alone, holds for inside the budget;
    whether its measured file is."""
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
        if model.latency.predict(candidate.structure).latency_ms <= limit
    ]
    fits.sort(key=lambda entry: -entry[0].multiply_adds)
    chosen = list(dict.fromkeys(candidate.spec for candidate, _ in fits))[:count]
    allowed = {(candidate.spec, precision) for candidate, precision in fits}
    files = [
        f for spec in chosen for f in students[spec].files if not f.dropped and (spec, f.scheme.precision) in allowed
    ]
    if not files:
        return {"accuracy": None, "inside": False}
    shipped = max(files, key=validation_accuracy)
    return {"accuracy": validation_accuracy(shipped), "inside": comparable_ms(shipped, goal) <= limit}


def resampled(
    students: dict[StudentSpec, Student], settings: Settings, percentile: Percentile, draws: int
) -> list[Row]:
    """The search and the one by size on draws of three quarters of the students: does what is learnt of quality help?"""
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
                    missed = points(found["accuracy"], best)
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


def points(accuracy: float | None, best: float) -> float | None:
    return None if accuracy is None else round(100 * (best - accuracy), 3)


def worst(rows: Sequence[Row], key: str) -> float | None:
    """Of the budgets at which the search found something and there is something to hold it against."""
    return max((row["search"][key] for row in rows if row["search"][key] is not None), default=None)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("build", type=Path)
    parser.add_argument("--rows", type=Path, required=True)
    parser.add_argument("--cache", type=Path)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--plot", type=Path)
    parser.add_argument("--resamples", type=int, default=0)
    arguments = parser.parse_args()
    config, target = load_config(arguments.build), load_target("host")
    recorded = json.loads(arguments.rows.read_text())
    students = read_students(recorded, config, target)
    everyone = list(students.values())
    settings = settings_of(config.search)
    brute_s = sum(sum(student.seconds) for student in everyone)
    percentile = config.budget.percentile
    rows = []
    sessions: dict[str, tuple[Session, ...]] = {}
    for limit_ms in budgets_of(everyone, percentile):
        goal = Goal(budget=Budget(latency_ms=limit_ms, percentile=percentile))
        best = best_inside(everyone, goal)
        assert best is not None
        reference_us = recorded["teacher"]["reference_us"]
        lab = ReplayLab(students, target, arguments.cache, sessions=sessions, reference_us=reference_us)
        found = searched(students, goal, settings, lab)
        provable = best if arguments.cache is None else best_provable(lab, goal)
        same = replace(settings, trials=found["trials"])
        by_size = searched(students, goal, same, ReplayLab(students, target, None), SearchBySize)
        by_chance = [random_search(everyone, goal, found["train_seconds"], seed) for seed in range(RANDOM_SEEDS)]
        misses = [points(a, best) for a in by_chance if a is not None]
        alone = predicted_alone(students, goal, settings, max(found["finished"], 1))
        row = {
            "budget_ms": limit_ms,
            "inside": sum(bool(student.kept(goal)) for student in everyone),
            "best_accuracy": best,
            "best_provable": provable,
            "search": found
            | {
                "points_below": points(found["accuracy"], best),
                "points_below_provable": None if provable is None else points(found["accuracy"], provable),
            },
            "train_share": found["train_seconds"] / brute_s,
            "by_size": {
                "points_below": points(by_size["accuracy"], best),
                "train_share": by_size["train_seconds"] / brute_s,
            },
            "random": {
                "points_below": statistics.fmean(m for m in misses if m is not None) if misses else None,
                "worst": max((m for m in misses if m is not None), default=None),
                "nothing": sum(a is None for a in by_chance),
            },
            "prediction_alone": alone | {"points_below": points(alone["accuracy"], best)},
        }
        rows.append(row)
        print(
            f"{limit_ms:.4f} ms: {row['inside']} inside, best {best:.2%}, provable {provable or 0:.2%}; "
            f"search {found['student']} {found['precision']}, "
            f"{row['search']['points_below_provable']} points below that, {row['train_share']:.0%} of the training, "
            f"proven {found['proven']}; "
            f"by size {row['by_size']}; random {row['random']['points_below']}; prediction alone {row['prediction_alone']}",
            flush=True,
        )
    document = {
        "students": len(everyone),
        "reference_us": recorded["teacher"]["reference_us"],
        "brute_force_train_seconds": brute_s,
        "settings": {"probes": settings.probes, "candidates": settings.candidates, "trials": settings.trials},
        "proofs": "measured" if arguments.cache else "recorded",
        "proven": sum(row["search"]["proven"] for row in rows),
        "provable": sum(row["best_provable"] is not None for row in rows),
        "worst_points_below": worst(rows, "points_below"),
        "worst_points_below_provable": worst(rows, "points_below_provable"),
        "largest_train_share": max(row["train_share"] for row in rows),
        "prediction_alone_outside": sum(not row["prediction_alone"]["inside"] for row in rows),
        "resampled": resampled(students, settings, percentile, arguments.resamples) if arguments.resamples else [],
        "rows": rows,
    }
    if arguments.json:
        arguments.json.write_text(json.dumps(document, indent=1) + "\n")
    if arguments.plot:
        draw(rows, arguments.plot)


def draw(rows: Sequence[Row], path: Path) -> None:
    """Points below brute force's best at each budget, a line a method: the proven ones below what brute force can prove, the
    others below what it has inside by the same recorded latencies."""
    import plotly.graph_objects as go  # type: ignore[import-untyped]

    figure = go.Figure()
    for name, key, title in (
        ("search", "points_below_provable", "search, files proven"),
        ("by_size", "points_below", "search without the quality model"),
        ("random", "points_below", "random search"),
        ("prediction_alone", "points_below", "prediction alone"),
    ):
        figure.add_scatter(
            x=[row["budget_ms"] for row in rows],
            y=[row[name][key] for row in rows],
            mode="lines+markers",
            name=title,
        )
    figure.update_layout(
        xaxis_title="budget, ms at p95",
        yaxis_title="points below brute force's best",
        margin={"t": 20, "b": 60},
        template="plotly_white",
    )
    figure.write_html(path, include_plotlyjs=True)


if __name__ == "__main__":
    main()
