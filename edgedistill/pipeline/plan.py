"""What a search would do and cost, from the build file, the data and the cache alone: nothing is trained, measured or
fetched."""

from __future__ import annotations

import contextlib
import math
import statistics
from collections import Counter
from collections.abc import Sequence
from itertools import islice

from pydantic import ValidationError

from edgedistill.base.errors import Collected
from edgedistill.base.progress import Listener, silent
from edgedistill.base.store import Store
from edgedistill.data.sources import UNLABELLED
from edgedistill.devices import proof as proofs
from edgedistill.distill.recipes.choice import Known, options_for
from edgedistill.distill.teachers.checkpoint import read_state
from edgedistill.distill.teachers.teacher import Teacher
from edgedistill.documents.answers import Plan, PlannedRung, PlannedSearch, PlannedTarget, PlannedTeacher
from edgedistill.documents.artifacts import TrainedStudent
from edgedistill.documents.lengths import views_of
from edgedistill.documents.recipes import DEFAULT
from edgedistill.documents.teachers import TeacherConfig
from edgedistill.networks.space import Candidate
from edgedistill.pipeline.assistant import can_give, to_try
from edgedistill.pipeline.choice import has_features
from edgedistill.pipeline.finish import split_sizes
from edgedistill.pipeline.jobs import Job
from edgedistill.pipeline.measure import SCALE_SESSIONS
from edgedistill.pipeline.pilot import pilot_student
from edgedistill.pipeline.prepare import multiply_adds_of, open_benches, open_space
from edgedistill.pipeline.pretrained import settle_space
from edgedistill.pipeline.teacher import fit_seconds, unfitted_teacher
from edgedistill.pipeline.workbench import Workbench

START_S = 1.5
"""What a session takes beside its samples: to start, load and warm up."""


def plan_of(jobs: Sequence[Job], listener: Listener = silent) -> Plan:
    """The plan of a build or search. Loads data and teacher, and counts the space; `listener` hears warnings, and how
    many candidates are left out. Raises InputError for all that is wrong with them at once."""
    store, wrong = Store(listener=listener), Collected()
    benches: tuple[Workbench, ...] = ()
    with wrong:
        benches = open_benches([order for job in jobs for order in job.orders], store)
    for bench in benches:
        bench.meter.close()
    if not benches:
        # What the teacher and the students have to fit is not known; weights that cannot be read fit nothing.
        with wrong:
            _read_weights(jobs[0].orders[0].config.teacher)
        wrong.raise_any()
    first, searches, left = benches[0], [], iter(benches)
    teacher: Teacher | None = None
    others: list[PlannedTeacher] = []
    with wrong:
        teacher = unfitted_teacher(first, fetch=False)
    for other in first.others:
        with wrong:
            others.append(_planned_teacher(other, unfitted_teacher(other, fetch=False)))
    for job in jobs:
        own = tuple(islice(left, len(job.orders)))
        with wrong:
            searches.append(_planned(own, teacher, store))
    wrong.raise_any()
    assert teacher is not None
    return Plan(
        data=split_sizes(first.dataset),
        views=views_of(first.config.augmentation.views, len(first.taught.splits.train)),
        teacher=_planned_teacher(first, teacher),
        teachers=tuple(others),
        searches=tuple(searches),
    )


def _read_weights(config: TeacherConfig) -> None:
    if config.checkpoint is not None:
        read_state(config.checkpoint)


def _planned_teacher(bench: Workbench, teacher: Teacher) -> PlannedTeacher:
    config = bench.config.teacher
    resolution = teacher.contract.resolution
    return PlannedTeacher(
        model=config.model,
        resolution=None if teacher.outputs is not None else resolution,
        parameters=teacher.parameters,
        multiply_adds=multiply_adds_of(teacher),
        fit_epochs=None if config.fit is None else config.fit.epochs,
        crossfit=None if config.fit is None else config.fit.crossfit,
        fit_seconds=fit_seconds(bench),
    )


def _planned(benches: Sequence[Workbench], teacher: Teacher | None, store: Store) -> PlannedSearch:
    settle_space(benches, fetch=False)
    candidates = open_space(*benches)
    search = benches[0].config.search
    rungs = _rungs(benches[0], min(search.candidates, search.trials, len(candidates)))
    pilot, speed = _pilot(benches[0], teacher), _images_per_second(store)
    last = rungs[-1]
    crossed = _crossed(benches[0], last.epochs, last.students) if search.folds is not None else None
    assistant = _assistant(benches[0], teacher, candidates)
    parts = (*rungs, pilot, assistant, crossed)
    return PlannedSearch(
        targets=tuple(_measured(bench, len(candidates), rungs) for bench in benches),
        candidates=len(candidates),
        families=dict(Counter(candidate.spec.family for candidate in candidates)),
        rungs=rungs,
        crossed=crossed,
        trials=search.trials,
        pilot=pilot,
        assistant=assistant,
        train_seconds=sum(part.image_passes for part in parts if part) / speed if speed else None,
    )


