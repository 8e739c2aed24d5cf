from __future__ import annotations

import numpy as np
import pytest
import torch

from edgedistill.base.errors import UnsupportedError
from edgedistill.data.sources import GreyImages, Joined
from edgedistill.distill.hardware import choose_device, choose_hardware, labelling_autocast
from edgedistill.documents.build_file import TrainConfig

GREY = GreyImages(np.zeros((2, 8, 8), np.uint8))


class Files:
    """Images that are decoded when asked for."""

    def __len__(self) -> int:
        return 2

    def __getitem__(self, index: int, /) -> np.ndarray:
        return np.zeros((8, 8, 3), np.uint8)

    @property
    def decoded(self) -> bool:
        return False


def available(monkeypatch: pytest.MonkeyPatch, *, cuda: bool, mps: bool, bf16: bool = True) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: bf16)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)


@pytest.mark.parametrize(
    ("cuda", "mps", "expected"), [(True, True, "cuda"), (False, True, "mps"), (False, False, "cpu")]
)
def test_auto_takes_the_fastest_there_is(cuda: bool, mps: bool, expected: str, monkeypatch: pytest.MonkeyPatch) -> None:
    available(monkeypatch, cuda=cuda, mps=mps)
    assert choose_device("auto").type == expected


def test_a_named_device_that_is_absent_is_an_error_not_a_fallback(monkeypatch: pytest.MonkeyPatch) -> None:
    available(monkeypatch, cuda=False, mps=False)
    with pytest.raises(UnsupportedError, match="cuda") as caught:
        choose_device("cuda")
    assert "cpu" in caught.value.fix


@pytest.mark.parametrize(
    ("device", "mixed", "bf16", "expected"),
    [
        ("cuda", "auto", True, torch.bfloat16),
        ("cuda", "auto", False, torch.float16),
        ("cuda", "off", True, None),
        ("cpu", "auto", True, None),
        ("mps", "auto", True, None),
    ],
)
def test_mixed_precision_where_it_helps(
    device: str, mixed: str, bf16: bool, expected: torch.dtype | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    available(monkeypatch, cuda=True, mps=True, bf16=bf16)
    config = TrainConfig.model_validate({"device": device, "mixed_precision": mixed})
    assert choose_hardware(config, GREY).autocast is expected


@pytest.mark.parametrize(
    ("device", "mixed", "expected"),
    [("cuda", "auto", torch.float16), ("cuda", "off", None), ("cpu", "auto", None), ("mps", "auto", None)],
)
def test_labels_have_the_bits_that_are_stored(
    device: str, mixed: str, expected: torch.dtype | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    available(monkeypatch, cuda=True, mps=True, bf16=True)
    config = TrainConfig.model_validate({"device": device, "mixed_precision": mixed})
    assert labelling_autocast(config) is expected


def test_workers_where_images_are_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edgedistill.distill.hardware.usable_cpus", lambda: 4)
    config = TrainConfig(device="cpu")
    assert choose_hardware(config, GREY).workers == 0
    assert choose_hardware(config, Joined((GREY, GREY))).workers == 0
    assert choose_hardware(config, Files()).workers == 3
    assert choose_hardware(config, Joined((GREY, Files()))).workers == 3
    assert choose_hardware(config.model_copy(update={"workers": 2}), GREY).workers == 2


@pytest.mark.parametrize(
    ("device", "processes", "fix"),
    [
        ("cpu", 4, None),
        ("cuda", 2, None),
        ("cuda", 3, 'set processes = 2, or device = "cpu"'),
        ("mps", 2, 'set processes = 1, or device = "cpu"'),
    ],
)
def test_each_process_has_a_gpu_of_its_own(
    device: str, processes: int, fix: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    available(monkeypatch, cuda=True, mps=True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    config = TrainConfig(device=device, processes=processes, workers=3, threads=5)
    if fix is None:
        hardware = choose_hardware(config, GREY)
        last = hardware.of(processes - 1)
        assert (last.device.type, last.device.index) == (device, 1 if device == "cuda" else None)
        assert (last.processes, last.workers) == (1, -(-3 // processes)) and last.threads == 5 // processes
    else:
        with pytest.raises(UnsupportedError) as caught:
            choose_hardware(config, GREY)
        assert caught.value.fix == fix
