"""ExecuTorch programs (.pte) from the torch program, and the parts of that which quantisation shares.

The file takes `image` as uint8 [1, 3, R, R] and casts it in front of the delegate; it gives `logits` as float32
[1, classes] at every precision. Contract, labels, scheme and the build's hash are constant methods: `execute` one by the
name of its key in any of ExecuTorch's languages and it returns the text.

executorch is imported inside functions: it takes seconds and is an extra.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from edgedistill.base.errors import UnsupportedError
from edgedistill.base.store import file_sha256, size_bytes, write_atomic
from edgedistill.documents.artifacts import ExportedModel, TensorSignature
from edgedistill.documents.specs import Contract, Delegate, Format, Precision, QuantScheme
from edgedistill.formats.carried import carried_entries
from edgedistill.formats.executorch.lowering import lower
from edgedistill.formats.executorch.passes import compute_in_half, own_copy, take_uint8
from edgedistill.formats.executorch.rewrites import rewrite_for_xnnpack

if TYPE_CHECKING:
    from torch.export import ExportedProgram


def export_executorch(
    program: ExportedProgram,
    contract: Contract,
    path: Path,
    precision: Precision,
    *,
    build_hash: str,
    delegate: Delegate = Delegate.XNNPACK,
    soc: str = "",
) -> ExportedModel:
    """`program` (see `to_program`; not changed) as a file at `path` (`.pte`), computing in fp32 or fp16. With XNNPACK
    the same program gives the same bytes. `soc` is the chip that Qualcomm's delegate lowers for (`SM8550`).

    fp16 is the arithmetic's: XNNPACK keeps the weights of convolutions as fp32 in the file and rounds them when it loads
    it, which needs a CPU with half-precision arithmetic (ARMv8.2, or x86 with F16C).

    Raises UnsupportedError, naming the operation, where ExecuTorch has no form for it, and for precisions that need
    calibration; MissingDependencyError without executorch or the delegate's tools.
    """
    if precision not in (Precision.FP32, Precision.FP16):
        raise UnsupportedError(
            f"export_executorch converts to fp32 and fp16 only, not {precision}",
            fix="use quantize_executorch, which calibrates activations",
        )
    return lower_and_write(
        program, contract, path, QuantScheme(precision=precision), build_hash=build_hash, delegate=delegate, soc=soc
    )


def lower_and_write(
    program: ExportedProgram,
    contract: Contract,
    path: Path,
    scheme: QuantScheme,
    *,
    build_hash: str,
    delegate: Delegate = Delegate.XNNPACK,
    soc: str = "",
) -> ExportedModel:
    """Lower any program of the contract, quantised or not (not changed), and write it whole or not at all."""
    import torch

    if path.suffix != ".pte":
        raise ValueError(f"an ExecuTorch program ends in .pte, not {path.name}")
    own = own_copy(program)
    if delegate is Delegate.XNNPACK:
        rewrite_for_xnnpack(own)
    # Other delegates choose the precision themselves when they convert.
    in_half = scheme.precision is Precision.FP16 and delegate is Delegate.XNNPACK
    take_uint8(own, torch.float16 if in_half else torch.float32)
    if in_half:
        compute_in_half(own)
    own.graph.lint()
    own.graph_module.recompile()
    write_atomic(path, lower(own, carried_entries(contract, scheme, build_hash), scheme.precision, delegate, soc))
    side = contract.resolution
    return ExportedModel(
        path=path,
        format=Format.EXECUTORCH,
        scheme=scheme,
        inputs=(TensorSignature(name=contract.input_name, dtype="uint8", shape=(1, 3, side, side)),),
        outputs=(TensorSignature(name=contract.output_name, dtype="float32", shape=(1, contract.width)),),
        sha256=file_sha256(path),
        bytes=size_bytes(path),
    )
