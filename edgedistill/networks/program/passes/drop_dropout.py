"""Dropout outside training is the identity."""

from __future__ import annotations

import torch
from torch.export import ExportedProgram

from edgedistill.base.errors import UnsupportedError

_DROPOUTS = {
    torch.ops.aten.dropout.default,
    torch.ops.aten.dropout_.default,
    torch.ops.aten.feature_dropout.default,
    torch.ops.aten.feature_dropout_.default,
    torch.ops.aten.alpha_dropout.default,
}


def drop_dropout(program: ExportedProgram) -> int:
    """Removes every dropout. Returns how many are gone. Raises UnsupportedError for one that really drops: the program
    would answer at random."""
    dropouts = [node for node in program.graph.nodes if node.target in _DROPOUTS]
    for node in dropouts:
        source, probability, training = node.args[:3]
        if training and probability:
            raise UnsupportedError(f"{node.name} is a dropout in training mode", fix="call .eval() before exporting")
        node.replace_all_uses_with(source)
        program.graph.erase_node(node)
    return len(dropouts)
