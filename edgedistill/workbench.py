"""What stays the same over a build's candidates, and the networks that are made into files."""

from __future__ import annotations

import platform
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import nn

from edgedistill.artifacts import CompiledArtifact, Percentiles
from edgedistill.config import BuildConfig
from edgedistill.data.datasets import Dataset
from edgedistill.data.preprocessing import make_contract, prepare
from edgedistill.devices.base import Device
from edgedistill.exporters.program import reference_logits
from edgedistill.runtimes.base import Images, Logits
from edgedistill.specs import Contract, Format, Precision, QuantScheme, Target
from edgedistill.store import Store, digest
from edgedistill.teachers.teacher import Teacher


@dataclass(frozen=True, eq=False)
class Source:
    """A network ready to be made into files: a student or the teacher. `key` hashes its architecture and weights; `load`
    gives the deployed module (eval mode, branches merged, float 0..255 in, logits out)."""

    label: str
    key: str
    contract: Contract
    load: Callable[[], nn.Module]


@dataclass(frozen=True)
class Scale:
    """What ratios to the anchor mean here: its file, its own latency on the device, by how much sessions differ from one to
    the next (standard deviation of the log) in the unit that a proof is taken in, and from when that is (UTC)."""

    anchor: CompiledArtifact
    anchor_ms: Percentiles
    spread: float
    at: str


@dataclass(eq=False)
class Workbench:
    """What stays the same over all candidates of a build, and the validation images each resolution needs."""

    config: BuildConfig
    target: Target
    dataset: Dataset
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    store: Store
    device: Device | None
    not_measurable: str
    base: Path
    occasion: str = ""
    """Names the occasion on which measurements are taken: another one finds none in the cache that is not its own."""
    teacher: Teacher | None = None
    """Once `teaching.open_teacher` has loaded it."""
    teacher_file: CompiledArtifact | None = None
    """The teacher's fp32 file in the target's own runtime, once it is made."""
    scale: Scale | None = None
    """Once the anchor was measured."""
    _images: dict[str, Images] = field(default_factory=dict)
    _references: dict[str, Logits] = field(default_factory=dict)

    def contract(self, resolution: int) -> Contract:
        """The contract of a student at `resolution`."""
        return make_contract(self.config.data, self.dataset.classes, resolution, self.mean, self.std)

    def images(self, split: str, contract: Contract) -> Images:
        """A split's images through the contract, uint8 [n, 3, R, R]; kept in memory, a resolution a time."""
        key = f"{split} {digest(contract.model_dump(mode='json'))}"
        if key not in self._images:
            indices: NDArray[np.int64] = getattr(self.dataset.splits, split)
            self._images[key] = prepare(self.dataset.images, indices, contract)
        return self._images[key]

    def labels(self, split: str) -> NDArray[np.int64]:
        """A split's labels, in the order of `images`."""
        indices: NDArray[np.int64] = getattr(self.dataset.splits, split)
        return self.dataset.labels[indices]

    def reference(self, source: Source) -> Logits:
        """Logits of the fp32 torch program on the validation images: what every artifact is held against."""
        if source.key not in self._references:
            self._references = {source.key: reference_logits(source.load(), self.images("validation", source.contract))}
        return self._references[source.key]

    @property
    def machine(self) -> str:
        """The processor architecture that the files are for, as `platform.machine()` names it."""
        return self.target.machine or platform.machine()

    @cached_property
    def data_key(self) -> dict[str, Any]:
        """What identifies the data and its splits in the keys of stages."""
        splits = {name: digest(getattr(self.dataset.splits, name).tolist()) for name in ("train", "validation")}
        return {"fingerprint": self.dataset.fingerprint, "splits": splits}

    @property
    def schemes(self) -> tuple[QuantScheme, ...]:
        """The precisions to try, widest first: that one is what the others are compared with."""
        wanted = self.config.export.precisions or self.target.precisions
        count = self.config.export.calibration_images
        return tuple(
            QuantScheme(precision=p, calibration_images=count if p is Precision.INT8 else 0)
            for p in Precision
            if p in wanted
        )

    @property
    def formats(self) -> tuple[Format, ...]:
        """The formats that the build makes: the target's own first."""
        wanted = self.config.export.formats or self.target.formats
        return (self.target.runtime, *(f for f in wanted if f is not self.target.runtime))
