"""Which recipe `default` takes, by what is known before a student is trained, and why in words."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

FEW_LABELS: Final = 0.5
"""Share of labelled images below which the unlabelled ones count for more."""
REPEATS: Final = 0.99
"""Agreement with the labels from which on a teacher repeats them."""
MUCH_ERROR: Final = 0.05
"""Of the stored probabilities at temperature 2, from which on they teach something else than the teacher says."""


@dataclass(frozen=True)
class Known:
    """What is known of a distillation. Shares are in 0..1: `labelled` of the training images have a label; `teacher` is the
    teacher's quality on the validation split; `agreement` how often its class is the label of a labelled training image,
    over views (None without labels); `error` the mean `stated_error` of its stored logits (None where all are kept)."""

    images: int
    labelled: float
    teacher: float
    agreement: float | None
    error: float | None = None


@dataclass(frozen=True)
class Option:
    """A recipe that may do, and why."""

    recipe: str
    reason: str


def options_for(known: Known) -> tuple[Option, ...]:
    """The recipes that may do best, the likeliest first. Of several a pilot chooses."""
    taught = f"the teacher gets {known.teacher:.1%} of the validation split right"
    if known.labelled == 0:
        return (Option("soft", f"no training image has a label, and {taught}"),)
    recipe = "kd"
    if known.error is not None and known.error > MUCH_ERROR:
        recipe = "soft"
        taught = f"{taught}; not all classes are kept, which at temperature 2 is an error of {known.error:.1%}"
    if known.labelled < FEW_LABELS:
        free = round(known.images * (1 - known.labelled))
        return (
            Option(recipe, f"the teacher labels {free:,} images that have no label, and {taught}"),
            Option(
                "labels",
                f"{round(known.images * known.labelled):,} images have a label, and the teacher may err on the others",
            ),
        )
    repeats = known.agreement is not None and known.agreement >= REPEATS
    said = "it repeats their labels" if repeats else "it says more of them than their labels"
    return (
        Option(recipe, f"{taught}; of the training images {said}"),
        Option(
            "labels", "all training images have a label" if known.labelled == 1 else "most training images have a label"
        ),
    )
