"""From a student's spec to a measured file: `realise` is the whole way, top to bottom.

    train -> export -> quantise -> compile -> verify -> profile

Each step is a stage of the store, keyed by what goes into it; called again with the same inputs it opens the folder
that the first call made. The two wings of the package, the one that trains and the one that measures, meet here.
"""

from __future__ import annotations

import json
import platform
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from torch import nn

from edgedistill.artifacts import (
    CompiledArtifact,
    ExportedModel,
    Inspected,
    Latency,
    MeasuredLatency,
    Profile,
    SchemeResult,
    TrainedStudent,
    UnknownLatency,
    Verification,
    Verified,
)
from edgedistill.config import BuildConfig
from edgedistill.data.datasets import Dataset
from edgedistill.data.preprocessing import make_contract, prepare
from edgedistill.devices.base import Device, run_pushed
from edgedistill.devices.stats import measured_latency, samples_needed
from edgedistill.distill.train import load_student, read_trained, train_student
from edgedistill.errors import TrialFailure, UnsupportedError
from edgedistill.export.program import reference_logits, to_program
from edgedistill.progress import Note, StageAdvanced
from edgedistill.runtimes import runtime_for
from edgedistill.runtimes.base import Images, Logits, MeasurementProtocol, NotRunnableError
from edgedistill.specs import Contract, Format, Frozen, Precision, QuantScheme, StudentSpec, Target
from edgedistill.store import Store, digest, file_sha256, stage_key, write_atomic
from edgedistill.students.build import build_student, deploy
from edgedistill.teachers.cache import ViewStore
from edgedistill.verify import verify

F = TypeVar("F", bound=Frozen)
VIEW_CODE = tuple(f"edgedistill.data.{name}" for name in ("augment", "images", "preprocessing", "views"))
TRAINING_CODE = ("edgedistill.students", "edgedistill.distill", *VIEW_CODE)
TRAINING_TOOLS = ("torch", "timm", "numpy", "pillow")
EXPORT_TOOLS = ("torch", "torchao", "onnx", "onnxscript", "onnxruntime", "coremltools", "tensorrt", "tensorrt-rtx-cu12")


@dataclass(frozen=True, eq=False)
class Source:
    """A network ready to be made into files: a student or the teacher. `key` hashes its architecture and weights; `load`
    gives the deployed module (eval mode, branches merged, float 0..255 in, logits out)."""

    label: str
    key: str
    contract: Contract
    load: Callable[[], nn.Module]


@dataclass(eq=False)
class Workbench:
    """What stays the same over all candidates of a build, and the validation images each resolution needs."""

    config: BuildConfig
    target: Target
    dataset: Dataset
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    store: Store
    device: Device | None
    not_measurable: str
    base: Path
    _images: dict[str, Images] = field(default_factory=dict)
    _references: dict[str, Logits] = field(default_factory=dict)

    def contract(self, resolution: int) -> Contract:
        """The contract of a student at `resolution`."""
        return make_contract(self.config.data, self.dataset.classes, resolution, self.mean, self.std)

    def images(self, split: str, contract: Contract) -> Images:
        """A split's images through the contract, uint8 [n, 3, R, R]; kept in memory, a resolution a time."""
        key = f"{split} {digest(contract.model_dump(mode='json'))}"
        if key not in self._images:
            indices: NDArray[np.int64] = getattr(self.dataset.splits, split)
            self._images[key] = prepare(self.dataset.images, indices, contract)
        return self._images[key]

    def labels(self, split: str) -> NDArray[np.int64]:
        """A split's labels, in the order of `images`."""
        indices: NDArray[np.int64] = getattr(self.dataset.splits, split)
        return self.dataset.labels[indices]

    def calibration(self, contract: Contract) -> Images:
        """The first training images of a fixed shuffle, for static quantisation."""
        train = self.dataset.splits.train
        count = min(self.config.export.calibration_images, len(train))
        chosen = np.random.default_rng(0).permutation(len(train))[:count]
        return prepare(self.dataset.images, train[chosen], contract)

    def reference(self, source: Source) -> Logits:
        """Logits of the fp32 torch program on the validation images: what every artifact is held against."""
        if source.key not in self._references:
            self._references = {source.key: reference_logits(source.load(), self.images("validation", source.contract))}
        return self._references[source.key]

    @property
    def machine(self) -> str:
        """The processor architecture that the files are for, as `platform.machine()` names it."""
        return self.target.machine or platform.machine()

    @property
    def min_samples(self) -> int:
        """The fewest samples a session that the acceptance rule needs at the budget's percentile."""
        return samples_needed(self.config.budget.percentile.fraction)

    @property
    def data_key(self) -> dict[str, Any]:
        """What identifies the data and its splits in the keys of stages."""
        splits = {name: digest(getattr(self.dataset.splits, name).tolist()) for name in ("train", "validation")}
        return {"fingerprint": self.dataset.fingerprint, "splits": splits}

    @property
    def schemes(self) -> tuple[QuantScheme, ...]:
        """The precisions to try, widest first: that one is what the others are compared with."""
        wanted = self.config.export.precisions or self.target.precisions
        count = self.config.export.calibration_images
        return tuple(
            QuantScheme(precision=p, calibration_images=count if p is Precision.INT8 else 0)
            for p in Precision
            if p in wanted
        )

    @property
    def formats(self) -> tuple[Format, ...]:
        """The formats that the build makes: the target's own first."""
        wanted = self.config.export.formats or self.target.formats
        return (self.target.runtime, *(f for f in wanted if f is not self.target.runtime))


