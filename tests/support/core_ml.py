"""Stands in for Core ML as coremltools 9 calls it. See mac.py."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np


class _MLModelProxy:
    """A loaded package. It computes nothing: a prediction takes so long as the weights are large, and gives zeros."""

    def __init__(self, path: str, units: str, function: str, hints: dict[str, str], asset: None) -> None:
        from coremltools.models.utils import load_spec

        if units != "ALL":
            raise RuntimeError(f"asked for {units}")
        self._path, self._took_ns, self._description = path, 0, load_spec(path).description
        weights = sum(file.stat().st_size for file in Path(path).rglob("weight.bin"))
        self._run_s = 2e-4 + weights * 1e-10

    def predict(self, values: dict[str, Any], state: None) -> dict[str, Any]:
        for one in self._description.input:
            wanted = (one.type.imageType.width, one.type.imageType.height)
            if values[one.name].size != wanted:
                raise RuntimeError(f"Image size {values[one.name].size} not in allowed set of image sizes")
        began = time.perf_counter()
        while time.perf_counter() - began < self._run_s:
            pass
        self._took_ns = round((time.perf_counter() - began) * 1e9)
        return {one.name: np.zeros(tuple(one.type.multiArrayType.shape)) for one in self._description.output}

    def get_compiled_model_path(self) -> str:
        return self._path

    def get_load_duration_in_nano_seconds(self) -> int:
        return 3_000_000

    def get_last_predict_duration_in_nano_seconds(self) -> int:
        return self._took_ns

    @staticmethod
    def maximum_supported_specification_version() -> int:
        return 9

    @staticmethod
    def get_compute_plan(path: str, units: str) -> SimpleNamespace:
        from coremltools.models.compute_device import MLCPUComputeDevice, MLNeuralEngineComputeDevice
        from coremltools.models.utils import load_spec

        on_cpu = (Path(sys.prefix) / "on-cpu").read_text().split()
        cpu, engine = MLCPUComputeDevice(_MLCPUComputeDeviceProxy()), MLNeuralEngineComputeDevice(_Engine())
        main = load_spec(path).mlProgram.functions["main"]
        kinds = [op.type for op in main.block_specializations[main.opset].operations]

        def usage(op: SimpleNamespace) -> SimpleNamespace | None:
            kind = op.operator_name.rpartition(".")[2]
            return (
                None if kind == "const" else SimpleNamespace(preferred_compute_device=cpu if kind in on_cpu else engine)
            )

        block = SimpleNamespace(operations=[SimpleNamespace(operator_name=f"ios17.{kind}") for kind in kinds])
        structure = SimpleNamespace(program=SimpleNamespace(functions={"main": SimpleNamespace(block=block)}))
        return SimpleNamespace(model_structure=structure, get_compute_device_usage_for_mlprogram_operation=usage)


class _MLCPUComputeDeviceProxy: ...


class _MLGPUComputeDeviceProxy: ...


class _MLNeuralEngineComputeDeviceProxy: ...


_Engine = _MLNeuralEngineComputeDeviceProxy


class _MLComputePlanProxy: ...


class _MLModelAssetProxy: ...
