"""Kinds of bad input, each as the files it needs and the command line it is given by.

`test_bad_input.py` runs them against what they must say, `benchmarks/bad_input.py` prints what they do say.
"""

from __future__ import annotations

import os
import pickle
import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

PLAIN = """target = "host"
budget = "5ms"

[teacher]
model = "timm:resnet10t"
resolution = 16
arguments = { channels = [8, 8, 8, 8] }
fit = { epochs = 1 }

[data]
source = "digits"

[space]
families = ["resnet"]
widths = [0.25]
depths = [0.5]
resolutions = [8]
"""


@dataclass(frozen=True)
class Case:
    """`prepare` writes the files into an empty folder and returns what follows `edgedistill`. `says` is what stderr must
    hold; `never` names a file that must not exist afterwards."""

    kind: str
    prepare: Callable[[Path], list[str]]
    says: tuple[str, ...]
    exit_code: int = 2
    never: str = ""


def _build(folder: Path, text: str | bytes, *options: str) -> list[str]:
    path = folder / "build.toml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return ["build", str(path), *options]


def file(kind: str, text: str | bytes, *says: str) -> Case:
    """A build file with this text."""
    return Case(kind, lambda folder: _build(folder, text), says)


def edit(kind: str, old: str, new: str, *says: str) -> Case:
    """The plain build file with one part replaced."""
    assert PLAIN.count(old) == 1, old
    return file(kind, PLAIN.replace(old, new), *says)


def options(kind: str, *given: str, says: tuple[str, ...], exit_code: int = 2) -> Case:
    """The plain build file with options on the command line."""
    return Case(kind, lambda folder: _build(folder, PLAIN, *given), says, exit_code)


def budget(text: str, *says: str) -> Case:
    """A budget in the build file."""
    return edit(f"budget {text}", '"5ms"', f'"{text}"', "build.toml:2: budget: ", *says)


def teacher(kind: str, lines: str, make: Callable[[Path], object], *says: str, never: str = "") -> Case:
    """A `[teacher]` of these lines, with the files that `make` writes."""

    def prepare(folder: Path) -> list[str]:
        make(folder)
        before, rest = PLAIN.split("[teacher]\n")
        return _build(folder, f"{before}[teacher]\n{lines}\n{rest[rest.index('[data]') :]}")

    return Case(kind, prepare, says, never=never)


def data(kind: str, lines: str, make: Callable[[Path], object], *says: str) -> Case:
    """A `[data]` of these lines, with the files that `make` writes into the folder `data`."""

    def prepare(folder: Path) -> list[str]:
        make(folder / "data")
        return _build(folder, PLAIN.replace('source = "digits"', f'{lines}\npath = "data"'))

    return Case(kind, prepare, says)


# -- files ------------------------------------------------------------------------------------------------------


def nothing(folder: Path) -> None:
    """No file at all."""


def picture(path: Path, seed: int, side: int = 12) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (side, side, 3), dtype=np.uint8)).save(path)


def pictures(folder: Path, classes: tuple[str, ...] = ("cat", "dog"), count: int = 8) -> None:
    for number, name in enumerate(classes):
        for image in range(count):
            picture(folder / name / f"{image}.png", seed=100 * number + image)


def cut(path: Path, size: int) -> None:
    path.write_bytes(path.read_bytes()[:size])


def corrupt_image(folder: Path) -> None:
    pictures(folder)
    (folder / "cat" / "3.png").write_bytes(b"no image at all")


def truncated_image(folder: Path) -> None:
    pictures(folder)
    cut(folder / "dog" / "1.png", 200)


def several_bad_images(folder: Path) -> None:
    corrupt_image(folder)
    cut(folder / "dog" / "1.png", 200)
    (folder / "dog" / "2.png").write_bytes(b"")


def unlabelled(folder: Path) -> None:
    pictures(folder)
    picture(folder / "stray.png", seed=999)


def empty_class(folder: Path) -> None:
    pictures(folder)
    (folder / "bird").mkdir()


def class_without_training_images(folder: Path) -> None:
    pictures(folder / "train")
    picture(folder / "test/bird/0.png", seed=998)


def idx(path: Path, array: np.ndarray, magic: bytes | None = None) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    head = magic or bytes((0, 0, 8, array.ndim))
    path.write_bytes(head + struct.pack(f">{array.ndim}I", *array.shape) + array.astype(np.uint8).tobytes())


def idx_pair(folder: Path, images: int = 40, labels: int = 40, magic: bytes | None = None) -> None:
    rng = np.random.default_rng(0)
    idx(folder / "train-images-idx3-ubyte", rng.integers(0, 256, (images, 8, 8)), magic)
    idx(folder / "train-labels-idx1-ubyte", np.arange(labels) % 4)


def idx_cut(folder: Path) -> None:
    idx_pair(folder)
    cut(folder / "train-images-idx3-ubyte", 500)


