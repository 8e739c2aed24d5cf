"""The recipe that a build's students learn by: the one that was asked for, or the one that `default` comes to."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

from edgedistill.base.errors import TrialFailure
from edgedistill.base.progress import Note
from edgedistill.distill.recipes.choice import Known, Option, options_for
from edgedistill.distill.stored.split_store import SplitStore
from edgedistill.documents.recipes import DEFAULT, LOGITS
from edgedistill.documents.results import PilotRun, RecipeChoice
from edgedistill.documents.specs import StudentSpec
from edgedistill.networks.space import Candidate
from edgedistill.pipeline.bench import Workbench
from edgedistill.pipeline.prepare import PreparedTeacher, open_store
from edgedistill.pipeline.work import Place, TrainItem, do_all

CLEAR: Final = 2.0


def settle(
    benches: Sequence[Workbench], teacher: PreparedTeacher, candidates: Sequence[Candidate], most_multiply_adds: float
) -> tuple[SplitStore, RecipeChoice]:
    """Give all `benches` the recipe, and what their students learn from. `default` looks at the data and at what the teacher
    says of it; where two recipes may do, a pilot trains one student of at most `most_multiply_adds` by each, and the
    validation split decides where it tells them apart."""
    first = benches[0]
    asked = "composed" if first.config.train.terms else first.config.train.recipe
    if asked != DEFAULT:
        return open_store(first), RecipeChoice(asked=asked, recipe=asked)
    use_recipe(benches, "kd")
    stored = {"kd": open_store(first)}
    options = options_for(_known(first, stored["kd"], teacher))
    runs: list[PilotRun] = []
    if len(options) > 1:
        spec = _pilot_student(candidates, most_multiply_adds)
        runs = [run for option in options if (run := _piloted(benches, option, stored, spec)) is not None]
    best = clearly_best(runs, len(first.dataset.splits.validation)) if runs else options[0].recipe
    use_recipe(benches, best)
    reasons = [option.reason for option in options if option.recipe == best]
    if runs:
        told = ", ".join(f"{run.recipe} {run.quality_validation:.1%}" for run in runs)
        reasons.append(
            f"a pilot of {runs[0].student}, {runs[0].epochs} epochs by each, came on the validation split to {told}"
        )
    choice = RecipeChoice(asked=DEFAULT, recipe=best, reasons=tuple(reasons), pilot=tuple(runs))
    first.store.listener(Note(f"recipe {best}: {'; '.join(reasons)}"))
    if best not in stored:
        stored[best] = open_store(first)
    return stored[best], choice


def clearly_best(runs: Sequence[PilotRun], images: int) -> str:
    """The recipe of the first run, which is the likeliest, unless another one did better on `images` images by more than
    CLEAR deviations of the difference of two such shares."""

    def deviations(run: PilotRun) -> float:
        shares = (run.quality_validation, runs[0].quality_validation)
        variance = sum(share * (1 - share) for share in shares) / images
        return (shares[0] - shares[1]) / math.sqrt(max(variance, 1 / images**2))

    best = max(runs, key=deviations)
    return best.recipe if deviations(best) > CLEAR else runs[0].recipe


def use_recipe(benches: Sequence[Workbench], recipe: str) -> None:
    """From here on, their students learn by it."""
    for bench in benches:
        train = bench.config.train.model_copy(update={"recipe": recipe})
        bench.config = bench.config.model_copy(update={"train": train})


def _known(bench: Workbench, stored: SplitStore, teacher: PreparedTeacher) -> Known:
    logits = stored.signal(LOGITS)
    assert logits is not None
    labels = bench.dataset.labels[bench.dataset.splits.train]
    return Known.of(labels, logits, stored.stored_views.count, teacher.quality_validation)


def _pilot_student(candidates: Sequence[Candidate], most_multiply_adds: float) -> StudentSpec:
    """The middle one by multiply-adds of those that may fit the budget."""
    by_size = sorted(candidates, key=lambda candidate: (candidate.multiply_adds, candidate.spec.label))
    fitting = [candidate for candidate in by_size if candidate.multiply_adds <= most_multiply_adds] or by_size[:1]
    return fitting[len(fitting) // 2].spec


def _piloted(
    benches: Sequence[Workbench], option: Option, stored: dict[str, SplitStore], spec: StudentSpec
) -> PilotRun | None:
    first = benches[0]
    use_recipe(benches, option.recipe)
    if option.recipe not in stored:
        stored[option.recipe] = open_store(first)
    epochs = first.pilot_epochs
    item = TrainItem(place=Place.of(first), stored=stored[option.recipe], spec=spec, epochs=epochs, total_epochs=epochs)
    for _, trained in do_all(first.doing, [item]):
        if isinstance(trained, TrialFailure):
            first.store.listener(Note(f"pilot of {option.recipe}: {trained.message}", warning=True))
            return None
        return PilotRun(
            recipe=option.recipe,
            student=spec.label,
            epochs=trained.epochs,
            quality_validation=trained.quality_validation,
        )
    return None
