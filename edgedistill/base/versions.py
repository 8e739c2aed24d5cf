"""This version, and the packages whose versions enter the keys of stages: what was made by another version is made
again. Those of a format are its own (`formats.tools_of`)."""

from __future__ import annotations

from typing import Final

__version__ = "0.1.0"

TRAINING_TOOLS: Final = ("torch", "timm", "torch-pruning", "numpy", "pillow")
"""What a trained network depends on."""

BUILD_TOOLS: Final = (*TRAINING_TOOLS, "optuna", "plotly", "scikit-learn")
"""What a whole build depends on beside the tools of its formats: its search and its report too."""
