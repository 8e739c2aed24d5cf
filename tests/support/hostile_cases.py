"""Hostile and broken model files, each with the commands that it is given to and how those must end.

`benchmarks/hostile_models.py` runs them all, `tests/hostile/test_hostile_models.py` those that need no converter.
"""

from __future__ import annotations

import hashlib
import json
import os
import struct
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image

BROKEN = {"inspect": (2,), "verify": (2,), "run": (2,)}
EVERY = {**BROKEN, "evaluate": (2,), "profile": (2,)}
"""For files that no reader may take: every command that has an opinion about them ends with 2."""
NOT_RUN = {"verify": (2,), "run": (2,)}
"""For files that are whole and cannot be run."""
HARMLESS = {"inspect": (0, 2), "verify": (0, 2), "run": (0, 2)}
"""For damage that may leave a valid file: any answer but a crash."""
EXPORT = {"export": (2,)}
CANARY = "canary"


@dataclass(frozen=True)
class Case:
    """`write` puts the file into an empty folder and returns its path; it gets the folder of whole files (`Bases`). `exits`
    are the commands with the exit codes that are right. `says` is what stderr of each must hold. `slow` cases end by a
    limit on time. `image` is what `run` is given, None for a good picture."""

    name: str
    format: str
    write: Callable[[Path, Path], Path]
    exits: Mapping[str, tuple[int, ...]] = field(default_factory=lambda: BROKEN)
    says: tuple[str, ...] = ()
    slow: bool = False
    image: Callable[[Path], Path] | None = None


def base(folder: Path, suffix: str) -> Path:
    """The whole file of a format among the bases. Raises FileNotFoundError where its converter is not installed."""
    found = [path for path in folder.iterdir() if path.name.endswith(suffix)]
    if not found:
        raise FileNotFoundError(f"no whole {suffix} to start from")
    return found[0]


def arguments(case: Case, command: str, path: Path, image: Path) -> list[str]:
    """What follows `edgedistill`."""
    if command == "export":
        out = path.parent / "out"
        return ["export", str(path), "--out", str(out), "--formats", "onnx", "--precision", "fp32"]
    extra = {"run": ["--input", str(image)], "evaluate": ["--data", "digits", "--limit", "8"]}
    return [command, str(path), *extra.get(command, [])]


# -- damage that any format can take ------------------------------------------------------------------------------------


def content(suffix: str, data: bytes) -> Callable[[Path, Path], Path]:
    def write(folder: Path, bases: Path) -> Path:
        path = folder / f"model{suffix}"
        path.write_bytes(data)
        return path

    return write


def altered(suffix: str, change: Callable[[bytes], bytes]) -> Callable[[Path, Path], Path]:
    def write(folder: Path, bases: Path) -> Path:
        path = folder / f"model{suffix}"
        path.write_bytes(change(base(bases, suffix).read_bytes()))
        return path

    return write


def _folder(suffix: str) -> Callable[[Path, Path], Path]:
    def write(folder: Path, bases: Path) -> Path:
        path = folder / f"model{suffix}"
        path.mkdir()
        return path

    return write


def _loop(suffix: str) -> Callable[[Path, Path], Path]:
    def write(folder: Path, bases: Path) -> Path:
        path, other = folder / f"model{suffix}", folder / f"other{suffix}"
        path.symlink_to(other)
        other.symlink_to(path)
        return path

    return write


def _pipe(suffix: str) -> Callable[[Path, Path], Path]:
    def write(folder: Path, bases: Path) -> Path:
        path = folder / f"model{suffix}"
        os.mkfifo(path)
        return path

    return write


def _endless(suffix: str) -> Callable[[Path, Path], Path]:
    def write(folder: Path, bases: Path) -> Path:
        path = folder / f"model{suffix}"
        path.symlink_to("/dev/zero")
        return path

    return write


def _holes(suffix: str) -> Callable[[Path, Path], Path]:
    """A terabyte by its size, a few kilobytes on the disk."""

    def write(folder: Path, bases: Path) -> Path:
        path = folder / f"model{suffix}"
        path.write_bytes(base(bases, suffix).read_bytes()[:64])
        with path.open("r+b") as stream:
            stream.truncate(2**40)
        return path

    return write


