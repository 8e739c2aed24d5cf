"""Which unit Core ML means to compute each operation on: its compute plan, which exists on a Mac alone.

The plan is the Mac's own: an iPhone's Neural Engine may take other operations. It never ran here; it follows the documented
`coremltools.models.compute_plan` (coremltools 8 and newer, macOS 14.4 and newer).
"""

from __future__ import annotations

import importlib
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from edgedistill.base.errors import first_line
from edgedistill.base.quiet import quiet
from edgedistill.documents.measurements import Fallbacks
from edgedistill.formats.coreml_sdk import import_coremltools

_BY = "Core ML on the Neural Engine or GPU"


def compute_units(path: Path) -> Fallbacks:
    """The operations of a package that this Mac's Core ML would leave to its CPU; unknown anywhere else."""
    if sys.platform != "darwin":
        return Fallbacks(by=_BY, unknown="the compute plan that assigns operations to units needs a Mac")
    ct = import_coremltools()
    try:
        with quiet():
            plans = importlib.import_module("coremltools.models.compute_plan").MLComputePlan
            compiled = ct.models.utils.compile_model(str(path))
            usages = _usages(plans.load_from_path(path=str(compiled), compute_units=ct.ComputeUnit.ALL))
    except Exception as error:  # a plan is told of, never needed: Core ML's own reasons differ from system to system
        return Fallbacks(by=_BY, unknown=f"Core ML gives no compute plan: {first_line(error)}")
    return fallbacks_of(usages)


def _usages(plan: Any) -> list[tuple[str, str]]:
    """Each operation's name and the class of the device that is preferred for it; constants have none."""
    operations = plan.model_structure.program.functions["main"].block.operations
    usages = [(op.operator_name, plan.get_compute_device_usage_for_mlprogram_operation(op)) for op in operations]
    return [(name, type(usage.preferred_compute_device).__name__) for name, usage in usages if usage is not None]


def fallbacks_of(usages: Sequence[tuple[str, str]]) -> Fallbacks:
    """What is left to the CPU. `usages` are names of operations with the class name of their device, as coremltools has them
    (`MLCPUComputeDevice`, `MLGPUComputeDevice`, `MLNeuralEngineComputeDevice`)."""
    elsewhere = Counter(name.rpartition(".")[2] for name, device in usages if device == "MLCPUComputeDevice")
    return Fallbacks(by=_BY, operations=len(usages), elsewhere=dict(elsewhere))
