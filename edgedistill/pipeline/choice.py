"""The recipe that a build's students learn by: the one that was asked for, or the one that `default` comes to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from edgedistill.base.errors import InputError
from edgedistill.base.progress import Note
from edgedistill.distill.recipes.choice import Known, options_for
from edgedistill.distill.recipes.taps import require_tap
from edgedistill.distill.stored.split_store import SplitStore
from edgedistill.distill.teachers.teacher import Teacher
from edgedistill.documents.recipes import DEFAULT, DEFAULT_EMBEDDING, FEATURES
from edgedistill.documents.results import PilotRun, RecipeChoice
from edgedistill.documents.teachers import TeacherConfig
from edgedistill.networks.space import Candidate
from edgedistill.pipeline.assistant import assisted, can_give
from edgedistill.pipeline.pilot import CLEAR, Right, ahead, judged, pilot_student
from edgedistill.pipeline.prepare import multiply_adds_of, open_store
from edgedistill.pipeline.workbench import Workbench

ALONE: Final = "labels"
"""The recipe that asks no teacher."""
CHANCE: Final = 1.0
"""Standard deviations that a recipe has to be ahead of a likelier one. With few images the best of several is mostly so by
chance; with many this is little."""
NO_ASSISTANT: Final = (
    "[train] assistant: none was tried. That needs a teacher that is a network, a recipe that asks it for its output or its "
    "features, and a candidate of a size between its own and the students'"
)


def settle(
    benches: Sequence[Workbench],
    teacher: Teacher,
    teacher_quality: float,
    candidates: Sequence[Candidate],
    most_multiply_adds: float,
) -> tuple[SplitStore, RecipeChoice]:
    """Give all `benches` the recipe, and what their students learn from: the teacher, which has `teacher_quality` on the
    validation split, or an assistant. Pilots train a student of at most `most_multiply_adds`, and that split decides."""
    student = pilot_student(candidates, most_multiply_adds)
    stored, choice = _with_recipe(benches, teacher, teacher_quality, student)
    first, work, assistant = benches[0], multiply_adds_of(teacher), None
    if work is not None and can_give(first.recipe.taps):
        stored, assistant = assisted(first, stored, student, candidates, work, teacher_quality)
    if assistant is None and first.config.train.assistant is True:
        first.store.listener(Note(NO_ASSISTANT, warning=True))
    return stored, choice.model_copy(update={"assistant": assistant})


def _with_recipe(
    benches: Sequence[Workbench], teacher: Teacher, teacher_quality: float, student: Candidate
) -> tuple[SplitStore, RecipeChoice]:
    """`default` looks at the data and at what the teacher says of it; where several recipes may do, a pilot trains `student`
    by each. For embeddings it is one recipe."""
    first = benches[0]
    asked = first.config.train.recipe_name
    if asked != DEFAULT:
        return open_store(first), RecipeChoice(asked=asked, recipe=asked)
    if first.vector is not None:
        use_recipe(benches, DEFAULT_EMBEDDING)
        reason = "the teacher's vectors, and how it sees images beside one another"
        first.store.listener(Note(f"recipe {DEFAULT_EMBEDDING}: {reason}"))
        return open_store(first), RecipeChoice(asked=DEFAULT, recipe=DEFAULT_EMBEDDING, reasons=(reason,))
    labels = first.dataset.labels[first.dataset.splits.train]
    features = has_features(first.config.teacher, teacher)
    known = Known.of(labels, look(benches, features), teacher_quality, features=features)
    options = options_for(known)
    stored: dict[str, SplitStore] = {}
    runs: list[PilotRun] = []
    right: dict[str, Right] = {}
    if len(options) > 1:
        for option in options:
            use_recipe(benches, option.recipe)
            if option.recipe not in stored:
                stored[option.recipe] = open_store(first)
            found = judged(first, stored[option.recipe], student.spec, option.recipe)
            if found is not None:
                runs.append(found.run)
                right[option.recipe] = found.right
    _warn_of_weak_teacher(first, runs, right, teacher_quality)
    best = best_recipe(right) if right else options[0].recipe
    use_recipe(benches, best)
    # What speaks for the first recipe is known of the teacher, and speaks for another one that asks it too.
    reasons = [one.reason for one in options if one.recipe == best or (one == options[0] and best != ALONE)]
    if runs:
        reasons.append(told_of(runs))
    choice = RecipeChoice(asked=DEFAULT, recipe=best, reasons=tuple(reasons), pilot=tuple(runs))
    first.store.listener(Note(f"recipe {best}: {'; '.join(reasons)}"))
    if best not in stored:
        stored[best] = open_store(first)
    return stored[best], choice


def told_of(runs: Sequence[PilotRun]) -> str:
    """What the runs of a pilot came to. Where some images have no label there are fewer by labels alone, and more epochs."""
    first, alike = runs[0], len({run.epochs for run in runs}) == 1
    each = ", ".join(
        f"{run.recipe} {run.quality_validation:.1%}" + ("" if alike else f" after {run.epochs} epochs") for run in runs
    )
    by_each = f", {first.epochs} epochs by each," if alike else ""
    return f"a pilot of {first.student}{by_each} came {first.judged} to {each}"


def _warn_of_weak_teacher(
    bench: Workbench, runs: Sequence[PilotRun], right: Mapping[str, Right], teacher_quality: float
) -> None:
    """Both are compared on the validation split. Where cross-validation judges a pilot, its images are the last ones."""
    validation = len(bench.dataset.splits.validation)
    for run in runs:
        if run.recipe == ALONE and (alone := float(right[ALONE][-validation:].mean())) > teacher_quality:
            told = f"the teacher is weak: it gets {teacher_quality:.1%} of the validation split right, and a student of"
            what = f"{run.epochs} epochs by labels alone {alone:.1%}; a better teacher would be worth more"
            bench.store.listener(Note(f"{told} {what}", warning=True))


def best_recipe(right: Mapping[str, Right]) -> str:
    """Of the recipes that ask the teacher the first one, or one that is better than it by more than chance may bring about;
    `labels` where they are clearly better still. `right` are by recipe the images [n] that its student answers rightly, the
    same images for all, the likeliest recipe first."""
    taught = [recipe for recipe in right if recipe != ALONE]
    if not taught:
        return ALONE
    best = taught[0]
    for recipe in taught[1:]:
        if ahead(right[recipe], right[best]) > CHANCE:
            best = recipe
    return ALONE if ALONE in right and ahead(right[ALONE], right[best]) > CLEAR else best


def has_features(config: TeacherConfig, teacher: Teacher) -> bool:
    """Whether students can learn the features of the teacher. Teachers of folds have other features each."""
    if config.fit is not None and config.fit.crossfit is not None:
        return False
    try:
        require_tap(teacher.module, FEATURES, len(teacher.contract.labels))
    except InputError:
        return False
    return True


def look(benches: Sequence[Workbench], features: bool) -> SplitStore:
    """What `default` looks at, labelled in one run of the teacher: its logits, and its `features` where it has such."""
    use_recipe(benches, "srd" if features else "kd")
    return open_store(benches[0])


def use_recipe(benches: Sequence[Workbench], recipe: str) -> None:
    """From here on, their students learn by it."""
    for bench in benches:
        train = bench.config.train.model_copy(update={"recipe": recipe})
        bench.config = bench.config.model_copy(update={"train": train})
