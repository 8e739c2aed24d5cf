"""torch.export programs that carry code, or ask for what no program needs. Each would write a file called `canary` beside
itself if it were opened by `torch.export.load`, or run."""

from __future__ import annotations

import io
import json
import os
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from hostile_cases import CANARY, EXPORT, Case, base, content

Members = dict[str, bytes]
_MODEL, _SAMPLES = "models/model.json", "data/sample_inputs/model.pt"
_WEIGHTS, _CONSTANTS = "data/weights/model_weights_config.json", "data/constants/model_constants_config.json"


class Network(torch.nn.Module):
    """Float images [1, 3, 16, 16] to logits [1, 10]."""

    def __init__(self) -> None:
        super().__init__()
        self.features = torch.nn.Conv2d(3, 8, 3, 2, 1)
        self.head = torch.nn.Linear(8, 10)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.head(torch.nn.functional.gelu(self.features(image)).mean((2, 3)))
        return logits * torch.tensor(2.0)


def whole(path: Path) -> Path:
    torch.manual_seed(0)
    torch.export.save(torch.export.export(Network().eval(), (torch.zeros(1, 3, 16, 16),)), path)
    return path


def members(path: Path) -> Members:
    with zipfile.ZipFile(path) as archive:
        return {name.partition("/")[2]: archive.read(name) for name in archive.namelist()}


def pack(path: Path, parts: Members, compression: int = zipfile.ZIP_STORED, root: str = "model/") -> Path:
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, data in parts.items():
            archive.writestr(root + name, data)
    return path


class Payload:
    """Unpickling it writes the canary."""

    def __init__(self, folder: Path) -> None:
        self.command = f"touch '{folder / CANARY}'"

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return os.system, (self.command,)


def _saved(thing: Any) -> bytes:
    buffer = io.BytesIO()
    torch.save(thing, buffer)
    return buffer.getvalue()


def _edited(change: Callable[[Members, Path], Members | None]) -> Callable[[Path, Path], Path]:
    """The good file with its members changed, in place or by what `change` returns."""

    def write(folder: Path, bases: Path) -> Path:
        parts = members(base(bases, ".pt2"))
        return pack(folder / "model.pt2", change(parts, folder) or parts)

    return write


def _graph(change: Callable[[dict[str, Any], Path], None]) -> Callable[[Path, Path], Path]:
    """The good file with its description changed."""

    def edit(parts: Members, folder: Path) -> None:
        model = json.loads(parts[_MODEL])
        change(model, folder)
        parts[_MODEL] = json.dumps(model).encode()

    return _edited(edit)


