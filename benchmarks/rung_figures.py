"""The section of what `benchmarks/rungs.py` found: which early rungs rank students as the end does."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from sections import RESULTS, Section, result, within

Row = dict[str, Any]
NAME = "rungs"
SIGNALS = {
    "quality": "accuracy",
    "cross_entropy": "cross entropy",
    "brier": "Brier score",
    "raw_quality": "accuracy of the last weights",
    "train_loss": "loss in training",
}
WAYS = {
    "today": "a part of the whole schedule",
    "cooled": "the same, the last quarter in a copy that cools down",
    "own_schedule": "a schedule of its own from the start",
    "warm_restart": "a schedule of its own from the rung before",
}


def sections() -> list[Section]:
    """One, where there is a result."""
    if not (RESULTS / f"{NAME}.json").is_file():
        return []
    found = result(NAME)
    rows = [row for row in found["compared"] if row["signal"] in SIGNALS]
    return [
        Section(
            "Rungs",
            " ".join(_sentences(found)),
            f"python benchmarks/rungs.py FASHION_MNIST --work DIR --json FILE --images {found['images']} "
            f"--most {found['most_million_multiply_adds']:g}",
            ("rung", "seen", "#epochs", "#correlation", "#difference", "#best 10 in the better half", "#third"),
            tuple(
                (
                    WAYS[row["way"]],
                    SIGNALS[row["signal"]],
                    str(row["spent"]),
                    within(row["spearman"], row["interval"]),
                    _difference(row),
                    str(row["best_in_half"]),
                    str(row["best_in_third"]),
                )
                for row in rows
            ),
        )
    ]


def _sentences(found: Row) -> Iterator[str]:
    most, images, validation = found["most_million_multiply_adds"], found["images"], found["validation"]
    yield f"{len(found['students'])} students of the default space, at most {most:g} million multiply-adds."
    yield f"They learn {images:,} images of Fashion-MNIST by `{found['recipe']}`."
    yield "The rank correlation is Spearman's, between what is seen after so many epochs and the accuracy at the end."
    yield f"Both are of {validation:,} validation images, with the 95% interval by the bootstrap over students."
    yield "The difference is to the accuracy at a part of the whole schedule, as a build has it, after as many epochs."
    yield "Averaged weights are looked at, where nothing else is said."
    (restarted,) = (row for row in found["ends"] if row["way"] == "warm_restart")
    for one in found["brackets"]:
        ways = {"today": "by accuracy after these", "own_schedule": "after a first rung with a schedule of its own"}
        counts = " to ".join(map(str, one["counts"]))
        yield (
            f"Brackets of eight drawn students that narrow {counts} {ways[one['way']]} lose {one['loss_points']:.2f} points "
            "beside training all eight to the end."
        )
    points = f"{restarted['points']:+.2f} +- {restarted['half_width_points']:.2f} points"
    yield f"Where each rung has a schedule of its own from the rung before, students end {points} beside the others."


def _difference(row: Row) -> str:
    if row["difference"] is None or (row["way"], row["signal"]) == ("today", "quality"):
        return "-"
    return within(row["difference"], row["difference_interval"])
