"""From a student's spec to a measured file: `realise` is the whole way, top to bottom.

    train -> export -> quantise -> compile -> verify -> profile

Each step is a stage of the store, keyed by what goes into it; called again with the same inputs it opens the folder
that the first call made. The two wings of the package, the one that trains and the one that measures, meet here.
"""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

from pydantic import TypeAdapter
from torch import nn

from edgedistill.artifacts import (
    CompiledArtifact,
    ExportedModel,
    Inspected,
    Latency,
    MeasuredLatency,
    Profile,
    SchemeResult,
    StandIn,
    TrainedStudent,
    UnknownLatency,
    Verification,
    Verified,
)
from edgedistill.config import BuildConfig
from edgedistill.devices.base import run_pushed
from edgedistill.devices.stats import measured_latency
from edgedistill.distill.train import load_student, read_trained, train_student
from edgedistill.errors import TrialFailure, UnsupportedError
from edgedistill.files import EXPORT_TOOLS, calibration_set, compiled, portable, rewritten_source
from edgedistill.isolation import CONVERSION, in_child
from edgedistill.ladder import LadderRung, Margins, Measured, Tools, climb
from edgedistill.progress import Note, StageAdvanced
from edgedistill.quantize.damage import LayerDamage
from edgedistill.quantize.onnx_sensitivity import rank_layers as rank_onnx_layers
from edgedistill.quantize.onnx_static import IntegerStyle
from edgedistill.quantize.qat import WEIGHTS as TUNED
from edgedistill.quantize.qat import tune
from edgedistill.quantize.rewrites import with_weights
from edgedistill.quantize.sensitivity import rank_layers
from edgedistill.runtimes import runtime_for
from edgedistill.runtimes.base import MeasurementProtocol, NotRunnableError
from edgedistill.specs import Contract, Format, Percentile, Precision, QuantScheme, StudentSpec
from edgedistill.store import digest, file_sha256, stage_key, write_atomic
from edgedistill.students.build import build_student, deploy
from edgedistill.teachers.cache import ViewStore
from edgedistill.verify import verify
from edgedistill.workbench import Source, Workbench

VIEW_CODE = tuple(f"edgedistill.data.{name}" for name in ("augment", "images", "preprocessing", "views"))

TRAINING_CODE = ("edgedistill.students", "edgedistill.distill", *VIEW_CODE)

TRAINING_TOOLS = ("torch", "timm", "numpy", "pillow")

QAT_EPOCHS = 2


def realise(bench: Workbench, source: Source) -> tuple[SchemeResult, ...]:
    """Make, run and measure `source` in every precision worth trying on the target's own runtime.

    A precision that does not pay is `dropped` with its reason. Raises TrialFailure where the widest precision, with which
    the others are compared, cannot be made or run.
    """
    results: list[SchemeResult] = []
    for scheme in bench.schemes:
        baseline = results[0] if results else None
        try:
            result = _realised(bench, source, scheme)
            result = result.model_copy(update={"dropped": why_dropped(bench.config, result, baseline)})
            if baseline is not None and result.dropped and scheme.precision is Precision.INT8:
                result = _from_the_ladder(bench, source, result, baseline)
        except (TrialFailure, UnsupportedError) as failure:
            if not results:
                raise TrialFailure(failure.message, fix=failure.fix, problems=failure.problems) from failure
            bench.store.listener(Note(f"{source.label} in {scheme.label}: {failure.message}", warning=True))
            continue
        results.append(result)
    return tuple(results)


def _realised(bench: Workbench, source: Source, scheme: QuantScheme) -> SchemeResult:
    """The file of one scheme for the target's own runtime, run and measured."""
    artifact = compiled(bench, portable(bench, source, scheme, bench.target.runtime))
    verification = verified(bench, artifact, source)
    profile = profiled(bench, artifact, source, sessions=1)
    return SchemeResult(
        scheme=scheme,
        artifact=artifact,
        verification=verification,
        latency=latency_of(bench, profile),
        profile=profile_key(bench, artifact, 1) if profile else None,
    )


