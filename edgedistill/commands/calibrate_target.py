"""What `calibrate` does: students with random weights are made and measured as a build makes and measures its candidates.

Latency does not depend on what the weights are, nor on what the images show; both are random here. Every step is a stage of
the store, so that a calibration that was killed goes on where it stopped.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime

from edgedistill.base.errors import InputError, Problem, TrialFailure, UnreachableError, UnsupportedError
from edgedistill.base.progress import Event, Listener, Note, StageAdvanced, StageFinished, telling
from edgedistill.base.store import Store
from edgedistill.base.versions import __version__
from edgedistill.commands.requests import CalibrationRequest
from edgedistill.data.preprocessing import channel_statistics
from edgedistill.data.synthetic import synthetic_dataset
from edgedistill.devices.attach import attach
from edgedistill.devices.latency.model import choose_probes
from edgedistill.devices.latency.operators import multiplying_share
from edgedistill.devices.latency.profile import CalibrationRow, DeviceProfile, LeftOutError, Quantity, left_out_error
from edgedistill.documents.build_file import DataConfig, ExportConfig, SpaceConfig
from edgedistill.documents.measurements import Environment, MeasuredLatency
from edgedistill.documents.specs import Precision, QuantScheme, Target
from edgedistill.networks.space import Candidate
from edgedistill.pipeline.bench import Bench
from edgedistill.pipeline.make import compiled, portable
from edgedistill.pipeline.measure import anchor_name, compared, latency_of, scale_alone
from edgedistill.pipeline.meter import Meter
from edgedistill.pipeline.prepare import open_space
from edgedistill.pipeline.train import untrained

RESOLUTIONS = (32, 64, 96, 128, 160, 224)
"""Inputs that students are calibrated at where none are named."""
MAX_MULTIPLY_ADDS = 2_000_000_000
"""Students beyond it run for a quarter of a second and more on one core: each would take minutes to measure."""
CLASSES = 10
CALIBRATION_IMAGES, VALIDATION_IMAGES, SIDE = 32, 16, 224
# Candidates that cannot be made are replaced by the next that were chosen, up to half as many again.
SPARE = 0.5
RANDOM = "weights are random: latency, memory and size are those of trained students"
SYNTHETIC = "ranges of int8 were read off synthetic images, which changes neither latency nor size"


def calibrate_target(target: Target, asked: CalibrationRequest, store: Store, device: str = "") -> DeviceProfile:
    """Choose `asked.models` students that stand for all the others, measure their files, and fit to them.

    Raises InputError where there are too few students, UnreachableError where the device does not answer or nothing measures
    on it, UnsupportedError where no file could be made.
    """
    tally = _Tally(store.listener)
    bench = open_calibration(target, asked, Store(store.root, tally), device)
    with closing(bench.meter):
        return _calibrated(bench, asked, tally)


def _calibrated(bench: Bench, asked: CalibrationRequest, tally: _Tally) -> DeviceProfile:
    target, began = bench.target, time.monotonic()
    candidates = [c for c in open_space(bench) if c.multiply_adds <= MAX_MULTIPLY_ADDS]
    if len(candidates) < asked.models:
        raise InputError(
            f"{len(candidates)} students of up to {MAX_MULTIPLY_ADDS:,} multiply-adds are there to choose "
            f"{asked.models} from",
            fix="name more families or resolutions, or measure fewer models",
        )
    chosen = choose_probes([c.structure for c in candidates], asked.models + round(asked.models * SPARE))
    found = measure(bench, [candidates[index] for index in chosen], asked.models)
    if found.environment is None:
        reasons = [Problem("", failure) for failure in found.failures]
        raise UnsupportedError(f"nothing could be measured on {target.title}", problems=reasons)
    return DeviceProfile(
        edgedistill_version=__version__,
        target=target.name,
        title=target.title,
        runtime=target.runtime,
        threads=target.threads,
        environment=found.environment,
        facts=bench.meter.facts(),
        anchor=anchor_name(),
        precisions=tuple(scheme.precision for scheme in bench.schemes),
        rows=tuple(found.rows),
        errors=errors_of(found.rows),
        failures=tuple(found.failures),
        notes=(RANDOM, *([SYNTHETIC] if any(scheme.integer for scheme in bench.schemes) else [])),
        measured_at=datetime.now(UTC).isoformat(timespec="seconds"),
        seconds=round(time.monotonic() - began, 1),
        reused=tally.reused,
    )


def open_calibration(target: Target, asked: CalibrationRequest, store: Store, device: str = "") -> Bench:
    """A bench without a user's data, for the user's `device` or the target's own: synthetic images, and the settings that
    stages from a spec to a measured file read. Raises UnreachableError where the device does not answer or nothing
    measures on it."""
    meter = Meter(target, attach(target, store.listener, device))
    dataset = synthetic_dataset(CLASSES, CALIBRATION_IMAGES, VALIDATION_IMAGES, SIDE)
    mean, std = channel_statistics(dataset)
    bench = Bench(
        target=target,
        store=store,
        data=DataConfig(source="digits"),
        dataset=dataset,
        mean=mean,
        std=std,
        export=ExportConfig(precisions=asked.precisions, calibration_images=CALIBRATION_IMAGES),
        meter=meter,
        space=SpaceConfig(families=asked.families, resolutions=asked.resolutions or RESOLUTIONS),
    )
    scale_alone(bench)
    if meter.scale is None:
        raise _not_measured(bench)
    return bench


def _not_measured(bench: Bench) -> UnreachableError:
    target = bench.target
    return UnreachableError(
        f"{target.title} is not measured: {bench.meter.not_measurable}", fix=target.how_to_measure.strip()
    )


@dataclass(eq=False)
class CalibrationFindings:
    """Rows so far, and what failed. `environment` is the first row's, None before it."""

    rows: list[CalibrationRow]
    failures: list[str]
    environment: Environment | None = None


