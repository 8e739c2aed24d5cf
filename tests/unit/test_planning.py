"""What a plan says of measuring: no more probes than there are candidates, and all that may be measured counted."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from edgedistill.config import BuildConfig
from edgedistill.documents import PlannedRung
from edgedistill.planning import _measured
from edgedistill.specs import Precision, QuantScheme

CONFIG = BuildConfig.model_validate(
    {"budget": "5ms", "teacher": {"model": "timm:resnet18"}, "profile": {"max_seconds": 2.0}}
)


def planned(candidates: int, *students: int, device: object = "a device") -> Any:
    bench: Any = SimpleNamespace(
        config=CONFIG,
        device=device,
        target=SimpleNamespace(name="board"),
        schemes=[QuantScheme(precision=Precision.FP32), QuantScheme(precision=Precision.INT8)],
    )
    rungs = [PlannedRung(epochs=4 * 2**n, students=count, image_passes=0) for n, count in enumerate(students)]
    return _measured(bench, candidates, rungs)


@pytest.mark.parametrize(
    ("candidates", "students", "probes", "sessions"),
    [
        (100, (8, 4, 2), 8, (8 + 8 + 2) * 2 + 6),
        (100, (8,), 8, (8 + 8) * 2 + 6),
        (3, (3, 2), 3, (3 + 3 + 2) * 2 + 6),
    ],
)
def test_sessions_are_counted(candidates: int, students: tuple[int, ...], probes: int, sessions: int) -> None:
    found = planned(candidates, *students)
    assert (found.probes, found.measure_seconds) == (probes, sessions * 2.0)


def test_without_a_device_nothing_is_measured() -> None:
    found = planned(100, 8, 4, device=None)
    assert (found.measured, found.probes, found.measure_seconds) == (False, 0, 0.0)
