"""This version, and the distributions whose versions enter the keys of stages: what was made by another version is made
again."""

from __future__ import annotations

from typing import Final

__version__ = "0.1.0"

TRAINING_TOOLS: Final = ("torch", "timm", "numpy", "pillow")
"""What a trained network depends on."""

EXPORT_TOOLS: Final = (
    "torch",
    "torchao",
    "onnx",
    "onnxscript",
    "onnxruntime",
    "coremltools",
    "tensorrt",
    "tensorrt-rtx-cu12",
    "litert-torch",
    "ai-edge-litert",
    "ai-edge-quantizer",
    "executorch",
)
"""What a model file depends on, of any format."""

BUILD_TOOLS: Final = tuple(sorted({*TRAINING_TOOLS, *EXPORT_TOOLS, "scikit-learn", "optuna", "plotly"}))
"""What a whole build depends on: besides, its search and its report."""
