"""A torch.export program from a .pt2 file, read as data and never as code.

`torch.export.load` unpickles: weights that are marked so, custom objects, and sample inputs that do not load as plain
tensors. It evaluates symbolic expressions, and takes any name in `torch` for an operator. So the archive is looked through
first, and what would need any of that is refused.
"""

from __future__ import annotations

import io
import json
import pickle
import re
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch.export import ExportedProgram

from edgedistill.errors import InputError, Problem
from edgedistill.export.quiet import quiet

_MEMBERS = re.compile(
    r"(data/weights/weight_\d+|data/constants/tensor_\d+|data/(weights|constants)/\w+_config\.json"
    r"|data/sample_inputs/\w+\.pt|models/\w+\.json|archive_format|archive_version|version|byteorder"
    r"|\.data/\w+|extra/.*)"
)
_OPERATORS = re.compile(r"(torch\.ops\.(aten|prims|quantized_decomposed|torchao)\.\w+(\.\w+)?|_operator\.\w+)")
_PLAIN_EXPRESSION = re.compile(r"[A-Za-z]\w*|-?\d+")
_SAVE_AGAIN = "save it again with torch.export.save, from a program of static shapes whose constants are plain tensors"


def read_program(path: Path) -> ExportedProgram:
    """The program in a .pt2 file. Raises InputError for a file that is missing, damaged, not such a file, or that needs
    code to be run to be opened; every problem at once."""
    if not path.is_file():
        raise InputError(f"{path} {'is a folder' if path.is_dir() else 'does not exist'}", fix="name a .pt2 file")
    try:
        with zipfile.ZipFile(path) as archive:
            problems = list(_problems(archive, path.stat().st_size))
    # Damaged bytes raise whatever the reader of the part at hand does.
    except (zipfile.BadZipFile, OSError, ValueError, KeyError, TypeError, RuntimeError, EOFError, RecursionError) as error:
        raise _damaged(path, error) from error
    if problems:
        raise InputError(f"{path} is not opened", problems=problems, fix=_SAVE_AGAIN)
    try:
        with quiet():
            return torch.export.load(path)
    except Exception as error:  # of a file that only looks right
        raise _damaged(path, error) from error


def _damaged(path: Path, error: Exception) -> InputError:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    reason = lines[0][:300] if lines else type(error).__name__
    return InputError(f"{path} is damaged, or not a program saved by torch.export.save ({reason})", fix=_SAVE_AGAIN)


def _problems(archive: zipfile.ZipFile, file_bytes: int) -> Iterator[Problem]:
    infos = archive.infolist()
    if sum(info.file_size for info in infos) > file_bytes + 2**26:
        yield Problem("", "holds far more than its own size when unpacked")
        return
    roots = {info.filename.partition("/")[0] for info in infos}
    if len(roots) != 1:
        yield Problem("", "is a zip file, but not of torch.export.save's layout")
        return
    (root,) = roots
    names = [info.filename.removeprefix(f"{root}/") for info in infos]
    for name in names:
        if not _MEMBERS.fullmatch(name):
            yield Problem(name, "is no part of a program's weights, constants or graph")
    if "archive_format" not in names or not any(name.startswith("models/") for name in names):
        yield Problem("", "has no graph: it is of an older torch, or no torch.export program")
        return
    for name in names:
        content = archive.read(f"{root}/{name}") if name.endswith((".json", ".pt")) else b""
        if name.startswith("models/"):
            yield from _graph_problems(json.loads(content))
        elif name.endswith("_config.json"):
            yield from _payload_problems(json.loads(content))
        elif name.startswith("data/sample_inputs/"):
            yield from _pickle_problems(name, content)


def _payload_problems(config: dict[str, Any]) -> Iterator[Problem]:
    for name, payload in config["config"].items():
        if payload["use_pickle"] or not re.fullmatch(r"(weight|tensor)_\d+", payload["path_name"]):
            yield Problem(name, "is stored as a pickle, which runs code when it is opened")


def _pickle_problems(name: str, content: bytes) -> Iterator[Problem]:
    try:
        torch.load(io.BytesIO(content), weights_only=True)
    except pickle.UnpicklingError as error:
        asked = re.search(r"GLOBAL (\S+)", str(error))
        yield Problem(name, f"would run {asked[1]}" if asked else "holds more than tensors")


def _graph_problems(model: dict[str, Any]) -> Iterator[Problem]:
    operators, expressions = set(), set()
    waiting: list[Any] = [model["graph_module"], model["range_constraints"]]
    while waiting:
        item = waiting.pop()
        if isinstance(item, dict):
            if isinstance(item.get("target"), str) and "inputs" in item:
                operators.add(item["target"])
            if isinstance(item.get("expr_str"), str):
                expressions.add(item["expr_str"])
            waiting += [value for key, value in item.items() if key != "metadata"]
        elif isinstance(item, list):
            waiting += item
    yield from (Problem(name[:80], "is no operator of ATen") for name in sorted(operators) if not _OPERATORS.fullmatch(name))
    wild = sorted(text for text in expressions if not _PLAIN_EXPRESSION.fullmatch(text))
    yield from (Problem(text[:80], "is a size computed from others, which is evaluated as code") for text in wild)
