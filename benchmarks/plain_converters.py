"""One timm model by a vendor's own converter, as its documentation shows it: no contract, no check, no parity.

    python benchmarks/plain_converters.py NAME FORMAT OUT

What `export_time.py` times beside `edgedistill export`. The model has random weights and takes normalised floats.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import timm
import torch

CAPABILITIES = ("SM75", "SM80", "SM86", "SM89", "SM120")


def onnx(model: torch.nn.Module, example: torch.Tensor, out: Path) -> None:
    torch.onnx.export(model, (example,), out, dynamo=True, external_data=False, verbose=False)


def coreml(model: torch.nn.Module, example: torch.Tensor, out: Path) -> None:
    import coremltools

    program = torch.export.export(model, (example,)).run_decompositions({})
    target = coremltools.target.iOS17
    coremltools.convert(program, convert_to="mlprogram", minimum_deployment_target=target).save(str(out))


def tensorrt(model: torch.nn.Module, example: torch.Tensor, out: Path) -> None:
    import tensorrt_rtx as trt

    graph = out.with_suffix(".onnx")
    onnx(model, example, graph)
    builder = trt.Builder(trt.Logger(trt.Logger.ERROR))
    network = builder.create_network(0)
    parser = trt.OnnxParser(network, trt.Logger(trt.Logger.ERROR))
    if not parser.parse(graph.read_bytes()):
        raise SystemExit(str(parser.get_error(0)))
    config = builder.create_builder_config()
    config.num_compute_capabilities = len(CAPABILITIES)
    for index, name in enumerate(CAPABILITIES):
        config.set_compute_capability(getattr(trt.ComputeCapability, name), index)
    engine: Any = builder.build_serialized_network(network, config)
    if engine is None:  # no fp32 matrix product for SM75: what its documentation has no way round
        config.num_compute_capabilities = len(CAPABILITIES) - 1
        for index, name in enumerate(CAPABILITIES[1:]):
            config.set_compute_capability(getattr(trt.ComputeCapability, name), index)
        engine = builder.build_serialized_network(network, config)
    out.write_bytes(bytes(engine))


def litert(model: torch.nn.Module, example: torch.Tensor, out: Path) -> None:
    import litert_torch

    litert_torch.convert(model, (example,)).export(str(out))


def executorch(model: torch.nn.Module, example: torch.Tensor, out: Path) -> None:
    from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
    from executorch.exir import to_edge_transform_and_lower

    program = torch.export.export(model, (example,))
    lowered = to_edge_transform_and_lower(program, partitioner=[XnnpackPartitioner()]).to_executorch()
    out.write_bytes(lowered.buffer)


CONVERTERS = {"onnx": onnx, "coreml": coreml, "tensorrt": tensorrt, "litert": litert, "executorch": executorch}


def main() -> None:
    name, form, out = sys.argv[1:]
    model = timm.create_model(name).eval()
    settings = timm.get_pretrained_cfg(name)
    side = settings.input_size[-1] if settings else 224
    CONVERTERS[form](model, torch.rand(1, 3, side, side), Path(out))


if __name__ == "__main__":
    main()