def _measured(bench: Workbench, candidates: int, rungs: Sequence[PlannedRung]) -> PlannedTarget:
    search, profile = bench.config.search, bench.meter.settings
    measured = bench.meter.device is not None
    probes = min(search.probes, candidates) if measured else 0
    # In each precision the probes, all students of the first rung and, trained on, the finalists; the scale, the proof.
    finalists = rungs[-1].students if len(rungs) > 1 else 0
    compared = (probes + rungs[0].students + finalists) * len(bench.schemes)
    proof = SCALE_SESSIONS + proofs.ProofPlan.at(profile.proof).looks[0].sessions
    seconds = compared * (profile.compare / 1000 + START_S) + proof * (
        (profile.session + profile.pause) / 1000 + START_S
    )
    return PlannedTarget(
        target=bench.target.name,
        measured=measured,
        probes=probes,
        precisions=tuple(scheme.precision.value for scheme in bench.schemes),
        formats=tuple(form.value for form in bench.formats),
        measure_seconds=seconds if measured else 0.0,
    )


def _rungs(bench: Workbench, students: int) -> tuple[PlannedRung, ...]:
    images, before = len(bench.taught.splits.train), 0
    found: list[PlannedRung] = []
    for epochs in bench.rungs:
        passes = students * (epochs - before) * images
        found.append(PlannedRung(epochs=epochs, students=students, image_passes=passes))
        students, before = math.ceil(students * bench.config.search.keep), epochs
    return tuple(found)


def _pilot(bench: Workbench, teacher: Teacher | None) -> PlannedRung | None:
    """A student by each recipe that the default may come to, where the build file names none."""
    data = bench.taught
    if bench.recipe_is_settled or teacher is None or bench.vector is not None:
        return None
    known = Known.expected(data.labels[data.splits.train], features=has_features(bench.config.teacher, teacher))
    students = len(options_for(known))
    if students == 1:
        return None
    return _piloted(bench, students)


def _assistant(bench: Workbench, teacher: Teacher | None, candidates: Sequence[Candidate]) -> PlannedRung | None:
    """Where assistants would be tried for the middle candidate: a pilot of each, one of them trained whole, and two pilots
    of the student. What the budget leaves of the candidates is not known: their middle one may be smaller."""
    work = None if teacher is None else multiply_adds_of(teacher)
    # What `default` comes to is not known yet; most recipes ask for what an assistant has.
    is_known = bench.config.train.recipe_name != DEFAULT
    if work is None or (is_known and not can_give(bench.recipe.taps)):
        return None
    sizes = to_try(bench, pilot_student(candidates, math.inf), candidates, work)
    if not sizes:
        return None
    pilots, epochs = _piloted(bench, len(sizes) + 2), bench.rungs[-1]
    whole = epochs * len(bench.taught.splits.train)
    return PlannedRung(epochs=epochs, students=len(sizes), image_passes=pilots.image_passes + whole)


def _piloted(bench: Workbench, students: int) -> PlannedRung:
    """So many pilots."""
    epochs = bench.pilot_epochs
    if bench.config.search.folds is not None:
        return _crossed(bench, epochs, students)
    return PlannedRung(
        epochs=epochs, students=students, image_passes=students * epochs * len(bench.taught.splits.train)
    )


def _crossed(bench: Workbench, epochs: int, students: int) -> PlannedRung:
    """So many students in cross-validation: each is trained as often as there are parts, without the labelled images of
    one of them."""
    folds, data = bench.config.search.folds, bench.taught
    assert folds is not None
    train = data.splits.train
    labelled = int((data.labels[train] != UNLABELLED).sum())
    passes = students * epochs * (folds * len(train) - labelled)
    return PlannedRung(epochs=epochs, students=students * folds, image_passes=passes)


def _images_per_second(store: Store) -> float | None:
    """Median speed of the trainings that the cache remembers, whatever they trained; None where there are none."""
    speeds = []
    for record in (store.root / "train").glob("*/student.json"):
        with contextlib.suppress(OSError, ValidationError):
            trained = TrainedStudent.model_validate_json(record.read_text())
            if trained.images_per_second is not None:
                speeds.append(trained.images_per_second)
    return statistics.median(speeds) if speeds else None