def _flip(data: bytes, position: int) -> bytes:
    return data[:position] + bytes([data[position] ^ 0x20]) + data[position + 1 :]


def _flipped_weight(suffix: str) -> Callable[[Path, Path], Path]:
    """A byte of some weights, which are found by what they are."""

    def write(folder: Path, bases: Path) -> Path:
        data = base(bases, suffix).read_bytes()
        known = [np.load(path).astype("<f4").tobytes()[:16] for path in sorted(bases.glob("weights-*.npy"))]
        at = max(data.find(start) for start in known)
        if at < 0:
            raise FileNotFoundError(f"the weights are not found in the whole {suffix}")
        path = folder / f"model{suffix}"
        path.write_bytes(_flip(data, at + 2))
        return path

    return write


def _in_a_package(suffix: str) -> Callable[[Path, Path], Path]:
    """A flipped byte, with a manifest beside it that knows the hash of the whole file."""

    def write(folder: Path, bases: Path) -> Path:
        whole = base(bases, suffix).read_bytes()
        path = _flipped_weight(suffix)(folder, bases)
        recorded = {"artifacts": {path.name: {"sha256": hashlib.sha256(whole).hexdigest()}}}
        (folder / "manifest.json").write_text(json.dumps(recorded))
        return path

    return write


def _common(form: str, suffix: str, magic: bytes, *, content_checked: bool) -> tuple[Case, ...]:
    """`content_checked`: a whole file of the format says where it ends, so that a cut is always seen."""
    noise = np.random.default_rng(0).bytes(2**16)
    cut = EVERY if content_checked else HARMLESS
    return (
        Case(f"{form}: empty", form, content(suffix, b""), EVERY),
        Case(f"{form}: one byte", form, content(suffix, b"\x08"), EVERY),
        Case(f"{form}: random bytes", form, content(suffix, noise), EVERY),
        Case(f"{form}: text", form, content(suffix, b"404: Not Found\n"), EVERY),
        Case(f"{form}: its magic, then noise", form, content(suffix, magic + noise), EVERY),
        Case(f"{form}: cut after 60 bytes", form, altered(suffix, lambda data: data[:60]), cut),
        Case(f"{form}: cut in the middle", form, altered(suffix, lambda data: data[: len(data) // 2]), cut),
        Case(f"{form}: last byte missing", form, altered(suffix, lambda data: data[:-1]), HARMLESS),
        Case(f"{form}: a folder", form, _folder(suffix), EVERY),
        Case(f"{form}: links in a circle", form, _loop(suffix), EVERY),
        Case(f"{form}: a pipe", form, _pipe(suffix), EVERY),
        Case(f"{form}: an endless device", form, _endless(suffix), EVERY),
        Case(f"{form}: a terabyte of holes", form, _holes(suffix), BROKEN),
        Case(f"{form}: a flipped byte in weights", form, _flipped_weight(suffix), HARMLESS),
        Case(f"{form}: a flipped byte in a package", form, _in_a_package(suffix), {"verify": (2,)}),
    )


COMMON = (
    *_common("onnx", ".onnx", b"\x08\x09\x12\x04", content_checked=True),
    *_common("litert", ".tflite", b"\x1c\x00\x00\x00TFL3", content_checked=True),
    *_common("executorch", ".pte", b"\x30\x00\x00\x00ET12", content_checked=True),
)


# -- engines ------------------------------------------------------------------------------------------------------------


def _record(data: bytes, **changes: object) -> dict[str, object]:
    artifact: dict[str, object] = {
        "path": "model.engine",
        "format": "tensorrt",
        "scheme": {"precision": "fp32"},
        "target": "host",
        "toolchain": {"tensorrt_rtx": "1.7.1"},
        "sha256": hashlib.sha256(data).hexdigest(),
        "bytes": len(data),
        "record": {"builder": "tensorrt_rtx 1.7.1", "capabilities": "75", "onnx_sha256": "0" * 64},
    }
    return {"artifact": artifact | changes, "contract": _contract()}


def _contract() -> dict[str, object]:
    return {"resolution": 16, "mean": [0, 0, 0], "std": [255, 255, 255], "labels": [str(i) for i in range(10)]}


def _engine(record: Callable[[bytes], object] | None) -> Callable[[Path, Path], Path]:
    def write(folder: Path, bases: Path) -> Path:
        path = folder / "model.engine"
        data = b"ftrt" + np.random.default_rng(1).bytes(4096)
        path.write_bytes(data)
        if record is not None:
            made = record(data)
            text = made if isinstance(made, bytes) else json.dumps(made).encode()
            path.with_name("model.engine.json").write_bytes(text)
        return path

    return write


def _builder(name: str) -> Callable[[bytes], object]:
    fields = {"builder": f"{name} 1", "capabilities": "75", "onnx_sha256": "0" * 64}
    return lambda data: _record(data, record=fields)


def _huge_contract(data: bytes) -> object:
    return {**_record(data), "contract": _contract() | {"resolution": 10**9}}


ENGINES = (
    Case("engine: without its record", "tensorrt", _engine(None), BROKEN, ("record",)),
    Case("engine: record is text", "tensorrt", _engine(lambda data: b"hello"), BROKEN, ("Invalid JSON",)),
    Case("engine: record is empty", "tensorrt", _engine(lambda data: b""), BROKEN, ("record",)),
    Case("engine: record nested without end", "tensorrt", _engine(lambda data: b"[" * 10**6), BROKEN, ("record",)),
    Case(
        "engine: record of another file", "tensorrt", _engine(lambda data: _record(data + b"x")), BROKEN, ("SHA-256",)
    ),
    Case("engine: record leaves out its builder", "tensorrt", _engine(lambda data: _record(data, record={})), BROKEN),
    Case(
        "engine: record of another format",
        "tensorrt",
        _engine(lambda data: _record(data, format="onnx")),
        BROKEN,
        ("onnx",),
    ),
    Case("engine: for a GPU that is not here", "tensorrt", _engine(_record), {"inspect": (0,), "run": (2,)}),
    Case("engine: built by a module of its own", "tensorrt", _engine(_builder("antigravity")), {"run": (2,)}),
    Case("engine: contract of a billion pixels", "tensorrt", _engine(_huge_contract), BROKEN, ("resolution",)),
)


# -- pictures -----------------------------------------------------------------------------------------------------------


def picture(path: Path, size: tuple[int, int] = (40, 30)) -> Path:
    noise = np.random.default_rng(5).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    Image.fromarray(noise).save(path)
    return path


def _written(name: str, data: bytes) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        path = folder / name
        path.write_bytes(data)
        return path

    return make


def _cut_jpeg(folder: Path) -> Path:
    path = picture(folder / "cut.jpg", (200, 200))
    path.write_bytes(path.read_bytes()[:2000])
    return path


def _bomb(folder: Path) -> Path:
    """A PNG of 60,000 x 60,000 pixels in a few kilobytes."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", 60_000, 60_000, 1, 0, 0, 0, 0)
    rows = zlib.compress(bytes(7501) * 60_000, 9)
    path = folder / "bomb.png"
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b""))
    return path


def _picture_folder(folder: Path) -> Path:
    path = folder / "pictures.png"
    path.mkdir()
    return path


def _onnx(folder: Path, bases: Path) -> Path:
    return altered(".onnx", lambda data: data)(folder, bases)


def _image(name: str, make: Callable[[Path], Path], exits: tuple[int, ...] = (2,)) -> Case:
    return Case(f"image: {name}", "image", _onnx, {"run": exits}, image=make)


IMAGES = (
    _image("missing", lambda folder: folder / "nowhere.png"),
    _image("empty", _written("empty.png", b"")),
    _image("text", _written("text.png", b"this is not a picture")),
    _image("a script in SVG", _written("script.svg", b'<svg xmlns="http://www.w3.org/2000/svg"><script/></svg>')),
    _image("a cut JPEG", _cut_jpeg),
    _image("a bomb of 3.6 billion pixels", _bomb),
    _image("a folder", _picture_folder),
    _image("one pixel wide", lambda folder: picture(folder / "thin.png", (1, 9000)), (0,)),
)
