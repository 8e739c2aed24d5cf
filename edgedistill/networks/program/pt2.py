"""A torch.export program from a .pt2 file, read as data and never as code.

`torch.export.load` runs code in many ways. It unpickles (weights marked so, custom objects, sample inputs that do not load
as plain tensors, files of older releases), loads compiled libraries, evaluates symbolic sizes as Python, imports modules
that a tree of inputs names, takes any name in `torch` or `operator` for an operator, and writes the names of nodes unquoted
into Python source. Even ATen has operators that write files.

So the file itself is never handed to it. What a program of static shapes needs is held against short lists of what is
allowed and written into a new archive in memory, and that one is loaded. Zip files that two readers understand differently
are then of no use either.
"""

from __future__ import annotations

import io
import json
import math
import pickle
import re
import zipfile
from collections.abc import Callable, Iterator
from multiprocessing.reduction import ForkingPickler
from pathlib import Path
from typing import Any

import torch
from torch.export import ExportedProgram

from edgedistill.base.errors import InputError, Problem
from edgedistill.base.paths import require_file
from edgedistill.base.quiet import quiet

_MEMBERS = re.compile(
    r"(data/weights/weight_\d+|data/constants/tensor_\d+|data/(weights|constants)/model_(weights|constants)_config\.json"
    r"|data/sample_inputs/model\.pt|models/model\.json|archive_format|archive_version|byteorder|\.data/\w+|extra/.*)"
)
_MODEL, _SAMPLES = "models/model.json", "data/sample_inputs/model.pt"
_NEEDED = (
    *("archive_format", "archive_version", _MODEL),
    *("data/weights/model_weights_config.json", "data/constants/model_constants_config.json"),
)
_PAYLOADS = {"weights": "weight", "constants": "tensor"}
_SPARE_BYTES = 2**26

_NAME = re.compile(r"[A-Za-z_]\w*", re.ASCII)
_PATH = re.compile(r"((?!__)[\w-]+(\.(?!__)[\w-]+)*)?", re.ASCII)
_PLAIN_ARGUMENTS = """
none tensor tensors optional_tensor optional_tensors nested_tensors name scalar_type memory_format layout device
int ints int_lists float floats float_lists bool bools string strings complex sym_int sym_ints
"""
_ARGUMENTS = {f"as_{kind}" for kind in _PLAIN_ARGUMENTS.split()}
_REFUSED_ARGUMENTS = {
    "as_expr": "is a size that is left open or computed from others, which would be evaluated as code",
    "as_graph": "is a graph inside the graph",
    "as_operator": "is a function as an argument",
    "as_custom_obj": "is an object that is no tensor",
}
_INPUTS = {"user_input", "parameter", "buffer", "tensor_constant"}
_TREES = {"builtins.tuple", "builtins.list", "builtins.dict"}

_OPERATOR = re.compile(r"torch\.ops\.(aten|prims|quantized_decomposed|torchao)\.(\w+)\.(\w+)", re.ASCII)
_SCALARS = ("int", "float", "bool", "number", "complex")
_NUMBERS = (*_SCALARS, *(f"List[{kind}]" for kind in _SCALARS))
_PLAIN_TYPES = {
    *("Tensor", "List[Tensor]", "Optional[Tensor]", "List[Optional[Tensor]]", "Optional[Generator]"),
    *("Device", "Optional[Device]", *_NUMBERS, *(f"Optional[{kind}]" for kind in _NUMBERS)),
}
# Operators whose text says how to compute. Other operators' text is the name of a file, or goes to the terminal.
_TAKE_TEXT = re.compile(r"gelu_?|div_?|einsum|pad|conv[123]d|meshgrid|scatter_?|scatter_reduce_?|linalg_\w+|fft_\w+")
# Operators that read memory at sizes and places that they are given, and parts of torch's own tests.
_UNCHECKED = re.compile(r"_reshape_alias\w*|_nested_\w+|_?sparse_\w+|set_|_?resize_\w*|_test_\w+")

_EXPORT_AGAIN = "export it again from its model"
_SAVE_AGAIN = "save it again with torch.export.save, from a program of static shapes whose constants are plain tensors"


