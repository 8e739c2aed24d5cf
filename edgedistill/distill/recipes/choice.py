"""Which recipe `default` takes, by what is known before a student is trained, and why in words."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

FEW_LABELS: Final = 0.5
"""Share of labelled images below which the unlabelled ones count for more."""
REPEATS: Final = 0.99
"""Agreement with the labels from which on a teacher repeats them."""


@dataclass(frozen=True)
class Known:
    """What is known of a distillation. Shares are in 0..1: `labelled` of the training images have a label; `teacher` is the
    teacher's quality on the validation split; `agreement` how often its class is the label of a labelled training image,
    over views (None without labels)."""

    images: int
    labelled: float
    teacher: float
    agreement: float | None


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
    if known.labelled < FEW_LABELS:
        free = round(known.images * (1 - known.labelled))
        return (
            Option("kd", f"the teacher labels {free:,} images that have no label, and {taught}"),
            Option(
                "labels",
                f"{round(known.images * known.labelled):,} images have a label, and the teacher may err on the others",
            ),
        )
    repeats = known.agreement is not None and known.agreement >= REPEATS
    said = "it repeats their labels" if repeats else "it says more of them than their labels"
    return (
        Option("kd", f"{taught}; of the training images {said}"),
        Option(
            "labels", "all training images have a label" if known.labelled == 1 else "most training images have a label"
        ),
    )
