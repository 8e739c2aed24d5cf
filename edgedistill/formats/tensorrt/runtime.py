"""NVIDIA engines: `tensorrt` for the GPU in this machine, `tensorrt_rtx` ahead of time for GPUs that are not here.

Both parse the same ONNX file and take every precision from its types (strongly typed networks): an fp16 engine comes from
the fp16 file, an int8 engine from the file with quantise and dequantise nodes. An engine runs only on the generations of
GPU that it was built for; without one of them it is inspected, never run.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from edgedistill.base.arrays import Images, Logits
from edgedistill.base.errors import MissingDependencyError, Problem, UnsupportedError
from edgedistill.base.machine import nvidia_gpus
from edgedistill.base.store import file_sha256, write_atomic
from edgedistill.devices.session import MeasurementProtocol, NotRunnableError
from edgedistill.documents.artifacts import CompiledArtifact, ExportedModel, Inspection
from edgedistill.documents.measurements import Fallbacks, Profile
from edgedistill.documents.specs import ComputedBy, Format, QuantScheme, Target
from edgedistill.formats.format import IntegerStyle, ModelFormat, Opened
from edgedistill.formats.tensorrt.build import build_engine, listed, parser_problems
from edgedistill.formats.tensorrt.record import engine_record, open_engine
from edgedistill.formats.tensorrt.vendor import VENDORS, Vendor, local_capability, named_vendor, vendor

_WHERE = "run it on a machine with such a GPU, or use the ONNX file that it was built from"


def trtexec_command(onnx: str, scheme: QuantScheme) -> str:
    """The command that builds an engine from the file called `onnx`. Every precision takes the same flag: types come from
    the file, so --fp16 or --int8, which let the builder choose others, are not given. Needs TensorRT 10 (JetPack 6)."""
    stem = onnx.removesuffix(".onnx")
    engine = stem if scheme.label in stem else f"{stem}.{scheme.label}"
    return f"trtexec --onnx={onnx} --saveEngine={engine}.engine --stronglyTyped --skipInference"


class TensorRTFormat(ModelFormat):
    """NVIDIA engines, built from ONNX files."""

    format = Format.TENSORRT
    suffixes = (".engine", ".plan")
    computed_by = ComputedBy.DEVICE
    in_this_process = True
    tools = ("onnx", *VENDORS, "torch")
    native = VENDORS
    one_of = VENDORS
    not_reproducible = "TensorRT chooses kernels by timing them"

    @property
    def portable(self) -> Format:
        """ONNX."""
        return Format.ONNX

    @property
    def here(self) -> str:
        """Engines run on an NVIDIA GPU alone."""
        gpus = nvidia_gpus()
        return f"made here; {gpus[0]} can run it" if gpus else "made and inspected here; not run: no NVIDIA GPU"

    def style(self, machine: str) -> IntegerStyle:
        """As the builder wants Q/DQ pairs, whatever the processor."""
        return IntegerStyle.TENSORRT

    def open(self, path: Path, target: Target) -> Opened:
        """An engine by the record beside it."""
        return open_engine(path)

    def file_name(self, stem: str, capabilities: Sequence[int] = ()) -> str:
        """`student-fp16-sm80-86.engine`."""
        listed = "-".join(str(number) for number in capabilities)
        return f"{stem}-sm{listed}.engine" if listed else f"{stem}.engine"

    def record(self, opened: Opened, name: str) -> str:
        """What an engine cannot tell without its GPU."""
        return engine_record(opened, name)

    def device_command(self, portable: str, scheme: QuantScheme) -> str:
        """That of `trtexec`."""
        return trtexec_command(portable, scheme)

    def unsupported(self, model: ExportedModel, target: Target) -> tuple[Problem, ...]:
        """The parser's errors, and GPUs that the builder cannot build for. Raises MissingDependencyError."""
        if problem := _other_format(model) or _built_on_device(model, target):
            return (problem,)
        made_by = vendor()
        problems = parser_problems(made_by, model.path.read_bytes())
        return (*problems, *_capability_problems(made_by, model, capabilities_for(target), target))

    def compile(self, model: ExportedModel, target: Target, folder: Path) -> CompiledArtifact:
        """An engine for the target's compute capabilities (this machine's own GPU, if it has one and is the target).

        A capability that the builder refuses is left out if others remain, and the record says so and why. Raises
        UnsupportedError with every parser error, or with the `trtexec` command where the engine has to be built on the
        device; MissingDependencyError.
        """
        if problem := _other_format(model):
            raise UnsupportedError(f"no TensorRT engine can be built from {model.path.name}", problems=[problem])
        if elsewhere := _built_on_device(model, target):
            raise UnsupportedError(
                elsewhere.what, fix=elsewhere.fix, command=trtexec_command(model.path.name, model.scheme)
            )
        made_by = vendor()
        capabilities = capabilities_for(target)
        if problems := _capability_problems(made_by, model, capabilities, target):
            raise UnsupportedError(f"no TensorRT engine can be built for {target.name}", problems=problems)
        began = time.monotonic()
        built = build_engine(made_by, model, capabilities)
        path = folder / f"{model.path.stem}.engine"
        write_atomic(path, built.engine)
        record = built.record | {"build_seconds": f"{time.monotonic() - began:.2f}", "onnx_sha256": model.sha256}
        # The builder takes the whole network or refuses: an engine hands nothing back to the CPU.
        operations = sum(built.network.operations.values())
        fallbacks = Fallbacks(by="TensorRT on the GPU", operations=operations, elsewhere={})
        artifact = self.artifact(path, model.scheme, target, record, fallbacks)
        others = {name: version for name, version in artifact.toolchain.items() if name not in VENDORS}
        toolchain = {made_by.name: made_by.version, **others}
        return artifact.model_copy(update={"toolchain": toolchain, "handed_over": built.network})

    def run(self, artifact: CompiledArtifact, batches: Iterable[Images]) -> Iterator[Logits]:
        """Logits of each batch, image by image on the GPU. Raises NotRunnableError before the first batch."""
        made_by = _usable_vendor(artifact)
        from edgedistill.formats.tensorrt.gpu import Engine

        return Engine(artifact.path, made_by).run(batches)

    def profile(self, artifact: CompiledArtifact, inputs: Images | None, protocol: MeasurementProtocol) -> Profile:
        """Sessions on this machine's GPU. Raises NotRunnableError where it has none that the engine was built for."""
        made_by = _usable_vendor(artifact)
        from edgedistill.formats.tensorrt.gpu import profile_engine

        return profile_engine(artifact, made_by, inputs, protocol)

    def inspect(self, artifact: CompiledArtifact) -> Inspection:
        """The file's hash and header, the builder's record, and the network that the builder was given: an engine cannot be
        read back. Loaded where its GPU is here."""
        unchanged = file_sha256(artifact.path) == artifact.sha256
        record, network = artifact.record, artifact.handed_over or Inspection(checks=())
        checks = [
            f"the engine file is {'unchanged since it was built' if unchanged else 'NOT the file that was built'}",
            f"{record['builder']} built it for compute capabilities {record['capabilities']}",
            f"it comes from the ONNX file with sha256 {record['onnx_sha256']}, of which the parser took every node",
        ]
        if left_out := record.get("capabilities_left_out"):
            checks.append(f"left out: {left_out}")
        with artifact.path.open("rb") as stream:
            header = stream.read(32).hex()
        facts = {name: value for name, value in record.items() if name not in ("layers", "log")} | {"header": header}
        warnings = [f"the builder warned: {line}" for line in record.get("log", "").splitlines()]
        checks += warnings or ["the builder had no warnings"]
        try:
            made_by = _usable_vendor(artifact)
        except NotRunnableError as error:
            checks.append(f"not loaded: {error.message}")
        else:
            from edgedistill.formats.tensorrt.gpu import Engine

            facts |= Engine(artifact.path, made_by).facts()
            checks.append("it loads on this machine's GPU")
        return network.model_copy(
            update={"checks": (*checks, *network.checks), "facts": facts, "fallbacks": artifact.fallbacks}
        )


