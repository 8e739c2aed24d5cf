"""ExecuTorch: the file is the exported program itself, checked; delegates compute what they take, portable kernels the rest.

The runtime wheel has XNNPACK, so that files run here as on any device with a CPU. Everything in this process runs with one
thread: a pool of them would not survive a fork, and work that may crash is done in forked children.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from edgedistill.base.arrays import Images, Logits
from edgedistill.base.errors import Problem, UnsupportedError, first_line
from edgedistill.base.quiet import native_quiet
from edgedistill.base.store import copy_atomic, tool_version
from edgedistill.devices.session import MeasurementProtocol, NotRunnableError
from edgedistill.devices.sessions import profile_file
from edgedistill.documents.artifacts import CompiledArtifact, ExportedModel, Inspection
from edgedistill.documents.measurements import Fallbacks, Profile
from edgedistill.documents.specs import ComputedBy, Delegate, Format, QuantScheme, Target
from edgedistill.formats.carried import carried_contract
from edgedistill.formats.executorch.lowering import import_executorch
from edgedistill.formats.executorch.program import PteFile, read_pte
from edgedistill.formats.format import Conversion, ModelFormat, Opened, counted, fallback_problems, signature_problems
from edgedistill.formats.running import fitting

_IMAGE_CAST = "dim_order_ops::_to_dim_order_copy.out"
# An error of ExecuTorch's own, and what pybind11 makes of the C++ library's exceptions.
_REFUSALS = (RuntimeError, IndexError, ValueError)


class ExecuTorchFormat(ModelFormat):
    """ExecuTorch, by its runtime with XNNPACK; for other delegates files are made and looked into."""

    format = Format.EXECUTORCH
    suffixes = (".pte",)
    computed_by = ComputedBy.DEVICE
    distribution = "executorch"
    tools = ("executorch", "torch", "torchao")
    on_device = Path(__file__).with_name("on_device.py")

    @property
    def here(self) -> str:
        """The same, by ExecuTorch with XNNPACK."""
        return f"{super().here} (ExecuTorch with XNNPACK)"

    def depends_on(self, target: Target) -> Mapping[str, str]:
        """The delegate and the chip that programs are lowered for; the Core ML delegate lowers with coremltools."""
        found = {"delegate": target.delegate, "soc": target.soc}
        return found | {"coremltools": tool_version("coremltools")} if target.delegate is Delegate.COREML else found

    def loaded_before(self, scheme: QuantScheme) -> tuple[str, ...]:
        """The lowering and the quantiser."""
        lowering = ("executorch.exir", "executorch.backends.xnnpack.partition.xnnpack_partitioner")
        rounding = (
            "torchao.quantization.pt2e.quantize_pt2e",
            "executorch.backends.xnnpack.quantizer.xnnpack_quantizer",
        )
        return lowering if scheme.floating else (*lowering, *rounding)

    def convert(self, what: Conversion, scheme: QuantScheme, path: Path) -> ExportedModel:
        """Floating point from the torch program, integers from the module."""
        if scheme.floating:
            from edgedistill.formats.executorch.export import export_executorch

            return export_executorch(
                what.program(),
                what.contract,
                path,
                scheme.precision,
                build_hash=what.build_hash,
                delegate=what.delegate,
                soc=what.soc,
            )
        if what.delegate is not Delegate.XNNPACK:
            raise UnsupportedError(
                f"the delegate {what.delegate} is given floating point alone, not {scheme.label}",
                fix='use precisions = ["fp16"], or the delegate xnnpack',
            )
        from edgedistill.formats.executorch.quantize import quantize_executorch

        return quantize_executorch(
            what.module(), what.calibration(), what.contract, scheme, path, build_hash=what.build_hash
        )

    def open(self, path: Path, target: Target) -> Opened:
        """A file with its contract; its precision is in its metadata, else read off the types of its values. Raises
        InputError if it is not a program that can be used."""
        program = read_pte(path)
        artifact = self.artifact(path, program.scheme(path), target, _facts(program), _fallbacks(program))
        return Opened(artifact, carried_contract(program.entries, path))

    def unsupported(self, model: ExportedModel, target: Target) -> tuple[Problem, ...]:
        """A file of another format, a target that does not take this one, operators outside of delegates for which the
        runtime has no kernel, and those that an accelerator's delegate leaves to the CPU. Types are not looked at: `compile`
        loads the file."""
        if problems := self.not_for(model, target):
            return problems
        program = read_pte(model.path)
        accelerated = target.delegate is not Delegate.XNNPACK
        fallen = fallback_problems(model.path.name, _fallbacks(program), target) if accelerated else ()
        return (*_missing_kernels(program, model.path), *fallen)

    def compile(self, model: ExportedModel, target: Target, folder: Path) -> CompiledArtifact:
        """Check the file (structure, signature as the exporter stated it, kernels, a run where its delegates are here) and
        copy it into `folder`. The record says what delegates compute and what is left to portable kernels. Raises
        UnsupportedError with every problem found, InputError for a damaged file."""
        problems = list(self.unsupported(model, target))
        if not problems:
            program = read_pte(model.path)
            problems = signature_problems(model, *program.signature(model.path))
            if not problems and not _absent_backends(program):
                problems = _trial_problems(program, model.path)
        if problems:
            raise UnsupportedError(f"{model.path.name} cannot be used with ExecuTorch", problems=problems)
        final = folder / model.path.name
        copy_atomic(model.path, final)
        return self.artifact(final, model.scheme, target, _facts(program), _fallbacks(program))

    def adopt(self, path: Path, target: Target) -> CompiledArtifact:
        """What `open` gives, without the contract."""
        return self.open(path, target).artifact

    def run(self, artifact: CompiledArtifact, batches: Iterable[Images]) -> Iterator[Logits]:
        """Logits of each batch, image by image: the shipped programs take one. Raises InputError for a damaged file,
        UnsupportedError for one that does not take one image, NotRunnableError where a delegate is not in this runtime."""
        program = read_pte(artifact.path)
        kind, shape = _image_input(program, artifact.path)
        if absent := _absent_backends(program):
            raise NotRunnableError(
                f"{artifact.path.name} computes with {', '.join(absent)}, which is not in this machine's ExecuTorch",
                fix="run it in an app that is built with it, or export with the delegate xnnpack",
            )
        method = _load(artifact.path)
        return (
            np.concatenate([_execute(method, image[None], kind, artifact.path) for image in batch])
            for batch in fitting(batches, shape[1:], artifact.path.name)
        )

    def profile(self, artifact: CompiledArtifact, inputs: Images | None, protocol: MeasurementProtocol) -> Profile:
        """Sessions of the device's agent, which loads this very file."""
        # The file has no names for its inputs; a single one is called so by the agent.
        return profile_file(artifact, self.on_device, inputs, "input", protocol)

    def inspect(self, artifact: CompiledArtifact) -> Inspection:
        """Structure and load, then what `forward` holds, inside of delegates and out. Raises InputError for a damaged
        file."""
        program = read_pte(artifact.path)
        checks = ["the program was read whole: offsets, indices, tensors and memory are in bounds"]
        checks += [problem.what for problem in _missing_kernels(program, artifact.path)] or [
            "the runtime has every operator that is outside of delegates"
        ]
        version = tool_version("executorch")
        if absent := _absent_backends(program):
            checks.append(f"not loaded: {', '.join(absent)} is not in ExecuTorch {version} here")
        else:
            try:
                _load(artifact.path)
                checks.append(f"ExecuTorch {version} loads it")
            except UnsupportedError as refusal:
                checks.append(f"ExecuTorch {version} does not load it: {refusal.message}")
        inputs, outputs = program.signature(artifact.path)
        method = program.forward
        return Inspection(
            checks=tuple(checks),
            inputs=inputs,
            outputs=outputs,
            operations={} if method is None else dict(method.calls + method.delegated),
            layers=() if method is None else method.layers,
            bytes_by_part={
                "delegates": program.delegate_bytes,
                "constants": program.constant_bytes,
                "graph": artifact.bytes - program.constant_bytes - program.delegate_bytes,
            },
            fallbacks=_fallbacks(program),
            facts={
                "methods": ", ".join(method.name for method in program.methods),
                "metadata": ", ".join(sorted(program.entries)),
                **_facts(program),
            },
        )


