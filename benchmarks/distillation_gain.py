"""What a build's teacher gives its students: the same epochs by each recipe, in paired seeds.

    python benchmarks/distillation_gain.py BUILD.toml (--out BUILD_FOLDER | --students resnet,0.1875,0.5,16 ...) --json FILE
                                           [--recipes labels,default,kd] [--against kd] [--rates auto] [--seeds 5]
                                           [--test 0.3] [--epochs 18,36,72] [--processes 2]

Takes the student that the finished build in BUILD_FOLDER chose, or those named by family, width, depth and resolution. They
need not lie in the build file's space. Each is trained by each recipe for the last rung's epochs, all else as the build
file has it. One that the build file gives weights starts from them; with `,random` behind its resolution it does not.
Each of `--rates` is tried with seed 0, and the one that is best on the validation split takes the other seeds: every recipe
has the same trials.

`default` is a row like any recipe. What it takes is found for each student and seed as a build finds it, with that student
in the pilot; no assistant is tried. The row says what it took, and why. A pilot trains for the epochs of the second rung:
`--epochs` names the rungs in place of those of the build file, and a single one is the pilot's as well.

All seeds share the splits of the build file and its teacher. With `--test` each seed draws its own splits, with that share
for the test, and fits its own teacher with that seed. Images of `[data] unlabelled` that lie in a draw's validation or test
split are not trained on, so draws differ in their number, and with it in the default epochs: name `--epochs` there.

Accuracy is the fp32 torch program's. Differences to the first recipe, and to the one that `--against` names, are in points,
by pairs of a seed, with the half width of their 95% interval by Student's t: of the test split, and beside it of the
validation split. A recipe is chosen by the second alone. Teachers and stored views are the build's own, found in its cache
or made. Runs are written to FILE as they end; a second start goes on from there, also with more students, recipes or seeds.
FILE compares those that the last start asked for.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from collections import Counter
from collections.abc import Iterator, Sequence, Set
from pathlib import Path

from gain_work import Gain, Prepared, Rate, Student, Training
from trainings import Done, Row, Rows, interval, shown, workers

from edgedistill.documents.build_file import load_config
from edgedistill.documents.recipes import DEFAULT, OF_CLASSES
from edgedistill.documents.results import BuildResult

KEYS = ("student", "recipe", "rate", "seed")


def chosen_student(out: Path) -> Student:
    """The student that a finished build chose."""
    chosen = BuildResult.model_validate_json((out / "build.json").read_text()).student
    if chosen is None:
        raise SystemExit(f"the build in {out} chose no student")
    spec = chosen.spec
    student = Student(f"{spec.family},{spec.width:g},{spec.depth:g},{spec.resolution}")
    if student.spec != spec:
        raise SystemExit(
            f"{spec.label} is more than a family, a width, a depth and a resolution: name others by --students"
        )
    return student


def chosen_rate(rows: Rows, student: Student, recipe: str) -> Rate:
    """The rate that is best on the validation split with seed 0."""
    tried = [row for row in rows if (row["student"], row["recipe"], row["seed"]) == (student.name, recipe, 0)]
    rate: Rate = max(tried, key=lambda row: row["validation"])["rate"]
    return rate


def differences(own: dict[int, Row], base: dict[int, Row], prefix: str = "") -> Row:
    """Of rows by seed the mean difference in points by pairs, and half the width of its interval, of both splits."""
    found: Row = {}
    for split, name in (("test", prefix), ("validation", f"{prefix}validation_")):
        pairs = [100 * (own[seed][split] - base[seed][split]) for seed in sorted(own.keys() & base.keys())]
        found[f"{name}points"], found[f"{name}half_width_points"] = interval(pairs)
    return found


def compared(
    rows: Rows, students: Sequence[Student], recipes: Sequence[str], seeds: int, against: str | None
) -> Iterator[Row]:
    """By student and recipe its means, and its differences to the first recipe and to `against`."""
    for student in students:
        rates = {recipe: chosen_rate(rows, student, recipe) for recipe in recipes}
        own: dict[str, dict[int, Row]] = {recipe: {} for recipe in recipes}
        for row in rows:
            recipe, seed = row["recipe"], row["seed"]
            if row["student"] == student.name and rates.get(recipe) == row["rate"] and seed < seeds:
                own[recipe][seed] = row
        for recipe, found in own.items():
            row = {"student": student.name, "recipe": recipe, "rate": rates[recipe], "seeds": len(found)}
            for split in ("test", "validation"):
                row[f"{split}_mean"] = statistics.fmean(one[split] for one in found.values())
            row |= differences(found, own[recipes[0]])
            if against is not None:
                row |= differences(found, own[against], "against_")
            if recipe == DEFAULT:
                row["took"] = dict(Counter(one["took"] for one in found.values()).most_common())
            yield row


def show(row: Row, first: str) -> None:
    """A row of what is compared."""
    test = shown(row["points"], row["half_width_points"], f"points to {first}")
    validation = shown(row["validation_points"], row["validation_half_width_points"], "on validation")
    took = f"   took {row['took']}" if "took" in row else ""
    print(f"{row['student']:44} {row['recipe']:10} {row['test_mean']:.2%}   {test}, {validation}{took}")


def rates_of(text: str) -> list[Rate]:
    """`auto`, or rates with a comma between."""
    return ["auto" if one == "auto" else float(one) for one in text.split(",")]


def learn_all(done: Done, rows: Rows, gain: Gain, rates: Sequence[Rate], seeds: int) -> None:
    """Have all rows, and the teacher of each draw."""
    prepared: dict[int | None, Prepared] = {}
    # Which rate later seeds take is known once seed 0 is through.
    for together in (range(1), range(1, seeds)) if len(rates) > 1 else (range(seeds),):
        left = {
            (seed, student): wanted
            for seed in together
            for student in gain.students
            if (wanted := missing(rows, gain, student, rates, seed))
        }
        prepare(done, rows, {gain.draw(seed) for seed, _ in left} - prepared.keys(), prepared)
        for made in done((prepared[gain.draw(seed)], student, *wanted) for (seed, student), wanted in left.items()):
            rows.add(made)


def missing(rows: Rows, gain: Gain, student: Student, rates: Sequence[Rate], seed: int) -> list[Training]:
    """What a student has no row of with that seed."""
    wanted = [
        Training(recipe, rate, seed)
        for recipe in gain.recipes
        for rate in ([chosen_rate(rows, student, recipe)] if seed and len(rates) > 1 else rates)
    ]
    return [one for one in wanted if not rows.have(student.name, one.recipe, one.rate, one.seed)]


def prepare(done: Done, rows: Rows, draws: Set[int | None], prepared: dict[int | None, Prepared]) -> None:
    """Add those draws to what is `prepared`, and their teachers to the document."""
    teachers = {row["seed"]: row for row in rows.document.get("teachers", ())}
    for (made,) in done((draw,) for draw in sorted(draws, key=lambda draw: draw or 0)):
        rows.agree(made["facts"])
        ready: Prepared = made["prepared"]
        prepared[ready.draw], teachers[ready.draw] = ready, made["teacher"]
        rows.write(teachers=[teachers[draw] for draw in sorted(teachers, key=lambda draw: draw or 0)])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("build", type=Path)
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument("--out", type=Path)
    which.add_argument("--students", type=Student, nargs="+")
    parser.add_argument("--recipes", default="labels,kd")
    parser.add_argument("--against")
    parser.add_argument("--rates", type=rates_of, default=["auto"])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--test", type=float)
    parser.add_argument("--epochs", type=lambda text: tuple(map(int, text.split(","))))
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--json", type=Path, required=True)
    arguments = parser.parse_args()
    recipes = arguments.recipes.split(",")
    if unknown := [name for name in recipes if name not in (DEFAULT, *OF_CLASSES)]:
        parser.error(f"no such recipe: {', '.join(unknown)}; there are {', '.join((DEFAULT, *OF_CLASSES))}")
    if arguments.against not in (None, *recipes):
        parser.error(f"--against {arguments.against} is none of --recipes")
    students = arguments.students or [chosen_student(arguments.out)]
    settings = {"test_share": arguments.test, "rates": arguments.rates}
    rows = Rows.open(arguments.json, KEYS, settings)
    config, base = load_config(arguments.build), arguments.build.parent.absolute()
    if arguments.epochs is not None:
        config = config.model_copy(update={"search": config.search.model_copy(update={"rungs": arguments.epochs})})
    gain = Gain(config, base, arguments.test, students, recipes)
    with workers(gain, arguments.processes) as done:
        learn_all(done, rows, gain, arguments.rates, arguments.seeds)
    table = list(compared(rows, students, recipes, arguments.seeds, arguments.against))
    rows.write(seeds=arguments.seeds, against=arguments.against, compared=table)
    for row in table:
        show(row, recipes[0])
    return 0


if __name__ == "__main__":
    sys.exit(main())
