"""What stored signals cost: training from them, their size, and how true a byte a logit is.

    python benchmarks/signals.py --json FILE [--images 8000] [--rounds 5] [--weights lite0.pth --pictures FOLDER]

**Speed.** A student of 32 px trains on the same views from labels alone, from a teacher's stored logits, and from the live
teacher, whose network costs ten times the student's. The three take turns, `--rounds` times; images/s are medians, of the
rendering and the steps together.

**Size.** Logits of 1,000 classes on a million views, written and read back in random batches: bytes on the disk, and how
much the process grew while it read them all.

**Truth.** The cosine between the gradients of `kl` from logits stored as bytes and as 16-bit floats, at temperatures 1, 2
and 4, for a student whose logits are one deviation off the teacher's: for drawn logits of three spreads, and with
`--weights` for those that efficientnet_lite0 of ImageNet gives on `--pictures`."""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional as F

from edgedistill.base.progress import silent
from edgedistill.base.store import Store
from edgedistill.data.datasets import Dataset
from edgedistill.data.preprocessing import make_contract
from edgedistill.data.sources import Indices, Pixels
from edgedistill.data.splits import Splits
from edgedistill.data.views import render_batch
from edgedistill.distill.loop import Stretch
from edgedistill.distill.stored.encoding import Bytes, Dense, Rows32, shifted
from edgedistill.distill.stored.signals import StoredSignal, file_name
from edgedistill.distill.stored.split_store import SplitStore
from edgedistill.distill.stored.views import stored_views
from edgedistill.distill.teachers.labelling import Labeller, live_rows
from edgedistill.distill.teachers.making import Labelling
from edgedistill.distill.teachers.teacher import Teacher
from edgedistill.distill.train import Lessons, train_student
from edgedistill.documents.build_file import AugmentationConfig, DataConfig, TrainConfig
from edgedistill.documents.specs import Contract, StudentSpec
from edgedistill.networks.build import build_student
from edgedistill.networks.counting import structure_of
from edgedistill.networks.deploy import deploy

STUDENT = StudentSpec(family="resnet", width=0.25, depth=0.5, resolution=32)
TEACHER = StudentSpec(family="resnet", width=0.8, depth=0.5, resolution=32)
CLASSES = 10
VIEWS, MILLION, WIDE = 10, 1_000_000, 1000
Row = dict[str, Any]


@dataclass(frozen=True)
class Live(SplitStore):
    """The teacher itself in the place of what is stored of it."""

    teacher_itself: Teacher | None = None
    dataset: Dataset | None = None

    def teacher(self, epoch: int, positions: Indices) -> dict[str, NDArray[np.float16]]:
        assert self.teacher_itself is not None and self.dataset is not None
        contract = self.teacher_itself.contract
        train = self.dataset.splits.train
        batch = render_batch(self.dataset.images, train, self.views(epoch), positions, contract)
        rows = live_rows(self.teacher_itself, ("logits",), CLASSES, batch, torch.device("cpu"))["logits"]
        return {"logits": shifted(rows).astype(np.float16)}


@dataclass(frozen=True, eq=False)
class Drawn:
    """Images in memory, uint8 [N, H, W, 3]."""

    pixels: Pixels
    decoded: bool = True

    def __len__(self) -> int:
        return len(self.pixels)

    def __getitem__(self, index: int, /) -> Pixels:
        image: Pixels = self.pixels[index]
        return image


def drawn(images: int) -> Dataset:
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (images, 40, 40, 3), dtype=np.uint8)
    labels = rng.integers(0, CLASSES, images)
    splits = Splits(np.arange(images), np.arange(8), np.arange(8), None)
    return Dataset("drawn", tuple(map(str, range(CLASSES))), labels, Drawn(pixels), splits, "drawn")


def speeds(images: int, rounds: int) -> Row:
    dataset = drawn(images)
    contract = make_contract(DataConfig(), dataset.classes, STUDENT.resolution, (128.0,) * 3, (64.0,) * 3)
    torch.manual_seed(0)
    module = build_student(TEACHER, contract).eval()
    teacher = Teacher("drawn", module, contract, "drawn", sum(p.numel() for p in module.parameters()))
    costs = [structure_of(deploy(build_student(s, contract).eval()), 32).multiply_adds for s in (TEACHER, STUDENT)]
    with tempfile.TemporaryDirectory() as root:
        store = Store(Path(root))
        views = stored_views(store, dataset, AugmentationConfig(views=2))
        (logits,) = Labelling(store, Labeller(teacher, dataset, views, device="cpu"), silent).build()
        stored = SplitStore(views, (logits,))
        kinds = {
            "labels": ("labels", SplitStore(views)),
            "stored": ("kd", stored),
            "live": ("kd", Live(views, (logits,), teacher_itself=teacher, dataset=dataset)),
        }
        taken: dict[str, list[float]] = {kind: [] for kind in kinds}
        for _ in range(rounds):
            for kind, (recipe, learnt) in kinds.items():
                taken[kind].append(images / seconds_of(dataset, contract, recipe, learnt))
    medians = {kind: statistics.median(values) for kind, values in taken.items()}
    return {
        "teacher_by_student_multiply_adds": costs[0] / costs[1],
        "images_per_second": medians,
        "spread": {kind: [min(values), max(values)] for kind, values in taken.items()},
        "stored_by_labels": medians["stored"] / medians["labels"],
        "stored_by_live": medians["stored"] / medians["live"],
    }


