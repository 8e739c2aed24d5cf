"""Whether several processes that train one student learn what one does, and how many images a second they train on.

    python benchmarks/processes.py --json FILE [--data FASHION_MNIST] [--images 2048] [--epochs 2] [--processes 2]
                                   [--student mobilenetv4,0.5,0.5,28] [--recipes kd,dist] [--batch 128] [--rate 0.001]

Needs the extra `[accelerate]`. Without `--data` the images are scikit-learn's digits. The teacher is the student of
`--teacher`, trained on the labels first. Each recipe is trained three times on the same views: by one process; by
`--processes`; and by one process whose initial weights were changed by 1e-7 of their size each, as rounding does.
`difference` is the greatest one of two loss curves, over all steps. Two processes learn what one does where theirs is about
as large as that of the changed weights: a training makes any rounding grow.

Images a second are those of the whole run, without the start of the processes. All runs have the threads of this process,
which several share. On CUDA each process has a GPU.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor, nn
from trainings import Row, listen, open_images, parse_student

from edgedistill.base.progress import silent
from edgedistill.base.store import Store, write_atomic
from edgedistill.data.datasets import load_dataset
from edgedistill.data.preprocessing import channel_statistics, make_contract
from edgedistill.distill import loop
from edgedistill.distill.batches import Batch
from edgedistill.distill.hardware import choose_hardware
from edgedistill.distill.launch import on_ranks
from edgedistill.distill.loop import STATE, Stretch
from edgedistill.distill.ranks import Rank
from edgedistill.distill.recipes.losses import recipe_of
from edgedistill.distill.recipes.pupil import Pupil
from edgedistill.distill.stored.split_store import SplitStore
from edgedistill.distill.stored.views import stored_views
from edgedistill.distill.teachers.labelling import Labeller
from edgedistill.distill.teachers.making import Labelling
from edgedistill.distill.teachers.teacher import Teacher
from edgedistill.distill.train import Lessons, load_student, schedule_of, train_student
from edgedistill.documents.build_file import AugmentationConfig, DataConfig, TrainConfig
from edgedistill.documents.specs import Contract, StudentSpec
from edgedistill.networks.build import build_student

LOSSES: Final = "losses.json"
ROUNDING: Final = 1e-7


def recorded(rank: Rank, folder: Path, *given: Any) -> None:
    """Train, in one of the processes; the first of them leaves the loss of each step in `folder`."""
    found: list[Tensor] = []
    advance = loop._State.advance

    def kept(self: loop._State, batch: Batch) -> Tensor:
        found.append(advance(self, batch))
        return found[-1]

    loop._State.advance = kept  # type: ignore[method-assign]
    try:
        loop._train_part(rank, *given)
    finally:
        loop._State.advance = advance  # type: ignore[method-assign]
    if rank.first:
        write_atomic(folder / LOSSES, json.dumps([float(loss) for loss in found]))


@dataclass(frozen=True, eq=False)
class Bench:
    """A student of `spec`, and what it learns from."""

    lessons: Lessons
    contract: Contract
    spec: StudentSpec
    epochs: int

    def run(self, recipe: str, processes: int, changed: float = 0.0) -> tuple[list[float], float]:
        """The loss of each step, and images a second, of that many processes; `changed` is the share by which each initial
        weight was changed."""
        from processes import recorded as function  # of a module that other processes can import

        lessons = replace(self.lessons, config=self.lessons.config.model_copy(update={"recipe": recipe}))
        config, batches = lessons.config, lessons.batches(self.contract)
        pupil = self._pupil(config, changed)
        hardware = replace(choose_hardware(config, lessons.dataset.images), processes=processes)
        with tempfile.TemporaryDirectory() as name:
            stretch = Stretch(self.epochs, Path(name))
            parts = (Path(name), pupil.taken_apart(), batches, schedule_of(config, self.epochs), hardware, stretch)
            on_ranks(processes, hardware.device, function, parts, silent)
            losses: list[float] = json.loads((Path(name) / LOSSES).read_text())
            seconds = torch.load(Path(name) / STATE, map_location="cpu", weights_only=True)["seconds"]
        return losses, self.epochs * len(batches.positions) / seconds

    def _pupil(self, config: TrainConfig, changed: float) -> Pupil:
        torch.manual_seed(config.seed)
        network: nn.Module = build_student(self.spec, self.contract)
        with torch.no_grad():
            for parameter in network.parameters() if changed else ():
                parameter.mul_(1 + changed * torch.randn_like(parameter))
        return Pupil(network, recipe_of(config), len(self.contract.labels))


def compared(bench: Bench, recipe: str, processes: int) -> Row:
    """A recipe by one process, by several, and by one from weights that differ by rounding."""
    one, alone = bench.run(recipe, 1)
    several, together = bench.run(recipe, processes)
    near, _ = bench.run(recipe, 1, ROUNDING)
    return {
        "recipe": recipe,
        "processes": processes,
        "steps": len(one),
        "difference": greatest(one, several),
        "difference_of_rounding": greatest(one, near),
        "images_per_second": {"1": alone, str(processes): together},
        "losses": {"1": one, str(processes): several},
    }


def greatest(a: list[float], b: list[float]) -> float:
    """The greatest difference of two curves."""
    return max(abs(x - y) for x, y in zip(a, b, strict=True))


def opened(asked: argparse.Namespace, folder: Path) -> Bench:
    """The data, and views of it that a trained teacher labelled, in a store in `folder`."""
    digits = DataConfig(source="digits", limit=asked.images)
    dataset = load_dataset(digits) if asked.data is None else open_images(asked.data, asked.images)
    mean, std = channel_statistics(dataset)
    config = TrainConfig(recipe="labels", batch_size=asked.batch, learning_rate=asked.rate, processes=1)
    views = stored_views(Store(folder / "cache", listen), dataset, AugmentationConfig())
    teaching, spec = parse_student(asked.teacher), parse_student(asked.student)
    (folder / "teacher").mkdir()
    contract = make_contract(DataConfig(), dataset.classes, teaching.resolution, mean, std)
    lessons = Lessons(dataset, config, SplitStore(views))
    trained = train_student(teaching, contract, lessons, Stretch(asked.epochs, folder / "teacher"), asked.epochs)
    module = load_student(trained, contract)
    teacher = Teacher(teaching.label, module, contract, teaching.label, sum(p.numel() for p in module.parameters()))
    labeller = Labeller(teacher, dataset, views, device=config.device)
    stored = SplitStore(views, Labelling(Store(folder / "cache", listen), labeller, listen).build())
    contract = make_contract(DataConfig(), dataset.classes, spec.resolution, mean, std)
    return Bench(replace(lessons, stored=stored), contract, spec, asked.epochs)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--images", type=int, default=2048)
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--student", default="mobilenetv4,0.5,0.5,28")
    parser.add_argument("--teacher", default="resnet,0.5,0.5,28")
    parser.add_argument("--recipes", default="kd,dist")
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--rate", type=float, default=1e-3)
    parser.add_argument("--json", type=Path, required=True)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        bench = opened(asked, Path(folder))
        rows = [compared(bench, recipe, asked.processes) for recipe in asked.recipes.split(",")]
    settings = {name: str(value) for name, value in vars(asked).items() if name != "json"}
    write_atomic(asked.json, json.dumps({"settings": settings, "rows": rows}, indent=1) + "\n")
    for row in rows:
        speed = ", ".join(f"{value:,.0f} images/s with {count}" for count, value in row["images_per_second"].items())
        print(
            f"{row['recipe']}: losses of {row['steps']} steps differ by at most {row['difference']:.2g} "
            f"(by {row['difference_of_rounding']:.2g} from weights changed by {ROUNDING:g}); {speed}"
        )
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
