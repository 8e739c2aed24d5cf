"""Which recipe `default` takes, by what is known before a student is trained, and why in words."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from edgedistill.data.sources import UNLABELLED, Indices
from edgedistill.distill.stored.filtering import agreement_with
from edgedistill.distill.stored.split_store import SplitStore
from edgedistill.documents.recipes import LOGITS

FEW_LABELS: Final = 0.5
"""Share of labelled images below which the unlabelled ones count for more."""
REPEATS: Final = 0.99
"""Agreement with the labels from which on a teacher repeats them."""
MUCH_ERROR: Final = 0.05
"""Of the stored probabilities at temperature 2, from which on they teach something else than the teacher says."""


@dataclass(frozen=True)
class Known:
    """What is known of a distillation. Shares are in 0..1: `labelled` of the training images have a label; `agreement` is
    how often the teacher's class is the label of a labelled training image, over views (None without labels); `error` the
    mean `stated_error` of its stored logits (None where all are kept); `teacher` its quality on the validation split (None
    where that was not measured); `features` whether students can learn its features."""

    images: int
    labelled: float
    agreement: float | None
    error: float | None = None
    teacher: float | None = None
    features: bool = False

    @classmethod
    def of(cls, labels: Indices, stored: SplitStore, teacher: float | None, *, features: bool) -> Known:
        """By `labels` [n] of the training split, and by what is `stored`: logits at least."""
        logits, views = stored.signal(LOGITS), stored.stored_views.count
        assert logits is not None
        errors = logits.stated_errors(views)
        return cls(
            images=len(labels),
            labelled=float((labels != UNLABELLED).mean()),
            agreement=agreement_with(labels, logits, views),
            error=None if errors is None else float(errors.mean()),
            teacher=teacher,
            features=features,
        )

    @classmethod
    def expected(cls, labels: Indices, *, features: bool) -> Known:
        """By `labels` [n] of the training split, before the teacher has labelled its images."""
        return cls(len(labels), float((labels != UNLABELLED).mean()), None, features=features)


@dataclass(frozen=True)
class Option:
    """A recipe that may do, and why."""

    recipe: str
    reason: str


def options_for(known: Known) -> tuple[Option, ...]:
    """The recipes that may do best, the likeliest first: features where there are such and most images have labels, beside
    which the teacher's classes say little, else classes. Of several a pilot chooses."""
    facts = [] if known.teacher is None else [f"the teacher gets {known.teacher:.1%} of the validation split right"]
    features = "the teacher's features say more of an image than its classes"
    beside = (Option("srd", features),) if known.features else ()
    if known.labelled == 0:
        return Option("soft", "; ".join(["no training image has a label", *facts])), *beside
    recipe = "kd"
    if known.error is not None and known.error > MUCH_ERROR:
        recipe = "soft"
        facts.append(f"not all classes are kept, which at temperature 2 is an error of {known.error:.1%}")
    labelled = round(known.images * known.labelled)
    if known.labelled < FEW_LABELS:
        facts.insert(0, f"the teacher labels {known.images - labelled:,} images that have no label")
        alone = f"{labelled:,} images have a label, and the teacher may err on the others"
    else:
        repeats = known.agreement is not None and known.agreement >= REPEATS
        more = "the teacher says more of the training images than their labels"
        facts.append("the teacher repeats the labels of the training images" if repeats else more)
        alone = "all training images have a label" if known.labelled == 1 else "most training images have a label"
        if known.features:
            classes = Option(recipe, "of augmented images the teacher's classes may say more than the labels")
            return Option("srd", "; ".join([*facts, features])), classes, Option("labels", alone)
    return Option(recipe, "; ".join(facts)), *beside, Option("labels", alone)
