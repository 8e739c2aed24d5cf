"""How PT2E reads ranges of activations off calibration images: torchao's observers, and two that it lacks."""

from __future__ import annotations

import importlib
from typing import Any

import torch

from edgedistill.base.quiet import quiet_import
from edgedistill.documents.specs import Calibration
from edgedistill.networks.rounding.ranges import chosen_range


def activation_observer(calibration: Calibration) -> Any:
    """The observer class for activations. Its class is made here, for its base is torchao's."""
    with quiet_import():
        observers = importlib.import_module("torchao.quantization.pt2e.observer")
    if calibration is Calibration.MINMAX:
        return observers.MinMaxObserver

    def chosen(self: Any) -> tuple[torch.Tensor, torch.Tensor]:
        histogram = self.histogram.double().numpy()
        low, high = chosen_range(calibration, histogram, float(self.min_val), float(self.max_val))
        return torch.tensor(low), torch.tensor(high)

    base = observers.HistogramObserver
    return type(f"{calibration.value.title()}Observer", (base,), {"_non_linear_param_search": chosen})