def measure(bench: Bench, chosen: Sequence[Candidate], wanted: int) -> CalibrationFindings:
    """Make and measure the first `wanted` of `chosen` that can be, in every precision; one that fails in all of them is
    replaced by the next. Raises UnreachableError where nothing measures them on the device."""
    found = CalibrationFindings([], [])
    listener, done = bench.store.listener, 0
    with telling(listener, "calibrate", f"{wanted} models on {bench.target.name}", wanted):
        for candidate in chosen:
            if done == wanted:
                break
            before = len(found.rows)
            for scheme in bench.schemes:
                try:
                    _measure_one(bench, candidate, scheme, found)
                except (TrialFailure, UnsupportedError) as failure:
                    text = f"{candidate.spec.label} in {scheme.label}: {failure.message}"
                    found.failures.append(text)
                    listener(Note(text, warning=True))
            if len(found.rows) > before:
                done += 1
                listener(StageAdvanced("calibrate", done, wanted, candidate.spec.label))
    return found


def _measure_one(bench: Bench, candidate: Candidate, scheme: QuantScheme, found: CalibrationFindings) -> None:
    source = untrained(bench, candidate.spec)
    artifact = compiled(bench, portable(bench, source, scheme, bench.target.runtime))
    profile = compared(bench, artifact, source)
    latency = latency_of(bench, profile)
    if profile is None or not isinstance(latency, MeasuredLatency) or latency.relative is None:
        raise _not_measured(bench)
    found.environment = found.environment or profile.environment
    found.rows.append(
        CalibrationRow(
            spec=candidate.spec,
            structure=candidate.structure,
            precision=scheme.precision,
            relative=latency.relative,
            bytes=artifact.bytes,
            peak_memory_bytes=profile.peak_memory_bytes,
            sha256=artifact.sha256,
            multiplying=multiplying_share(profile.op_timings),
        )
    )


def errors_of(rows: Sequence[CalibrationRow]) -> tuple[LeftOutError, ...]:
    """The left-out error of every precision and quantity that has rows enough."""
    errors = (
        left_out_error([row for row in rows if row.precision is precision], quantity)
        for precision in Precision
        for quantity in Quantity
    )
    return tuple(error for error in errors if error is not None)


class _Tally:
    """Passes events on and counts the stages that were found finished."""

    def __init__(self, listener: Listener) -> None:
        self._listener = listener
        self.reused = 0

    def __call__(self, event: Event) -> None:
        self.reused += isinstance(event, StageFinished) and event.reused
        self._listener(event)