def idx_gzip_cut(folder: Path) -> None:
    import gzip

    idx_pair(folder)
    plain = folder / "train-images-idx3-ubyte"
    (folder / f"{plain.name}.gz").write_bytes(gzip.compress(plain.read_bytes())[:300])
    plain.unlink()


def idx_without_labels(folder: Path) -> None:
    idx_pair(folder)
    (folder / "train-labels-idx1-ubyte").unlink()


def state_dict(folder: Path, outputs: int = 10, channels: int = 8) -> Path:
    """A checkpoint that fits the plain build file's network at 10 outputs and 8 channels."""
    import torch
    from timm import create_model

    path = folder / "teacher.pt"
    torch.save(create_model("resnet10t", num_classes=outputs, channels=[channels] * 4).state_dict(), path)
    return path


def truncated_checkpoint(folder: Path) -> None:
    cut(state_dict(folder), 20_000)


class _Payload:
    """Unpickling it would make a folder `owned` beside the checkpoint."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (str(self.folder / "owned"),)


def malicious_checkpoint(folder: Path) -> None:
    (folder / "teacher.pt").write_bytes(pickle.dumps({"state_dict": _Payload(folder)}, protocol=2))


def malicious_new_pickle(folder: Path) -> None:
    """Of a protocol whose operations torch does not know, so that it stops before it sees what would be run."""
    (folder / "teacher.pt").write_bytes(pickle.dumps({"state_dict": _Payload(folder)}, protocol=4))


def malicious_archive(folder: Path) -> None:
    import torch

    torch.save({"state_dict": _Payload(folder)}, folder / "teacher.pt")


def no_safetensors(folder: Path) -> None:
    (folder / "teacher.safetensors").write_bytes(struct.pack("<Q", 1 << 40) + b"{}")


def module(text: str) -> Callable[[Path], object]:
    """Writes `mine.py` beside the build file."""
    return lambda folder: (folder / "mine.py").write_text(text)


# -- the kinds ----------------------------------------------------------------------------------------------------

_TEACHER = 'model = "timm:resnet10t"\nresolution = 16\narguments = { channels = [8, 8, 8, 8] }'
_CHECKPOINT = f'{_TEACHER}\ncheckpoint = "teacher.pt"'
_MINE = "resolution = 16\nfit = { epochs = 1 }"


def _without_file(folder: Path) -> list[str]:
    return ["build", str(folder / "build.toml")]


def _mistyped_name(folder: Path) -> list[str]:
    _build(folder, PLAIN)
    return ["build", str(folder / "bulid.toml")]


def _is_a_folder(folder: Path) -> list[str]:
    _build(folder, PLAIN)
    return ["build", str(folder)]


def _out_is_a_file(folder: Path) -> list[str]:
    (folder / "results").write_text("")
    return _build(folder, PLAIN, "--out", str(folder / "results"))


def _default_out_is_a_file(folder: Path) -> list[str]:
    (folder / "out").write_text("")
    return _build(folder, PLAIN)


def _target_file(text: str | None, *says: str, kind: str) -> Case:
    def prepare(folder: Path) -> list[str]:
        path = folder / "my-rig.toml"
        if text is not None:
            path.write_text(text)
        return _build(folder, PLAIN, "--target", str(path))

    return Case(kind, prepare, says)


def _target_folder(folder: Path) -> list[str]:
    (folder / "boards.toml").mkdir()
    return _build(folder, PLAIN, "--target", str(folder / "boards.toml"))


BOARD = """name = "board"
title = "My board"
runtime = "onnx"
formats = ["onnx"]
precisions = ["fp32"]
transport = "local"
"""

CASES = (
    # the build file as a file
    Case("build file missing", _without_file, ("build.toml does not exist", "check the path")),
    Case("build file mistyped", _mistyped_name, ("bulid.toml does not exist", "did you mean", "build.toml?")),
    Case("build file is a folder", _is_a_folder, ("is a folder, not the build file", "name the file: ")),
    file("not UTF-8", PLAIN.encode() + b"# caf\xe9\n", "build.toml:18: byte 0xe9 is not UTF-8", "save it as UTF-8"),
    file("empty file", "", "build.toml:1: teacher is missing", "budget is missing", "add [teacher]"),
    edit("broken TOML", 'model = "timm:resnet10t"', 'model = "timm:resnet10t', "build.toml:5: ", "correct that line"),
    edit("key given twice", "resolution = 16\n", "resolution = 16\nresolution = 32\n", "build.toml:7: ", "twice"),
    # keys and values
    edit("unknown key", "resolution = 16", "resolutoin = 16", "build.toml:6: ", "did you mean resolution?"),
    edit("unknown section", "[space]", "[spaces]", "build.toml:13: unknown key spaces", "did you mean space?"),
    edit(
        "wrong type", "resolution = 16", 'resolution = "16"', "build.toml:6: teacher.resolution must be a whole number"
    ),
    edit("two mistakes at once", '"5ms"', '"5 parsecs"\nbugdet = 1', "build.toml:2: ", "build.toml:3: ", "2 problems"),
    edit(
        "rungs not rising",
        "[space]",
        "[search]\nrungs = [8, 4]\n[space]",
        "build.toml:14: ",
        "rungs are not rising",
    ),
    edit("unknown family", '["resnet"]', '["resnext"]', "[space] families: unknown family", "did you mean resnet?"),
    edit("no candidate left", "[space]", "[space]\nmax_parameters = 10", "no student is left", "allow more"),
    edit("null as a format", "[space]", '[export]\nformats = ["null"]\n[space]', "build.toml:14: ", "use onnx, coreml"),
    edit("share without per cent", "[space]", "[export]\nmargin_speed = 5\n[space]", "build.toml:14: ", '"1%"'),
    edit("split leaves nothing", "[space]", "split = {validation = 0.6, test = 0.6}\n[space]", "nothing is left"),
    edit("limit below the classes", "[space]", "limit = 5\n[space]", "limit = 5", "set limit to 10 or more"),
    # budgets
    edit("budget missing", 'budget = "5ms"\n', "", "build.toml:1: budget is missing", "add budget = ..."),
    edit("budget a bare number", '"5ms"', "5", "build.toml:2: budget: 5 has no unit", '"5ms" or "20%"'),
    budget("5", "has no unit", "5ms, 800us or 0.2s"),
    budget("5 parsecs", "unknown unit 'parsecs'", "5ms, 800us or 0.2s"),
    budget("5MB", "unknown unit 'MB'", "5ms, 800us or 0.2s"),
    budget("0ms", "above zero and finite", "5ms, 800us or 0.2s"),
    budget("-5ms", "above zero and finite", "5ms, 800us or 0.2s"),
    budget("infms", "above zero and finite", "5ms, 800us or 0.2s"),
    budget("nanms", "above zero and finite", "5ms, 800us or 0.2s"),
    budget("nan", "no unit", "5ms, 800us or 0.2s"),
    budget("0%", "above 0%, at most at 100%", "20%@p95"),
    budget("150%", "above 0%, at most at 100%", "20%@p95"),
    budget("-20%", "above 0%, at most at 100%", "20%@p95"),
    budget("5ms@p42", "unknown percentile 'p42'", "use p50, p95 or p99"),
    budget("", "is not a duration", "5ms, 800us or 0.2s"),
    edit("fastest without an accuracy", '"5ms"', '"5ms"\nobjective = "latency"', "no lower end", 'min_quality = "90%"'),
    edit(
        "limit without a unit", "[space]", "[limits]\nmax_size = 2\n[space]", "build.toml:14: ", "has no unit", '"2MiB"'
    ),
    options("--budget infms", "--budget", "infms", says=("--budget: 'infms' must be above zero", "5ms, 800us")),
    options("--budget 120%", "--budget", "120%", says=("--budget: '120%': a share", "20%@p95")),
    # targets
    options("unknown target", "--target", "pixel6", says=("unknown target 'pixel6'", "did you mean pixel-6?")),
    _target_file(None, "my-rig.toml does not exist", "check the path", kind="target file missing"),
    _target_file("name = ", "my-rig.toml:1: ", "correct that line", kind="target file broken"),
    _target_file(BOARD + "thread = 2\n", "my-rig.toml:7: ", "did you mean threads?", kind="target with unknown key"),
    _target_file(
        BOARD.replace('["onnx"]', '["coreml"]'), "my-rig.toml:4: ", "add onnx", kind="target lacks its runtime"
    ),
    Case("target is a folder", _target_folder, ("boards.toml is a folder", "name a TOML file")),
    options(
        "device not attached", "--target", "pixel-6", "--require-measured", says=("not attached", "adb"), exit_code=4
    ),
    options("share of an unmeasured teacher", "--target", "pixel-6", "--budget", "20%", says=("--budget 5ms@p95",)),
    # other options
    options("unknown option", "--buget", "5ms", says=("--buget", "--help")),
    Case("output folder is a file", _out_is_a_file, ("results", "--out DIR")),
    Case("default output is a file", _default_out_is_a_file, ("out", "--out DIR")),
    # teachers
    edit("teacher missing", PLAIN[PLAIN.index("[teacher]") : PLAIN.index("[data]")], "", "teacher is missing", "add ["),
    edit(
        "teacher without library",
        "timm:resnet10t",
        "resnet10t",
        "build.toml:5: ",
        "write timm:NAME, transformers:NAME, ",
    ),
    edit("unknown timm model", "timm:resnet10t", "timm:resnet19", "has no model 'resnet19'", "did you mean resnet18"),
    edit("bad timm argument", "channels =", "chanels =", "timm cannot build resnet10t", "check arguments"),
    teacher("random teacher", _TEACHER, nothing, "would have random weights", "fit = { epochs = 10 }"),
    teacher("module missing", f'model = "nowhere:net"\n{_MINE}', nothing, "no module 'nowhere'", "nowhere.py"),
    teacher(
        "function missing",
        f'model = "mine:net"\n{_MINE}',
        module("def nett(): ...\n"),
        "no function 'net'",
        "mine:nett",
    ),
    teacher(
        "function returns no module",
        f'model = "mine:net"\n{_MINE}',
        module("def net(): return 3\n"),
        "returns int, not",
    ),
    teacher(
        "function fails",
        f'model = "mine:net"\n{_MINE}',
        module("def net(): return 1 / 0\n"),
        "ZeroDivisionError",
        "mine.py:1",
    ),
    teacher(
        "module with a syntax error", f'model = "mine:net"\n{_MINE}', module("def net(:\n"), "SyntaxError", "mine.py:1"
    ),
    teacher("checkpoint missing", _CHECKPOINT, nothing, "teacher.pt does not exist", "[teacher] checkpoint"),
    teacher(
        "checkpoint is a folder", _CHECKPOINT, lambda f: (f / "teacher.pt").mkdir(), "is a folder", "name the file"
    ),
    teacher(
        "checkpoint of another shape",
        _CHECKPOINT,
        lambda folder: state_dict(folder, outputs=12),
        "teacher.pt has no classifier for the classes of the data",
        "fc.weight: shape [12, 8] in the checkpoint, [10, 8] in the model",
    ),
    teacher("checkpoint truncated", _CHECKPOINT, truncated_checkpoint, "teacher.pt is damaged", "copy it again"),
    teacher(
        "malicious pickle", _CHECKPOINT, malicious_checkpoint, "would run posix.mkdir; it is not opened", never="owned"
    ),
    teacher("malicious pickle of protocol 4", _CHECKPOINT, malicious_new_pickle, "Unsupported operand", never="owned"),
    teacher(
        "malicious torch archive",
        _CHECKPOINT,
        malicious_archive,
        "would run posix.mkdir; it is not opened",
        never="owned",
    ),
    teacher(
        "safetensors damaged", f'{_TEACHER}\ncheckpoint = "teacher.safetensors"', no_safetensors, "teacher.safetensors"
    ),
    # data
    data("data path missing", 'source = "folder"', nothing, "data does not exist", "[data] path"),
    edit("data without a path", 'source = "digits"', 'source = "folder"', "has no folder (add path"),
    data("data path is a file", 'source = "folder"', lambda f: f.write_text(""), "is a file, not a folder", "name the"),
    data("data folder empty", 'source = "folder"', lambda f: f.mkdir(), "no images in class folders", "make a folder"),
    data("one class only", 'source = "folder"', lambda f: pictures(f, ("cat",)), "one class only, cat", "two or more"),
    data("class without images", 'source = "folder"', empty_class, "bird: is a class without a file", "add images"),
    data("unlabelled image", 'source = "folder"', unlabelled, "stray.png: has no label", "move it"),
    data("corrupt image", 'source = "folder"', corrupt_image, "cat/3.png: is not an image", "replace it or remove it"),
    data("truncated image", 'source = "folder"', truncated_image, "dog/1.png: is truncated", "replace it or remove it"),
    data(
        "several bad images",
        'source = "folder"',
        several_bad_images,
        "3 problems",
        "cat/3.png: ",
        "dog/1.png: ",
        "dog/2",
    ),
    data(
        "class never trained",
        'source = "folder"',
        class_without_training_images,
        "class bird is in test",
        "add training",
    ),
    data(
        "too few images", 'source = "folder"', lambda f: pictures(f, count=1), "too few to take a validation", "raise"
    ),
    data("IDX wrong length", 'source = "idx"', idx_cut, "train-images-idx3-ubyte: has 484 bytes", "get the file anew"),
    data(
        "IDX bad magic",
        'source = "idx"',
        lambda folder: idx_pair(folder, magic=b"\x00\x00\x0d\x03"),
        "train-images-idx3-ubyte: does not begin as an IDX file",
    ),
    data(
        "IDX gzip truncated", 'source = "idx"', idx_gzip_cut, "ubyte.gz: is not a whole gzip file", "get the file anew"
    ),
    data(
        "IDX labels missing", 'source = "idx"', idx_without_labels, "train-labels-idx1-ubyte: does not exist", "add the"
    ),
    data(
        "IDX counts differ",
        'source = "idx"',
        lambda folder: idx_pair(folder, labels=39),
        "has 39 labels for 40 images",
        "get both files anew",
    ),
)
