"""A runtime for the loop's own tests: real files and real logits, latencies from a stated law instead of a clock.

Nothing here is offered to a user: Format.NULL cannot be asked for in a build file, and no target names it. A null model is
a network as Python pickles it, which torch.export takes many times as long for; it runs in this process with batches of any
size. Its scheme rounds the weights as that precision would, so that the search has losses of accuracy to weigh. Its latency
is `law_ms` with seeded noise of about 1%: one model has the same samples on every machine, whatever runs beside it.
"""

from __future__ import annotations

import copy
import io
import json
import os
import zipfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from edgedistill.base.arrays import Images, Logits
from edgedistill.base.errors import Problem, UnsupportedError
from edgedistill.base.store import digest, file_sha256, size_bytes, tool_version, write_atomic
from edgedistill.devices.session import MeasurementProtocol
from edgedistill.documents.artifacts import CompiledArtifact, ExportedModel, Inspection, TensorSignature
from edgedistill.documents.measurements import Environment, OpTiming, Profile, Session
from edgedistill.documents.specs import ComputedBy, Contract, Format, Precision, QuantScheme, Target
from edgedistill.formats.format import Conversion, ModelFormat

if TYPE_CHECKING:
    from torch import nn

FILE_NAME = "model.null"
OVERHEAD_NS = 20_000.0
NS_PER_MULTIPLY_ADD = {Precision.FP32: 0.5, Precision.FP16: 0.5, Precision.INT8: 0.25}
NOISE = 0.01
SAMPLES = 400
_FACTS, _NETWORK = "null.json", "network.pt"


def law_ms(multiply_adds: int, precision: Precision) -> float:
    """The latency that a null model is given, in ms: 20 us, and 0.5 ns a multiply-add (fp32, fp16) or 0.25 ns (int8)."""
    return (OVERHEAD_NS + multiply_adds * NS_PER_MULTIPLY_ADD[precision]) / 1e6


def export_null(module: nn.Module, contract: Contract, scheme: QuantScheme, folder: Path) -> ExportedModel:
    """Write `module` (eval mode, CPU, float [N, 3, R, R] in 0..255 to logits [N, classes]) as a null model in `folder`."""
    import torch

    from edgedistill.networks.counting import structure_of

    side, classes = contract.resolution, contract.width
    facts = {"multiply_adds": structure_of(module, side).multiply_adds, "classes": classes, "resolution": side}
    folder.mkdir(parents=True, exist_ok=True)
    path, part = folder / FILE_NAME, folder / f".{os.getpid()}.{FILE_NAME}"
    content = io.BytesIO()
    torch.save(_rounded(module, scheme.precision), content)
    with zipfile.ZipFile(part, "w") as archive:
        # By ZipInfo they bear no date: the same network gives the same file.
        archive.writestr(zipfile.ZipInfo(_NETWORK), content.getvalue())
        archive.writestr(zipfile.ZipInfo(_FACTS), json.dumps(facts))
    part.replace(path)
    return ExportedModel(
        path=path,
        format=Format.NULL,
        scheme=scheme,
        inputs=(TensorSignature(name=contract.input_name, dtype="uint8", shape=(1, 3, side, side)),),
        outputs=(TensorSignature(name=contract.output_name, dtype="float32", shape=(1, classes)),),
        sha256=file_sha256(path),
        bytes=size_bytes(path),
    )


