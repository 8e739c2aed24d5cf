"""What an engineer writes with timm, torch and ONNX Runtime alone: fine-tune a teacher, distil a student, make files of it.

Nothing of edgedistill is imported. `by_hand.py` has the command line, whose options are the `options` here. Views,
optimiser, schedule, average of the weights and losses are timm's (1.0.31), used as its train.py does.
"""

from __future__ import annotations

import copy
import sys
from argparse import Namespace
from functools import cache, partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import onnxruntime  # type: ignore[import-untyped]
import timm
import torch
from onnxruntime.quantization import QuantType, quantize_static  # type: ignore[import-untyped]
from onnxruntime.quantization.shape_inference import quant_pre_process  # type: ignore[import-untyped]
from PIL import Image, ImageOps
from safetensors.torch import save_file
from timm.data import create_transform
from timm.optim import create_optimizer_v2
from timm.scheduler import create_scheduler_v2
from timm.task import ClassificationTask, LogitDistillationTask
from timm.utils import random_seed
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

Files = tuple[tuple[Path, int], ...]
"""Pictures, each with the number of its class."""
Color = tuple[int, int, int]
Labelled = tuple[Tensor, Tensor]
Options = dict[str, Any]


def read(path: Path, background: Color) -> Image.Image:
    """A picture, upright, as RGB on the background."""
    with Image.open(path) as opened:
        picture = ImageOps.exif_transpose(opened).convert("RGBA")
    page = Image.new("RGB", picture.size, background)
    page.paste(picture, mask=picture)
    return page


@cache
def whole(files: Files, resolution: int, background: Color) -> Labelled:
    """Pictures as squares, uint8 [N, 3, R, R], and their labels, int64 [N]: for validation and test."""
    squash = create_transform(resolution, crop_pct=1.0, crop_mode="squash", interpolation="bilinear", normalize=False)
    pictures = torch.stack([squash(read(path, background)) for path, _ in files])
    return pictures, torch.tensor([label for _, label in files])


class Views(Dataset[tuple[Tensor, int]]):
    """Training pictures, decoded and shrunk once to twice a view's side. Each time another view of them."""

    def __init__(self, files: Files, resolution: int, background: Color) -> None:
        self.resolution, self.labels = resolution, [label for _, label in files]
        self.pictures, self.transform = list[Image.Image](), cast("Any", None)
        for path, _ in files:
            picture = read(path, background)
            factor = min(1.0, 2 * resolution / min(picture.size))
            width, height = (max(1, round(length * factor)) for length in picture.size)
            self.pictures.append(picture.resize((width, height), Image.Resampling.BICUBIC, reducing_gap=3.0))

    def __len__(self) -> int:
        return len(self.pictures)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self.transform(self.pictures[index]), self.labels[index]


