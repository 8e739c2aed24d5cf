"""What a teacher is made from, told without importing torch: the build's check whether anything changed."""

from __future__ import annotations

import difflib
import sys
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from typing import Any

from edgedistill.base.errors import InputError
from edgedistill.base.paths import nearest
from edgedistill.base.store import digest, file_sha256, tool_version
from edgedistill.distill.teachers.places import (
    EXTRAS,
    ONNX,
    OPEN_CLIP,
    OUTPUTS,
    onnx_path,
    outputs_path,
    place_identity,
)
from edgedistill.documents.teachers import TeacherConfig


def teacher_identity(config: TeacherConfig, base: Path) -> dict[str, Any]:
    """JSON of everything that decides the teacher: the build file's table, the hashes of the files that it names, and the
    source of `module:function` or the version of the library. `base` is the build file's folder.

    Raises InputError where a file or the module cannot be found.
    """
    return {
        "config": config.model_dump(mode="json", exclude={"checkpoint", "text_vectors"}),
        "checkpoint": None if config.checkpoint is None else _file_sha256(config.checkpoint, "checkpoint"),
        "text_vectors": None if config.text_vectors is None else _file_sha256(config.text_vectors, "text_vectors"),
        "source": _source(config.model, base),
        "torch": tool_version("torch"),
    }


def _source(model: str, base: Path) -> str:
    library, _, name = model.partition(":")
    if library == "timm":
        return tool_version("timm")
    if (path := outputs_path(model, base)) is not None:
        return _file_sha256(path, "model")
    if (path := onnx_path(model, base)) is not None:
        return digest([tool_version("onnxruntime"), _file_sha256(path, "model")])
    return place_identity(library, name, base) if library in EXTRAS else source_hash(library, base)


def require_weights(config: TeacherConfig, *, vectors: bool = False) -> None:
    """Raises InputError for a teacher whose weights come from no source, or from two. Where `vectors` are asked for it needs
    no classifier."""
    if config.pretrained and config.checkpoint is not None:
        raise InputError(
            "[teacher] has both pretrained weights and a checkpoint", fix="keep the one that the teacher shall have"
        )
    if config.model.startswith((f"{ONNX}:", f"{OUTPUTS}:")):
        names = ["checkpoint", "pretrained", "arguments", "fit"]
        names += ["resolution", "mean"] if config.model.startswith(OUTPUTS) else []
        wrong = [name for name in names if getattr(config, name)]
        what = "an ONNX file is a trained network as it is" if len(names) == 4 else "a file of outputs is no network"
        if wrong:
            raise InputError(
                f"[teacher] {', '.join(wrong)}: {what}",
                fix=f"leave out {' and '.join(wrong)}, or give the network itself",
            )
        return
    if config.model.startswith(f"{OPEN_CLIP}:") and config.text_vectors is None and config.fit is None and not vectors:
        raise InputError(
            f"the teacher {config.model} has no classifier",
            fix="give [teacher] text_vectors = FILE, a vector for each class, or fit = { epochs = 10 } to train one",
        )
    if not config.pretrained and config.checkpoint is None and config.fit is None:
        raise InputError(
            f"the teacher {config.model} would have random weights",
            fix="give [teacher] pretrained = true"
            + (" or" if vectors else ",")
            + " a checkpoint = FILE"
            + ("" if vectors else ", or fit = { epochs = 10 } to train it on the data"),
        )


def find_module(name: str, base: Path) -> ModuleSpec:
    """Spec of the top-level module or package of `name`, in `base` or on `sys.path`, without importing anything. Raises
    InputError where there is none."""
    top = name.partition(".")[0]
    spec = PathFinder.find_spec(top, [str(base), *sys.path])
    if spec is None or not (spec.has_location or spec.submodule_search_locations):
        near = difflib.get_close_matches(top, [path.stem for path in base.glob("*.py")], 1)
        raise InputError(
            f"[teacher] model: there is no module {top!r} in {base}, nor is it installed",
            fix=f"did you mean {near[0]}?" if near else f"write it as {base / top}.py, or install it",
        )
    return spec


def is_local(spec: ModuleSpec, base: Path) -> bool:
    """Whether the module or package lies directly in the build file's folder (a virtual environment may lie below it)."""
    places = list(spec.submodule_search_locations or ()) or [str(spec.origin)]
    return all(Path(place).absolute().parent == base.absolute() for place in places)


def source_hash(name: str, base: Path) -> str:
    """Hash of the source that defines module `name`: the package's files, or the module's file and, in the build file's
    folder, the files beside it that it may import."""
    spec = find_module(name, base)
    if spec.submodule_search_locations:
        folders = [Path(place) for place in spec.submodule_search_locations]
        files = sorted(path for folder in folders for path in folder.rglob("*.py"))
        root = folders[0].parent
    else:
        assert spec.origin is not None
        origin = Path(spec.origin)
        files = sorted(origin.parent.glob("*.py")) if is_local(spec, base) else [origin]
        root = origin.parent
    return digest({str(path.relative_to(root)): file_sha256(path) for path in files})


def _file_sha256(path: Path, key: str) -> str:
    if path.is_dir():
        raise InputError(f"the {key} {path} is a folder", fix="name a file")
    try:
        return file_sha256(path)
    except FileNotFoundError:
        raise InputError(f"the {key} {path} does not exist", fix=nearest(path, f"check [teacher] {key}")) from None
    except PermissionError:
        raise InputError(f"the {key} {path} cannot be read", fix="check its permissions") from None
