"""What a training run computes on: device, numeric precision, processes that render views."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch

from edgedistill.base.errors import UnsupportedError
from edgedistill.base.machine import usable_cpus
from edgedistill.data.sources import ImageSource
from edgedistill.documents.build_file import TrainConfig

MAX_WORKERS = 8


@dataclass(frozen=True)
class Hardware:
    """`autocast` is the type of matrix products in the forward pass, None for float32 throughout. `workers` 0 renders
    views in the training process. `threads` are torch's, `auto` as many as train fastest. `processes` share the work, each
    with its part of workers and threads, and on CUDA with a GPU of its own."""

    device: torch.device
    autocast: torch.dtype | None
    workers: int
    threads: int | Literal["auto"] = "auto"
    processes: int = 1

    def of(self, number: int) -> Hardware:
        """That of process `number`, where torch has its part of the threads already: all have one number of them throughout,
        or the norm of the same gradient would differ between them, and so would their weights."""
        device = torch.device("cuda", number) if self.device.type == "cuda" else self.device
        threads = torch.get_num_threads() if self.threads == "auto" else max(1, self.threads // self.processes)
        return Hardware(device, self.autocast, -(-self.workers // self.processes), threads)


def choose_device(name: str) -> torch.device:
    """The device that `[train] device` names; `auto` takes CUDA, then Apple's GPU, then the CPU. Raises UnsupportedError
    for a named device that is not here."""
    usable = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if name == "auto":
        return torch.device(next(name for name, here in usable.items() if here))
    if not usable.get(name, False):
        here = ", ".join(name for name, is_here in usable.items() if is_here)
        raise UnsupportedError(
            f"[train] device = {name!r}: torch {torch.__version__} finds no such device here",
            fix=f'use device = "auto" or one of: {here}',
        )
    return torch.device(name)


def choose_hardware(config: TrainConfig, images: ImageSource) -> Hardware:
    """Device, precision, workers and processes for `[train]` on these images. Raises UnsupportedError for what is not here.

    bfloat16 where the GPU computes in it, else float16 with a scaled loss. The CPU and Apple's GPU stay in float32:
    there autocast costs more than it saves on networks of a student's size.
    """
    device = choose_device(config.device)
    require_processes(config.processes, device)
    autocast = None
    if device.type == "cuda" and config.mixed_precision == "auto":
        autocast = torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float16
    return Hardware(device, autocast, _workers(config, device, images), config.threads, config.processes)


def require_processes(processes: int, device: torch.device) -> None:
    """Raises UnsupportedError where `device` cannot train with so many."""
    gpus = torch.cuda.device_count() if device.type == "cuda" else 1
    if processes > 1 and (device.type == "mps" or (device.type == "cuda" and processes > gpus)):
        few = f"there {'is 1 GPU' if gpus == 1 else f'are {gpus} GPUs'}, and each needs one of its own"
        here = "Apple's GPU trains with one process" if device.type == "mps" else few
        raise UnsupportedError(
            f"[train] processes = {processes}: {here}",
            fix=f'set processes = {gpus}, or device = "cpu"',
        )


def labelling_autocast(config: TrainConfig) -> torch.dtype | None:
    """The type of matrix products in which a teacher labels on the device of `[train]`, None for float32 throughout.

    float16 on CUDA: what a teacher gives is stored with 11 bits of mantissa, and bfloat16 would leave 8 of them. Elsewhere
    float32, which CPUs without instructions for 16 bits are faster in.
    """
    on_cuda = choose_device(config.device).type == "cuda"
    return torch.float16 if on_cuda and config.mixed_precision == "auto" else None


def _workers(config: TrainConfig, device: torch.device, images: ImageSource) -> int:
    """Processes pay where images are decoded from files, or where a GPU would wait for views to be rendered."""
    if config.workers != "auto":
        return config.workers
    if images.decoded and device.type == "cpu":
        return 0
    return min(MAX_WORKERS, usable_cpus() - 1)
