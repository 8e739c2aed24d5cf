"""LiteRT files (.tflite) from the torch program, and the parts of that which quantisation shares.

The file's edge is its own: `image` is uint8 [1, R, R, 3], what Android hands over as it is, cast to float inside; `logits`
is float32 [1, classes] at every precision. Contract, labels, scheme and the build's hash are entries of the flatbuffer's
metadata table. Tensors carry the names of the student's layers: the output of `network.conv` is called so, its weight
`network.conv.weight`.

litert_torch is imported inside functions: it takes seconds and is an extra.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.fx import Interpreter, Node

from edgedistill.base.errors import Problem, TrialFailure, UnsupportedError
from edgedistill.base.quiet import quiet, variable
from edgedistill.base.store import file_sha256, size_bytes, write_atomic
from edgedistill.base.units import format_bytes
from edgedistill.documents.artifacts import ExportedModel, TensorSignature
from edgedistill.documents.package import About
from edgedistill.documents.specs import Contract, Format, Precision, QuantScheme
from edgedistill.formats.carried import PROBABILITIES_KEY, carried_entries
from edgedistill.formats.format import ModelMetadata
from edgedistill.formats.litert.content import LAYER_MARK, Content
from edgedistill.formats.litert.metadata import ENTRY, tflite_metadata, with_labels
from edgedistill.formats.litert.packages import FILE_LIMIT_BYTES, import_litert
from edgedistill.formats.litert.passes import drop_expands, keep_nearest, plain_pooling
from edgedistill.formats.origin import translating

if TYPE_CHECKING:
    from torch.export import ExportedProgram

SUFFIX = ".tflite"

_aten = torch.ops.aten
_LAYERS = {
    _aten.conv1d.default,
    _aten.conv2d.default,
    _aten.conv2d.padding,
    _aten.conv_transpose2d.input,
    _aten.linear.default,
}
_SHOW_PROGRESS = "LITERT_TORCH_SHOW_PROGRESS"


@contextmanager
def quiet_litert() -> Iterator[None]:
    """Without warnings, log records and what the converter and the quantiser draw of their progress. Errors pass."""
    with variable(_SHOW_PROGRESS, "n"), quiet():
        yield


def export_litert(
    program: ExportedProgram, contract: Contract, path: Path, precision: Precision, *, build_hash: str
) -> ExportedModel:
    """`program` (see `to_program`; not changed) as a file at `path` (`.tflite`). The same program gives the same bytes.

    fp16 is the weights': they are stored in half precision and dequantised when the file is loaded; the arithmetic is the
    runtime's choice, fp32 on most CPUs.

    Raises UnsupportedError, naming the operation, where LiteRT has no form for it, and for precisions that need calibration;
    TrialFailure where a weight lies outside float16; MissingDependencyError without litert_torch.
    """
    if precision not in (Precision.FP32, Precision.FP16):
        raise UnsupportedError(
            f"export_litert converts to fp32 and fp16 only, not {precision}",
            fix="use quantize_litert, which calibrates activations",
        )
    content = to_content(program, contract)
    if precision is Precision.FP16 and (too_large := content.store_weights_as_half()):
        raise TrialFailure(
            f"{path.name} does not fit float16",
            problems=[Problem(name, f"holds {value:.3g}, float16 ends at 65504") for name, value in too_large],
        )
    return write_litert(content, contract, path, QuantScheme(precision=precision), build_hash=build_hash)


def to_content(program: ExportedProgram, contract: Contract) -> Content:
    """`program` in float32 with this format's edge and the layers' names, without our metadata. Raises UnsupportedError,
    MissingDependencyError."""
    weights_bytes = sum(t.nbytes for t in program.state_dict.values())
    if weights_bytes > FILE_LIMIT_BYTES:
        raise UnsupportedError(
            f"the model has {format_bytes(weights_bytes)}; one LiteRT file holds at most 2 GiB",
            fix="use a smaller model",
        )
    converter = import_litert("litert_torch")
    image = torch.zeros(1, contract.resolution, contract.resolution, 3, dtype=torch.uint8)
    edge = _Edge(program, contract.output_name)
    with translating("LiteRT's converter", program, Format.LITERT), quiet_litert(), torch.no_grad():
        model = converter.convert(edge, sample_kwargs={contract.input_name: image})
        content = Content.parse(bytes(model.model_content()))
    content.name_tensors(edge.layers)
    return content


def write_litert(
    content: Content, contract: Contract, path: Path, scheme: QuantScheme, *, build_hash: str
) -> ExportedModel:
    """`content` with the contract's metadata, written to `path` whole or not at all. Raises ValueError unless that ends in
    `.tflite`."""
    if path.suffix != SUFFIX:
        raise ValueError(f"a LiteRT file ends in {SUFFIX}, not {path.name}")
    content.name_ends(contract.input_name, contract.output_name)
    content.carry(carried_entries(contract, scheme, build_hash))
    _write(content, ModelMetadata(About(), contract, None), path)
    side = contract.resolution
    return ExportedModel(
        path=path,
        format=Format.LITERT,
        scheme=scheme,
        inputs=(TensorSignature(name=contract.input_name, dtype="uint8", shape=(1, side, side, 3)),),
        outputs=(TensorSignature(name=contract.output_name, dtype="float32", shape=(1, contract.width)),),
        sha256=file_sha256(path),
        bytes=size_bytes(path),
    )


def litert_with_metadata(model: Path, metadata: ModelMetadata, path: Path) -> Path:
    """The model at `path`, whole or not at all, with this metadata. Returns `path`."""
    _write(Content.parse(model.read_bytes()), metadata, path)
    return path


def _write(content: Content, metadata: ModelMetadata, path: Path) -> None:
    said = {PROBABILITIES_KEY: metadata.probabilities_json} if metadata.probabilities else {}
    content.carry({ENTRY: tflite_metadata(metadata), **said})
    write_atomic(path, with_labels(content.serialise(), metadata.contract))


class _Layer(nn.Module):
    """One operation of the program. The converter names what it makes of it after the module in which it stands."""

    def forward(self, target: Any, *args: Any, **kwargs: Any) -> Any:
        return target(*args, **kwargs)


class _Edge(nn.Module):
    """The program behind this format's edge: uint8 [1, R, R, 3] to {output_name: logits}. `layers` are the names of those of
    its modules that have weights, in the order of their numbers in the converter's names."""

    def __init__(self, program: ExportedProgram, output_name: str) -> None:
        super().__init__()
        self.training = False
        self.output_name = output_name
        self.program = program.module(check_guards=False)
        for rewrite in (drop_expands, keep_nearest, plain_pooling):
            rewrite(self.program)
        numbers = {node: name for node in self.program.graph.nodes if (name := _layer_of(node)) is not None}
        self.layers = list(numbers.values())
        self.places = {node: f"{LAYER_MARK}{number}" for number, node in enumerate(numbers)}
        self.numbered = nn.ModuleDict({place: _Layer() for place in self.places.values()})

    def forward(self, image: Tensor) -> dict[str, Tensor]:
        floats = image.permute(0, 3, 1, 2).float()
        return {self.output_name: _ByLayer(self).run(floats)}


class _ByLayer(Interpreter):
    """Runs the program with each layer's operation inside the layer's own module."""

    def __init__(self, edge: _Edge) -> None:
        super().__init__(edge.program)
        self.edge = edge

    def run_node(self, n: Node) -> Any:
        place = self.edge.places.get(n)
        if place is None:
            return super().run_node(n)
        args, kwargs = self.fetch_args_kwargs_from_env(n)
        return self.edge.numbered[place](n.target, *args, **kwargs)


def _layer_of(node: Node) -> str | None:
    """The name of the layer whose weight this operation reads: `network.conv` for `network.conv.weight`."""
    weight = node.args[1] if node.target in _LAYERS and len(node.args) > 1 else None
    if not isinstance(weight, Node) or weight.op != "get_attr":
        return None
    return str(weight.target).rpartition(".")[0]
