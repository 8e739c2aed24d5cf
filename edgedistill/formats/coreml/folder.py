"""The folder that a Core ML package is, looked through before anything in it is read; its weight files before any weight is.

Its manifest names files by their paths, and any of its files may be a link: coremltools follows both wherever they lead.
"""

from __future__ import annotations

import json
import os
import stat
import struct
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from edgedistill.base.errors import InputError, first_line
from edgedistill.base.units import format_bytes
from edgedistill.formats.coreml.limits import TOTAL_LIMIT_BYTES

MANIFEST = "Manifest.json"
_LARGEST_MANIFEST_BYTES = 2**20
"""A thousand times the size of those that coremltools and Xcode write."""
_ITEM_FIELDS = ("author", "description", "name", "path")
_BLOB_SENTINEL = 0xDEADBEEF
_BLOB_HEADER = struct.Struct("<IIQQ")
"""What stands before each blob of a weight file: the sentinel, the type, the blob's size and its offset."""
_COPY_AGAIN = "copy the whole folder again, or build it again"
_SAVE_AGAIN = "save the model again with coremltools, or export it again"


def check_folder(package: Path) -> str:
    """The text of the package's manifest, written anew from what was understood of it. Nothing but the manifest is read.

    Raises InputError for a path or a link that leads out of the package, for what is neither a file nor a folder, for files
    whose sizes add up to more than `limits.TOTAL_LIMIT_BYTES`, and where the manifest is missing, broken or names files that
    are not there.
    """
    root = package.resolve()
    claimed, stored = 0, 0
    for folder, names, files in os.walk(package):
        for path in (Path(folder) / name for name in (*names, *files)):
            state = _inside(path, root, package).stat()
            if not (stat.S_ISREG(state.st_mode) or stat.S_ISDIR(state.st_mode)):
                raise InputError(
                    f"{package}: {path.relative_to(package)} is neither a file nor a folder", fix=_COPY_AGAIN
                )
            if stat.S_ISREG(state.st_mode):
                claimed += state.st_size
                stored += min(state.st_size, getattr(state, "st_blocks", state.st_size) * 512)
    if claimed > TOTAL_LIMIT_BYTES:
        holes = f", though only {format_bytes(stored)} lie on the disk" if stored < claimed // 2 else ""
        raise InputError(
            f"{package} holds files of {format_bytes(claimed)} by their sizes{holes}; "
            f"a package may have {format_bytes(TOTAL_LIMIT_BYTES)}",
            fix="a package of such files is damaged or hostile; if it is neither, run it on a Mac",
        )
    return _manifest(package, root)


def _inside(path: Path, root: Path, package: Path) -> Path:
    """`path` with its links followed. Raises InputError where that leaves the package `root`."""
    within = path.relative_to(package)
    try:
        real = path.resolve(strict=True)
    except FileNotFoundError:
        raise damaged(package, f"{within} is missing") from None
    except (OSError, RuntimeError) as error:  # links in a circle, a name too long, no permission
        raise damaged(package, f"{within} cannot be opened: {error}") from error
    if not real.is_relative_to(root):
        raise InputError(f"{package}: {within} leads out of the package", fix=_SAVE_AGAIN)
    return real


def _manifest(package: Path, root: Path) -> str:
    path = package / MANIFEST
    if not path.is_file():
        raise damaged(package, f"{MANIFEST} is missing")
    if path.stat().st_size > _LARGEST_MANIFEST_BYTES:
        raise damaged(package, f"its {MANIFEST} has {format_bytes(path.stat().st_size)}")
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        items, main = document["itemInfoEntries"], document["rootModelIdentifier"]
        version = document["fileFormatVersion"]
        entries = {
            name: {field: item[field] for field in _ITEM_FIELDS if field in item} for name, item in items.items()
        }
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise damaged(package, f"its {MANIFEST} is not one ({first_line(error)})") from error
    if not entries:
        raise InputError(f"{package} holds no model: its {MANIFEST} has no entries", fix=_SAVE_AGAIN)
    texts = [main, version, *(value for item in entries.values() for value in item.values())]
    if not all(isinstance(text, str) and "\0" not in text for text in texts):
        raise damaged(package, f"its {MANIFEST} has values that are no text")
    if main not in entries:
        raise InputError(f"{package} holds no model: its {MANIFEST} does not say which entry it is", fix=_SAVE_AGAIN)
    for item in entries.values():
        _check_item(package, root, item)
    return json.dumps({"fileFormatVersion": version, "itemInfoEntries": entries, "rootModelIdentifier": main})


def _check_item(package: Path, root: Path, item: dict[str, Any]) -> None:
    """The path of an entry, which is relative to the folder Data."""
    name = item.get("path")
    if not name:
        raise damaged(package, f"an entry of its {MANIFEST} has no path")
    if Path(name).is_absolute() or ".." in Path(name).parts:
        raise InputError(f"{package}: its {MANIFEST} names {name!a}, which leads out of the package", fix=_SAVE_AGAIN)
    try:
        _inside(package / "Data" / name, root, package)
    except UnicodeEncodeError as error:
        raise damaged(package, f"its {MANIFEST} names {name!a}, which is no name of a file") from error


def check_weights(operations: Iterable[Any], folder: Path, package: Path) -> None:
    """Every weight that the program refers to lies inside its file. `operations` are the program's, as the Model protobuf
    has them, `folder` is where the weight files of `package` are. Raises InputError for a file that is missing, cut short,
    or has no weight where one should begin."""
    for value in _file_values(operations):
        path, offset = folder / value.fileName.rpartition("/")[2], value.offset
        if problem := _weight_problem(path, offset):
            raise damaged(package, f"its {path.name} {problem}")


def _file_values(operations: Iterable[Any]) -> Iterator[Any]:
    """The references into weight files."""
    for operation in operations:
        bound = [binding.value for item in operation.inputs.values() for binding in item.arguments]
        for value in [*operation.attributes.values(), *bound]:
            if value.WhichOneof("value") == "blobFileValue":
                yield value.blobFileValue


def _weight_problem(path: Path, offset: int) -> str:
    if not path.is_file():
        return "is missing"
    length = path.stat().st_size
    if offset + _BLOB_HEADER.size > length:
        return f"ends at {length}, before the weight at {offset}"
    with path.open("rb") as file:
        file.seek(offset)
        sentinel, _, size, start = _BLOB_HEADER.unpack(file.read(_BLOB_HEADER.size))
    if sentinel != _BLOB_SENTINEL:
        return f"has no weight at {offset}"
    if start + size > length:
        return f"ends at {length}, inside the weight at {offset}, which reaches to {start + size}"
    return ""


def damaged(package: Path, what: str) -> InputError:
    """The error of a package that is not whole: `what` is wrong with it."""
    return InputError(f"{package} is damaged: {what}", fix=_COPY_AGAIN)