# -- the way through ----------------------------------------------------------------------------------------------


def realise(bench: Workbench, source: Source) -> tuple[SchemeResult, ...]:
    """Make, run and measure `source` in every precision worth trying on the target's own runtime.

    A precision that does not pay is `dropped` with its reason. Raises TrialFailure where the widest precision, with which
    the others are compared, cannot be made or run.
    """
    results: list[SchemeResult] = []
    for scheme in bench.schemes:
        try:
            artifact = compiled(bench, portable(bench, source, scheme, bench.target.runtime))
            verification = verified(bench, artifact, source)
            profile = profiled(bench, artifact, source, sessions=1)
        except (TrialFailure, UnsupportedError) as failure:
            if not results:
                raise TrialFailure(failure.message, fix=failure.fix, problems=failure.problems) from failure
            bench.store.listener(Note(f"{source.label} in {scheme.label}: {failure.message}", warning=True))
            continue
        result = SchemeResult(
            scheme=scheme,
            artifact=artifact,
            verification=verification,
            latency=latency_of(bench, profile),
            profile=profile_key(bench, artifact, 1) if profile else None,
        )
        baseline = results[0] if results else None
        results.append(result.model_copy(update={"dropped": why_dropped(bench.config, result, baseline)}))
    return tuple(results)


def why_dropped(config: BuildConfig, result: SchemeResult, baseline: SchemeResult | None) -> str:
    """Why a precision is turned away, empty if it stays: it loses more accuracy than allowed, or is neither faster nor
    smaller than the widest precision (`baseline`) by the margins of the build file."""
    if baseline is None:
        return ""
    export = config.export
    before, after = baseline.verification, result.verification
    if isinstance(before, Verified) and isinstance(after, Verified):
        loss = before.accuracy_validation - after.accuracy_validation
        if loss > export.max_accuracy_loss:
            return (
                f"loses {loss * 100:.2f} points of validation accuracy to {baseline.scheme.label}, "
                f"more than the {export.max_accuracy_loss * 100:.2f} allowed"
            )
    smaller = 1 - result.artifact.bytes / baseline.artifact.bytes
    faster = 0.0
    speed = "its latency is not known here"
    if isinstance(result.latency, MeasuredLatency) and isinstance(baseline.latency, MeasuredLatency):
        faster = 1 - result.latency.p50_ms / baseline.latency.p50_ms
        change = f"{abs(faster):.0%} {'faster' if faster >= 0 else 'slower'}"
        speed = f"{change} at p50 (margin {export.margin_speed:.0%})"
    size = f"{abs(smaller):.0%} {'smaller' if smaller >= 0 else 'larger'}"
    if faster < export.margin_speed and smaller < export.margin_size:
        return f"does not pay beside {baseline.scheme.label}: {speed}, {size} (margin {export.margin_size:.0%})"
    return ""


# -- steps ------------------------------------------------------------------------------------------------------


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
    folder = bench.store.stage("train", key, make, subject=subject, total=epochs, resumable=True)
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


def portable(bench: Workbench, source: Source, scheme: QuantScheme, form: Format) -> ExportedModel:
    """The portable file of `source` in this precision that `form`'s runtime compiles: ONNX for ONNX Runtime and TensorRT,
    a package for Core ML. Raises TrialFailure where the exporter or quantiser cannot."""
    if form is Format.TENSORRT and scheme.precision is not Precision.INT8:
        form = Format.ONNX  # the very same file; only the places of Q/DQ pairs differ between the two runtimes
    inputs = {
        "source": source.key,
        "contract": source.contract.model_dump(mode="json"),
        "scheme": scheme.model_dump(mode="json"),
        "format": form,
        "machine": bench.machine,
        "runtime": bench.target.runtime,
        "calibration": bench.data_key if scheme.precision is Precision.INT8 else None,
    }
    code = ("edgedistill.export", "edgedistill.quantize", "edgedistill.students")
    key = stage_key(inputs, code=code, tools=EXPORT_TOOLS)

    def make(folder: Path) -> None:
        model = _EXPORTERS[form](bench, source, scheme, folder)
        _save(model, folder / "exported.json")

    folder = bench.store.stage("export", key, make, subject=f"{source.label} {form} {scheme.label}")
    return _load(ExportedModel, folder / "exported.json")


