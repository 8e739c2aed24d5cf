"""From `[teacher]` to a teacher that is known to work: right input, right classes, trained weights, finite output."""

from __future__ import annotations

import hashlib
from pathlib import Path

import torch
from torch import nn

from edgedistill.base.errors import InputError, KeysDifferError
from edgedistill.base.store import digest, tool_version
from edgedistill.data.datasets import Dataset
from edgedistill.data.preprocessing import Statistics, channel_statistics, make_contract, scaled
from edgedistill.distill.recipes.taps import classifier_of
from edgedistill.distill.teachers.checkpoint import classifier, load_checkpoint
from edgedistill.distill.teachers.identity import require_weights, source_hash
from edgedistill.distill.teachers.networks import build_network
from edgedistill.distill.teachers.open_clip_models import read_text_vectors
from edgedistill.distill.teachers.places import EXTRAS, OPEN_CLIP
from edgedistill.distill.teachers.teacher import Teacher
from edgedistill.documents.build_file import DataConfig
from edgedistill.documents.specs import Contract, VectorContract
from edgedistill.documents.teachers import TeacherConfig
from edgedistill.networks.build import Normalised


def load_teacher(
    config: TeacherConfig,
    dataset: Dataset,
    data_config: DataConfig,
    base: Path,
    *,
    fetch: bool = True,
    vector: VectorContract | None = None,
) -> Teacher:
    """Load the teacher of a build file that lies in folder `base`, in eval mode on the CPU.

    Its resolution is `config.resolution`, else the model's own. Its normalisation is `config.mean` and `config.std`, else
    that of pretrained weights that state one, else the statistics of the training split. With `fit` the weights are what
    training starts from, drawn from the seed of `fit` where there are none. With `fetch` off timm's pretrained weights are
    not loaded: size and cost of the teacher are its own, its answers are not. With `vector` it has no classifier, and gives
    such. Raises InputError.
    """
    require_weights(config, vectors=vector is not None)
    library, _, _ = config.model.partition(":")
    classes = len(dataset.classes) if vector is None else None
    named = config.text_vectors if vector is None else None
    vectors = None if named is None else read_text_vectors(named, dataset.classes)
    with torch.random.fork_rng(devices=()):
        torch.manual_seed(config.fit.seed if config.fit else 0)
        network = build_network(config, classes, base, fetch=fetch, vectors=vectors)
    if config.checkpoint is not None and library != OPEN_CLIP:  # a tower is only a part of what its file holds
        _load(config, network, config.checkpoint, headless=vector is not None)
    if vector is None:
        _order_classes(network, dataset.classes)
    mean, std = _statistics(config, network, dataset)
    contract = make_contract(data_config, dataset.classes, _resolution(config, network), mean, std, vector)
    module = Normalised(network, mean, std, unit=vector is not None).eval()
    _check_output(config, module, contract)
    architecture = {
        "model": config.model,
        "arguments": config.arguments,
        "source": _source(library, base),
        "contract": contract.computed,
    }
    return Teacher(
        name=config.model,
        module=module,
        contract=contract,
        key=digest([architecture, weights_sha256(module)]),
        parameters=sum(p.numel() for p in network.parameters()),
        trained=config.pretrained or config.checkpoint is not None,
    )


def _source(library: str, base: Path) -> str | None:
    """What beside its weights decides what a network computes; timm's version is told with the tools of a stage."""
    if library == "timm":
        return None
    return tool_version(library) if library in EXTRAS else source_hash(library, base)


def dimension_of(config: TeacherConfig, base: Path) -> int:
    """How many numbers the vectors of `load_teacher`'s teacher have, told without its weights. Raises InputError."""
    with torch.random.fork_rng(devices=()):
        network = build_network(config, None, base, fetch=False).eval()
    side = _resolution(config, network)
    found = _black_image(config, network, side)
    if found.ndim != 2:
        raise InputError(
            f"the teacher {config.model} gives {list(found.shape)} for an image, not a vector",
            fix="name a network that ends in pooled features, or a function that returns one",
        )
    return found.shape[1]


def resolution_of(config: TeacherConfig, classes: int | None, base: Path) -> int:
    """The side of the input of `load_teacher`'s teacher, told without its weights. Raises InputError."""
    if config.resolution is not None:
        return config.resolution
    with torch.random.fork_rng(devices=()):
        return _resolution(config, build_network(config, classes, base, fetch=False))


