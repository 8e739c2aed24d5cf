"""What keeps ONNX Runtime from a file: weights that are not there, what breaks ONNX's rules, operators without a kernel."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from edgedistill.base.errors import Problem, first_line
from edgedistill.base.quiet import quiet_import
from edgedistill.base.store import tool_version
from edgedistill.formats.onnx.content import domain_of, modules, operators, tensor_bytes, tensors
from edgedistill.formats.onnx.on_device import errors
from edgedistill.formats.onnx.session import session
from edgedistill.formats.origin import listed_modules

_AGAIN = "export it again"


def refusals() -> tuple[type[Exception], ...]:
    """What ONNX Runtime raises for a file or an input that it does not take."""
    return (*errors(), ValueError)


def load_problems(path: Path) -> list[Problem]:
    """Why ONNX Runtime does not load a file."""
    try:
        session(path)
    except refusals() as error:
        return [Problem(str(path), first_line(error), "export with another precision or opset")]
    return []


def kernel_problems(model: Any, path: Path) -> list[Problem]:
    """Operators (by domain and opset) of the `model` read from `path` for which this ONNX Runtime has no CPU kernel, and
    weights kept outside the file."""
    opsets = {domain_of(entry): entry.version for entry in model.opset_import}
    problems = [
        Problem(
            f"{path.name}: {count} x {domain + '.' if domain else ''}{operator}",
            f"ONNX Runtime {tool_version('onnxruntime')} has no CPU kernel for it at opset {opsets.get(domain, '?')} "
            f"(used by {listed_modules(modules(model.graph, domain, operator))})",
            "export with another opset, or replace the operator in the model",
        )
        for (domain, operator), count in sorted(operators(model.graph).items())
        if not _has_kernel(domain, operator, opsets.get(domain, 1))
        and (domain, operator) not in {(f.domain, f.name) for f in model.functions}
    ]
    if any(tensor.data_location == tensor.EXTERNAL for tensor in tensors(model)):
        problems.append(Problem(str(path), "keeps weights in a second file", "export with weights inside"))
    return problems


def _has_kernel(domain: str, operator: str, opset: int) -> bool:
    """Whether the CPU provider has a kernel of this operator for the version that `opset` means, or can expand it."""
    import onnx

    with quiet_import():
        from onnxruntime.capi import onnxruntime_pybind11_state as state  # type: ignore[import-untyped]

    version = opset
    if onnx.defs.has(operator, max_inclusive_version=opset, domain=domain):
        schema: Any = onnx.defs.get_schema(operator, max_inclusive_version=opset, domain=domain)
        if schema.has_function or schema.has_context_dependent_function:
            return True
        version = schema.since_version
    return any(
        kernel.op_name == operator
        and kernel.domain == domain
        and kernel.version_range[0] <= version
        and version <= kernel.version_range[1]
        for kernel in state.get_all_opkernel_def()
    )


def file_problems(path: Path) -> list[Problem]:
    """What is wrong with a file: weights kept outside its folder, or beyond the end of theirs, before anything opens them;
    then what onnx.checker has to say. It is given the path, since a model in memory is limited to 2 GiB."""
    import onnx
    from google.protobuf.message import DecodeError  # type: ignore[import-untyped]

    try:
        model = onnx.load(str(path), load_external_data=False)
        # The checker's C++ reader takes some truncated files for empty models.
        if not model.graph.node:
            return [Problem(str(path), "holds no operators", _AGAIN)]
        if problems := [*_external_problems(model, path)]:
            return problems
        del model
        onnx.checker.check_model(str(path))
    # What the checker's C++ code throws comes as a RuntimeError, an encoding that is none as a ValueError.
    except (onnx.checker.ValidationError, DecodeError, OSError, RuntimeError, ValueError) as error:
        return [Problem(str(path), first_line(error), _AGAIN)]
    return []


def _external_problems(model: Any, path: Path) -> Iterator[Problem]:
    """Weights in second files that are not files beside the model, or do not hold what is looked for in them."""
    folder = path.absolute().parent.resolve()
    for tensor in tensors(model):
        if tensor.data_location != tensor.EXTERNAL and not tensor.external_data:
            continue
        entries = {entry.key: entry.value for entry in tensor.external_data}
        name, location = ascii(tensor.name[:80])[1:-1], entries.get("location", "")
        file = (folder / location).resolve() if location and "\0" not in location else folder
        if file == folder or not file.is_relative_to(folder) or not file.is_file():
            yield Problem(
                name,
                f"keeps its values in {location[:80]!a}, which is no file in the model's folder",
                "save the model again with its weights inside",
            )
            continue
        offset, length = (int(entries.get(key) or 0) for key in ("offset", "length"))
        needed = max(length, tensor_bytes(tensor))
        if offset < 0 or length < 0 or offset + needed > file.stat().st_size:
            yield Problem(
                name,
                f"wants {needed:,} bytes at {offset:,} of {file.name}, which has {file.stat().st_size:,}",
                "copy both files again",
            )
