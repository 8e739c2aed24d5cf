"""What files are made with, and what they are judged by: the same over all networks of a build, or of a command."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from edgedistill.base.arrays import Images, Logits
from edgedistill.base.errors import InputError
from edgedistill.base.isolation import CONVERSION, in_child
from edgedistill.base.store import Store, digest
from edgedistill.data.calibration import calibration_pixels, choose_calibration
from edgedistill.data.datasets import Dataset, Keeping
from edgedistill.data.prepared import PreparedImages, prepared
from edgedistill.data.preprocessing import make_contract
from edgedistill.distill.start import start_of
from edgedistill.documents.artifacts import CalibrationSet, ExportedModel
from edgedistill.documents.build_file import DataConfig, ExportConfig, SpaceConfig
from edgedistill.documents.specs import (
    Contract,
    Format,
    Precision,
    QuantScheme,
    StudentSpec,
    Target,
    VectorContract,
)
from edgedistill.formats import format_for
from edgedistill.formats.running import run_all
from edgedistill.networks.deploy import deploy
from edgedistill.networks.initialise import draw_constants
from edgedistill.networks.program.program import reference_logits
from edgedistill.networks.tasks import CLASSIFICATION, Embedding, Task, Truth
from edgedistill.pipeline.meter import Meter


@dataclass(frozen=True, eq=False)
class Source:
    """A network ready to be made into files: a student, a teacher, a user's model. `key` hashes its architecture and
    weights; `load` gives the deployed module (eval mode, branches merged, float 0..255 in, the task's outputs out). `file`
    is the fp32 file that is all there is of a network that came as one: `load` raises UnsupportedError then."""

    label: str
    key: str
    contract: Contract
    load: Callable[[], nn.Module]
    file: ExportedModel | None = None


def random_source(label: str, key: str, contract: Contract, build: Callable[[], nn.Module]) -> Source:
    """The network of `build` with random weights, the same ones everywhere, none of them alike; what is drawn next stays as
    it was."""

    def load() -> nn.Module:
        with torch.random.fork_rng(devices=()):
            torch.manual_seed(0)
            network = build()
            draw_constants(network)
            return deploy(network)

    return Source(label, digest([key, "constants drawn"]), contract, load)


@dataclass(frozen=True, eq=False)
class CalibrationImages:
    """The images that ranges are read off: `pixels` through a contract, uint8 [n, 3, R, R]; `key` tells them apart; `chosen`
    names them in their data set, where they come from one."""

    key: Any
    pixels: Callable[[Contract], Images]
    chosen: CalibrationSet | None = None


@dataclass(eq=False, kw_only=True)
class Maker:
    """What files are made with: for a target, in a store."""

    target: Target
    store: Store

    @property
    @abstractmethod
    def calibration(self) -> CalibrationImages:
        """What static int8 is calibrated on, the same for every network. Raises InputError where there is nothing."""


@dataclass(eq=False, kw_only=True)
class Bench(Maker):
    """Besides, what files are judged by: the images of a data set, kept once they are prepared, the margins, the meter.
    `vectors` are for the score `neighbours` the files of the teacher's by split, once
    `truth.hold_against_teacher` has found them."""

    data: DataConfig
    dataset: Dataset
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    export: ExportConfig
    meter: Meter
    space: SpaceConfig = field(default_factory=SpaceConfig)
    vectors: dict[str, Path] = field(default_factory=dict)
    _references: dict[str, Logits] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.dataset.keeping is None:  # else it is another bench's, and stays the one whose statistics are known
            self.dataset = replace(self.dataset, keeping=Keeping(self.store, self.data.decoded_cache))

    @cached_property
    def calibration(self) -> CalibrationImages:
        """The same training images for every network."""
        chosen = choose_calibration(self.dataset, self.export.calibration_images)
        key = [self.data_key, self.export.calibration_images]
        return CalibrationImages(key, lambda contract: calibration_pixels(chosen, self.dataset, contract), chosen)

    @property
    def vector(self) -> VectorContract | None:
        """What students give where they are embeddings; None for classifiers of the data."""
        return None

    @property
    def task(self) -> Task:
        """What networks are trained for."""
        return CLASSIFICATION if self.vector is None else Embedding.of(self.vector)

    def contract(self, resolution: int) -> Contract:
        """The contract of a network at `resolution` whose weights are trained from random ones."""
        return make_contract(self.data, self.dataset.classes, resolution, self.mean, self.std, self.vector)

    def contract_of(self, spec: StudentSpec) -> Contract:
        """The contract of a student. One that starts from trained weights sees images as those were trained on them."""
        if (start := start_of(self.space, spec.family)) is None:
            return self.contract(spec.resolution)
        return make_contract(self.data, self.dataset.classes, spec.resolution, *start.statistics, self.vector)

    def images(self, split: str, contract: Contract) -> PreparedImages:
        """A split's images through the contract, uint8 [n, 3, R, R]."""
        return prepared(self.dataset, getattr(self.dataset.splits, split), contract)

    def labels(self, split: str) -> NDArray[np.int64]:
        """A split's labels, in the order of `images`."""
        indices: NDArray[np.int64] = getattr(self.dataset.splits, split)
        return self.dataset.labels[indices]

    def truth(self, split: str) -> Truth:
        """What the answers to a split are held against, in the order of `images`: its labels, or the teacher's vectors."""
        if split not in self.vectors:
            return self.labels(split)
        found: Truth = np.load(self.vectors[split])
        return found

    @property
    def judged_by(self) -> str | None:
        """What identifies the teacher's vectors of the validation split in the keys of stages; None for labels."""
        path = self.vectors.get("validation")
        return None if path is None else path.parent.name

    def reference(self, source: Source) -> Logits:
        """Outputs of the fp32 torch program on the validation images, of a network that came as a file those of the file:
        what every artifact is held against."""
        if source.key not in self._references:
            images = self.images("validation", source.contract)
            if source.file is None:
                found = reference_logits(source.load(), images)
            else:
                form = format_for(source.file.format)
                artifact = form.open(source.file.path, self.target).artifact
                found = in_child(f"running {source.label}", CONVERSION, run_all, form, artifact, images, None)
            self._references = {source.key: found}
        return self._references[source.key]

    @cached_property
    def source_side(self) -> int:
        """Median shorter side of a few training images, in pixels: what resolutions make sense. Raises InputError where
        there are none."""
        sides = sorted(min(self.dataset.images[int(i)].shape[:2]) for i in self.dataset.splits.train[:32])
        if not sides:
            raise InputError("the training split is empty")
        return int(sides[len(sides) // 2])

    @cached_property
    def data_key(self) -> dict[str, Any]:
        """What identifies the data and its splits in the keys of stages."""
        splits = {name: digest(getattr(self.dataset.splits, name).tolist()) for name in ("train", "validation")}
        return {"fingerprint": self.dataset.fingerprint, "splits": splits}

    @property
    def schemes(self) -> tuple[QuantScheme, ...]:
        """The precisions to try, widest first: that one is what the others are compared with."""
        wanted = self.export.precisions or self.target.precisions
        count = self.export.calibration_images
        return tuple(
            QuantScheme(precision=p, calibration_images=count if p is Precision.INT8 else 0)
            for p in Precision
            if p in wanted
        )

    @property
    def formats(self) -> tuple[Format, ...]:
        """The formats that are made: the target's own first."""
        wanted = self.export.formats or self.target.formats
        return (self.target.runtime, *(f for f in wanted if f is not self.target.runtime))


@dataclass(frozen=True, eq=False)
class Data:
    """A data set with the mean and standard deviation of its training images' channels, in 0..255."""

    dataset: Dataset
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