def read_program(path: Path) -> ExportedProgram:
    """The program in a .pt2 file, tried on zeros. Raises InputError for a file that is missing, damaged or not such a file,
    that needs code to be run to be opened, that does not run, or gives other than it says; every problem at once.

    To be called in a child process (`isolation.in_child`): what the file's sizes ask for shows when it runs.
    """
    require_file(path, "name a .pt2 file")
    program = _read(path, str(path))
    try:
        given = _try(program)
    except Exception as error:  # whatever an operator raises on what it is given
        raise InputError(f"{path} does not run: {_reason(error)}", fix=_EXPORT_AGAIN) from error
    if given != (said := output_shapes(program)):
        raise InputError(f"{path} gives {_shown(given)}, and says that it gives {_shown(said)}", fix=_EXPORT_AGAIN)
    return program


def output_shapes(program: ExportedProgram) -> list[tuple[int, ...] | None]:
    """Sizes of what a program gives, None for what is no tensor, by what it says of itself: nothing is run."""
    values = {node.name: node.meta.get("val") for node in program.graph.nodes}
    return [_sizes(values.get(str(name))) for name in program.graph_signature.user_outputs]


def _sizes(output: Any) -> tuple[int, ...] | None:
    return tuple(map(int, output.shape)) if isinstance(output, torch.Tensor) else None


def _shown(shapes: list[tuple[int, ...] | None]) -> str:
    return ", ".join("no tensor" if shape is None else str(list(shape)) for shape in shapes) or "nothing"


def _read(file: Path | io.BytesIO, name: str) -> ExportedProgram:
    from torch.export.pt2_archive._package import load_pt2

    try:
        with zipfile.ZipFile(file) as archive:
            copy, problems = _Checked.of(archive)
        if not problems:
            with quiet():
                # Not torch.export.load: where this fails, that one says nothing of the reason and tries an older format.
                return load_pt2(copy).exported_programs["model"]
    # Damaged bytes raise whatever the reader of the part at hand does.
    except Exception as error:
        raise InputError(
            f"{name} is damaged, or not a program saved by torch.export.save ({_reason(error)})", fix=_SAVE_AGAIN
        ) from error
    raise InputError(f"{name} is not opened", problems=problems, fix=_SAVE_AGAIN)