def _from_the_ladder(bench: Workbench, source: Source, plain: SchemeResult, baseline: SchemeResult) -> SchemeResult:
    """`plain` int8, which does not pay or loses too much, or what the ladder finds in its place: the winner, else `plain`
    with what else was tried among its reasons."""
    rungs = climbed(bench, source, bench.target.runtime, baseline)
    winner = next((rung for rung in rungs if rung.accepted), None)
    if winner is not None:
        found = _realised(bench, source, winner.scheme)
        return found.model_copy(update={"dropped": why_dropped(bench.config, found, baseline)})
    seen = [rung for rung in rungs if rung.accuracy is not None]
    if len(seen) < 2:
        return plain
    best = max(seen, key=lambda rung: rung.accuracy or 0.0)
    tried = f"{plain.dropped}; of {len(rungs)} rungs tried the best ({best.scheme.details}) {best.reason}"
    return plain.model_copy(update={"dropped": tried})


def climbed(
    bench: Workbench, source: Source, form: Format, baseline: SchemeResult, *, views: ViewStore | None = None
) -> tuple[LadderRung, ...]:
    """The rungs of int8 for one format, the accepted one the way to go: `settled` gives its source and scheme. `baseline` is
    the fp32 file of that format. With `views` the last rung trains under rounding."""
    export = bench.config.export
    margins = Margins(export.max_accuracy_loss, export.margin_speed, export.margin_size)
    key = stage_key(
        {
            "source": source.key,
            "baseline": baseline.artifact.sha256,
            "format": form,
            "target": bench.target.name,
            "export": export.model_dump(mode="json"),
            "data": bench.data_key,
            "views": views.folder.name if views else None,
            "profile": baseline.profile,
        },
        code=("edgedistill.ladder", "edgedistill.quantize", "edgedistill.converters"),
        tools=EXPORT_TOOLS,
    )
    known = TypeAdapter(tuple[LadderRung, ...])

    def make(folder: Path) -> None:
        found = climb(
            _tools(bench, source, form, views),
            Measured(known_accuracy(baseline), baseline.artifact.bytes, _p50_ms(baseline.latency)),
            margins,
            images=export.calibration_images,
            qat_epochs=QAT_EPOCHS if views else 0,
            layers_kept=form is not Format.NULL,
        )
        write_atomic(folder / "ladder.json", known.dump_json(found.rungs))

    folder = bench.store.stage("ladder", key, make, subject=f"{source.label} {form}")
    return known.validate_json((folder / "ladder.json").read_bytes())


def shipped_scheme(
    bench: Workbench,
    source: Source,
    scheme: QuantScheme,
    form: Format,
    baseline: SchemeResult | None,
    views: ViewStore | None = None,
) -> tuple[QuantScheme, Source]:
    """What takes the place of `scheme` where the winner's files are made, and what they are made from: for int8 the rung
    that the ladder accepts in that format, with `views` one trained under rounding as the last resort. The scheme itself
    where there is nothing to climb from, or no rung is accepted."""
    if scheme.precision is not Precision.INT8 or baseline is None:
        return scheme, source
    for resort in (None, *([views] if views else [])):
        for rung in climbed(bench, source, form, baseline, views=resort):
            if rung.accepted:
                return rung.scheme, settled(bench, source, rung.scheme, views)
    return scheme, source