class NullFormat(ModelFormat):
    """Format.NULL."""

    format = Format.NULL
    suffixes = (Path(FILE_NAME).suffix,)
    layers_kept = False
    computed_by = ComputedBy.DEVICE
    tools = ("torch",)

    def convert(self, what: Conversion, scheme: QuantScheme, path: Path) -> ExportedModel:
        """The network as a program of torch's."""
        return export_null(what.module(), what.contract, scheme, path.parent)

    def unsupported(self, model: ExportedModel, target: Target) -> tuple[Problem, ...]:
        """Only a model of another format is refused."""
        if model.format is Format.NULL:
            return ()
        return (Problem(str(model.path), f"is {model.format}, not a null model", "make it with export_null"),)

    def compile(self, model: ExportedModel, target: Target, folder: Path) -> CompiledArtifact:
        """A copy of the model. Raises UnsupportedError for another format."""
        if problems := self.unsupported(model, target):
            raise UnsupportedError("the null runtime cannot use this model", problems=problems)
        path = folder / FILE_NAME
        write_atomic(path, model.path.read_bytes())
        return CompiledArtifact(
            path=path,
            format=Format.NULL,
            scheme=model.scheme,
            target=target.name,
            toolchain={"torch": tool_version("torch")},
            sha256=model.sha256,
            bytes=model.bytes,
        )

    def run(self, artifact: CompiledArtifact, batches: Iterable[Images]) -> Iterator[Logits]:
        """Logits of each batch, by torch in this process."""
        network = _load(artifact.path)
        return (_infer(network, batch) for batch in batches)

    def profile(self, artifact: CompiledArtifact, inputs: Images | None, protocol: MeasurementProtocol) -> Profile:
        """400 samples from the law, beside those of the protocol's anchor. Takes no time: `protocol.execute` is not used."""
        law_ns, its_law_ns = _law_ns(artifact), None if protocol.anchor is None else _law_ns(protocol.anchor)

        def samples(seed: list[str], latency_ns: float) -> tuple[int, ...]:
            generator = np.random.default_rng(int(digest(seed)[:16], 16))
            return tuple(np.rint(latency_ns * generator.lognormal(0.0, NOISE, SAMPLES)).astype(int).tolist())

        session = Session(
            samples_ns=samples([artifact.sha256], law_ns),
            anchor_ns=() if its_law_ns is None else samples(["anchor", artifact.sha256], its_law_ns),
            turns=() if its_law_ns is None else ((SAMPLES, SAMPLES),),
            warmup_runs=0,
            load_ms=0.0,
            peak_memory_bytes=artifact.bytes,
            model_memory_bytes=artifact.bytes,
        )
        whole = OpTiming(name="model", op_type="MultiplyAdds", median_us=law_ns / 1e3)
        return Profile(
            artifact_sha256=artifact.sha256,
            anchor_sha256=None if protocol.anchor is None else protocol.anchor.sha256,
            target=artifact.target,
            precision=artifact.scheme.precision,
            environment=_environment(protocol.target.threads),
            sessions=(session,),
            op_timings=(whole,) if protocol.operators else (),
        )

    def inspect(self, artifact: CompiledArtifact) -> Inspection:
        """Reads the program back."""
        _load(artifact.path)
        return Inspection(
            checks=("torch reads the network back",),
            bytes_by_part={"program": artifact.bytes},
            facts={name: str(value) for name, value in _facts(artifact.path).items()},
        )


def _rounded(module: nn.Module, precision: Precision) -> nn.Module:
    """A copy whose matrices and kernels hold only values of the precision: half floats, or 255 steps a channel."""
    import torch

    copied = copy.deepcopy(module)
    with torch.no_grad():
        for weight in (p for p in copied.parameters() if p.ndim >= 2):
            if precision is Precision.FP16:
                weight.copy_(weight.half().float())
            elif precision is Precision.INT8:
                step = weight.abs().amax(dim=tuple(range(1, weight.ndim)), keepdim=True).clamp_min(1e-12) / 127
                weight.copy_((weight / step).round() * step)
    for part in copied.modules():
        if isinstance(part, torch.fx.GraphModule):
            # Unpickling calls the tracer's class without arguments: torch.export's takes one.
            part._tracer_cls = None
    return copied


def _law_ns(artifact: CompiledArtifact) -> float:
    return law_ms(_facts(artifact.path)["multiply_adds"], artifact.scheme.precision) * 1e6


def _facts(path: Path) -> dict[str, Any]:
    with zipfile.ZipFile(path) as archive:
        facts: dict[str, Any] = json.loads(archive.read(_FACTS))
    return facts


def _load(path: Path) -> nn.Module:
    import torch

    with zipfile.ZipFile(path) as archive:
        network: nn.Module = torch.load(io.BytesIO(archive.read(_NETWORK)), weights_only=False)
    return network


def _infer(network: nn.Module, batch: Images) -> Logits:
    import torch

    with torch.inference_mode():
        logits: Logits = network(torch.from_numpy(np.ascontiguousarray(batch)).float()).numpy()
    return logits


def _environment(threads: int) -> Environment:
    return Environment(
        device="null device (a law, no clock)",
        os="none",
        machine="none",
        cpu="none",
        runtime="null",
        runtime_version=tool_version("torch"),
        provider="none",
        threads=threads,
        pinned_cpus=(),
        power="none",
    )
