"""Image classifiers of Hugging Face's transformers, from a hub or a folder written by `save_pretrained`."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from edgedistill.base.errors import InputError, NotFetchedError, first_line
from edgedistill.base.quiet import quiet
from edgedistill.distill.recipes.taps import classifier_path, layer_width
from edgedistill.distill.teachers.places import TRANSFORMERS, folder_of, require_library
from edgedistill.documents.teachers import TeacherConfig


class LogitsOnly(nn.Module):
    """A classifier of transformers that gives its logits [N, classes], or what goes into its classifier, for normalised
    images [N, 3, R, R]. `class_names` are those of its logits in order; `pretrained_cfg` is what timm keeps with its own
    networks of the data that they expect."""

    def __init__(self, model: nn.Module, pretrained_cfg: dict[str, Any], class_names: tuple[str, ...]) -> None:
        super().__init__()
        self.model = model
        self.pretrained_cfg = pretrained_cfg
        self.class_names = class_names
        # Transformers have positions for one size of image, and spread them over another only where they are told to.
        resizable = "interpolate_pos_encoding" in inspect.signature(model.forward).parameters
        self.options = {"interpolate_pos_encoding": True} if resizable else {}

    def forward(self, image: Tensor) -> Tensor:
        logits: Tensor = self.model(pixel_values=image, **self.options).logits
        return logits


def transformers_network(
    config: TeacherConfig, name: str, classes: int | None, base: Path, *, fetch: bool
) -> nn.Module:
    """The classifier `name`, a folder seen from `base` or a name of the hub, with its weights where `config.pretrained` asks
    for them and `fetch` is on. With `config.fit` a classifier for other classes is new, and with `classes` None there is
    none: it gives what goes into that. Nothing of its repository is run. Raises InputError, MissingDependencyError."""
    require_library(TRANSFORMERS)
    if config.checkpoint is not None:
        raise InputError(
            "[teacher] checkpoint: a model of transformers has its weights in its folder",
            fix='name the folder, model = "transformers:FOLDER", with pretrained = true',
        )
    folder = folder_of(name, base)
    with quiet():
        return _built(config, name, str(folder or name), classes, fetch=fetch)


def known_classes(config: TeacherConfig, name: str, base: Path) -> int:
    """How many classes `name` tells apart, by its configuration. Raises InputError."""
    from transformers import AutoConfig

    with quiet(), _loading(name):
        return int(AutoConfig.from_pretrained(str(folder_of(name, base) or name), **config.arguments).num_labels)


@contextmanager
def _loading(name: str) -> Iterator[None]:
    """What transformers raises, as InputError."""
    try:
        yield
    except OSError as error:
        raise NotFetchedError(
            f"[teacher] {name} cannot be loaded by transformers: {first_line(error)}",
            fix="name a folder written by save_pretrained, or connect to the network once (it is kept)",
        ) from error
    except (ValueError, TypeError, KeyError, RuntimeError, AttributeError, ImportError) as error:
        raise InputError(
            f"[teacher] transformers cannot build {name}: {first_line(error)}",
            fix="name a model that AutoModelForImageClassification opens, and check arguments in [teacher]",
        ) from error


def _built(config: TeacherConfig, name: str, place: str, asked: int | None, *, fetch: bool) -> nn.Module:
    from transformers import AutoConfig, AutoModelForImageClassification

    with _loading(name):
        settings = AutoConfig.from_pretrained(place, **config.arguments)
        known = int(settings.num_labels)
        classes = known if asked is None else asked
        if config.pretrained and known != classes and config.fit is None:
            raise InputError(
                f"[teacher] {name} was trained for {known} classes, and the data has {classes}",
                fix="add fit = { epochs = 10 } to [teacher], which gives it a new classifier",
            )
        if known != classes:
            settings.num_labels = classes
        if not (config.pretrained and fetch):
            model = AutoModelForImageClassification.from_config(settings)  # type: ignore[no-untyped-call]
        else:
            model, loaded = AutoModelForImageClassification.from_pretrained(
                place, config=settings, dtype=torch.float32, ignore_mismatched_sizes=True, output_loading_info=True
            )
            _require_weights(config, name, model, loaded, headless=asked is None)
    names = tuple(str(settings.id2label[index]) for index in range(classes)) if known == classes else ()
    network = LogitsOnly(model, _expected(place, settings), names)
    path = classifier_path(network, classes)
    if asked is None:
        network.set_submodule(path, nn.Identity())
    else:
        network.pretrained_cfg["classifier"] = path
    return network


def _require_weights(
    config: TeacherConfig, name: str, model: Any, loaded: dict[str, Iterable[Any]], *, headless: bool
) -> None:
    """Raises InputError for weights that do not fill the network: but for the classifier, which `fit` may train anew, or
    which is not needed."""
    lacking = [key if isinstance(key, str) else key[0] for kind in _LACKING for key in loaded.get(kind, ())]
    layers, classes = dict(model.named_modules()), model.config.num_labels
    new = all(layer_width(layers.get(key.rpartition(".")[0])) == classes for key in lacking)
    if not lacking or (new and (headless or config.fit is not None)):
        return
    fix = "add fit = { epochs = 10 } to [teacher] to train it" if new else "name a checkpoint of this architecture"
    raise InputError(f"[teacher] {name} has no weights for {', '.join(sorted(lacking)[:5])}", fix=fix)


_LACKING = ("missing_keys", "mismatched_keys")


def _expected(place: str, settings: Any) -> dict[str, Any]:
    """What its image processor says of the images that it was trained on, on the scale 0..1, as timm says it."""
    from transformers.image_processing_base import ImageProcessingMixin

    size = getattr(settings, "image_size", None)
    found: dict[str, Any] = {}
    try:
        said, _ = ImageProcessingMixin.get_image_processor_dict(place)
    except OSError:
        said = {}
    if said.get("do_normalize", True) and "image_mean" in said and "image_std" in said:
        found |= {"mean": tuple(said["image_mean"]), "std": tuple(said["image_std"])}
    elif said and not said.get("do_normalize", True):
        found |= {"mean": (0.0, 0.0, 0.0), "std": (1.0, 1.0, 1.0)}
    cut = said.get("crop_size") if said.get("do_center_crop") else None
    side = _side(cut) or _side(said.get("size")) or _side(size)
    return found if side is None else found | {"input_size": (3, side, side)}


def _side(size: Any) -> int | None:
    """The side of a square in one of the ways in which transformers writes it; None for what is none."""
    if isinstance(size, dict):
        sides = {size.get(key) for key in ("height", "width") if key in size} or {size.get("shortest_edge")}
        size = sides.pop() if len(sides) == 1 else None
    if isinstance(size, list | tuple):
        size = size[0] if len(set(size)) == 1 else None
    return size if isinstance(size, int) else None