def _tools(bench: Workbench, source: Source, form: Format, views: ViewStore | None) -> Tools[SchemeResult]:
    def make(scheme: QuantScheme) -> SchemeResult:
        origin = settled(bench, source, scheme, views)
        model = portable(bench, origin, scheme, form)
        artifact = compiled(bench, model, form)
        verification = verified(bench, artifact, source)
        stand_in = stand_in_for(bench, artifact, model, source) if isinstance(verification, Inspected) else None
        unknown = UnknownLatency(reason="not measured yet", device=bench.target.name)
        return SchemeResult(
            scheme=scheme, artifact=artifact, verification=verification, latency=unknown, stand_in=stand_in
        )

    def p50_ms(result: SchemeResult) -> float | None:
        if form is not bench.target.runtime:
            return None
        return _p50_ms(latency_of(bench, profiled(bench, result.artifact, source, sessions=1)))

    return Tools(
        make=make,
        accuracy=known_accuracy,
        bytes=lambda result: result.artifact.bytes,
        p50_ms=p50_ms,
        ranked=lambda scheme: [d.layer for d in damages(bench, settled(bench, source, scheme, views), scheme, form)],
    )


def _p50_ms(latency: Latency) -> float | None:
    return latency.comparable(Percentile.P50) if isinstance(latency, MeasuredLatency) else None


def settled(bench: Workbench, source: Source, scheme: QuantScheme, views: ViewStore | None) -> Source:
    """What a file of `scheme` is made from: `source`, or what training it under rounding made of it. Raises TrialFailure
    where that diverges."""
    if not scheme.qat_epochs:
        return source
    assert views is not None
    store, config = bench.store, bench.config.train
    key = stage_key(
        {
            "source": source.key,
            "contract": source.contract.model_dump(mode="json"),
            "scheme": scheme.model_dump(mode="json"),
            "data": [bench.data_key, bench.config.export.calibration_images],
            "views": views.folder.name,
            "recipe": config.model_dump(mode="json", exclude={"checkpoint_seconds", "workers"}),
        },
        code=("edgedistill.quantize", *TRAINING_CODE),
        tools=(*TRAINING_TOOLS, "torchao"),
    )

    def make(folder: Path) -> None:
        images = calibration_set(bench).images(bench.dataset, source.contract)

        def on_progress(done: int, total: int, note: str) -> None:
            store.listener(StageAdvanced("tune", done, total, note))

        tune(source.load(), source.contract, images, scheme, bench.dataset, views, config, folder, on_progress)

    folder = store.stage("tune", key, make, subject=f"{source.label} {scheme.details}", resumable=True)
    return Source(
        source.label, key, source.contract, lambda: with_weights(source.load(), source.contract, folder / TUNED)
    )


def damages(bench: Workbench, source: Source, scheme: QuantScheme, form: Format) -> tuple[LayerDamage, ...]:
    """The layers of `source` that int8 damages, most damaged first: measured on the ONNX file where that is what is
    quantised, else on the torch program. Raises UnsupportedError where it cannot be traced."""
    origin = rewritten_source(bench, source, scheme)
    images = calibration_set(bench).images(bench.dataset, source.contract)
    if form not in (Format.ONNX, Format.TENSORRT):
        return rank_layers(origin.load(), source.contract, images, scheme)
    full = portable(bench, origin, QuantScheme(precision=Precision.FP32), Format.ONNX)
    on_gpu = Format.TENSORRT in (form, bench.target.runtime)
    style = IntegerStyle.TENSORRT if on_gpu else IntegerStyle.for_onnxruntime(bench.machine)
    return in_child("measuring layers", CONVERSION, rank_onnx_layers, full, images, scheme, style)


