"""The section of what longer trainings bring: results of distillation_gain.py with other `--epochs`, held against those of
its usual number, by pairs of a seed."""

from __future__ import annotations

import statistics
from typing import Any

from recipe_figures import PICTURES
from sections import RESULTS, Section, result
from trainings import interval

Row = dict[str, Any]
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
        f"The trainings of the section above took {usual['epochs']} epochs, which is the default for so few pictures. These "
        "took more, all else equal. The gain is the mean difference to them by pairs of a seed of the same student and "
        "recipe, in points of test accuracy, with its 95% interval."
    )
    columns = ("student", "learnt by", "#epochs", "#seeds", "#test accuracy", "#gain", "#95% interval")
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
        mean, half = interval([100 * (after - before) for after, before in found])
        assert mean is not None
        within = f"{mean - half:+.2f} to {mean + half:+.2f}" if half is not None else "-"
        quality = f"{statistics.fmean(after for after, _ in found):.2%}"
        rows.append(
            (f"`{student}`", f"`{recipe}`", f"{longer['epochs']}", f"{len(found)}", quality, f"{mean:+.2f}", within)
        )
    return rows