def _load(config: TeacherConfig, network: nn.Module, path: Path, *, headless: bool) -> None:
    """Load a checkpoint. With `fit`, timm's classifier may be for other classes or missing: it is trained anew. For a
    `headless` network it is left out. Raises InputError."""
    own = classifier(network)
    try:
        load_checkpoint(network, path, replaced=own if config.fit or headless else ())
    except KeysDifferError as error:
        if any(problem.where.rpartition(".")[0] not in own for problem in error.problems):
            raise
        raise KeysDifferError(
            f"the checkpoint {path} has no classifier for the classes of the data",
            problems=error.problems,
            fix="let it be fine-tuned with a new classifier: fit = {epochs = 10} in [teacher]",
        ) from error


@torch.no_grad()
def _order_classes(network: nn.Module, classes: tuple[str, ...]) -> None:
    """Where a network says which class each logit is of, and these are those of the data in another order, its classifier is
    put into that of the data."""
    own = getattr(network, "class_names", ())
    if own == classes or sorted(own) != sorted(classes):
        return
    found, order = classifier_of(network, len(classes)), [own.index(name) for name in classes]
    found.weight.copy_(found.weight[order].clone())
    if found.bias is not None:
        found.bias.copy_(found.bias[order].clone())


def weights_sha256(module: nn.Module) -> str:
    """SHA-256 (hex) of all parameters and buffers: names, types, shapes and bytes."""
    hasher = hashlib.sha256()
    for name, tensor in module.state_dict().items():
        hasher.update(f"{name}\0{tensor.dtype}\0{list(tensor.shape)}\n".encode())
        flat = tensor.detach().cpu().contiguous().reshape(-1)
        hasher.update(flat.view(torch.uint8).numpy().data)
    return hasher.hexdigest()


def _statistics(config: TeacherConfig, network: nn.Module, dataset: Dataset) -> tuple[Statistics, Statistics]:
    """Mean and standard deviation on the 0..255 scale."""
    trained = config.pretrained or config.model.startswith(f"{OPEN_CLIP}:")
    settings = _settings(network) if trained else {}
    mean, std = config.mean or settings.get("mean"), config.std or settings.get("std")
    if mean is None or std is None:
        return channel_statistics(dataset)
    return scaled(mean), scaled(std)


def _resolution(config: TeacherConfig, network: nn.Module) -> int:
    if config.resolution is not None:
        return config.resolution
    size = _settings(network).get("input_size")
    if size is None or size[-1] != size[-2]:
        what = "does not state the size of its input" if size is None else f"takes {size[-1]} x {size[-2]} pixels"
        raise InputError(f"the teacher {config.model} {what}", fix="add resolution = PIXELS to [teacher]")
    return int(size[-1])


def _settings(network: nn.Module) -> dict[str, tuple[float, ...]]:
    """What timm keeps with a network about the data that its weights expect; nothing for other networks."""
    settings = getattr(network, "pretrained_cfg", None)
    return settings if isinstance(settings, dict) else {}


def _check_output(config: TeacherConfig, module: nn.Module, contract: Contract) -> None:
    """One black image through the teacher."""
    classes, outputs = len(contract.labels), _black_image(config, module, contract.resolution)
    if outputs.shape != (1, contract.width):
        of_classes = contract.vector is None
        raise InputError(
            f"the teacher {config.model} returns {list(outputs.shape)} for one image, not [1, {contract.width}]"
            + f" for the data's {classes} classes" * of_classes,
            fix="build it with as many outputs as the data has classes, e.g. by [teacher] arguments"
            if of_classes
            else "let it give a vector for each image",
        )
    if not torch.isfinite(outputs).all():
        raise InputError(
            f"the teacher {config.model} returns values that are not finite for a black image",
            fix="check its checkpoint",
        )


@torch.inference_mode()
def _black_image(config: TeacherConfig, module: nn.Module, side: int) -> torch.Tensor:
    """What a network gives for one. Raises InputError where it fails, or gives no tensor."""
    # A user's network may raise anything on an input that it is not made for.
    try:
        outputs = module(torch.zeros(1, 3, side, side))
    except Exception as error:
        raise InputError(
            f"the teacher {config.model} fails on an image of 3 x {side} x {side}: {str(error) or type(error).__name__}",
            fix="set resolution in [teacher] to the side of its input in pixels",
        ) from error
    if not isinstance(outputs, torch.Tensor):
        raise InputError(
            f"the teacher {config.model} returns {type(outputs).__name__}, not a tensor of logits",
            fix="wrap it in a module whose forward returns the logits",
        )
    return outputs
