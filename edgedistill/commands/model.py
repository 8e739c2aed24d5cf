"""What `export` takes for a model: a library's names, a function of the user's, a torch.export program."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from edgedistill.base.arrays import Images
from edgedistill.base.errors import InputError, NotFetchedError, Problem, UnsupportedError
from edgedistill.base.isolation import Limits
from edgedistill.base.progress import Listener, silent
from edgedistill.base.store import digest, file_sha256, size_bytes
from edgedistill.commands.requests import (
    LIBRARIES,
    ModelSettings,
    Triple,
    in_the_words_of_a_command,
    read_labels,
    teacher_config,
)
from edgedistill.data.calibration import calibration_pixels, choose_calibration
from edgedistill.data.datasets import load_dataset
from edgedistill.data.images import SUFFIXES, check_image, read_rgb
from edgedistill.data.preprocessing import resize, scaled
from edgedistill.distill.teachers.checkpoint import load_checkpoint
from edgedistill.distill.teachers.load import weights_sha256
from edgedistill.distill.teachers.networks import build_network
from edgedistill.distill.teachers.open_clip_models import read_text_vectors
from edgedistill.distill.teachers.places import OPEN_CLIP, TRANSFORMERS
from edgedistill.distill.teachers.transformers_models import known_classes
from edgedistill.documents.artifacts import ExportedModel
from edgedistill.documents.build_file import DataConfig
from edgedistill.documents.specs import Contract, Format, Precision, QuantScheme, Target
from edgedistill.documents.teachers import TeacherConfig
from edgedistill.formats import format_for
from edgedistill.formats.foreign import reading, reading_within
from edgedistill.networks.build import Normalised
from edgedistill.networks.deploy import deploy
from edgedistill.networks.program.pt2 import output_shapes, read_program
from edgedistill.pipeline.bench import Source

IMAGENET_CLASSES = 1000
_UNSCALED = ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
_MOST_CLASSES = 1_000_000
"""An operator makes a row of billions from one number; each class gets a label."""


@dataclass(frozen=True, eq=False)
class OnnxFile:
    """An ONNX file that was read: the model as it is, and its contract, None where it carries none."""

    model: ExportedModel
    contract: Contract | None


def open_onnx_file(path: Path, target: Target) -> OnnxFile:
    """The fp32 file at `path`, read in a child process. Raises InputError for a file that is none, or not fp32."""
    return reading(path, _read_onnx, path, target)


def _read_onnx(path: Path, target: Target) -> OnnxFile:
    from edgedistill.formats.onnx.metadata import signatures
    from edgedistill.formats.onnx_file import load

    opened = format_for(Format.ONNX).open(path, target)
    scheme = opened.artifact.scheme
    if scheme.precision is not Precision.FP32:
        raise InputError(f"{path} is {scheme.label} already", fix="give the fp32 file that it was made from")
    graph = load(path).graph
    model = ExportedModel(
        path=path.absolute(),
        format=Format.ONNX,
        scheme=QuantScheme(precision=Precision.FP32),
        inputs=signatures(list(graph.input)),
        outputs=signatures(list(graph.output)),
        sha256=file_sha256(path),
        bytes=size_bytes(path),
    )
    return OnnxFile(model, opened.contract)


def onnx_source(path: Path, file: OnnxFile) -> Source:
    """An ONNX file as a source of others: of its precisions, and of what is compiled from it. Without a contract of its own
    it has one that says nothing."""
    contract = file.contract or Contract(resolution=1, mean=(0, 0, 0), std=(1, 1, 1), labels=())
    return Source(path.stem, file.model.sha256, contract, _no_torch, file.model)


def _no_torch() -> NoReturn:
    raise UnsupportedError("there is no torch model behind an ONNX file")


def open_model(model: str, settings: ModelSettings, base: Path) -> tuple[Source, tuple[str, ...]]:
    """The network that `model` names, deployed, with notes on what was assumed. `module:function` is looked for in `base`.

    Raises InputError, with every problem found; nothing of a .pt2 file is run to open it.
    """
    if model.endswith(".pt2"):
        return _from_program(Path(model), settings)
    return _from_torch(model, settings, base)


def _from_torch(model: str, settings: ModelSettings, base: Path) -> tuple[Source, tuple[str, ...]]:
    config = teacher_config(model, settings)
    library, _, name = model.partition(":")
    is_timm = library == "timm"
    own = _timm_settings(name) if is_timm else {}
    notes = []
    with in_the_words_of_a_command():
        vectors = _text_vectors(settings)
        known = len(vectors) if vectors is not None else own.get("num_classes")
        if library == TRANSFORMERS:
            known = known_classes(config, name, base)
        classes = settings.classes or int(known or IMAGENET_CLASSES)
        with torch.random.fork_rng(devices=()):
            torch.manual_seed(0)
            network = build_network(config, classes, base, fetch=False, vectors=vectors)
        if config.pretrained:
            network = _pretrained(config, classes, base, vectors)
        if settings.checkpoint is not None and library != OPEN_CLIP:
            load_checkpoint(network, settings.checkpoint)
    own = own or getattr(network, "pretrained_cfg", {}) if library in LIBRARIES else {}
    if library in LIBRARIES and settings.random_weights:
        notes.append("weights are random: size and speed are the real ones, answers are not")
    resolution = settings.resolution or _own_resolution(model, own)
    mean, std = _statistics(settings, own)
    if not own and settings.mean is None:
        notes.append("pixels go in as 0..255; give --mean and --std if the network was trained on normalised ones")
    contract = Contract(
        resolution=resolution,
        resize_filter="bicubic" if own.get("interpolation") == "bicubic" else "bilinear",
        crop="center",
        mean=mean,
        std=std,
        labels=_labels(
            settings,
            classes,
            imagenet=is_timm and classes == IMAGENET_CLASSES,
            names=getattr(network, "class_names", ()),
        ),
    )
    module = Normalised(network.eval(), mean, std).eval()
    return _source(model, module, contract), tuple(notes)


def _text_vectors(settings: ModelSettings) -> NDArray[np.float32] | None:
    if settings.text_vectors is None:
        return None
    names = () if settings.labels is None else read_labels(settings.labels)
    if settings.text_vectors.suffix == ".npz" and not names:
        raise InputError(f"{settings.text_vectors} has its vectors by name", fix="add --labels FILE, a class a line")
    return read_text_vectors(settings.text_vectors, names)


def _pretrained(config: TeacherConfig, classes: int, base: Path, vectors: NDArray[np.float32] | None) -> nn.Module:
    try:
        return build_network(config, classes, base, vectors=vectors)
    except NotFetchedError as error:
        own = config.model.startswith(f"{TRANSFORMERS}:")  # these have their weights in their folder alone
        given = "name a folder that holds its weights" if own else "give --checkpoint FILE"
        raise InputError(
            error.message, fix=f"connect to the network once, {given}, or --random-weights to try out formats"
        ) from error


def _from_program(path: Path, settings: ModelSettings) -> tuple[Source, tuple[str, ...]]:
    program = reading_within(path, Limits.for_file(path), read_program, path)
    shapes = [
        tuple(node.meta["val"].shape)
        for node in program.graph.nodes
        if node.op == "placeholder" and node.name in program.graph_signature.user_inputs
    ]
    if len(shapes) != 1 or len(shapes[0]) != 4 or tuple(shapes[0])[:2] != (1, 3) or shapes[0][2] != shapes[0][3]:
        raise InputError(
            f"{path} takes {[list(map(str, shape)) for shape in shapes]}, not one image [1, 3, R, R]",
            fix="export it with one float32 input of batch 1, three channels and a square side",
        )
    outputs = output_shapes(program)
    if len(outputs) != 1 or outputs[0] is None or len(outputs[0]) != 2 or outputs[0][0] != 1:
        raise InputError(
            f"{path} does not give one tensor of logits [1, classes]", fix="export it without other outputs"
        )
    classes = outputs[0][1]
    if not 1 <= classes <= _MOST_CLASSES:
        raise InputError(
            f"{path} tells {classes:,} classes apart; a classifier has 1 to {_MOST_CLASSES:,}",
            fix="export the network that gives logits",
        )
    mean, std = _statistics(settings, {})
    module = Normalised(program.module(check_guards=False), mean, std)
    for inner in module.modules():
        inner.training = False  # .eval() is refused by exported modules, whose mode is fixed in the graph
    labels = _labels(settings, classes, imagenet=False)
    contract = Contract(resolution=int(shapes[0][2]), crop="center", mean=mean, std=std, labels=labels)
    notes = (
        () if settings.mean else ("pixels go in as 0..255; give --mean and --std if it was trained on normalised ones",)
    )
    return _source(path.name, module, contract, deployed=True), notes


def _source(label: str, module: nn.Module, contract: Contract, *, deployed: bool = False) -> Source:
    key = digest([label, contract.model_dump(mode="json"), weights_sha256(module)])
    ready = module if deployed else deploy(module)
    return Source(label, key, contract, lambda: ready)


def _timm_settings(name: str) -> dict[str, Any]:
    from timm import get_pretrained_cfg

    try:
        settings = get_pretrained_cfg(name)
    except RuntimeError:  # an unknown tag, of which building it tells with the known ones
        return {}
    return asdict(settings) if settings is not None else {}


def _own_resolution(model: str, settings: dict[str, Any]) -> int:
    size = settings.get("input_size")
    if not isinstance(size, tuple | list):
        raise InputError(f"{model} does not state the size of its input", fix="add --resolution PIXELS")
    return int(size[-1])


def _statistics(settings: ModelSettings, own: dict[str, Any]) -> tuple[Triple, Triple]:
    """Mean and standard deviation on the 0..255 scale."""
    mean, std = settings.mean or own.get("mean"), settings.std or own.get("std")
    if mean is None or std is None:
        return _UNSCALED
    return scaled(mean), scaled(std)


def _labels(settings: ModelSettings, classes: int, *, imagenet: bool, names: tuple[str, ...] = ()) -> tuple[str, ...]:
    if settings.labels is not None:
        lines = read_labels(settings.labels)
        if len(lines) != classes:
            raise InputError(f"{settings.labels} has {len(lines)} lines, and the model {classes} classes")
        return lines
    if len(names) == classes:
        return names
    if imagenet:
        from timm.data import ImageNetInfo

        known = ImageNetInfo()
        return tuple(known.index_to_description(index) for index in range(classes))
    return tuple(map(str, range(classes)))


def _loose_images(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.is_file() and path.suffix.lower() in SUFFIXES)


CALIBRATION_IMAGES = 256


def calibration_images(
    config: DataConfig, contract: Contract, count: int = CALIBRATION_IMAGES, listener: Listener = silent
) -> Images:
    """`count` training images, as many of each class, uint8 [n, 3, R, R] through the contract; of a folder that holds images
    and no classes, all of it is taken for training images, in a fixed shuffle. `listener` hears how far a long check of the
    data is. Raises InputError for data that cannot be read."""
    if config.path is not None and config.source == "folder" and (loose := _loose_images(config.path)):
        order = np.random.default_rng(0).permutation(len(loose))[:count]
        if faults := [Problem(str(loose[i]), fault) for i in order if (fault := check_image(loose[i]).fault)]:
            raise InputError(f"{config.path} holds images that cannot be read", problems=faults)
        return np.stack([resize(read_rgb(loose[i], contract.background), contract) for i in order])
    config = config.model_copy(update={"background": contract.background})
    dataset = load_dataset(config, listener, need_labels=False)
    return calibration_pixels(choose_calibration(dataset, count), dataset, contract)
