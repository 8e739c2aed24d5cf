"""What no output depends on goes: heads for training alone, statistics of folded norms, and the weights behind them."""

from __future__ import annotations

from torch.export import ExportedProgram
from torch.export.graph_signature import InputKind

_OWNED = {InputKind.PARAMETER, InputKind.BUFFER, InputKind.CONSTANT_TENSOR}


def drop_unused(program: ExportedProgram) -> int:
    """Removes dead operations, then the parameters, buffers and constants that nothing reads. Inputs of the user stay.
    Returns how many operations and placeholders are gone."""
    graph, signature = program.graph, program.graph_signature
    before = len(graph.nodes)
    graph.eliminate_dead_code()
    unread = {node.name: node for node in graph.nodes if node.op == "placeholder" and not node.users}
    kept = []
    for spec in signature.input_specs:
        node = unread.get(getattr(spec.arg, "name", ""))
        if node is None or spec.kind not in _OWNED:
            kept.append(spec)
            continue
        graph.erase_node(node)
        if spec.target is not None:
            program.state_dict.pop(spec.target, None)
            program.constants.pop(spec.target, None)
    signature.input_specs = kept
    return before - len(graph.nodes)