def why_dropped(config: BuildConfig, result: SchemeResult, baseline: SchemeResult | None) -> str:
    """Why a precision is turned away, empty if it stays: it loses more accuracy than allowed, or is neither faster nor
    smaller than the widest precision (`baseline`) by the margins of the build file."""
    if baseline is None:
        return ""
    export = config.export
    before, after = known_accuracy(baseline), known_accuracy(result)
    if before is not None and after is not None:
        loss = before - after
        if loss > export.max_accuracy_loss:
            judged = f"{result.stand_in.what} " if result.stand_in else ""
            return (
                f"{judged}loses {loss * 100:.2f} points of validation accuracy to {baseline.scheme.label}, "
                f"more than the {export.max_accuracy_loss * 100:.2f} allowed"
            )
    smaller = 1 - result.artifact.bytes / baseline.artifact.bytes
    faster = 0.0
    speed = "its latency is not known here"
    if isinstance(result.latency, MeasuredLatency) and isinstance(baseline.latency, MeasuredLatency):
        faster = 1 - result.latency.comparable(Percentile.P50) / baseline.latency.comparable(Percentile.P50)
        change = f"{abs(faster):.0%} {'faster' if faster >= 0 else 'slower'}"
        speed = f"{change} at p50 (margin {export.margin_speed:.0%})"
    size = f"{abs(smaller):.0%} {'smaller' if smaller >= 0 else 'larger'}"
    if faster < export.margin_speed and smaller < export.margin_size:
        return f"does not pay beside {baseline.scheme.label}: {speed}, {size} (margin {export.margin_size:.0%})"
    return ""


def known_accuracy(result: SchemeResult) -> float | None:
    """Validation accuracy of the file, or of what was run in its place; None where neither could be run."""
    if isinstance(result.verification, Verified):
        return result.verification.accuracy_validation
    return result.stand_in.accuracy_validation if result.stand_in else None


def train(
    bench: Workbench,
    spec: StudentSpec,
    views: ViewStore,
    *,
    epochs: int,
    total_epochs: int,
    previous: TrainedStudent | None,
) -> TrainedStudent:
    """The student after `epochs` of its schedule, going on from `previous`, an earlier rung of the same run."""
    config = bench.config.train
    contract = bench.contract(spec.resolution)
    key = stage_key(
        {
            "spec": spec.model_dump(mode="json"),
            "contract": contract.model_dump(mode="json"),
            "data": bench.data_key,
            "views": views.folder.name,
            "recipe": config.model_dump(mode="json", exclude={"checkpoint_seconds", "workers"}),
            "epochs": epochs,
            "total_epochs": total_epochs,
            "previous": previous.weights.parent.name if previous else None,
        },
        code=TRAINING_CODE,
        tools=TRAINING_TOOLS,
    )
    subject = f"{spec.label} to epoch {epochs}"
    make = partial(_train_into, bench, spec, contract, views, epochs, total_epochs, previous)
    folder = bench.store.stage("train", key, make, subject=subject, resumable=True)
    return read_trained(folder)


def _train_into(
    bench: Workbench,
    spec: StudentSpec,
    contract: Contract,
    views: ViewStore,
    epochs: int,
    total_epochs: int,
    previous: TrainedStudent | None,
    folder: Path,
) -> None:
    def on_progress(done: int, total: int, note: str) -> None:
        bench.store.listener(StageAdvanced("train", done, total, note))

    train_student(
        spec,
        contract,
        bench.dataset,
        views,
        bench.config.augmentation,
        bench.config.train,
        epochs=epochs,
        total_epochs=total_epochs,
        folder=folder,
        previous=previous.weights.parent if previous else None,
        on_progress=on_progress,
    )


def source_of(bench: Workbench, trained: TrainedStudent) -> Source:
    """A trained student as a source of files."""
    contract = bench.contract(trained.spec.resolution)
    key = digest([trained.spec.model_dump(mode="json"), file_sha256(trained.weights)])
    return Source(trained.spec.label, key, contract, lambda: deploy(load_student(trained, contract)))


def untrained(bench: Workbench, spec: StudentSpec) -> Source:
    """A student with random weights: its files cost the same time to run as those of the trained one."""
    contract = bench.contract(spec.resolution)

    def load() -> nn.Module:
        import torch

        with torch.random.fork_rng(devices=()):
            torch.manual_seed(0)
            return deploy(build_student(spec, contract))

    return Source(f"{spec.label} (random weights)", digest(["untrained", spec.model_dump(mode="json")]), contract, load)


