"""The sections of what longer trainings and images without a label bring: results of distillation_gain.py with other
`--epochs` or data, held against those of its usual ones, by pairs of a seed."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import Any

from recipe_figures import PICTURES
from sections import RESULTS, Section, result
from trainings import interval

from edgedistill.documents.lengths import LONGEST_STEPS

Row = dict[str, Any]
LABELS = "labels"
NAME = f"{PICTURES}_epochs_"
UNLABELLED = f"{PICTURES}_unlabelled"
UNLABELLED_FILE = "benchmarks/clip_art_unlabelled.toml"
UNLABELLED_CLASSES = (
    "buttons computer containers decorations education electronics geography logos science shapes signs_and_symbols special "
    "unsorted"
)
_PAIR = ("student", "recipe", "rate", "seed")


def sections() -> list[Section]:
    """The section, where there are results: `recipes_clip_art_epochs_N.json` are those of N epochs."""
    longer = _longer()
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
        f'The trainings of the section "Recipes: pictures" took {usual["epochs"]} epochs; these took more, with teachers of '
        f"their own. By default the last rung has {LONGEST_STEPS:,} steps where pictures are as few as here. The gain is "
        "the mean difference to the trainings of that section by pairs of a seed of the same student and recipe, in points "
        "of test accuracy, with its 95% interval. Behind it is the mean difference to labels alone after as many epochs, "
        "likewise."
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


def unlabelled() -> list[Section]:
    """The section, where there are results of images without a label, beside those of longer trainings on labels alone."""
    if not (RESULTS / f"{UNLABELLED}.json").is_file():
        return []
    document, usual, (longest, *_) = result(UNLABELLED), result(PICTURES), reversed(_longer())
    students, recipes = (list(dict.fromkeys(row[key] for row in document["rows"])) for key in ("student", "recipe"))
    added = [row["unlabelled_images"] for row in document["teachers"]]
    shown = document["epochs"] * (document["train_images"] + statistics.fmean(added))
    text = (
        f'As in the section "Recipes: pictures", with {min(added):,} to {max(added):,} pictures of the other folders of the '
        "package. They have no label: the teacher, fitted to those that have one, says what they show. Pictures of a seed's "
        f"validation or test split are not among them. {document['epochs']} epochs of all show {shown:,.0f} pictures in the "
        f"mean of the seeds; {longest['epochs']} epochs of those with a label show "
        f"{longest['epochs'] * longest['train_images']:,}. Test accuracy is the mean of {document['seeds']} seeds. The "
        f"gains are to labels alone after {usual['epochs']} and after {longest['epochs']} epochs, by pairs of a seed, in "
        "points, with their 95% intervals."
    )
    command = (
        f"python examples/clipart/prepare.py; python examples/clipart/prepare.py --out build/unlabelled --classes "
        f"{UNLABELLED_CLASSES}\n    python benchmarks/distillation_gain.py {UNLABELLED_FILE} --students "
        f"{' '.join(students)} --recipes {','.join(recipes)} --seeds {document['seeds']} --test {document['test_share']} "
        f"--epochs {document['epochs']} --json FILE"
    )
    rows = tuple(_beside((usual, longest), document, student, recipe) for student in students for recipe in recipes)
    gains = [
        heading for one in (usual, longest) for heading in (f"#to labels, {one['epochs']} epochs", "#95% interval")
    ]
    columns = ("student", "learnt by", "#test accuracy", *gains)
    return [Section("Recipes: pictures without labels", text, command, columns, rows)]


def _longer() -> list[Row]:
    """Results of longer trainings, the shortest first."""
    return sorted((result(path.stem) for path in RESULTS.glob(f"{NAME}*.json")), key=lambda one: int(one["epochs"]))


def _tests(rows: list[Row], student: str, recipe: str) -> dict[int, float]:
    """The test accuracy of each seed."""
    return {row["seed"]: row["test"] for row in rows if (row["student"], row["recipe"]) == (student, recipe)}


def _beside(others: Sequence[Row], document: Row, student: str, recipe: str) -> tuple[str, ...]:
    """A row of a student and recipe, with its gain to labels alone in each of the others."""
    tests = _tests(document["rows"], student, recipe)
    gains: list[str] = []
    for other in others:
        labels = _tests(other["rows"], student, LABELS)
        gains += _within([100 * (tests[seed] - labels[seed]) for seed in tests if seed in labels])
    return (f"`{student}`", f"`{recipe}`", f"{statistics.fmean(tests.values()):.2%}", *gains)


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
    own, labels = (_tests(rows, student, name) for name in (recipe, LABELS))
    return [100 * (own[seed] - labels[seed]) for seed in own if seed in labels]


def _within(points: list[float]) -> tuple[str, str]:
    """A mean, and its interval; dashes where there is none."""
    mean, half = interval(points) if points else (None, None)
    if mean is None:
        return "-", "-"
    return f"{mean:+.2f}", "-" if half is None else f"{mean - half:+.2f} to {mean + half:+.2f}"