def _reason(error: Exception) -> str:
    """The line of an error that says what is wrong, without characters that a terminal acts on."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
    return ascii(lines[-1 if any("Traceback" in line for line in lines) else 0][:300])[1:-1]


def _try(program: ExportedProgram) -> list[tuple[int, ...] | None]:
    """Sizes of what it gives."""
    inputs = [
        torch.zeros(tuple(value.shape), dtype=value.dtype)
        for node in program.graph.nodes
        if node.op == "placeholder" and node.name in program.graph_signature.user_inputs
        for value in (node.meta["val"],)
    ]
    with quiet(), torch.inference_mode():
        outputs = program.module(check_guards=False)(*inputs)
    return [_sizes(output) for output in torch.utils._pytree.tree_leaves(outputs)]


def _again(content: bytes) -> ExportedProgram:
    return _read(io.BytesIO(content), "the program of the child process")


def _travelling(program: ExportedProgram) -> tuple[Callable[[bytes], ExportedProgram], tuple[bytes]]:
    """How a program comes back from a child process: as a file. Pickled, it loses the sizes of its values."""
    buffer = io.BytesIO()
    with quiet():
        torch.export.save(program, buffer)
    return _again, (buffer.getvalue(),)


ForkingPickler.register(ExportedProgram, _travelling)


# -- the copy that is loaded --------------------------------------------------------------------------------------------


class _Checked:
    """A file's members under names without its root folder, and what is wrong with them."""

    def __init__(self, archive: zipfile.ZipFile) -> None:
        self.archive = archive
        self.root = archive.infolist()[0].filename.partition("/")[0] if archive.infolist() else ""
        self.sizes = {info.filename.removeprefix(f"{self.root}/"): info.file_size for info in archive.infolist()}
        self.limit = sum(self.sizes.values()) + _SPARE_BYTES

    @classmethod
    def of(cls, archive: zipfile.ZipFile) -> tuple[io.BytesIO, list[Problem]]:
        """The copy of all that is allowed, and the problems; with any, the copy is of no use."""
        checked, copy = cls(archive), io.BytesIO()
        problems = list(checked.layout())
        if not problems:
            with zipfile.ZipFile(copy, "w") as out:
                problems = list(checked.write(out))
        copy.seek(0)
        return copy, problems

    def layout(self) -> Iterator[Problem]:
        infos = self.archive.infolist()
        # torch stores its members as they are; sizes are then what the file really holds.
        if any(info.compress_type != zipfile.ZIP_STORED or info.file_size != info.compress_size for info in infos):
            yield Problem("", "is compressed, which torch.export.save never does")
        elif len(self.sizes) != len(infos):
            yield Problem("", "holds several members of one name")
        elif any(not info.filename.startswith(f"{self.root}/") for info in infos):
            yield Problem("", "is a zip file, but not of torch.export.save's layout")
        elif self.limit > 2 * _SPARE_BYTES + 2 * _length(self.archive):
            yield Problem("", "holds members that lie over one another")
        elif missing := [name for name in _NEEDED if name not in self.sizes]:
            yield Problem(missing[0], "is missing: the file is of an older torch, or no torch.export program")
        yield from (
            Problem(ascii(name[:80])[1:-1], "is no part of one program's weights, constants or graph")
            for name in self.sizes
            if not _MEMBERS.fullmatch(name)
        )

    def read(self, name: str) -> bytes:
        return self.archive.read(f"{self.root}/{name}")

    def write(self, out: zipfile.ZipFile) -> Iterator[Problem]:
        """Fills `out` with what `load_pt2` reads, and nothing else."""
        order = self.read("byteorder") if "byteorder" in self.sizes else b"little"
        if self.read("archive_format") != b"pt2" or order != b"little":
            yield Problem("archive_format", "is not that of torch.export.save on a little-endian machine")
        out.writestr("model/archive_format", b"pt2")
        out.writestr("model/archive_version", str(int(self.read("archive_version"))))
        out.writestr("model/.data/version", b"6")
        for kind, prefix in _PAYLOADS.items():
            config = json.loads(self.read(f"data/{kind}/model_{kind}_config.json"))["config"]
            yield from self.payloads(config, prefix, f"data/{kind}")
            out.writestr(f"model/data/{kind}/model_{kind}_config.json", json.dumps({"config": config}))
        for name in self.sizes:
            if re.fullmatch(r"data/(weights/weight|constants/tensor)_\d+", name):
                out.writestr(f"model/{name}", self.read(name))
        # The samples serve nothing here and would be unpickled: an empty file stands for none.
        if self.sizes.get(_SAMPLES):
            yield from _pickle_problems(_SAMPLES, self.read(_SAMPLES))
        out.writestr(f"model/{_SAMPLES}", b"")
        model = json.loads(self.read(_MODEL))
        copy, problems = _program(model)
        yield from problems
        out.writestr(f"model/{_MODEL}", json.dumps(copy))

    def payloads(self, config: dict[str, Any], prefix: str, folder: str) -> Iterator[Problem]:
        for name, payload in config.items():
            shown = ascii(name[:80])[1:-1]
            if payload["use_pickle"] is not False or not re.fullmatch(rf"{prefix}_\d+", payload["path_name"]):
                yield Problem(shown, "is stored as a pickle, which runs code when it is opened")
                continue
            meta = payload["tensor_meta"]
            elements = math.prod(size["as_int"] for size in meta["sizes"])
            if not _PATH.fullmatch(name):
                yield Problem(shown, "is no name of a weight")
            elif meta["device"]["type"] != "cpu":
                yield Problem(shown, f"lies on {meta['device']['type']!a}", "move the model to the CPU, then export")
            elif f"{folder}/{payload['path_name']}" not in self.sizes:
                yield Problem(shown, "is missing")
            elif not 0 <= elements <= self.limit:
                yield Problem(shown, f"has {elements:,} values by its sizes, far more than the file holds")


def _length(archive: zipfile.ZipFile) -> int:
    assert archive.fp is not None
    return archive.fp.seek(0, io.SEEK_END)


def _pickle_problems(name: str, content: bytes) -> Iterator[Problem]:
    try:
        torch.load(io.BytesIO(content), weights_only=True)
    except pickle.UnpicklingError as error:
        asked = re.search(r"GLOBAL (\S+)", str(error))
        yield Problem(name, f"would run {ascii(asked[1])[1:-1]}" if asked else "holds more than tensors")