class Deployed(nn.Module):
    """What an app calls: [N, 3, R, R] in 0..255, of bytes or floats, to logits. timm's mean and std are inside."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network, config = network, cast("Options", network.pretrained_cfg)
        mean, std = (torch.tensor(config[key]).view(1, 3, 1, 1) for key in ("mean", "std"))
        self.factor, self.shift = nn.Buffer(1 / (255 * std)), nn.Buffer(-mean / std)

    def forward(self, image: Tensor) -> Any:
        return self.network(image.float() * self.factor + self.shift)


def restored(name: str, classes: int, weights: Path) -> nn.Module:
    """A network that `fitted` wrote."""
    return timm.create_model(name, num_classes=classes, checkpoint_path=str(weights)).eval()


def shrunk(resolution: int, module: nn.Module, inputs: tuple[Tensor]) -> tuple[Tensor]:
    """What a network is shown of images [N, 3, S, S]: at most `resolution` pixels a side."""
    (images,) = inputs
    larger = images.shape[-1] > resolution
    return (
        nn.functional.interpolate(images, (resolution,) * 2, mode="bilinear", antialias=True) if larger else images,
    )


def right(network: nn.Module, split: Labelled, device: torch.device) -> float:
    """The share of a split that a network gets right."""
    deployed = Deployed(network).eval().to(device)
    with torch.inference_mode():
        answers = [deployed(pictures.to(device)).argmax(1).cpu() for pictures in torch.split(split[0], 128)]
    return float((torch.cat(answers) == split[1]).float().mean())


def fitted(
    options: Namespace, views: Views, validation: Labelled, classes: int, teacher: nn.Module | None, out: Path
) -> Options:
    """Train a model of timm by `options.rate` and `options.seed`, and write its weights to `out`: of the epoch whose average
    of the weights gets most of the validation split right. With a teacher the student learns its logits of each view; of
    views that are larger than `options.resolution` it sees a smaller copy."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    random_seed(options.seed)  # type: ignore[no-untyped-call]
    weights = {"pretrained_cfg_overlay": {"file": str(options.weights)}} if options.weights else {}
    drop: Options = {"drop_rate": options.drop, "drop_path_rate": options.drop_path, **weights}
    network = timm.create_model(options.model, bool(weights), num_classes=classes, **drop).to(device)
    # timm draws it from a range that is wide where classes are few: the loss would begin far above that of a guess.
    nn.init.trunc_normal_(cast("Any", network).get_classifier().weight, std=0.01)
    config = cast("Options", network.pretrained_cfg)
    seen: Options = {"mean": config["mean"], "std": config["std"], "interpolation": "bilinear", "color_jitter": 0.3}
    seen |= {"scale": (options.scale, 1.0), "auto_augment": options.augment or None, "re_prob": options.erase}
    network.register_forward_pre_hook(partial(shrunk, options.resolution))
    views.transform = create_transform(views.resolution, is_training=True, **seen)
    batch = min(options.batch, len(views))
    loader = DataLoader(views, batch, shuffle=True, drop_last=True, num_workers=options.workers)
    decay = options.weight_decay
    optimizer = create_optimizer_v2(network, "adamw", options.rate, decay, layer_decay=options.layer_decay)
    ends: Options = dict.fromkeys(("warmup_lr", "min_lr"), options.rate / 100)
    ends |= {"num_epochs": options.epochs, "step_on_epochs": False, "updates_per_epoch": len(loader)}
    schedule: Any = create_scheduler_v2(optimizer, warmup_epochs=min(1, options.epochs // 2), **ends)[0]
    if teacher is None:
        loss_of: Options = {"criterion_kwargs": {"smoothing": options.smoothing}}
        task: Any = ClassificationTask(network, **loss_of, device=device, verbose=False)
    else:  # KL divergence at a temperature, and cross entropy
        loss_of = {"task_loss_weight": options.label_weight, "temperature": options.temperature}
        shown = copy.deepcopy(teacher).to(device)
        task = LogitDistillationTask(network, shown, nn.CrossEntropyLoss(), **loss_of, device=device, verbose=False)
    average = task.setup_ema(options.ema, use_warmup=True).module
    best, chosen, step = -1.0, dict[str, Tensor](), 0
    for epoch in range(options.epochs):
        task.train()
        for pictures, labels in loader:
            with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
                loss = task(pictures.to(device), labels.to(device))["loss"]
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(network.parameters(), 5.0)
            optimizer.step()
            step += 1
            task.update_ema(step)
            schedule.step_update(step)
        quality = right(average, validation, device)
        print(f"{options.model} epoch {epoch + 1}: loss {loss.item():.3f}, validation {quality:.2%}", file=sys.stderr)
        if quality >= best:
            best, chosen = quality, {name: t.detach().cpu().clone() for name, t in average.state_dict().items()}
    out.parent.mkdir(parents=True, exist_ok=True)
    save_file(chosen, out)
    return {"validation": best, "weights": str(out), "steps": step, "images_seen": step * batch}


def exported(network: nn.Module, resolution: int, calibration: Tensor, folder: Path) -> dict[str, Path]:
    """ONNX files by precision: fp32 by torch's exporter, int8 by ONNX Runtime's static quantisation with the ranges of
    `calibration`, uint8 [N, 3, R, R]. Their input is `image`, uint8 [1, 3, R, R]."""
    files = {precision: folder / f"{precision}.onnx" for precision in ("fp32", "int8")}
    image, prepared = torch.zeros(1, 3, resolution, resolution, dtype=torch.uint8), folder / "prepared.onnx"
    torch.onnx.export(Deployed(network).eval(), (image,), files["fp32"], external_data=False, dynamo=True)
    quant_pre_process(files["fp32"], prepared)
    feeds = iter([{"image": picture[None]} for picture in calibration.numpy()])
    reader = SimpleNamespace(get_next=partial(next, feeds, None))
    quantize_static(prepared, files["int8"], reader, per_channel=True, activation_type=QuantType.QUInt8)
    prepared.unlink()
    return files


def right_of_file(file: Path, pictures: Files, background: Color) -> Tensor:
    """Which of the pictures an ONNX file gets right at the side that it takes, bool [N]."""
    session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    (node,) = session.get_inputs()
    images, labels = whole(pictures, int(node.shape[-1]), background)
    answers = [int(np.argmax(session.run(None, {node.name: image[None]})[0])) for image in images.numpy()]
    return torch.tensor(answers) == labels
