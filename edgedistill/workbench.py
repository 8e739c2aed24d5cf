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

from edgedistill.artifacts import Profile
from edgedistill.config import BuildConfig
from edgedistill.data.datasets import Dataset
from edgedistill.data.preprocessing import make_contract, prepare
from edgedistill.devices.base import Device
from edgedistill.devices.stats import median_reference_us, samples_needed
from edgedistill.exporters.program import reference_logits
from edgedistill.runtimes.base import Images, Logits
from edgedistill.runtimes.sessions import at_another_speed
from edgedistill.specs import Contract, Format, Precision, QuantScheme, Target
from edgedistill.store import Store, digest
from edgedistill.teachers.teacher import Teacher

TEACHER_WAIT_S = 10.0


@dataclass(frozen=True, eq=False)
class Source:
    """A network ready to be made into files: a student or the teacher. `key` hashes its architecture and weights; `load`
    gives the deployed module (eval mode, branches merged, float 0..255 in, logits out)."""

    label: str
    key: str
    contract: Contract
    load: Callable[[], nn.Module]


@dataclass(eq=False)
class ProcessorSpeed:
    """At which speed of the device's processor a build compares its figures: the first profile's, which is the teacher's, so
    that a budget that is a share of it and the students' latencies are taken alike.

    Candidates are measured at whatever speed there is and compared as `MeasuredLatency.comparable` says. The sessions of a
    proof, whose samples are taken as they are, wait for the teacher's speed. `patience_s` is what they may still wait in
    all: a build on a machine that has become another one loses that much and goes on. `single_wait_s` is what the one
    session of a candidate may wait: a calibration, whose figures stand for many others, lets it. `sessions` counts what was
    measured, `elsewhere` what of it at another speed.
    """

    reference_us: float | None = None
    patience_s: float = 180.0
    single_wait_s: float = 0.0
    sessions: int = 0
    elsewhere: int = 0

    def wait_s(self, sessions: int) -> float:
        """How long a profile's sessions may wait in all: a candidate's not at all unless `single_wait_s` says so, the
        teacher's, which only wait for one another, not long."""
        if sessions == 1:
            return min(self.patience_s, self.single_wait_s) if self.reference_us is not None else 0.0
        return self.patience_s if self.reference_us is not None else min(self.patience_s, TEACHER_WAIT_S)

    def note(self, profile: Profile) -> None:
        """Take stock of a profile."""
        if self.reference_us is None:
            self.reference_us = median_reference_us(profile)
        self.sessions += len(profile.sessions)
        self.elsewhere += sum(at_another_speed(s.reference_us, self.reference_us) for s in profile.sessions)


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
    speed: ProcessorSpeed = field(default_factory=lambda: ProcessorSpeed())
    teacher: Teacher | None = None
    """Once `teaching.open_teacher` has loaded it."""
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

    @property
    def min_samples(self) -> int:
        """The fewest samples a session that the acceptance rule needs at the budget's percentile."""
        return samples_needed(self.config.budget.percentile.fraction)

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
