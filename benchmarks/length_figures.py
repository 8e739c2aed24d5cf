"""The section of what longer trainings bring: results of distillation_gain.py with other `--epochs`, held against those of
its usual number, by pairs of a seed."""

from __future__ import annotations

import statistics
from typing import Any

from recipe_figures import PICTURES
from sections import RESULTS, Section, result
from trainings import interval

from edgedistill.documents.lengths import LONGEST_STEPS

Row = dict[str, Any]
LABELS = "labels"
NAME = f"{PICTURES}_epochs_"
_PAIR = ("student", "recipe", "rate", "seed")


def sections() -> list[Section]:
    """The section, where there are results: `recipes_clip_art_epochs_N.json` are those of N epochs."""
    longer = sorted((result(path.stem) for path in RESULTS.glob(f"{NAME}*.json")), key=lambda one: int(one["epochs"]))
    if not longer:
        return []
    usual = result(PICTURES)
    base = {tuple(row[key] for key in _PAIR): row for row in usual["rows"]}
    rows = tuple(row for one in longer for row in _compared(one, base))
    first = longer[0]
    students, recipes = (list(dict.fromkeys(row[key] for row in first["rows"])) for key in ("student", "recipe"))
    options = f" --seeds {first['seeds']} --test {first['test_share']}"
    command = (
        f"python benchmarks/distillation_gain.py examples/clipart/build.toml --students {' '.join(students)} "
        f"--recipes {','.join(recipes)}{options} --epochs N --json FILE"
    )
    text = (
        f"The trainings of the section above took {usual['epochs']} epochs; these took more, with teachers of their own. By "
        f"default the last rung has {LONGEST_STEPS:,} steps where pictures are as few as here. The gain is the mean "
        "difference to the trainings above by pairs of a seed of the same student and recipe, in points of test accuracy, "
        "with its 95% interval. Behind it is the mean difference to labels alone after as many epochs, likewise."
    )
    interval_of = "#95% interval"
    columns = (
        "student",
        "learnt by",
        "#epochs",
        "#seeds",
        "#test accuracy",
        "#gain",
        interval_of,
        "#to labels",
        interval_of,
    )
    return [Section("Recipes: longer trainings", text, command, columns, rows)]


def _compared(longer: Row, base: dict[tuple[Any, ...], Row]) -> list[tuple[str, ...]]:
    """A row for each student and recipe."""
    pairs: dict[tuple[str, str], list[tuple[float, float]]] = {}
    for row in longer["rows"]:
        before = base.get(tuple(row[key] for key in _PAIR))
        if before is not None:
            pairs.setdefault((row["student"], row["recipe"]), []).append((row["test"], before["test"]))
    rows: list[tuple[str, ...]] = []
    for (student, recipe), found in pairs.items():
        quality = f"{statistics.fmean(after for after, _ in found):.2%}"
        gain = _within([100 * (after - before) for after, before in found])
        others = _beside_labels(longer["rows"], student, recipe)
        beside = ("-", "-") if recipe == LABELS else _within(others)
        rows.append((f"`{student}`", f"`{recipe}`", f"{longer['epochs']}", f"{len(found)}", quality, *gain, *beside))
    return rows


def _beside_labels(rows: list[Row], student: str, recipe: str) -> list[float]:
    """By seed the difference of a recipe to labels alone, in points."""
    tests = {(row["recipe"], row["seed"]): row["test"] for row in rows if row["student"] == student}
    own = [
        (test, tests[LABELS, seed])
        for (name, seed), test in tests.items()
        if name == recipe and (LABELS, seed) in tests
    ]
    return [100 * (one - other) for one, other in own]


def _within(points: list[float]) -> tuple[str, str]:
    """A mean, and its interval; dashes where there is none."""
    mean, half = interval(points) if points else (None, None)
    if mean is None:
        return "-", "-"
    return f"{mean:+.2f}", "-" if half is None else f"{mean - half:+.2f} to {mean + half:+.2f}"
