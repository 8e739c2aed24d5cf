"""Building an engine from an ONNX file."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from edgedistill.base.errors import Problem, UnsupportedError
from edgedistill.documents.artifacts import ExportedModel, Inspection
from edgedistill.documents.specs import Precision
from edgedistill.formats.format import counted
from edgedistill.formats.onnx_file import load
from edgedistill.formats.tensorrt.network import output_types, seen_network
from edgedistill.formats.tensorrt.vendor import Vendor, vendor_log

_TURING = 75
_LOG_LINES_KEPT = 20


@dataclass(frozen=True)
class Built:
    """An engine, its builder's record, and the network that the builder was given."""

    engine: bytes
    record: dict[str, str]
    network: Inspection


def build_engine(made_by: Vendor, model: ExportedModel, capabilities: Sequence[int]) -> Built:
    """One engine for all of the `capabilities`, or for those that the builder takes: the record says which it refuses, and
    why. Raises UnsupportedError with what the parser or the builder said."""
    built = _build(made_by, model, capabilities)
    if isinstance(built, Built):
        return built
    alone = {c: _build(made_by, model, [c]) for c in capabilities} if len(capabilities) > 1 else {}
    able = [c for c, one in alone.items() if isinstance(one, Built)]
    if able and len(able) < len(capabilities):
        part = _build(made_by, model, able)
        if isinstance(part, Built):
            left_out = "; ".join(f"{c}: {' '.join(why)}" for c, why in alone.items() if not isinstance(why, Built))
            return replace(part, record=part.record | {"capabilities_left_out": left_out})
    raise UnsupportedError(
        f"{made_by.name} {made_by.version} cannot build an engine from {model.path.name}",
        problems=[Problem(f"compute capabilities {listed(capabilities)}", line) for line in built],
        fix="leave tensorrt out of `formats`, or replace the operation that it names",
    )


def parser_problems(made_by: Vendor, onnx_bytes: bytes) -> tuple[Problem, ...]:
    """The parser's errors for an ONNX file, empty where it takes every node."""
    builder = made_by.module.Builder(vendor_log(made_by.name))
    return _parsed(made_by, builder, onnx_bytes)[2]


def listed(capabilities: Iterable[int]) -> str:
    """`75, 80, 86`."""
    return ", ".join(map(str, capabilities))


def _build(made_by: Vendor, model: ExportedModel, capabilities: Sequence[int]) -> Built | list[str]:
    """The engine, or the builder's errors. Raises UnsupportedError where parsing fails."""
    from edgedistill.formats.tensorrt.graph import linear_as_convolution

    trt, log = made_by.module, vendor_log(made_by.name)
    log.lines.clear()
    proto = load(model.path)
    # tensorrt_rtx 1.7 has no fp32 matrix product for Turing, but has the convolution that is the same sum.
    lacks_product = made_by.ahead_of_time and _TURING in capabilities and model.scheme.precision is not Precision.FP16
    rewritten = linear_as_convolution(proto) if lacks_product else 0
    builder = trt.Builder(log)
    network, parser, problems = _parsed(made_by, builder, proto.SerializeToString())
    if problems:
        raise UnsupportedError(f"{made_by.name} cannot read {model.path.name}", problems=problems)
    given = seen_network(network, trt)
    config = builder.create_builder_config()
    if made_by.ahead_of_time:
        config.num_compute_capabilities = len(capabilities)
        for index, capability in enumerate(capabilities):
            config.set_compute_capability(getattr(trt.ComputeCapability, f"SM{capability}"), index)
    serialized = builder.build_serialized_network(network, config)
    del parser
    if serialized is None:
        error = int(trt.ILogger.ERROR)
        return [text for severity, text in log.lines if severity <= error] or ["the builder gave no reason"]
    record = {
        "builder": f"{made_by.name} {made_by.version}",
        "capabilities": listed(capabilities),
        "onnx_nodes": str(len(proto.graph.node)),
        "layers": counted(given.operations),
        "layers_by_output_type": counted(output_types(network)),
        "log": "\n".join(text for _, text in log.lines[-_LOG_LINES_KEPT:]),
    }
    if rewritten:
        record["rewritten"] = f"{rewritten} linear as 1x1 convolution, for compute capability {_TURING}"
    return Built(bytes(serialized), record, given)


def _parsed(made_by: Vendor, builder: Any, onnx_bytes: bytes) -> tuple[Any, Any, tuple[Problem, ...]]:
    """The network, its parser, and the parser's errors. The parser is returned to stay alive: the network reads the weights
    that it holds."""
    strongly_typed = made_by.module.NetworkDefinitionCreationFlag.STRONGLY_TYPED
    network = builder.create_network(0 if made_by.ahead_of_time else 1 << int(strongly_typed))
    parser = made_by.module.OnnxParser(network, vendor_log(made_by.name))
    if parser.parse(onnx_bytes):
        return network, parser, ()
    return (
        network,
        parser,
        tuple(
            Problem(f"{error.node_operator()} {error.node_name()}".strip(), _sentence(str(error.desc())))
            for error in map(parser.get_error, range(parser.num_errors))
        ),
    )


def _sentence(description: str) -> str:
    """One line, without what the parser adds about a missing GPU: it parses without one."""
    return " ".join(line.strip() for line in description.splitlines() if "catchCudaError" not in line)
