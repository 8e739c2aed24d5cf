"""All five runtimes pass the public conformance suite; what they need that is not here is named where a test is skipped."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest
from torch.export import ExportedProgram

from edgedistill.documents.artifacts import ExportedModel
from edgedistill.documents.specs import Contract, Format, Precision
from edgedistill.formats import format_for
from edgedistill.formats.format import ModelFormat
from edgedistill.testing import FormatConformance


def needs(module: str) -> pytest.MarkDecorator:
    return pytest.mark.skipif(importlib.util.find_spec(module) is None, reason=f"{module} is not installed")


class TestOnnxRuntime(FormatConformance):
    def runtime(self) -> ModelFormat:
        return format_for(Format.ONNX)

    def portable(self, program: ExportedProgram, contract: Contract, folder: Path) -> ExportedModel:
        from edgedistill.formats.onnx.export import export_onnx

        return export_onnx(program, contract, folder / "model.onnx", build_hash="")


@needs("tensorrt_rtx")
class TestTensorRT(TestOnnxRuntime):
    def runtime(self) -> ModelFormat:
        return format_for(Format.TENSORRT)


@needs("coremltools")
class TestCoreML(FormatConformance):
    def runtime(self) -> ModelFormat:
        return format_for(Format.COREML)

    def portable(self, program: ExportedProgram, contract: Contract, folder: Path) -> ExportedModel:
        from edgedistill.formats.coreml.export import export_coreml

        return export_coreml(program, contract, folder / "model.mlpackage", Precision.FP32, build_hash="")


@needs("litert_torch")
class TestLiteRT(FormatConformance):
    def runtime(self) -> ModelFormat:
        return format_for(Format.LITERT)

    def portable(self, program: ExportedProgram, contract: Contract, folder: Path) -> ExportedModel:
        from edgedistill.formats.litert.export import export_litert

        return export_litert(program, contract, folder / "model.tflite", Precision.FP32, build_hash="")


@needs("executorch")
class TestExecuTorch(FormatConformance):
    def runtime(self) -> ModelFormat:
        return format_for(Format.EXECUTORCH)

    def portable(self, program: ExportedProgram, contract: Contract, folder: Path) -> ExportedModel:
        from edgedistill.formats.executorch.export import export_executorch

        return export_executorch(program, contract, folder / "model.pte", Precision.FP32, build_hash="")
