"""The six networks of the ladder benchmark, trained on Fashion-MNIST once and kept.

    python benchmarks/ladder_models.py --work DIR [--data /usr/share/datasets/fashion-mnist]

A MobileNetV3 is fitted on labels and gives the stored views; one student of each family at 32 pixels and three timm models
at 64 are distilled from them, all from random weights: these are short runs on TRAINING_IMAGES images, which cost minutes
each on two cores, not the accuracies that the networks can reach. A killed run goes on where it stopped.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import nn

from edgedistill.base.progress import silent
from edgedistill.base.store import Store, digest, write_atomic
from edgedistill.data.datasets import Dataset, load_dataset
from edgedistill.data.preprocessing import channel_statistics, make_contract
from edgedistill.distill.evaluate import split_quality
from edgedistill.distill.fit_teacher import fit_teacher
from edgedistill.distill.hardware import choose_hardware
from edgedistill.distill.loop import Stretch, train
from edgedistill.distill.recipes.losses import recipe_of
from edgedistill.distill.recipes.pupil import Pupil
from edgedistill.distill.stored.split_store import SplitStore
from edgedistill.distill.stored.views import stored_views
from edgedistill.distill.teachers.labelling import Labeller
from edgedistill.distill.teachers.load import load_teacher, weights_sha256
from edgedistill.distill.teachers.making import Labelling
from edgedistill.distill.teachers.networks import build_network
from edgedistill.distill.train import Lessons, schedule_of, weights_bytes
from edgedistill.documents.build_file import AugmentationConfig, DataConfig, TrainConfig
from edgedistill.documents.specs import Contract, StudentSpec
from edgedistill.documents.teachers import FitConfig, TeacherConfig
from edgedistill.networks.build import Normalised, build_student
from edgedistill.networks.deploy import deploy
from edgedistill.pipeline.bench import Source

FASHION_MNIST = Path("/usr/share/datasets/fashion-mnist")
TRAINING_IMAGES, VALIDATION_IMAGES = 10_000, 2_000
EPOCHS, TEACHER_EPOCHS = 4, 4
AUGMENTATION = AugmentationConfig(views=2, flip=True)
TRAINING = TrainConfig(recipe="kd", batch_size=64, learning_rate=2e-3, device="cpu", workers=0)
WEIGHTS = "weights.safetensors"

STUDENTS = {
    "resnet": StudentSpec(family="resnet", width=0.25, depth=0.5, resolution=32),
    "mobilenetv4": StudentSpec(family="mobilenetv4", width=0.5, depth=0.5, resolution=32),
    "mobileone": StudentSpec(family="mobileone", width=0.25, depth=0.5, resolution=32),
}
TIMM = {"mobilenetv3_small_050": 64, "ghostnet_050": 64, "efficientformerv2_s0": 64}
NAMES = (*STUDENTS, *TIMM)


@dataclass(frozen=True, eq=False)
class Trained:
    """A network with its contract; `module` is in eval mode, branches not merged."""

    name: str
    contract: Contract
    module: nn.Module

    @property
    def source(self) -> Source:
        key = digest([self.name, self.contract.model_dump(mode="json"), weights_sha256(self.module)])
        return Source(self.name, key, self.contract, lambda: deploy(self.module))


def open_data(path: Path) -> Dataset:
    """Fashion-MNIST with a smaller training and validation split, both stratified; the test split is its own."""
    dataset = load_dataset(DataConfig(source="idx", path=path, limit=TRAINING_IMAGES))
    validation = dataset.splits.validation[:VALIDATION_IMAGES]
    return replace(dataset, splits=replace(dataset.splits, validation=validation))


def open_store(dataset: Dataset, path: Path, work: Path) -> SplitStore:
    """Views, and the benchmark's teacher's logits on them, all found in `work` or made."""
    data = DataConfig(source="idx", path=path, limit=TRAINING_IMAGES)
    fit = FitConfig(epochs=TEACHER_EPOCHS, batch_size=64, learning_rate=2e-3)
    teacher = load_teacher(
        TeacherConfig(model="timm:mobilenetv3_small_100", resolution=48, fit=fit), dataset, data, work
    )
    folder = work / "teacher"
    folder.mkdir(parents=True, exist_ok=True)
    fitted = fit_teacher(teacher, fit, dataset, AUGMENTATION, TRAINING, folder, silent)
    store = Store(work / "cache")
    views = stored_views(store, dataset, AUGMENTATION)
    return SplitStore(views, Labelling(store, Labeller(fitted, dataset, views, device="cpu"), silent).build())


def load_model(name: str, dataset: Dataset, views: SplitStore, work: Path) -> Trained:
    """The network `name` of NAMES with the weights kept in `work`, trained now where there are none."""
    spec = STUDENTS.get(name)
    resolution = spec.resolution if spec else TIMM[name]
    mean, std = channel_statistics(dataset)
    contract = make_contract(DataConfig(), dataset.classes, resolution, mean, std)
    with torch.random.fork_rng(devices=()):
        torch.manual_seed(0)
        if spec:
            module: nn.Module = build_student(spec, contract)
        else:
            config = TeacherConfig(model=f"timm:{name}", resolution=resolution, fit=None)
            module = Normalised(build_network(config, len(dataset.classes), work), mean, std)
    folder = work / name
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / WEIGHTS).is_file():
        outcome = train(
            Pupil(module, recipe_of(TRAINING), len(dataset.classes)),
            Lessons(dataset, TRAINING, views).batches(contract),
            schedule_of(TRAINING, EPOCHS),
            choose_hardware(TRAINING, dataset.images),
            Stretch(EPOCHS, folder),
        )
        write_atomic(folder / WEIGHTS, weights_bytes(outcome.pupil.network))
    module.load_state_dict(load_file(folder / WEIGHTS))
    return Trained(name, contract, module.eval())


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--data", type=Path, default=FASHION_MNIST)
    parser.add_argument("--models", default=",".join(NAMES))
    arguments = parser.parse_args()
    dataset = open_data(arguments.data)
    views = open_store(dataset, arguments.data, arguments.work)
    for name in arguments.models.split(","):
        model = load_model(name, dataset, views, arguments.work)
        quality = split_quality(model.module, dataset, dataset.splits.validation, model.contract)
        print(f"{name}: {quality:.2%} of {len(dataset.splits.validation)} validation images", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
