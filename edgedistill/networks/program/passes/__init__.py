"""Rewrites of the torch program that every format profits from, one a file.

A pass is a function from a program, which it changes in place, to how many operations it took away. What it rewrites it has
checked (a pattern that does not meet its precondition is left alone, or refused with an UnsupportedError where nothing
right can be exported), and it keeps the program's values up to rounding. The modules that the program came from keep their
own tensors.
"""

from __future__ import annotations

from collections.abc import Callable

from torch.export import ExportedProgram

from edgedistill.networks.program.passes.drop_dropout import drop_dropout
from edgedistill.networks.program.passes.drop_unused import drop_unused
from edgedistill.networks.program.passes.fold_batch_norm import fold_batch_norm
from edgedistill.networks.program.passes.fold_constants import fold_constants
from edgedistill.networks.program.passes.fold_input_scale import fold_input_scale

Pass = Callable[[ExportedProgram], int]

PASSES: tuple[Pass, ...] = (
    # A dropout may stand between a convolution and its batch norm.
    drop_dropout,
    # A standardised weight is a constant, and a batch norm behind it goes into it.
    fold_constants,
    fold_batch_norm,
    fold_input_scale,
    # Last: folding leaves statistics and scales that nothing reads any more.
    drop_unused,
)


def apply_passes(program: ExportedProgram) -> dict[str, int]:
    """All passes in their order; how many operations each took away, by its name."""
    counts = {rewrite.__name__: rewrite(program) for rewrite in PASSES}
    program.graph.lint()
    program.graph_module.recompile()
    return counts