def capabilities_for(target: Target) -> tuple[int, ...]:
    """Compute capabilities to build for: this machine's own GPU where it is the target and has one, else the target's."""
    here = local_capability() if target.transport == "local" else None
    return target.compute_capabilities if here is None else (here,)


def _other_format(model: ExportedModel) -> Problem | None:
    if model.format is Format.ONNX:
        return None
    return Problem(str(model.path), f"is {model.format}, and engines are built from onnx", "export it as onnx")


def _built_on_device(model: ExportedModel, target: Target) -> Problem | None:
    """What to do on ARM boards (Jetson): an engine there is built by the TensorRT of the board's own system."""
    if target.machine is None or not target.machine.startswith(("aarch64", "arm")):
        return None
    return Problem(
        model.path.name,
        f"the engine for {target.name} ({target.machine}) can only be built on the device",
        f"copy {model.path.name} to it and run there: {trtexec_command(model.path.name, model.scheme)}",
    )


def _capability_problems(
    made_by: Vendor, model: ExportedModel, wanted: Sequence[int], target: Target
) -> tuple[Problem, ...]:
    on_device = f"build on the device: {trtexec_command(model.path.name, model.scheme)}"
    if not wanted:
        return (Problem(target.name, "names no compute_capabilities", "add them to the target's file, e.g. [89]"),)
    if made_by.ahead_of_time:
        known = {int(name[2:]) for name in made_by.module.ComputeCapability.__members__ if name.startswith("SM")}
        where = f"{made_by.name} {made_by.version}"
    else:
        here = local_capability()
        known = set() if here is None else {here}
        where = f"{made_by.name} {made_by.version} on this machine's GPU"
    able = f"{where} builds for compute capabilities {listed(sorted(known))}"
    return tuple(
        Problem(target.name, f"{able}, not for {capability}", on_device)
        for capability in wanted
        if capability not in known
    )


# -- running ----------------------------------------------------------------------------------------------------------


def _usable_vendor(artifact: CompiledArtifact) -> Vendor:
    """The package that built the engine: no other reads it. Raises NotRunnableError unless this machine has it, and a GPU
    that the engine was built for."""
    wanted = artifact.record["capabilities"]
    here = local_capability()
    needs = f"the engine needs an NVIDIA GPU of compute capability {wanted}"
    if here is None:
        raise NotRunnableError(f"{needs}; this machine has none that PyTorch can use", fix=_WHERE)
    if str(here) not in wanted.split(", "):
        raise NotRunnableError(f"{needs}; this machine's has {here}", fix=_WHERE)
    try:
        return named_vendor(artifact.record["builder"].partition(" ")[0])
    except MissingDependencyError as error:
        raise NotRunnableError(f"the engine needs the package that built it: {error.message}", fix=error.fix) from error


FORMAT = TensorRTFormat
