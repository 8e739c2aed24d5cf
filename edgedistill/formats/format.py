"""What a format is, and what its converter is given."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from edgedistill.base.arrays import Images, Logits
from edgedistill.base.errors import Problem, UnsupportedError
from edgedistill.base.store import file_sha256, size_bytes, tool_version
from edgedistill.base.units import beginning
from edgedistill.devices.session import MeasurementProtocol
from edgedistill.documents.artifacts import CompiledArtifact, ExportedModel, Inspection, TensorSignature
from edgedistill.documents.measurements import Fallbacks, Profile
from edgedistill.documents.package import About, ImageEdge, TensorEdge
from edgedistill.documents.specs import ComputedBy, Contract, Delegate, Format, Probabilities, QuantScheme, Target
from edgedistill.formats.carried import PROBABILITIES_KEY

if TYPE_CHECKING:
    from torch import nn
    from torch.export import ExportedProgram

    from edgedistill.networks.rounding.damage import LayerDamage


def counted(counts: Mapping[str, int]) -> str:
    """`convolution 53, reduce 1`: the names in their order, with their counts."""
    return ", ".join(f"{name} {count}" for name, count in sorted(counts.items()))


def fallback_problems(name: str, fallbacks: Fallbacks, target: Target) -> tuple[Problem, ...]:
    """The operations of the file `name` that the target's accelerator leaves to the CPU, each with its way out. Empty
    for a target without one, where they are allowed, and where nothing is known of them."""
    if not target.accelerator or target.allow_fallbacks:
        return ()
    return tuple(
        Problem(
            f"{name}: {count} x {operation}",
            f"{fallbacks.by} does not compute it, and on {target.name} it would fall back from the {target.accelerator} to "
            "the CPU",
            "replace the operation in the model, or set allow_fallbacks = true in [export]",
        )
        for operation, count in sorted((fallbacks.elsewhere or {}).items())
    )


def signature_problems(
    model: ExportedModel, inputs: tuple[TensorSignature, ...], outputs: tuple[TensorSignature, ...]
) -> list[Problem]:
    """Where a file's inputs and outputs are not those that its exporter stated."""
    return [
        Problem(
            f"{model.path.name}: {kind}",
            f"the file has {', '.join(t.shown for t in found) or 'none'}; stated were {', '.join(t.shown for t in stated)}",
            "export it again",
        )
        for kind, found, stated in (("inputs", inputs, model.inputs), ("outputs", outputs, model.outputs))
        if found != stated
    ]


class IntegerStyle(StrEnum):
    """How the integers of an ONNX file are laid out, which depends on what reads it.

    - `x86`: ONNX Runtime's kernels take uint8 activations with a zero point and int8 weights there (vpdpbusd multiplies
      unsigned by signed). Weights keep all 8 bits: a CPU without VNNI can saturate, which the quality of the
      measured file shows.
    - `arm`: ONNX Runtime on ARM is fastest with int8 on both sides (sdot).
    - `tensorrt`: int8 on both sides, zero points 0, biases and outputs left in float.
    """

    X86 = "x86"
    ARM = "arm"
    TENSORRT = "tensorrt"


@dataclass(frozen=True, eq=False)
class Conversion:
    """What a format's converter is given. `module` gives the deployed network and `program` its torch program;
    `calibration` gives uint8 images [n, 3, R, R]; `full` is the fp32 file of a format that makes its other precisions from
    that (`from_fp32`); `style` lays out the integers of ONNX files; `delegate` and `soc` are the target's, for
    ExecuTorch."""

    contract: Contract
    build_hash: str
    module: Callable[[], nn.Module]
    program: Callable[[], ExportedProgram]
    calibration: Callable[[], Images]
    style: IntegerStyle
    delegate: Delegate = Delegate.XNNPACK
    soc: str = ""
    full: ExportedModel | None = None


@dataclass(frozen=True, eq=False)
class Opened:
    """A file that was read. `contract` is None where it carries none: it was made by something else. `probabilities`
    is None where it does not say how they come of its logits."""

    artifact: CompiledArtifact
    contract: Contract | None
    probabilities: Probabilities | None = None

    def contracted(self) -> Contract:
        """The contract. Raises UnsupportedError where the file has none."""
        if self.contract is None:
            raise UnsupportedError(
                f"{self.artifact.path.name} does not say how images go in: it carries no contract",
                fix="export it with edgedistill from its model",
            )
        return self.contract


