"""Image towers of open_clip with a classifier on top: its rows are text vectors of the classes, or are trained.

A tower with text vectors tells classes apart without having been trained for them (Radford et al. 2021,
https://arxiv.org/abs/2103.00020): the logit of a class is the scaled cosine of image and text.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from edgedistill.base.arrays import UNREADABLE
from edgedistill.base.errors import InputError, NotFetchedError, first_line
from edgedistill.base.quiet import quiet
from edgedistill.distill.teachers.checkpoint import load_checkpoint
from edgedistill.distill.teachers.places import OPEN_CLIP, folder_of, require_library
from edgedistill.documents.teachers import TeacherConfig


class ImageTower(nn.Module):
    """Normalised images [N, 3, R, R] to logits [N, classes]: `head` of what `visual` gives, at length 1 where `normalised`.
    A head that changes nothing leaves the vectors. `pretrained_cfg` is what timm keeps with its own networks of the data
    that they expect."""

    def __init__(self, visual: nn.Module, head: nn.Module, pretrained_cfg: dict[str, Any], *, normalised: bool) -> None:
        super().__init__()
        self.visual = visual
        self.head = head
        self.pretrained_cfg = pretrained_cfg
        self.normalised = normalised

    def forward(self, image: Tensor) -> Tensor:
        found = self.visual(image)
        features = found[0] if isinstance(found, tuple) else found
        logits: Tensor = self.head(F.normalize(features, dim=-1) if self.normalised else features)
        return logits


def open_clip_network(
    config: TeacherConfig,
    name: str,
    classes: int | None,
    base: Path,
    vectors: NDArray[np.float32] | None,
    *,
    fetch: bool,
) -> nn.Module:
    """The image tower of `name`: one of open_clip's, with the tag of its weights behind a slash (`ViT-B-32/openai`), a
    folder seen from `base`, or `hf-hub:NAME`. `config.pretrained` takes these weights, unless `fetch` is off,
    `config.checkpoint` those of a file. `vectors` [classes, D] are the text vectors of the classes; with `classes` None
    the tower gives its vectors. Raises InputError, MissingDependencyError."""
    require_library(OPEN_CLIP)
    with quiet():
        clip, expected = _clip(config, name, base, fetch=fetch)
    if config.checkpoint is not None:
        load_checkpoint(clip, config.checkpoint)
    if classes is None:
        return ImageTower(clip.visual, nn.Identity(), expected, normalised=False)
    side = expected["input_size"][-1]
    width = _width(clip.visual, side)
    head = nn.Linear(width, classes, bias=vectors is None)
    if vectors is None:
        nn.init.zeros_(head.bias)
        nn.init.normal_(head.weight, std=0.01)
    elif vectors.shape != (classes, width):
        raise InputError(
            f"[teacher] text_vectors has shape {list(vectors.shape)}, and {name} needs [{classes}, {width}]",
            fix="give a vector of its text encoder for each class of the data",
        )
    else:
        scale = float(clip.logit_scale.detach().exp())
        rows = F.normalize(torch.from_numpy(np.array(vectors, np.float32)), dim=-1)
        head.weight = nn.Parameter(scale * rows)
    return ImageTower(clip.visual, head, expected, normalised=vectors is not None)


def _clip(config: TeacherConfig, name: str, base: Path, *, fetch: bool) -> tuple[Any, dict[str, Any]]:
    """The whole model, and what it expects of images."""
    import open_clip  # type: ignore[import-untyped]

    folder = folder_of(name, base)
    hub = name.startswith("hf-hub:")
    model, _, tag = (name, "", "") if hub or folder else name.partition("/")
    place = f"local-dir:{folder}" if folder else model
    wanted = config.pretrained and fetch
    if config.pretrained and not (folder or hub or tag):
        tags = open_clip.list_pretrained_tags_by_model(model)
        raise InputError(
            f"[teacher] model: {name} does not say which of its weights are meant",
            fix=f"write open_clip:{model}/TAG, with one of: {', '.join(tags)}" if tags else "check its name",
        )
    if not (folder or hub) and model not in open_clip.list_models():
        raise InputError(
            f"[teacher] model: open_clip has no model {model!r}",
            fix="open_clip.list_models() has all names; a folder begins with ./",
        )
    try:
        clip = open_clip.create_model(
            place,
            pretrained=tag or None if wanted else None,
            load_weights=wanted,
            force_image_size=config.resolution,
            pretrained_text=False,
            require_pretrained=wanted,
            **config.arguments,
        )
    except (OSError, RuntimeError, ValueError, TypeError, KeyError) as error:
        kind = NotFetchedError if wanted and not folder else InputError
        raise kind(
            f"[teacher] open_clip cannot load {name}: {first_line(error)}",
            fix="check the name and its tag, and connect to the network once (weights are kept)",
        ) from error
    said = open_clip.get_model_preprocess_cfg(clip)
    sides = {int(side) for side in np.ravel(said["size"])}
    if len(sides) != 1:
        raise InputError(f"[teacher] {name} takes {said['size']} pixels, not a square", fix="name another model")
    side = sides.pop()
    expected = {"mean": tuple(said["mean"]), "std": tuple(said["std"]), "input_size": (3, side, side)}
    return clip, {**expected, "classifier": "head"}


@torch.no_grad()
def _width(visual: nn.Module, side: int) -> int:
    """Numbers that the tower gives for an image."""
    mode = visual.training
    found = visual.eval()(torch.zeros(1, 3, side, side))
    visual.train(mode)
    return int((found[0] if isinstance(found, tuple) else found).shape[-1])


def read_class_vectors(path: Path, classes: tuple[str, ...], dimension: int) -> NDArray[np.float32]:
    """`read_text_vectors` for images whose vectors have `dimension` numbers. Raises InputError."""
    vectors = read_text_vectors(path, classes, "[embedding] class_vectors")
    if vectors.shape != (len(classes), dimension):
        raise InputError(
            f"[embedding] class_vectors has shape {list(vectors.shape)}, and [{len(classes)}, {dimension}] is needed",
            fix="give a vector for each class of the data, as long as the teacher's",
        )
    return vectors


def read_text_vectors(
    path: Path, classes: tuple[str, ...], where: str = "[teacher] text_vectors"
) -> NDArray[np.float32]:
    """float32 [classes, D] of a file: .npy with a row for each class, in the order of `classes`, or .npz with an array for
    each, by name. Raises InputError, which says `where` the build file names it."""
    try:
        found = np.load(path, allow_pickle=False)
        if not isinstance(found, np.ndarray):
            missing = [name for name in classes if name not in found]
            if missing:
                raise InputError(
                    f"{where}: {path} has no vector for {', '.join(missing[:5])}",
                    fix="add an array for each class, by its name",
                )
            found = np.stack([found[name] for name in classes])
        vectors: NDArray[np.float32] = found.astype(np.float32)
    except UNREADABLE as error:
        raise InputError(
            f"{where}: {path} cannot be read: {first_line(error)}",
            fix="save a float array [classes, D] by numpy.save, or one array a class by numpy.savez",
        ) from error
    if vectors.ndim != 2 or not np.isfinite(vectors).all() or (np.abs(vectors).sum(1) == 0).any():
        raise InputError(
            f"{where}: {path} holds {list(vectors.shape)}, not a finite vector for each class",
            fix="save a float array [classes, D]",
        )
    return vectors
