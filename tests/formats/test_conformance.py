"""All five formats pass the public conformance suite; what they need that is not here is named where a test is skipped."""

from __future__ import annotations

import importlib.util

import pytest

from edgedistill.documents.specs import Format
from edgedistill.formats import format_for
from edgedistill.formats.format import ModelFormat
from edgedistill.testing import FormatConformance


def needs(module: str) -> pytest.MarkDecorator:
    return pytest.mark.skipif(importlib.util.find_spec(module) is None, reason=f"{module} is not installed")


class TestOnnx(FormatConformance):
    def form(self) -> ModelFormat:
        return format_for(Format.ONNX)


@needs("tensorrt_rtx")
class TestTensorRT(FormatConformance):
    def form(self) -> ModelFormat:
        return format_for(Format.TENSORRT)


@needs("coremltools")
class TestCoreML(FormatConformance):
    def form(self) -> ModelFormat:
        return format_for(Format.COREML)


@needs("litert_torch")
class TestLiteRT(FormatConformance):
    def form(self) -> ModelFormat:
        return format_for(Format.LITERT)


@needs("executorch")
class TestExecuTorch(FormatConformance):
    def form(self) -> ModelFormat:
        return format_for(Format.EXECUTORCH)