def _export_null(bench: Workbench, source: Source, scheme: QuantScheme, folder: Path) -> ExportedModel:
    from edgedistill.runtimes.null import export_null

    return export_null(source.load(), source.contract, scheme, folder)


def _export_onnx(bench: Workbench, source: Source, scheme: QuantScheme, folder: Path) -> ExportedModel:
    from edgedistill.export.onnx import export_onnx
    from edgedistill.quantize.onnx_fp16 import to_fp16
    from edgedistill.quantize.onnx_static import IntegerStyle, to_int8

    if scheme.precision is Precision.FP32:
        program = to_program(source.load(), source.contract)
        return export_onnx(program, source.contract, folder / "model.onnx", build_hash=source.key)
    full = portable(bench, source, QuantScheme(precision=Precision.FP32), Format.ONNX)
    if scheme.precision is Precision.FP16:
        return to_fp16(full, folder)
    # The ONNX files of a TensorRT target are what its builder reads, there or on the device.
    on_gpu = bench.target.runtime is Format.TENSORRT
    style = IntegerStyle.TENSORRT if on_gpu else IntegerStyle.for_onnxruntime(bench.machine)
    return to_int8(full, bench.calibration(source.contract), scheme, folder, style)


def _export_tensorrt(bench: Workbench, source: Source, scheme: QuantScheme, folder: Path) -> ExportedModel:
    from edgedistill.quantize.onnx_static import IntegerStyle, to_int8

    full = portable(bench, source, QuantScheme(precision=Precision.FP32), Format.ONNX)
    return to_int8(full, bench.calibration(source.contract), scheme, folder, IntegerStyle.TENSORRT)


def _export_coreml(bench: Workbench, source: Source, scheme: QuantScheme, folder: Path) -> ExportedModel:
    from edgedistill.export.coreml import export_coreml
    from edgedistill.quantize.coreml import quantize_coreml

    path = folder / "model.mlpackage"
    if scheme.precision is Precision.INT8:
        calibration = bench.calibration(source.contract)
        model, _ = quantize_coreml(source.load(), calibration, source.contract, scheme, path, build_hash=source.key)
        return model
    program = to_program(source.load(), source.contract)
    return export_coreml(program, source.contract, path, scheme.precision, build_hash=source.key)


_EXPORTERS: dict[Format, Callable[[Workbench, Source, QuantScheme, Path], ExportedModel]] = {
    Format.ONNX: _export_onnx,
    Format.TENSORRT: _export_tensorrt,
    Format.COREML: _export_coreml,
    Format.NULL: _export_null,
}


def compiled(bench: Workbench, model: ExportedModel, form: Format | None = None) -> CompiledArtifact:
    """The file that `form`'s runtime loads on the target. Raises UnsupportedError with what stands in the way."""
    runtime = runtime_for(form or bench.target.runtime)
    key = stage_key(
        {"model": model.sha256, "scheme": model.scheme.model_dump(mode="json"), "target": _compile_facts(bench.target)},
        code=(f"edgedistill.runtimes.{runtime.format if runtime.format is not Format.ONNX else 'onnxruntime'}",),
        tools=EXPORT_TOOLS,
    )

    def make(folder: Path) -> None:
        _save(runtime.compile(model, bench.target, folder), folder / "compiled.json")

    folder = bench.store.stage("compile", key, make, subject=f"{runtime.format} {model.scheme.label}")
    return _load(CompiledArtifact, folder / "compiled.json")


def _compile_facts(target: Target) -> dict[str, Any]:
    return {"name": target.name, "machine": target.machine, "capabilities": target.compute_capabilities}


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
        )
        inputs = bench.images("validation", source.contract)[:64]
        profile = runtime_for(artifact.format).profile(artifact, inputs, protocol)
        write_atomic(folder / "profile.json", profile.model_dump_json())

    subject = f"{source.label} {artifact.format} {artifact.scheme.label}" + (f", {sessions} sessions" * (sessions > 1))
    try:
        folder = bench.store.stage("profile", profile_key(bench, artifact, sessions), make, subject=subject)
    except NotRunnableError as error:
        bench.not_measurable = error.message
        return None
    return Profile.model_validate_json((folder / "profile.json").read_text())


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
    return measured_latency(profile)


# -- objects whose files lie beside them ----------------------------------------------------------------------------


def _save(value: ExportedModel | CompiledArtifact, path: Path) -> None:
    """With the file's path relative to `path`, since a stage's folder is renamed when it is whole."""
    base = path.parent
    file = value.path.relative_to(base) if value.path.is_relative_to(base) else value.path
    write_atomic(path, value.model_copy(update={"path": file}).model_dump_json())


def _load(kind: type[F], path: Path) -> F:
    content = json.loads(path.read_text())
    content["path"] = str(path.parent / content["path"])
    return kind.model_validate(content)