def _fallbacks(program: PteFile) -> Fallbacks:
    """What is left to portable kernels. Only XNNPACK's parts tell how many operations they hold."""
    method = program.forward
    if method is None:
        return Fallbacks(by="ExecuTorch", unknown="it has no method forward")
    left = Counter(method.calls)
    left[_IMAGE_CAST] -= 1
    backends = sorted({part.backend for part in method.delegates}) or ["no delegate"]
    # A part that does not say what it holds counts as one operation.
    inside = sum(1 if part.xnnpack is None else part.xnnpack.nodes.total() for part in method.delegates)
    return Fallbacks(by=" and ".join(backends), operations=inside + (+left).total(), elsewhere=dict(+left))


def _facts(program: PteFile) -> dict[str, str]:
    """What `forward` is made of."""
    method = program.forward
    if method is None:
        return {}
    return {
        "delegates": counted(Counter(part.backend for part in method.delegates)) or "none",
        "delegated_operators": counted(method.delegated) or "not known",
        "portable_operators": counted(method.calls) or "none",
        "portable_calls": str(method.calls.total()),
        "planned_memory_bytes": str(method.planned_bytes),
    }


# -- the runtime ------------------------------------------------------------------------------------------------


@cache
def _runtime() -> Any:
    """ExecuTorch's runtime with one thread. `executorch.runtime` has the same under public names, but imports the exporter:
    seconds for nothing that is used here."""
    import torch  # noqa: F401  # its libraries have to be there first

    bindings = import_executorch("executorch.extension.pybindings._C")
    with native_quiet():
        bindings._unsafe_reset_threadpool(1)
    return bindings


