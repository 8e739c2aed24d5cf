"""A teacher's network from its name: a library's, or what a user's function returns."""

from __future__ import annotations

import difflib
import importlib
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray
from timm import create_model, get_pretrained_cfg
from timm.models import PretrainedCfg
from torch import nn

from edgedistill.base.errors import InputError, NotFetchedError, Problem, first_line
from edgedistill.distill.teachers.identity import find_module, is_local
from edgedistill.distill.teachers.open_clip_models import open_clip_network
from edgedistill.distill.teachers.places import OPEN_CLIP, TRANSFORMERS
from edgedistill.distill.teachers.transformers_models import transformers_network
from edgedistill.documents.teachers import TeacherConfig
from edgedistill.networks.timm_names import require_model
from edgedistill.networks.timm_weights import with_weights


def build_network(
    config: TeacherConfig,
    classes: int | None,
    base: Path,
    *,
    fetch: bool = True,
    vectors: NDArray[np.float32] | None = None,
) -> nn.Module:
    """The network that `[teacher] model` names, with its library's pretrained weights where asked for, unless `fetch` is
    off, and with `classes` None without a classifier, so that it gives what goes into that; `vectors` [classes, D] are those
    of `text_vectors`. Weights that are not loaded come from torch's global generator.
    Raises InputError."""
    library, _, name = config.model.partition(":")
    if library == "timm":
        return _timm_network(config, name, classes, fetch=fetch)
    if library == TRANSFORMERS:
        return transformers_network(config, name, classes, base, fetch=fetch)
    if library == OPEN_CLIP:
        return open_clip_network(config, name, classes, base, vectors, fetch=fetch)
    return _function_network(config, library, name, base)


def _timm_network(config: TeacherConfig, name: str, classes: int | None, *, fetch: bool) -> nn.Module:
    arguments: dict[str, Any] = dict(config.arguments)
    require_model(name, "[teacher] model")
    settings = get_pretrained_cfg(name) or PretrainedCfg()
    _check_timm(config, name, classes, settings)
    # Networks of a fixed input (most transformers) are told the resolution when built; pretrained positions are resampled.
    if config.resolution and settings.fixed_input_size and config.resolution != settings.input_size[-1]:
        arguments.setdefault("img_size", config.resolution)
    arguments["num_classes"] = classes or 0
    try:
        if config.pretrained and fetch:
            return with_weights(name, settings, **arguments)
        network: nn.Module = create_model(name, **arguments)
    except OSError as error:
        raise NotFetchedError(
            f"[teacher] the pretrained weights of {name} cannot be fetched: {first_line(error)}",
            fix="connect to the network once (they are kept), or give a checkpoint = FILE",
        ) from error
    except (TypeError, ValueError, RuntimeError, AssertionError) as error:
        raise InputError(
            f"[teacher] timm cannot build {name}: {first_line(error)}",
            fix="check arguments and resolution in [teacher]",
        ) from error
    return network


def _check_timm(config: TeacherConfig, name: str, classes: int | None, settings: PretrainedCfg) -> None:
    arguments = config.arguments
    reserved = {
        "pretrained": "write pretrained in [teacher]",
        "checkpoint_path": "write checkpoint in [teacher]",
        "in_chans": "a teacher takes RGB",
    }
    problems = [
        Problem("[teacher] arguments", f"{argument} cannot be given here", fix)
        for argument, fix in reserved.items()
        if argument in arguments
    ]
    if arguments.get("num_classes", classes) != classes:
        what = f"num_classes is {arguments['num_classes']}, and " + (
            f"the data has {classes} classes" if classes else "vectors are asked for"
        )
        problems.append(Problem("[teacher] arguments", what, "leave num_classes out"))
    if config.pretrained and not settings.has_weights:
        problems.append(
            Problem(
                "[teacher] pretrained",
                f"timm has no pretrained weights for {name}",
                "add fit = { epochs = 10 } to train it, or a checkpoint",
            )
        )
    elif config.pretrained and classes and settings.num_classes != classes and config.fit is None:
        what = f"{name} was trained for {settings.num_classes} classes, and the data has {classes}: its head is new"
        problems.append(Problem("[teacher] pretrained", what, "add fit = { epochs = 10 } to [teacher]"))
    if problems:
        raise InputError(f"the teacher timm:{name} cannot be used", problems=problems)


def _function_network(config: TeacherConfig, name: str, function: str, base: Path) -> nn.Module:
    module = _imported(name, base)
    builder = getattr(module, function, None)
    if not callable(builder):
        near = difflib.get_close_matches(function, [n for n, value in vars(module).items() if callable(value)], 1)
        raise InputError(
            f"[teacher] model: {module.__file__ or name} has no function {function!r}",
            fix=f"did you mean {name}:{near[0]}?" if near else "check the name after the colon",
        )
    with _users_code(config.model, base):
        network = builder(**config.arguments)
    if not isinstance(network, nn.Module):
        raise InputError(
            f"[teacher] model: {config.model} returns {type(network).__name__}, not a torch.nn.Module",
            fix="return the network itself",
        )
    return network


def _imported(name: str, base: Path) -> ModuleType:
    """Import a module from the build file's folder or `sys.path`. One of the folder is imported anew each time: another
    build in this process may have had a file of that name, or an older version of this one."""
    spec = find_module(name, base)
    if is_local(spec, base):
        top = spec.name
        for known in [known for known in sys.modules if known == top or known.startswith(f"{top}.")]:
            if known.partition(".")[0] != "edgedistill":
                del sys.modules[known]
        importlib.invalidate_caches()
    with _users_code(name, base):
        return importlib.import_module(name)


@contextmanager
def _users_code(what: str, base: Path) -> Iterator[None]:
    """Run code of the user's with `base` first on the path. Whatever it raises is theirs to mend: an InputError that
    says where, with the traceback as its cause."""
    sys.path.insert(0, str(base))
    try:
        yield
    except Exception as error:
        raise InputError(
            f"[teacher] model: {what} failed with {type(error).__name__}: {error}", fix=f"see {_place(error)}"
        ) from error
    finally:
        sys.path.remove(str(base))


def _place(error: Exception) -> str:
    """`file:line` where an error was raised."""
    if isinstance(error, SyntaxError) and error.filename:
        return f"{error.filename}:{error.lineno}"
    innermost = traceback.extract_tb(error.__traceback__)[-1]
    return f"{innermost.filename}:{innermost.lineno}"