def _program(model: dict[str, Any]) -> tuple[dict[str, Any], list[Problem]]:
    """The program's description with the parts that a network of static shapes needs, and what is wrong with them."""
    graph, signature = model["graph_module"]["graph"], model["graph_module"]["signature"]
    for node in graph["nodes"]:
        # Of what a node remembers about its origin, only the modules' names are of use.
        modules = str(node["metadata"].get("nn_module_stack") or "")
        node["metadata"] = {"nn_module_stack": modules} if modules.isprintable() and modules else {}
    call = next(entry["signature"] for entry in model["graph_module"]["module_call_graph"] if entry["fqn"] == "")
    # The only part whose keys are the file's own.
    values = graph["tensor_values"]
    rest = [part for key, part in graph.items() if key != "tensor_values"]
    named = [{"name": name} for name in values]
    problems = [*_graph_problems([rest, list(values.values()), named, signature, call["inputs"], call["outputs"]])]
    kinds = {kind for spec in signature["input_specs"] for kind in spec}
    problems += [
        Problem(ascii(kind[:80])[1:-1], "is no tensor, and a program's inputs must be")
        for kind in sorted(kinds - _INPUTS)
    ]
    names = call["forward_arg_names"] or []
    if not all(_NAME.fullmatch(name) for name in names) or not all(_is_tree(call[k]) for k in ("in_spec", "out_spec")):
        problems.append(Problem("signature", "arranges inputs in other than tuples, lists and dictionaries by name"))
    version = model["schema_version"]
    copy = {
        "graph_module": {
            "graph": graph,
            "signature": signature,
            "module_call_graph": [{"fqn": "", "signature": call}],
            "metadata": {},
            "treespec_namedtuple_fields": {},
        },
        "opset_version": {"aten": int(model["opset_version"]["aten"])},
        "range_constraints": {},
        "schema_version": {"major": int(version["major"]), "minor": int(version["minor"])},
        "verifiers": [name for name in model["verifiers"] if name in ("TRAINING", "ATEN")],
        "torch_version": "",
        "guards_code": [],
    }
    return copy, problems


def _is_tree(text: str) -> bool:
    protocol, tree = json.loads(text)
    waiting = [tree]
    while waiting:
        item = waiting.pop()
        context = json.loads(item["context"] or "null")
        if item["type"] is not None and item["type"] not in _TREES:
            return False
        if context is not None and not (isinstance(context, list) and all(_NAME.fullmatch(key) for key in context)):
            return False
        waiting += item["children_spec"]
    return bool(protocol == 1)


def _graph_problems(part: Any) -> Iterator[Problem]:
    """What in a graph could become anything but a call of an operator on values: all of it is looked at, whatever the keys
    that lead to it."""
    operators, kinds, names = set(), set(), set()
    waiting: list[Any] = [part]
    while waiting:
        item = waiting.pop()
        for key, value in item.items() if isinstance(item, dict) else (("", value) for value in item):
            if not _NAME.fullmatch(key or "_"):
                names.add(key)
            if key.startswith("as_") and key not in _ARGUMENTS:
                kinds.add(key)
            elif isinstance(value, dict | list):
                is_text = key == "as_strings" and all(isinstance(text, str) for text in value)
                waiting += [] if is_text else [value]
            elif isinstance(value, str):
                if key == "target":
                    operators.add(value)
                elif not (_NAME if key in ("name", "as_name") else _PATH).fullmatch(value) and key not in _FREE_TEXT:
                    names.add(value)
    for name in sorted(operators):
        if fault := _operator_fault(name):
            yield Problem(ascii(name[:80])[1:-1], fault)
    for kind in sorted(kinds):
        yield Problem(ascii(kind[:80])[1:-1], _REFUSED_ARGUMENTS.get(kind, "is an argument of no known kind"))
    yield from (Problem(ascii(name[:80]), "is no name") for name in sorted(names))


_FREE_TEXT = {"as_string", "nn_module_stack"}  # only ever a value


def _operator_fault(name: str) -> str:
    """Why an operator cannot be called, empty if it can: one that computes tensors from tensors and numbers."""
    parts = _OPERATOR.fullmatch(name)
    packet = getattr(getattr(torch.ops, parts[1]), parts[2], None) if parts else None
    overload = getattr(packet, parts[3], None) if parts and isinstance(packet, torch._ops.OpOverloadPacket) else None
    if not isinstance(overload, torch._ops.OpOverload):
        return "is no operator of ATen"
    plain = overload._schema.name.partition("::")[2]
    if _UNCHECKED.fullmatch(plain):
        return "reads memory without a check"
    takes = {str(argument.type) for argument in overload._schema.arguments}
    gives = {str(result.type) for result in overload._schema.returns}
    texts = takes & {"str", "Optional[str]"}
    if takes - texts - _PLAIN_TYPES or gives - {"Tensor", "List[Tensor]"}:
        return "works on more than tensors and numbers"
    if texts and not _TAKE_TEXT.fullmatch(plain):
        return "takes text, which may be the name of a file"
    return ""
