"""Which unit Core ML means to compute each operation on: its compute plan, which exists on a Mac alone.

The plan is the Mac's own: an iPhone's Neural Engine may take other operations. It never ran here; it follows the documented
`coremltools.models.compute_plan`.
"""

from __future__ import annotations

import sys
from pathlib import Path

from edgedistill.base.errors import first_line
from edgedistill.base.quiet import quiet
from edgedistill.documents.measurements import Fallbacks
from edgedistill.formats.coreml import on_device
from edgedistill.formats.coreml_sdk import import_coremltools


def compute_units(path: Path) -> Fallbacks:
    """The operations of a package that this Mac's Core ML would leave to its CPU; unknown anywhere else."""
    if sys.platform != "darwin":
        return Fallbacks(by=on_device.BY, unknown="the compute plan that assigns operations to units needs a Mac")
    ct = import_coremltools()
    try:
        with quiet():
            compiled = ct.models.utils.compile_model(str(path))
            return Fallbacks(**on_device.fallbacks_of(on_device.usages(str(compiled))))
    except Exception as error:  # a plan is told of, never needed: Core ML's own reasons differ from system to system
        return Fallbacks(by=on_device.BY, unknown=f"Core ML gives no compute plan: {first_line(error)}")