@dataclass(frozen=True)
class RoofFile:
    """A file that shows what a runtime reaches in the operators of type `op_type`, each of which does the same work."""

    path: Path
    op_type: str


@dataclass(frozen=True)
class ModelMetadata:
    """What a model file carries once it ships, beside what it carries since it was made: texts for its format's tools, and
    how probabilities come of its logits, None where that is not known."""

    about: About
    contract: Contract
    probabilities: Probabilities | None

    @property
    def name(self) -> str:
        return self.about.name or "student"

    @property
    def description(self) -> str:
        """The user's own, else what the contract says."""
        return self.about.description or beginning(f"{self.contract.described}, made by edgedistill")

    @property
    def entries(self) -> dict[str, str]:
        """By the names that most formats' tools give it; an empty text is not known."""
        about = self.about.model_dump(include={"name", "author", "license", "version"})
        return {**about, "description": self.description, PROBABILITIES_KEY: self.probabilities_json}

    @property
    def probabilities_json(self) -> str:
        """As a file carries it; empty where it is not known."""
        return "" if self.probabilities is None else self.probabilities.model_dump_json()


class ModelFormat(Protocol):
    """All that is known of a format: how its files are made from a network, opened, compiled for a target, run, measured
    and looked into. Subclasses give the attributes without a value; what has one here is what most formats share."""

    format: Format
    suffixes: tuple[str, ...]
    """How its files' names end; the first is what is written."""
    computed_by: ComputedBy
    """What `run` computes with on this machine."""
    distribution: str = ""
    """The Python package of its runtime, the version of which a device's facts tell."""
    on_device: Path | None = None
    """What the measuring agent loads its files with, where it does."""
    system: str = ""
    """How the names of the systems begin that have its runtime; empty where it is not bound to one."""
    is_folder: bool = False
    in_this_process: bool = False
    """Whether its files are compiled and run in the process that asks: CUDA does not survive a fork."""
    from_fp32: bool = False
    """Whether its other precisions are made from its fp32 file."""
    tools: tuple[str, ...] = ()
    """The Python packages that make and run its files: their versions are in the keys of its stages and in a file's
    toolchain, `doctor` looks whether they are there. A name is as `base.store.distribution_of` takes it."""
    native: tuple[str, ...] = ()
    """Those of `tools` with a vendor's native code, of which importing them alone tells whether they work."""
    one_of: tuple[str, ...] = ()
    """Those of `tools` of which one is enough; `doctor` proposes the last."""
    layers_kept: bool = True
    """Whether single layers of an int8 file can stay in float."""
    has_metadata: bool = False
    """Whether its files have a place for ModelMetadata."""
    not_reproducible: str = ""
    """Why the same student may give a file of other bytes; empty where it gives the same."""

    @property
    def sample(self) -> Path | None:
        """A small file of the format that comes with edgedistill, for trying a device, where the agent loads its files."""
        return None if self.on_device is None else self.on_device.with_name(f"sample{self.suffixes[0]}")

    @property
    def code(self) -> str:
        """The package whose code makes, runs and measures its files: what the keys of such stages hash."""
        module = type(self).__module__
        return module.rpartition(".")[0] or module

    @property
    def portable(self) -> Format:
        """The format of the file that `compile` takes: mostly its own."""
        return self.format

    @property
    def here(self) -> str:
        """What this machine does with its files once its tools are installed, in words."""
        return "made, run and measured here"

    def style(self, machine: str) -> IntegerStyle:
        """How the integers of the portable file are laid out for a processor as `platform.machine()` names it."""
        return IntegerStyle.ARM if machine.lower().startswith(("arm", "aarch64")) else IntegerStyle.X86

    def depends_on(self, target: Target) -> Mapping[str, str]:
        """What a portable file for `target` depends on beside the processor and `tools`."""
        return {}

    def loaded_before(self, scheme: QuantScheme) -> tuple[str, ...]:
        """Modules that `convert` imports for `scheme`: a child process that was forked has them then."""
        return ()

    def convert(self, what: Conversion, scheme: QuantScheme, path: Path) -> ExportedModel:
        """The portable file at `path` in the precision of `scheme`; the file's name may get the precision's. Raises
        UnsupportedError for a precision or an operation that the format does not have, MissingDependencyError."""
        raise UnsupportedError(f"files of {self.format} are not made here")

    def damages(self, what: Conversion, scheme: QuantScheme) -> tuple[LayerDamage, ...]:
        """The layers that int8 damages, most damaged first, on the torch program. Raises UnsupportedError where it cannot
        be traced."""
        from edgedistill.networks.rounding.sensitivity import rank_layers

        return rank_layers(what.module(), what.contract, what.calibration(), scheme)

    def roof_files(self, folder: Path) -> Mapping[str, RoofFile]:
        """Files, written to `folder`, that show what its runtime reaches: multiply-adds in `fp32` and `int8`, bytes from
        `memory` and `cache`. None of a format whose runtime does not tell what its operators take and give."""
        return {}

    def open(self, path: Path, target: Target) -> Opened:
        """A file from anywhere. Raises InputError where it is damaged or not what its name says."""
        raise UnsupportedError(f"{path.name}: files of {self.format} are not opened here")

    def input_edge(self, contract: Contract) -> TensorEdge | ImageEdge:
        """How a file takes RGB 0..255, for contract.json: as uint8 [1, 3, R, R] mostly."""
        side = contract.resolution
        return TensorEdge(dtype="uint8", layout=contract.layout, shape=(1, 3, side, side))

    def file_name(self, stem: str, capabilities: Sequence[int] = ()) -> str:
        """A file's name in a package. `capabilities` are the GPUs' that it is built for."""
        return stem + self.suffixes[0]

    def record(self, opened: Opened, name: str) -> str | None:
        """What stands beside a file called `name`, as `NAME.json`, where it cannot be read without."""
        return None

    def with_metadata(self, artifact: CompiledArtifact, metadata: ModelMetadata, folder: Path) -> CompiledArtifact:
        """The same file inside `folder` with this metadata, and with probabilities at its temperature where the file gives
        any; it computes nothing else otherwise. For a format that `has_metadata`."""
        raise UnsupportedError(f"{self.format} files have no place for metadata")

    def artifact_at(self, artifact: CompiledArtifact, path: Path) -> CompiledArtifact:
        """The artifact, of which a changed file lies at `path`."""
        return artifact.model_copy(update={"path": path, "sha256": file_sha256(path), "bytes": size_bytes(path)})

    def device_command(self, portable: str, scheme: QuantScheme) -> str:
        """The shell command that builds a file on the device itself, from the folder that holds its portable file, called
        `portable`; empty where files are not built there."""
        return ""

    def not_for(self, model: ExportedModel, target: Target) -> tuple[Problem, ...]:
        """Why `model` is none of this format's files, or the target takes none. Empty if all is well."""
        problems = []
        if model.format is not self.format:
            problems.append(
                Problem(str(model.path), f"is {model.format}, not {self.format}", f"export it as {self.format}")
            )
        if self.format not in target.formats:
            problems.append(Problem(target.name, f"does not take {self.format}", f"use {', '.join(target.formats)}"))
        return tuple(problems)

    def artifact(
        self,
        path: Path,
        scheme: QuantScheme,
        target: Target,
        record: Mapping[str, str] | None = None,
        fallbacks: Fallbacks | None = None,
    ) -> CompiledArtifact:
        """The file at `path` as what a target loads."""
        return CompiledArtifact(
            path=path,
            format=self.format,
            scheme=scheme,
            target=target.name,
            toolchain={name: version for name in self.tools if (version := tool_version(name)) != "absent"},
            sha256=file_sha256(path),
            bytes=size_bytes(path),
            record=dict(record or {}),
            fallbacks=fallbacks,
        )

    def unsupported(self, model: ExportedModel, target: Target) -> tuple[Problem, ...]:
        """What of `model` this format cannot do on `target`: operation, place and way out. Empty if all is well."""
        ...

    def compile(self, model: ExportedModel, target: Target, folder: Path) -> CompiledArtifact:
        """Make the file the target loads inside `folder` (whole or not at all). Raises UnsupportedError."""
        ...

    def run(self, artifact: CompiledArtifact, batches: Iterable[Images]) -> Iterator[Logits]:
        """Logits float32 [B, classes] for each batch of uint8 [B, 3, R, R]. Loads once. Raises NotRunnableError before
        the first batch where this machine cannot run the artifact."""
        ...

    def profile(self, artifact: CompiledArtifact, inputs: Images | None, protocol: MeasurementProtocol) -> Profile:
        """One session: latency samples at batch 1, cycling through `inputs` (uint8 [n, 3, R, R]); None: random inputs of the
        file's own signature. Raises NotRunnableError."""
        ...

    def inspect(self, artifact: CompiledArtifact) -> Inspection:
        """Read the file back and check it as far as this machine can."""
        ...
