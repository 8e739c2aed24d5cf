"""The static figures of a candidate: what its network computes, by kind of operation. `counting` finds them."""

from __future__ import annotations

from enum import StrEnum

from edgedistill.documents.specs import Frozen

BYTES_PER_ELEMENT = 4
"""Of fp32."""

SUBLINEAR = 0.75
"""The power of an operation's work (blocked multiply-adds, or bytes where it multiplies nothing) that
`Totals.sublinear_work` sums."""

BLOCK = 16
"""Kernels of convolutions compute so many channels at once: fp32 in 512 bits, as ONNX Runtime lays images out. A layer of 24
channels takes what one of 32 takes."""


class OperationKind(StrEnum):
    """Kinds of operations whose cost grows by different laws."""

    CONV = "conv"
    POINTWISE = "pointwise"
    GROUPED = "grouped"
    DEPTHWISE = "depthwise"
    GEMM = "gemm"
    MATMUL = "matmul"
    ELEMENTWISE = "elementwise"
    TRANSCENDENTAL = "transcendental"
    NORMALISATION = "normalisation"
    POOL = "pool"
    COPY = "copy"

    @property
    def multiplies(self) -> bool:
        """Whether its work is counted in multiply-adds; the others' is in bytes."""
        return self.convolves or self in (OperationKind.GEMM, OperationKind.MATMUL)

    @property
    def convolves(self) -> bool:
        return self in (OperationKind.CONV, OperationKind.POINTWISE, OperationKind.GROUPED, OperationKind.DEPTHWISE)


class Totals(Frozen):
    """Sums over all operations of one kind. `blocked_multiply_adds` are those of convolutions whose channels are rounded up
    to whole blocks (`BLOCK`). `window_pixels` is how many pixels the windows of convolutions read, whatever their channels:
    output pixels times the kernel's area. `sublinear_work` sums a power of each operation's work (`SUBLINEAR`): a small
    kernel fills a processor worse than a large one, so that many small ones take longer than their sum."""

    kind: OperationKind
    count: int
    multiply_adds: int
    blocked_multiply_adds: int
    window_pixels: int
    read_bytes: int
    written_bytes: int
    weights_bytes: int
    sublinear_work: float


class Structure(Frozen):
    """The static figures of a deployed module at batch 1, its batch norms folded.

    `parameters` counts those that are read, a folded batch norm as the bias that it leaves. `activation_bytes` is the peak,
    over the operations in their order, of all activations alive in fp32: computed and still to be read, the operation's
    own output and the input image included.
    """

    parameters: int
    multiply_adds: int
    activation_bytes: int
    totals: tuple[Totals, ...]

    @property
    def weights_bytes(self) -> int:
        return self.parameters * BYTES_PER_ELEMENT