def verified(bench: Workbench, artifact: CompiledArtifact, source: Source) -> Verification:
    """Parity and validation accuracy of the artifact, by running it; what can be checked instead where it cannot run."""
    key = stage_key(
        {"artifact": artifact.sha256, "source": source.key, "data": bench.data_key},
        code=("edgedistill.verify", "edgedistill.runtimes", "edgedistill.data.preprocessing"),
        tools=EXPORT_TOOLS,
    )

    def make(folder: Path) -> None:
        images, labels = bench.images("validation", source.contract), bench.labels("validation")
        found = verify(runtime_for(artifact.format), artifact, bench.reference(source), images, labels)
        write_atomic(folder / "verification.json", found.model_dump_json())

    folder = bench.store.stage("verify", key, make, subject=f"{source.label} {artifact.format} {artifact.scheme.label}")
    content = json.loads((folder / "verification.json").read_text())
    return (Verified if content["kind"] == "run" else Inspected).model_validate(content)


def stand_in_for(bench: Workbench, artifact: CompiledArtifact, model: ExportedModel, source: Source) -> StandIn | None:
    """What can be run in place of an engine that cannot: the ONNX file it was built from. None for other formats."""
    if artifact.format is not Format.TENSORRT:
        return None
    found = verified(bench, compiled(bench, model, Format.ONNX), source)
    what = "the ONNX file it was built from, run by ONNX Runtime,"
    return StandIn(what=what, accuracy_validation=found.accuracy_validation) if isinstance(found, Verified) else None


def profiled(bench: Workbench, artifact: CompiledArtifact, source: Source, *, sessions: int) -> Profile | None:
    """Latency samples of the artifact on the target's device; None where it cannot be measured (`bench.not_measurable`
    says why)."""
    if bench.device is None or bench.not_measurable:
        return None
    device, config = bench.device, bench.config.profile

    def make(folder: Path) -> None:
        protocol = MeasurementProtocol(
            target=bench.target,
            sessions=sessions,
            pause_s=config.pause / 1000,
            max_samples=max(config.max_samples, bench.min_samples),
            max_seconds=config.max_seconds,
            operators=True,
            execute=partial(run_pushed, device),
            min_samples=bench.min_samples,
            reference_us=bench.speed.reference_us,
            wait_s=bench.speed.wait_s(sessions),
        )
        inputs = bench.images("validation", source.contract)[:64]
        profile = runtime_for(artifact.format).profile(artifact, inputs, protocol)
        bench.speed.patience_s -= min(bench.speed.patience_s, sum(session.waited_s for session in profile.sessions))
        write_atomic(folder / "profile.json", profile.model_dump_json())

    subject = f"{source.label} {artifact.format} {artifact.scheme.label}" + (f", {sessions} sessions" * (sessions > 1))
    try:
        folder = bench.store.stage("profile", profile_key(bench, artifact, sessions), make, subject=subject)
    except NotRunnableError as error:
        bench.not_measurable = error.message
        return None
    profile = Profile.model_validate_json((folder / "profile.json").read_text())
    bench.speed.note(profile)
    return profile


def profile_key(bench: Workbench, artifact: CompiledArtifact, sessions: int) -> str:
    """Key of a profile: the file, the target, the device as it is now, and how samples are taken."""
    assert bench.device is not None
    return stage_key(
        {
            "artifact": artifact.sha256,
            "target": [bench.target.name, bench.target.threads],
            "device": bench.device.facts(),
            "sessions": sessions,
            "protocol": bench.config.profile.model_dump(mode="json", exclude={"sessions"}),
            "min_samples": bench.min_samples,
        },
        code=("edgedistill.devices", "edgedistill.runtimes"),
        tools=EXPORT_TOOLS,
    )


def latency_of(bench: Workbench, profile: Profile | None) -> Latency:
    """A profile as a latency; without one, unknown with the reason."""
    if profile is None:
        return UnknownLatency(reason=bench.not_measurable, device=bench.target.name)
    return measured_latency(profile, bench.speed.reference_us)
