"""A build's lab: candidates trained, made into files and measured on its workbench, each step a stage of the cache."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from edgedistill.base.errors import TrialFailure, UnsupportedError
from edgedistill.base.progress import Note
from edgedistill.base.units import format_percent
from edgedistill.devices.latency.operators import multiplying_share
from edgedistill.devices.latency.profiles import find_profile
from edgedistill.devices.proof import aim
from edgedistill.distill.stored.split_store import SplitStore
from edgedistill.documents.artifacts import CrossValidation, SchemeResult, TrainedStudent
from edgedistill.documents.measurements import MeasuredLatency, Proof
from edgedistill.documents.specs import Budget, Goal, Precision
from edgedistill.networks.space import Candidate
from edgedistill.pipeline.crossing import cross_validated
from edgedistill.pipeline.judge import realise
from edgedistill.pipeline.make import compiled, portable
from edgedistill.pipeline.measure import anchor_name, compared, latency_of, prove
from edgedistill.pipeline.train import source_of, trained_before, untrained
from edgedistill.pipeline.work import TrainItem, Tuning, train_all
from edgedistill.pipeline.workbench import Place, Workbench
from edgedistill.selection.lab import Figures, Training
from edgedistill.selection.search import Settings
from edgedistill.selection.warm_start import Known, KnownCurve, KnownFile


def goal_of(bench: Workbench, budget: Budget) -> Goal:
    """What a build file asks for, its budget in milliseconds."""
    config, limits = bench.config, bench.config.limits
    return Goal(
        budget=budget,
        objective=config.objective,
        aim_ms=aim(budget.latency_ms, bench.meter.scale.spread) if bench.meter.scale else None,
        max_bytes=limits.max_size,
        max_memory_bytes=limits.max_memory,
        min_quality=limits.min_quality,
        quality_margin=config.search.quality_margin,
    )


def settings_of(bench: Workbench) -> Settings:
    """How the build file lets its search spend."""
    config = bench.config.search
    return Settings(
        probes=config.probes,
        candidates=config.candidates,
        rungs=bench.rungs,
        keep=config.keep,
        trials=config.trials,
        seconds=None if config.time is None else config.time / 1000,
    )


def known_before(
    benches: Sequence[Workbench], stored: SplitStore, candidates: Sequence[Candidate], goals: Sequence[Goal]
) -> Known:
    """What a search may begin with: calibrations of these very devices, and, where the build file wants a warm start,
    students that the cache has from earlier searches."""
    first = benches[0]
    curves = [
        KnownCurve(spec=candidate.spec, quality={one.epochs: one.quality_validation for one in found})
        for candidate in (candidates if first.config.search.warm_start else ())
        if (found := trained_before(first, candidate.spec, stored))
    ]
    calibrated = [_calibrated(bench, goal) for bench, goal in zip(benches, goals, strict=True)]
    sources = [source for _, sources in calibrated for source in sources]
    if curves:
        sources.append(f"{len(curves)} students of earlier searches tell what to expect of others")
    files = tuple(file for files, _ in calibrated for file in files)
    return Known(files=files, curves=tuple(curves), sources=tuple(sources))


def _calibrated(bench: Workbench, goal: Goal) -> tuple[list[KnownFile], list[str]]:
    """The rows of a profile of this device. One that was taken with another runtime, threads or device is told of and
    left."""
    if not bench.meter.measurable or bench.meter.scale is None:
        return [], []
    wanted = {scheme.precision for scheme in bench.schemes}
    found = find_profile(bench.target, bench.meter.facts(), sorted(wanted))
    if found is None or (found.differences and found.shipped):
        return [], []  # a shipped one of another machine is no news
    name, day = found.path.name, found.profile.measured_at[:10]
    if found.differences:
        return [], [f"the profile {name} from {day} is not used: {'; '.join(found.differences)}"]
    if found.profile.anchor != anchor_name():
        why = f"its files ran in turn with {found.profile.anchor}; now they do with {anchor_name()}"
        return [], [f"the profile {name} from {day} is not used: {why}"]
    percentile, anchor_ms = goal.budget.percentile, bench.meter.scale.anchor_ms
    rows = [
        KnownFile(
            target=bench.target.name,
            precision=row.precision,
            structure=row.structure,
            latency_ms=row.relative.p50 * anchor_ms.at(percentile),
            bytes=row.bytes,
            peak_memory_bytes=row.peak_memory_bytes,
            multiplying=row.multiplying,
        )
        for row in found.profile.rows
        if row.precision in wanted
    ]
    return rows, [f"{len(rows)} files of the profile {name} from {day} tell what to expect of others"]


@dataclass(eq=False)
class Laboratory:
    """See `selection.lab.Lab`."""

    bench: Workbench
    stored: SplitStore

    @property
    def measurable(self) -> bool:
        return self.bench.meter.measurable

    @property
    def device(self) -> str:
        return self.bench.target.name

    @property
    def precisions(self) -> tuple[Precision, ...]:
        return tuple(scheme.precision for scheme in self.bench.schemes)

    def probe(self, candidate: Candidate) -> tuple[Figures, ...]:
        source = untrained(self.bench, candidate.spec)
        found = []
        for scheme in self.bench.schemes:
            try:
                artifact = compiled(self.bench, portable(self.bench, source, scheme, self.bench.target.runtime))
                profile = compared(self.bench, artifact, source)
            except (TrialFailure, UnsupportedError) as failure:
                self.note(f"probe {source.label} {scheme.label}: {failure.message}", warning=True)
                continue
            latency = latency_of(self.bench, profile)
            if profile and isinstance(latency, MeasuredLatency):
                share = multiplying_share(profile.op_timings)
                figures = Figures(scheme.precision, latency, artifact.bytes, profile.peak_memory_bytes, share)
                found.append(figures)
        return tuple(found)

    def train(self, wanted: Sequence[Training]) -> list[TrainedStudent | TrialFailure]:
        bench = self.bench
        return train_all(
            bench.doing,
            [
                TrainItem(
                    place=Place.of(bench),
                    stored=self.stored,
                    spec=one.spec,
                    epochs=bench.rungs[one.rung],
                    total_epochs=bench.rungs[-1],
                    previous=one.previous,
                )
                for one in wanted
            ],
        )

    def realise(self, trained: TrainedStudent, *, last: bool) -> tuple[SchemeResult, ...]:
        # Training under rounding takes as long as a rung: a candidate has to have come to the last one for it.
        tune = Tuning(self.bench, self.stored, trained) if last else None
        return realise(self.bench, source_of(self.bench, trained), tune)

    def cross_validate(self, trained: TrainedStudent) -> CrossValidation | None:
        if (folds := self.bench.config.search.folds) is None:
            return None
        crossed = cross_validated(self.bench, self.stored, trained.spec, folds, trained.epochs)
        told = f"{format_percent(crossed.quality)} of {crossed.images} images in cross-validation of {folds} parts"
        self.note(f"{trained.spec.label}: {told}")
        return crossed

    def prove(self, trained: TrainedStudent, result: SchemeResult, budget: Budget) -> Proof:
        return prove(self.bench, result.artifact, source_of(self.bench, trained), budget)

    def note(self, text: str, warning: bool = False) -> None:
        self.bench.store.listener(Note(text, warning))