def _load(path: Path) -> Any:
    """The method `forward`, ready to run. Raises UnsupportedError where the runtime refuses the file."""
    runtime = _runtime()
    try:
        program = runtime._load_program(str(path), program_verification=runtime.Verification.InternalConsistency)
        return program.load_method("forward")
    except _REFUSALS as error:
        raise UnsupportedError(
            f"ExecuTorch {tool_version('executorch')} does not load {path.name}: {first_line(error)}",
            fix="export it again, with another precision where the CPU lacks the arithmetic",
        ) from error


def _execute(method: Any, image: Images, kind: str, path: Path) -> Logits:
    """Logits float32 [1, classes] of an image [1, 3, R, R], which the program takes as `kind`. Raises UnsupportedError
    where a delegate gives up."""
    import torch

    try:
        output = method([torch.from_numpy(np.ascontiguousarray(image)).to(getattr(torch, kind))])[0]
    except _REFUSALS as error:
        raise UnsupportedError(
            f"ExecuTorch {tool_version('executorch')} loads {path.name} and fails to run it: {first_line(error)}",
            fix="export it in another precision",
        ) from error
    logits: Logits = output.float().numpy().reshape(1, -1)
    return logits


def _trial_problems(program: PteFile, path: Path) -> list[Problem]:
    """Why the file does not load, or does not run on a black image: delegates check some of their shapes then."""
    try:
        method = _load(path)
        kind, shape = _image_input(program, path)
        _execute(method, np.zeros(shape, np.uint8), kind, path)
    except UnsupportedError as refusal:
        return [Problem(str(path), refusal.message, refusal.fix)]
    return []


def _absent_backends(program: PteFile) -> list[str]:
    """Delegates of `forward` that this machine's runtime does not have."""
    used = {part.backend for part in program.forward.delegates} if program.forward else set()
    return sorted(used.difference(_runtime()._get_registered_backend_names()))


def _missing_kernels(program: PteFile, path: Path) -> tuple[Problem, ...]:
    method = program.forward
    if method is None:
        return (Problem(str(path), "has no method forward", "export it under that name"),)
    present = set(_runtime()._get_operator_names())
    return tuple(
        Problem(
            f"{path.name}: {count} x {name}",
            f"ExecuTorch {tool_version('executorch')} has no kernel for it",
            "replace the operator in the model, or build a runtime with it",
        )
        for name, count in sorted(method.calls.items())
        if name not in present
    )


def _image_input(program: PteFile, path: Path) -> tuple[str, tuple[int, ...]]:
    """Type and shape of the one input. Raises UnsupportedError for a program that does not take one image."""
    inputs, outputs = program.signature(path)
    if len(inputs) != 1 or not outputs or len(inputs[0].shape) != 4 or inputs[0].shape[0] != 1:
        taken = "; ".join(tensor.shown for tensor in inputs) or "no tensor"
        raise UnsupportedError(
            f"{path.name} takes {taken}, not one image [1, 3, R, R]", fix="profile it with inputs of its own"
        )
    return inputs[0].dtype, inputs[0].shape


FORMAT = ExecuTorchFormat
