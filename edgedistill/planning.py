"""What a search would do and cost, from the build file, the data and the cache alone: nothing is trained or measured."""

from __future__ import annotations

import contextlib
import math
import statistics
from collections.abc import Sequence

from pydantic import ValidationError

from edgedistill.artifacts import TrainedStudent
from edgedistill.building import Order
from edgedistill.documents import Plan, PlannedRung, PlannedTarget
from edgedistill.preparation import open_bench, open_space
from edgedistill.store import Store
from edgedistill.workbench import Workbench


def plan_of(ordered: Sequence[Order]) -> Plan:
    """The plan of a build or search. Loads the data and counts the space; raises InputError for what is wrong with them."""
    return Plan(targets=tuple(_planned(order) for order in ordered))


def _planned(order: Order) -> PlannedTarget:
    store = Store()
    bench = open_bench(order.config, order.target, store, base=order.base, require_measured=order.require_measured)
    candidates = open_space(bench)
    search, profile = order.config.search, order.config.profile
    rungs = _rungs(bench, min(search.candidates, search.trials, len(candidates)))
    families: dict[str, int] = {}
    for candidate in candidates:
        families[candidate.spec.family] = families.get(candidate.spec.family, 0) + 1
    speed = _images_per_second(store)
    passes = sum(rung.image_passes for rung in rungs)
    measured = bench.device is not None
    # Every survivor of the first rung in each precision, the finalists once more, the winner's proof.
    survivors = rungs[1].students if len(rungs) > 1 else rungs[0].students
    sessions = (search.probes + survivors + rungs[-1].students) * len(bench.schemes) + profile.sessions
    return PlannedTarget(
        target=order.target.name,
        measured=measured,
        candidates=len(candidates),
        families=families,
        probes=search.probes if measured else 0,
        precisions=tuple(scheme.precision.value for scheme in bench.schemes),
        rungs=rungs,
        trials=search.trials,
        train_seconds=passes / speed if speed else None,
        measure_seconds=sessions * profile.max_seconds if measured else 0.0,
    )


def _rungs(bench: Workbench, students: int) -> tuple[PlannedRung, ...]:
    images, before = len(bench.dataset.splits.train), 0
    found: list[PlannedRung] = []
    for epochs in bench.config.search.rungs:
        passes = students * (epochs - before) * images
        found.append(PlannedRung(epochs=epochs, students=students, image_passes=passes))
        students, before = math.ceil(students * bench.config.search.keep), epochs
    return tuple(found)


def _images_per_second(store: Store) -> float | None:
    """Median speed of the trainings that the cache remembers, whatever they trained; None where there are none."""
    speeds = []
    for record in (store.root / "train").glob("*/student.json"):
        with contextlib.suppress(OSError, ValidationError):
            trained = TrainedStudent.model_validate_json(record.read_text())
            if trained.images_per_second is not None:
                speeds.append(trained.images_per_second)
    return statistics.median(speeds) if speeds else None
