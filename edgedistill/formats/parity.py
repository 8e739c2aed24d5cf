"""How far a file's outputs may be from the model's: as far as its precision explains, or the model's own rounding."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from edgedistill.base.arrays import Logits
from edgedistill.base.errors import TrialFailure
from edgedistill.documents.artifacts import Parity
from edgedistill.documents.specs import Precision
from edgedistill.formats.running import beside
from edgedistill.networks.program.program import ROUNDINGS
from edgedistill.networks.tasks import Task

# Of the largest output of the fp32 program. Deep networks with random weights round most; trained ones stay far below.
_TOLERANCES = {Precision.FP32: 2e-3, Precision.FP16: 5e-2}


def parity_of(
    task: Task, outputs: Logits, reference: Logits, precision: Precision, rounding: Callable[[], float]
) -> tuple[Parity, tuple[str, ...]]:
    """How far a task's `outputs` [n, width] are from `reference`, and notes on that, mostly none. `rounding` is called where
    an fp32 file is further away than it should be: it gives how far the model itself is from what it would give without
    rounding. Raises TrialFailure where the shapes differ, or neither precision nor rounding explains the difference. No
    integer file is refused: its loss is a matter of quality."""
    if outputs.shape != reference.shape:
        raise TrialFailure(f"it gives {list(outputs.shape)} where the model gives {list(reference.shape)}")
    parity, scale = beside(task, outputs, reference), float(np.abs(reference).max())
    error = parity.max_abs_error
    tolerance = _TOLERANCES.get(precision)
    if tolerance is None or error <= tolerance * max(scale, 1e-6):
        return parity, ()
    differs = f"its outputs differ from the model's by up to {error:.3g}, and the largest of them is {scale:.3g}"
    own = rounding() if precision is Precision.FP32 else 0.0
    if error <= ROUNDINGS * own:
        return parity, (
            f"{differs}: the model magnifies rounding, torch's own fp32 outputs are up to {own:.3g} from fp64",
        )
    raise TrialFailure(
        differs,
        fix="this is a fault of the converter or the runtime: use another format, or report it with the model's name",
    )