def seconds_of(dataset: Dataset, contract: Contract, recipe: str, learnt: SplitStore) -> float:
    config = TrainConfig(recipe=recipe, batch_size=128, workers=0, device="cpu", threads=1)
    with tempfile.TemporaryDirectory() as folder:
        began = time.perf_counter()
        train_student(STUDENT, contract, Lessons(dataset, config, learnt), Stretch(1, Path(folder)), 1)
        return time.perf_counter() - began


def size() -> Row:
    encoding, images = Bytes(WIDE), MILLION // VIEWS
    rng = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for view in range(VIEWS):
            with (folder / file_name(view)).open("wb") as stream:
                for _ in range(images // 1000):
                    stream.write(encoding.encode(rng.normal(0, 3, (1000, WIDE)).astype(np.float32)).tobytes())
        total = sum(file.stat().st_size for file in folder.iterdir())
        signal = StoredSignal("logits", folder, images, encoding)
        order = rng.permutation(images)
        signal.at(0, order[:128])
        before = own_bytes()
        most = 0
        for view in range(VIEWS):
            for start in range(0, images, 128):
                signal.at(view, order[start : start + 128])
            most = max(most, own_bytes() - before)
    return {"views": MILLION, "classes": WIDE, "bytes": total, "growth_bytes": most}


def own_bytes() -> int:
    """Memory of this process that no file stands behind."""
    fields = Path("/proc/self/statm").read_text().split()
    return (int(fields[1]) - int(fields[2])) * resource.getpagesize()


def truth(logits: Iterator[tuple[str, Rows32]]) -> list[Row]:
    found = []
    for name, values in logits:
        rows = shifted(values)
        student = torch.from_numpy(rows + np.random.default_rng(1).normal(0, values.std(), rows.shape)).double()
        for temperature in (1.0, 2.0, 4.0):
            gradients = [
                gradient(student, encoding.decode(encoding.encode(rows)).astype(np.float64), temperature)
                for encoding in (Dense(rows.shape[1]), Bytes(rows.shape[1]))
            ]
            cosine = float(F.cosine_similarity(gradients[0].flatten(), gradients[1].flatten(), dim=0))
            found.append({"logits": name, "images": len(rows), "temperature": temperature, "cosine": cosine})
    return found


def gradient(student: torch.Tensor, teacher: NDArray[np.float64], temperature: float) -> torch.Tensor:
    return (student / temperature).softmax(1) - (torch.from_numpy(teacher) / temperature).softmax(1)


def logits_of(weights: Path | None, pictures: Path | None) -> Iterator[tuple[str, Rows32]]:
    for spread in (1.0, 3.0, 8.0):
        yield f"drawn, spread {spread:g}", np.random.default_rng(0).normal(0, spread, (1024, WIDE)).astype(np.float32)
    if weights is None or pictures is None:
        return
    from PIL import Image
    from timm import create_model

    from edgedistill.distill.teachers.checkpoint import load_checkpoint

    network = create_model("efficientnet_lite0").eval()
    load_checkpoint(network, weights)
    files = sorted(file for file in pictures.rglob("*") if file.suffix in (".png", ".jpg"))[:256]
    images = np.stack([np.asarray(Image.open(file).convert("RGB").resize((224, 224))) for file in files])
    mean, std = (np.array(v, np.float32) for v in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    with torch.inference_mode():
        given = torch.from_numpy(((images / 255 - mean) / std).astype(np.float32)).permute(0, 3, 1, 2)
        yield "efficientnet_lite0 on pictures", torch.cat([network(part) for part in torch.split(given, 32)]).numpy()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, required=True)
    parser.add_argument("--images", type=int, default=8000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--weights", type=Path)
    parser.add_argument("--pictures", type=Path)
    arguments = parser.parse_args()
    document: Row = {"truth": truth(logits_of(arguments.weights, arguments.pictures))}
    for row in document["truth"]:
        print(f"{row['logits']:32} T = {row['temperature']:g}: cosine {row['cosine']:.6f}")
    document["size"] = size()
    print(f"{document['size']['bytes'] / 1e9:.3f} GB, grew by {document['size']['growth_bytes'] / 1e6:.0f} MB")
    document["speed"] = speeds(arguments.images, arguments.rounds)
    print(json.dumps(document["speed"], indent=1))
    arguments.json.write_text(json.dumps(document, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