def _nodes(model: dict[str, Any]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = model["graph_module"]["graph"]["nodes"]
    return found


def call(target: str, *values: dict[str, Any], names: str = "a b c") -> Callable[[Path, Path], Path]:
    """The good file, whose first operator becomes `target` with these arguments, `names` being those of its schema; CANARY
    in a text is its path."""

    def change(model: dict[str, Any], folder: Path) -> None:
        inputs = [{"name": name, "arg": value, "kind": 1} for name, value in zip(names.split(), values)]
        node = _nodes(model)[0]
        node["target"] = target
        node["inputs"] = json.loads(json.dumps(inputs).replace("CANARY", str(folder / CANARY)))

    return _graph(change)


def _argument(value: Any) -> Callable[[Path, Path], Path]:
    def change(model: dict[str, Any], folder: Path) -> None:
        _nodes(model)[0]["inputs"].append({"name": "groups", "arg": value, "kind": 1})

    return _graph(change)


def _renamed(old: str, new: str) -> Callable[[Path, Path], Path]:
    """A value of the graph under a name that is Python source; CANARY in it is its path."""

    def edit(parts: Members, folder: Path) -> None:
        name = json.dumps(new.replace("CANARY", str(folder / CANARY)))
        parts[_MODEL] = parts[_MODEL].replace(json.dumps(old).encode(), name.encode())

    return _edited(edit)


def _code(before: str, after: str) -> str:
    return f"{before}__import__('os').system('touch CANARY'){after}"


def _expression(text: str, hidden: bool = False) -> Callable[[Path, Path], Path]:
    """A size that is evaluated; `hidden` under a key that looks like a node's notes."""

    def change(model: dict[str, Any], folder: Path) -> None:
        graph = model["graph_module"]["graph"]
        size = {"as_expr": {"expr_str": text.replace("CANARY", str(folder / CANARY)), "hint": None}}
        if hidden:
            meta = dict(next(iter(graph["tensor_values"].values())), sizes=[size])
            graph["tensor_values"]["metadata"] = meta
            _nodes(model)[0]["outputs"] = [{"as_tensor": {"name": "metadata"}}]
        else:
            graph["tensor_values"]["image"]["sizes"][0] = size

    return _graph(change)


def _tree(kind: str, context: Any) -> Callable[[Path, Path], Path]:
    def change(model: dict[str, Any], folder: Path) -> None:
        leaf = {"type": None, "context": None, "children_spec": []}
        spec = {"type": kind, "context": json.dumps(context), "children_spec": [leaf]}
        model["graph_module"]["module_call_graph"][0]["signature"]["out_spec"] = json.dumps([1, spec])

    return _graph(change)


def _arguments_named(model: dict[str, Any], folder: Path) -> None:
    name = _code("x=", "").replace("CANARY", str(folder / CANARY))
    model["graph_module"]["module_call_graph"][0]["signature"]["forward_arg_names"] = [name]


def _pickled_weight(parts: Members, folder: Path) -> None:
    config = json.loads(parts[_WEIGHTS])
    config["config"]["head.bias"]["use_pickle"] = True
    parts[_WEIGHTS] = json.dumps(config).encode()
    parts["data/weights/" + config["config"]["head.bias"]["path_name"]] = _saved(Payload(folder))


def _custom_object(prefix: str) -> Callable[[Path, Path], Path]:
    def edit(parts: Members, folder: Path) -> None:
        config = json.loads(parts[_CONSTANTS])
        for payload in config["config"].values():
            payload |= {"path_name": f"{prefix}_0", "use_pickle": True}
        parts[_CONSTANTS] = json.dumps(config).encode()
        parts[f"data/constants/{prefix}_0"] = pickle.dumps(Payload(folder))

    return _edited(edit)


def _samples(parts: Members, folder: Path) -> None:
    parts[_SAMPLES] = _saved(((torch.zeros(1), Payload(folder)), {}))


def _legacy_weights(parts: Members, folder: Path) -> None:
    parts["data/weights/model.pt"] = _saved(Payload(folder))


def _library(parts: Members, folder: Path) -> None:
    parts["data/aotinductor/model/model.so"] = b"\x7fELF" + bytes(100)


def _path_out(parts: Members, folder: Path) -> None:
    parts["../../canary"] = b"out"


def _path_of_a_weight(parts: Members, folder: Path) -> None:
    config = json.loads(parts[_WEIGHTS])
    config["config"]["head.bias"]["path_name"] = "../../../../../etc/passwd"
    parts[_WEIGHTS] = json.dumps(config).encode()


def _sizes(numbers: list[int], empty: bool = False) -> Callable[[Path, Path], Path]:
    """A weight that claims these sizes, of one value told over and over, or of none."""

    def edit(parts: Members, folder: Path) -> None:
        config = json.loads(parts[_WEIGHTS])
        payload = config["config"]["head.bias"]
        payload["tensor_meta"]["sizes"] = [{"as_int": number} for number in numbers]
        payload["tensor_meta"]["strides"] = [{"as_int": 0} for _ in numbers]
        if empty:
            parts["data/weights/" + payload["path_name"]] = b""
        parts[_WEIGHTS] = json.dumps(config).encode()

    return _edited(edit)


def _without(name: str) -> Callable[[Path, Path], Path]:
    return _edited(lambda parts, folder: {key: data for key, data in parts.items() if key != name})


def _two_of_one_name(folder: Path, bases: Path) -> Path:
    """The first description, which C++ finds, is hostile; the last, which Python finds, is not."""
    parts = members(base(bases, ".pt2"))
    evil = members(
        call("torch.ops.aten.save.default", {"as_int": 1}, {"as_string": "CANARY"}, names="item filename")(
            folder, bases
        )
    )
    path = pack(folder / "model.pt2", {_MODEL: evil[_MODEL]} | {k: v for k, v in parts.items() if k != _MODEL})
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(f"model/{_MODEL}", parts[_MODEL])
    return path


def _two_directories(folder: Path, bases: Path) -> Path:
    """A file with two tables of contents: one where the end says, for C++, one before the end, for Python."""
    parts = members(base(bases, ".pt2"))
    _samples(parts, folder)
    evil = pack(folder / "evil.zip", parts).read_bytes()
    good = base(bases, ".pt2").read_bytes()
    path = folder / "model.pt2"
    path.write_bytes(evil + good)
    (folder / "evil.zip").unlink()
    return path


def _zip_bomb(folder: Path, bases: Path) -> Path:
    parts = members(base(bases, ".pt2")) | {"data/weights/weight_0": bytes(2**30)}
    return pack(folder / "model.pt2", parts, zipfile.ZIP_DEFLATED)


def _older(folder: Path, bases: Path) -> Path:
    """The layout of torch 2.7 and before, where everything is a pickle."""
    evil = _saved(Payload(folder))
    parts = {
        "version": b"8.1",
        "serialized_exported_program.json": members(base(bases, ".pt2"))[_MODEL],
        "serialized_state_dict.pt": evil,
        "serialized_constants.pt": evil,
        "serialized_example_inputs.pt": evil,
    }
    return pack(folder / "model.pt2", parts, root="")


def _torch_save(folder: Path, bases: Path) -> Path:
    path = folder / "model.pt2"
    path.write_bytes(_saved({"model": Payload(folder)}))
    return path


def _bare_pickle(folder: Path, bases: Path) -> Path:
    path = folder / "model.pt2"
    path.write_bytes(pickle.dumps(Payload(folder)))
    return path


def _open_batch(folder: Path, bases: Path) -> Path:
    sizes = {"image": {0: torch.export.Dim("batch", min=2, max=8)}}
    path = folder / "model.pt2"
    torch.export.save(torch.export.export(Network().eval(), (torch.zeros(2, 3, 16, 16),), dynamic_shapes=sizes), path)
    return path


class Wide(torch.nn.Module):
    """Two billion logits, all of one number."""

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return image.mean((1, 2, 3))[:, None].expand(1, 2 * 10**9)


def _classes(folder: Path, bases: Path) -> Path:
    path = folder / "model.pt2"
    torch.export.save(torch.export.export(Wide(), (torch.zeros(1, 3, 16, 16),)), path)
    return path


def _claimed_output(model: dict[str, Any], folder: Path) -> None:
    graph = model["graph_module"]["graph"]
    graph["tensor_values"][graph["outputs"][0]["as_tensor"]["name"]]["sizes"][1] = {"as_int": 7}


def _folder(folder: Path, bases: Path) -> Path:
    path = folder / "model.pt2"
    path.mkdir()
    return path


def _cut(share: float) -> Callable[[Path, Path], Path]:
    def write(folder: Path, bases: Path) -> Path:
        data = base(bases, ".pt2").read_bytes()
        path = folder / "model.pt2"
        path.write_bytes(data[: int(len(data) * share)])
        return path

    return write


def _flipped(folder: Path, bases: Path) -> Path:
    data = bytearray(base(bases, ".pt2").read_bytes())
    with zipfile.ZipFile(base(bases, ".pt2")) as archive:
        info = next(info for info in archive.infolist() if info.filename.endswith("weight_0"))
    data[info.header_offset + 300] ^= 0x20
    path = folder / "model.pt2"
    path.write_bytes(bytes(data))
    return path


def _case(name: str, write: Callable[[Path, Path], Path], *says: str) -> Case:
    return Case(f"pt2: {name}", "pt2", write, EXPORT, says)


_TEXT = {"as_string": "CANARY"}
_COMMAND = {"as_string": "touch CANARY"}
CASES = (
    _case("empty", content(".pt2", b"")),
    _case("text", content(".pt2", b"hello")),
    _case("a folder", _folder),
    _case("cut in the middle", _cut(0.5)),
    _case("last tenth missing", _cut(0.9)),
    _case("a flipped byte in weights", _flipped, "CRC"),
    _case("a bare pickle with code", _bare_pickle),
    _case("torch.save with code", _torch_save),
    _case("the layout of older releases, with code", _older),
    _case("weights pickled with code", _edited(_pickled_weight), "head.bias", "pickle"),
    _case("weights of the older layout, with code", _edited(_legacy_weights), "data/weights/model.pt"),
    _case("sample inputs with code", _edited(_samples), "sample_inputs", "system"),
    _case("a custom object with code", _custom_object("custom_obj"), "custom_obj_0"),
    _case("an opaque object with code", _custom_object("opaque_obj"), "opaque_obj_0"),
    _case("a compiled library", _edited(_library), "model.so"),
    _case("a member outside the archive", _edited(_path_out), "canary"),
    _case("a weight at a path outside the archive", _edited(_path_of_a_weight), "head.bias"),
    _case("two members of one name", _two_of_one_name),
    Case("pt2: two tables of contents", "pt2", _two_directories, {"export": (0, 2)}),
    _case("a zip bomb", _zip_bomb, "compressed"),
    _case("no graph", _without(_MODEL), "models/model.json"),
    _case("no weights' table", _without(_WEIGHTS)),
    _case("a weight of exabytes by its sizes", _sizes([2**31, 2**31]), "head.bias"),
    _case("a weight of exabytes without data", _sizes([2**31, 2**31], empty=True), "head.bias"),
    _case("a description nested without end", _edited(lambda parts, _: {**parts, _MODEL: b"[" * 10**6})),
    _case("torch.load", call("torch.load", _TEXT), "torch.load"),
    _case("torch.hub.load", call("torch.hub.load", {"as_string": "a/b"}), "torch.hub.load"),
    _case("os.system by way of torch", call("torch.os.system", _COMMAND), "torch.os.system"),
    _case("torch.ops.load_library", call("torch.ops.load_library", _TEXT), "load_library"),
    _case(
        "_operator.call of a function",
        call("_operator.call", {"as_operator": "torch.os.system"}, _COMMAND),
        "_operator.call",
    ),
    _case("a function as an argument", _argument({"as_operator": "torch.os.system"}), "as_operator"),
    _case(
        "a function hidden in a dictionary",
        _argument({"as_string_to_argument": {"metadata": {"as_operator": "torch.os.system"}}}),
    ),
    _case("a method of an operator", call("torch.ops.aten.__class__.__init__", _TEXT), "__class__"),
    _case(
        "an operator that writes a file",
        call("torch.ops.aten.save.default", {"as_int": 1}, _TEXT, names="item filename"),
        "save",
    ),
    _case(
        "an operator that makes a file",
        call(
            "torch.ops.aten.from_file.default", _TEXT, {"as_bool": True}, {"as_int": 768}, names="filename shared size"
        ),
        "from_file",
    ),
    _case(
        "an operator that reads any memory",
        call(
            "torch.ops.aten._reshape_alias.default",
            {"as_tensor": {"name": "image"}},
            {"as_ints": [2**40]},
            {"as_ints": [1]},
        ),
        "_reshape_alias",
    ),
    _case("a size with code", _expression(_code("", "")), "as_expr"),
    _case("a size with code, hidden", _expression(_code("", ""), hidden=True), "as_expr"),
    _case("an input whose name is code", _renamed("image", _code("image=", "")), "name"),
    _case("a value whose name is code", _renamed("conv2d", _code("y = ", " #")), "name"),
    _case("arguments whose names are code", _graph(_arguments_named), "signature"),
    _case(
        "a tree that imports a module",
        _tree(
            "collections.defaultdict",
            {"default_factory_module": "antigravity", "default_factory_name": "x", "dict_context": ["a"]},
        ),
        "signature",
    ),
    _case(
        "an enumeration that imports a module",
        _tree("builtins.dict", [{"__enum__": True, "fqn": "antigravity:x", "name": "x"}]),
        "",
    ),
    _case("values of terabytes", call("torch.ops.aten.zeros.default", {"as_ints": [2**42]}, names="size"), "memory"),
    _case("an open batch", _open_batch, "open"),
    _case("two billion classes", _classes, "2,000,000,000 classes"),
    _case("logits of other sizes than it says", _graph(_claimed_output), "gives [1, 10]", "says that it gives [1, 7]"),
)
