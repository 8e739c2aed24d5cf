"""What a plan says of measuring: no more probes than there are candidates, and all that may be measured counted."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from edgedistill.devices.proof import ProofPlan
from edgedistill.documents.answers import PlannedRung
from edgedistill.documents.build_file import BuildConfig
from edgedistill.documents.specs import Precision, ProofLevel, QuantScheme
from edgedistill.pipeline.measure import SCALE_SESSIONS
from edgedistill.pipeline.plan import START_S, _measured

CONFIG = BuildConfig.model_validate(
    {
        "budget": "5ms",
        "teacher": {"model": "timm:resnet18"},
        "profile": {"compare": "2s", "session": "5s", "pause": "1s", "proof": "standard"},
    }
)


def planned(candidates: int, *students: int, device: object = "a device", config: BuildConfig = CONFIG) -> Any:
    bench: Any = SimpleNamespace(
        config=config,
        meter=SimpleNamespace(device=device, settings=config.profile),
        target=SimpleNamespace(name="board"),
        schemes=[QuantScheme(precision=Precision.FP32), QuantScheme(precision=Precision.INT8)],
    )
    rungs = [PlannedRung(epochs=4 * 2**n, students=count, image_passes=0) for n, count in enumerate(students)]
    return _measured(bench, candidates, rungs)


@pytest.mark.parametrize(
    ("candidates", "students", "probes", "compared"),
    [
        (100, (8, 4, 2), 8, (8 + 8 + 2) * 2),
        (100, (8,), 8, (8 + 8) * 2),
        (3, (3, 2), 3, (3 + 3 + 2) * 2),
    ],
)
def test_sessions_are_counted(candidates: int, students: tuple[int, ...], probes: int, compared: int) -> None:
    """Each file is compared once; the scale and a proof that says yes at its first look take sessions of their own."""
    found = planned(candidates, *students)
    own = SCALE_SESSIONS + ProofPlan.at(ProofLevel.STANDARD).looks[0].sessions
    assert found.probes == probes
    assert found.measure_seconds == pytest.approx(compared * (2.0 + START_S) + own * (5.0 + 1.0 + START_S))


def test_a_thorough_proof_takes_longer() -> None:
    seconds = []
    for level in ProofLevel:
        profile = CONFIG.profile.model_copy(update={"proof": level})
        seconds.append(planned(100, 8, config=CONFIG.model_copy(update={"profile": profile})).measure_seconds)
    assert seconds == sorted(set(seconds))


def test_without_a_device_nothing_is_measured() -> None:
    found = planned(100, 8, 4, device=None)
    assert (found.measured, found.probes, found.measure_seconds) == (False, 0, 0.0)
