"""Which module of the network an operation came from: what a user can change is a module, not a node of a graph."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from edgedistill.base.errors import EdgedistillError, Problem, UnsupportedError
from edgedistill.documents.specs import Format

if TYPE_CHECKING:
    from torch.export import ExportedProgram
    from torch.fx import Node

_LISTED = 8
"""So many modules at most are listed for one operation."""
_OPERATION = re.compile(
    r"torch\.ops\.(\w+\.\w+)|'((?:stablehlo|tfl|chlo|mhlo)\.\w+)' op"
    r"|\b((?:aten|quantized_decomposed|torchao|dim_order_ops|higher_order)[.:]+\w+(?:[.:]+\w+)*)"
)
_PLACE = re.compile(r"\S+\.py:\d+:\d+: error: |<eval_with_key>\S*: error: ")


@contextmanager
def translating(converter: str, program: ExportedProgram, form: Format) -> Iterator[None]:
    """A vendor's converter at work on `program`: whatever it stumbles over becomes an UnsupportedError in its own words,
    with the modules of the network that these name."""
    try:
        yield
    except (MemoryError, EdgedistillError):
        raise
    except Exception as error:
        said = _said(error)
        raise UnsupportedError(
            f"{converter} cannot translate the model: {said}",
            problems=culprits(program, said),
            fix=f"replace that operation in the model, or leave {form} out of [export] formats",
        ) from error


def _said(error: BaseException) -> str:
    """The first line of the innermost message, since converters wrap the one that tells in several that do not; with the
    operations that any of the messages names, and the kind of an error that is a word alone."""
    messages = []
    current: BaseException = error
    while current.__cause__ is not None:
        messages.append(str(current))
        current = current.__cause__
    messages.append(str(current))
    line = next((line.strip() for line in messages[-1].splitlines() if line.strip()), "")
    line = _PLACE.sub("", line)
    if " " not in line:
        line = f"{type(current).__name__}: {line}".removesuffix(": ")
    found = dict.fromkeys("".join(groups) for message in messages for groups in _OPERATION.findall(message))
    missing = [operation for operation in found if operation not in line]
    return line + (f" (operations named: {', '.join(missing[:5])})" if missing else "")


def module_path(node: Node) -> str:
    """Path of the innermost module that a node of a torch program was traced in; empty for what passes put there."""
    stack = list((node.meta.get("nn_module_stack") or {}).values())
    return str(stack[-1][0]) if stack else ""


def culprits(program: ExportedProgram, said: str) -> list[Problem]:
    """The operations of `program` that a converter's complaint names, each with the modules that use it. Converters take
    operations apart before they complain: what is not found in the program is looked for in what it decomposes to."""
    from torch._decomp import decomposition_table
    from torch.export import default_decompositions

    words = set(re.findall(r"\w+", said))
    core = dict(default_decompositions())
    for table in (None, core, {**decomposition_table, **core}):
        try:
            lowered = program if table is None else program.run_decompositions(table)
        except Exception:  # torch cannot take every program apart, and the complaint is told without its place then
            continue
        if places := _named(lowered, words):
            return [
                Problem(
                    listed_modules(paths), f"uses {operation}", "replace it there by operations that the format has"
                )
                for operation, paths in sorted(places.items())
            ]
    return []


def _named(program: ExportedProgram, words: set[str]) -> dict[str, Counter[str]]:
    """Operations called by one of `words` (the name of an operator, `special_i0`, or of a node, `special_i0_1`), and how
    often each module uses them."""
    from torch._ops import OpOverload

    places: dict[str, Counter[str]] = {}
    for node in program.graph.nodes:
        if isinstance(node.target, OpOverload) and words & {node.name, node.target.overloadpacket.__name__}:
            places.setdefault(str(node.target), Counter())[module_path(node) or "the model itself"] += 1
    return places


def listed_modules(paths: Counter[str]) -> str:
    """`blocks.0.attn, blocks.1.attn and 10 more`."""
    named = ", ".join(list(paths)[:_LISTED])
    return f"{named} and {len(paths) - _LISTED} more" if len(paths) > _LISTED else named
