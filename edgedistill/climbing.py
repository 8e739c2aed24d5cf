"""One model climbing the quantisation ladder in one format, outside a build: files are made, run and timed in children.

A build does the same with its stages (`rungs.climbed`); this is for a model that is there already.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from torch import nn

from edgedistill.artifacts import CompiledArtifact, ExportedModel, LadderRung
from edgedistill.config import ProfileConfig
from edgedistill.converters import Conversion, convert
from edgedistill.devices.attach import attach
from edgedistill.devices.base import MEASURED_FORMATS, run_pushed, sample
from edgedistill.devices.stats import least_runs, ratio
from edgedistill.errors import EdgedistillError, UnreachableError, UnsupportedError
from edgedistill.exporters.program import to_program
from edgedistill.intervals import Answers, pack
from edgedistill.isolation import CONVERSION, Limits, in_child
from edgedistill.ladder import Climbed, Margins, Measured, Tools, climb, judge
from edgedistill.progress import Listener, StageFinished, StageStarted, silent
from edgedistill.quantizers.damage import LayerDamage
from edgedistill.quantizers.onnx_sensitivity import rank_layers as rank_onnx_layers
from edgedistill.quantizers.onnx_static import IntegerStyle
from edgedistill.quantizers.rewrites import rewritten
from edgedistill.quantizers.sensitivity import rank_layers
from edgedistill.runtimes import runtime_for
from edgedistill.runtimes.base import Images, MeasurementProtocol, NotRunnableError
from edgedistill.specs import ComputedBy, Contract, Format, Percentile, Precision, QuantScheme, Target
from edgedistill.store import digest
from edgedistill.verification import REFERENCE_IMAGES, Labels, run_all
from edgedistill.workbench import Source

FP32 = QuantScheme(precision=Precision.FP32)
_RUN_LIMIT_S = 24 * 3600
_ONNX = (Format.ONNX, Format.TENSORRT)


@dataclass(frozen=True, eq=False)
class Evidence:
    """What rungs are judged by: `calibration` uint8 [n, 3, R, R] of the training split, `images` and `labels` of the
    validation split."""

    calibration: Images
    images: Images
    labels: Labels


@dataclass(eq=False)
class Climber:
    """The files of one model in one format. `source` is the torch model; without one `full` is the fp32 ONNX file that is
    all there is. `tune` trains under rounding, where there is a teacher to learn from. `machine` is the processor that ONNX
    Runtime's integers are laid out for; files go below `folder`."""

    label: str
    contract: Contract
    evidence: Evidence
    form: Format
    target: Target
    machine: str
    folder: Path
    source: Source | None = None
    full: ExportedModel | None = None
    tune: Callable[[QuantScheme], nn.Module] | None = None
    timed: bool = True
    listener: Listener = silent
    _files: dict[str, CompiledArtifact] = field(default_factory=dict)
    _modules: dict[str, nn.Module] = field(default_factory=dict)
    _fulls: dict[str, ExportedModel] = field(default_factory=dict)

    def climb(self, margins: Margins, *, qat_epochs: int = 0) -> tuple[Measured, Climbed[CompiledArtifact]]:
        """The fp32 file's figures and the ladder's rungs beside it. Raises EdgedistillError where there is no fp32 file."""
        baseline = self.measured(FP32)
        images = len(self.evidence.calibration)
        return baseline, climb(self._tools, baseline, margins, images=images, qat_epochs=qat_epochs if self.tune else 0)

    def measured(self, scheme: QuantScheme) -> Measured:
        """The figures of one file."""
        artifact = self.make(scheme)
        return Measured(self.answers(artifact), artifact.bytes)

    def beside(
        self, precision: Precision, baseline: Measured, margins: Margins
    ) -> tuple[LadderRung, CompiledArtifact | None]:
        """A file of another kind beside the ladder (fp16, weights alone), and whether it is worth having."""
        scheme = QuantScheme(precision=precision)
        try:
            artifact = self.make(scheme)
            rung, _ = judge(self._tools, scheme, artifact, baseline, margins)
        except EdgedistillError as error:
            return LadderRung(scheme=scheme, accepted=False, reason=error.message), None
        return rung, artifact

    @property
    def _tools(self) -> Tools[CompiledArtifact]:
        return Tools(
            make=self.make,
            answers=self.answers,
            bytes=lambda artifact: artifact.bytes,
            relative_p50=self.relative_p50,
            ranked=lambda scheme: [damage.layer for damage in self.damages(scheme)],
        )

    # -- making ---------------------------------------------------------------------------------------------------

    def make(self, scheme: QuantScheme) -> CompiledArtifact:
        """The file that the format's runtime loads, made once. Raises UnsupportedError, TrialFailure and
        MissingDependencyError."""
        key = digest([self.form, scheme.model_dump(mode="json")])[:16]
        if key in self._files:
            return self._files[key]
        subject = f"{self.label} {self.form} {scheme.details}"
        self.listener(StageStarted("quantize", subject))
        began = time.monotonic()
        try:
            made = self._files[key] = self._made(scheme, self.folder / key)
            return made
        finally:
            self.listener(StageFinished("quantize", subject, time.monotonic() - began, reused=False))

    def _made(self, scheme: QuantScheme, folder: Path) -> CompiledArtifact:
        if self.form in _ONNX:
            full = self._full(scheme)
            what = replace(self._conversion(scheme), full=full)
            model = full if scheme.precision is Precision.FP32 else convert(what, self.form, scheme, folder)
        else:
            model = convert(self._conversion(scheme), self.form, scheme, folder)
        runtime = runtime_for(self.form)
        target = self.target.model_copy(update={"formats": (self.form,)})
        return in_child(f"compiling for {self.form}", CONVERSION, runtime.compile, model, target, folder / "compiled")

    def _conversion(self, scheme: QuantScheme) -> Conversion:
        return Conversion(
            contract=self.contract,
            build_hash=digest([self.source.key if self.source else self.label, scheme.model_dump(mode="json")]),
            module=lambda: self._module(scheme),
            program=lambda: to_program(self._module(scheme), self.contract),
            calibration=lambda: self.evidence.calibration,
            style=self._style,
            delegate=self.target.delegate,
            soc=self.target.soc,
        )

    @property
    def _style(self) -> IntegerStyle:
        return IntegerStyle.TENSORRT if self.form is Format.TENSORRT else IntegerStyle.for_onnxruntime(self.machine)

    def _full(self, scheme: QuantScheme) -> ExportedModel:
        """The fp32 ONNX file from which that of `scheme` is made."""
        if self.source is None:
            if scheme.equalized or scheme.bias_corrected or scheme.qat_epochs:
                raise UnsupportedError(
                    "weights of an ONNX file are not rewritten: there is no torch model behind it",
                    fix="give timm:NAME, module:function or a .pt2 program",
                )
            assert self.full is not None
            return self.full
        key = _weights_key(scheme)
        if key not in self._fulls:
            folder = self.folder / f"full-{key[:16]}"
            self._fulls[key] = convert(self._conversion(scheme), Format.ONNX, FP32, folder)
        return self._fulls[key]

    def _module(self, scheme: QuantScheme) -> nn.Module:
        """The network with what the scheme does to its weights done."""
        assert self.source is not None
        key = _weights_key(scheme)
        if key not in self._modules:
            module = self.source.load()
            if scheme.qat_epochs:
                assert self.tune is not None
                module = self.tune(scheme)
            if scheme.equalized or scheme.bias_corrected:
                module = rewritten(module, self.contract, self.evidence.calibration, scheme)
            self._modules[key] = module
        return self._modules[key]

    # -- measuring ------------------------------------------------------------------------------------------------

    def answers(self, artifact: CompiledArtifact) -> Answers | None:
        """To the validation images, by running it; a reference interpreter takes the first REFERENCE_IMAGES of them. None
        where nothing here runs it."""
        count = None if runtime_for(self.form).computed_by is ComputedBy.DEVICE else REFERENCE_IMAGES
        return self.answers_to(artifact, self.evidence.images[:count], self.evidence.labels[:count])

    def answers_to(self, artifact: CompiledArtifact, images: Images, labels: Labels) -> Answers | None:
        """To uint8 images [n, 3, R, R] with labels int [n]."""
        limits = Limits(_RUN_LIMIT_S, CONVERSION.memory_bytes)
        top = in_child(f"running {artifact.path.name}", limits, _top, artifact, images)
        if top is None:
            return None
        right = top == labels
        return Answers(float(right.mean()), len(right), pack(right.tolist()))

    def relative_p50(self, artifact: CompiledArtifact) -> float | None:
        """Its p50 as a ratio to the fp32 file's, in turn with it on the target's device; None where that is not attached or
        takes no such file."""
        full = self.make(FP32)
        if not self.timed or artifact.format not in MEASURED_FORMATS or artifact.sha256 == full.sha256:
            return None
        try:
            device = attach(self.target, self.listener)
        except UnreachableError:
            return None
        config = ProfileConfig()
        protocol = MeasurementProtocol(
            target=self.target,
            seconds=config.compare / 1000,
            min_runs=least_runs(Percentile.P50),
            operators=False,
            execute=partial(run_pushed, device),
            sample=sample,
            anchor=full,
            burst_s=config.burst / 1000,
        )
        profile = runtime_for(artifact.format).profile(artifact, self.evidence.images[:64], protocol)
        return ratio(profile.sessions[0], Percentile.P50)

    def damages(self, scheme: QuantScheme) -> tuple[LayerDamage, ...]:
        """Layers by what int8 does to them, most damaged first: measured on the ONNX file where that is what is quantised,
        else on the torch program."""
        calibration = self.evidence.calibration
        if self.form in _ONNX:
            full = self._full(scheme)
            return in_child("measuring layers", CONVERSION, rank_onnx_layers, full, calibration, scheme, self._style)
        return rank_layers(self._module(scheme), self.contract, calibration, scheme)


def _weights_key(scheme: QuantScheme) -> str:
    """Schemes that do the same to the weights share one network. A bias is corrected for what the very scheme rounds."""
    seen = scheme.model_dump(mode="json") if scheme.bias_corrected else [scheme.equalized, scheme.qat_epochs]
    return digest(seen)


def _top(artifact: CompiledArtifact, images: Images) -> NDArray[np.int64] | None:
    try:
        logits = run_all(runtime_for(artifact.format), artifact, images, classes=None)
    except NotRunnableError:
        return None
    top: NDArray[np.int64] = logits.argmax(axis=1)
    return top
