"""MNIST's file format, as MNIST, Fashion-MNIST, KMNIST and others come in it (http://yann.lecun.com/exdb/mnist).

A header (two zero bytes, element type, number of dimensions, each dimension as a big-endian u32), then the elements.
"""

from __future__ import annotations

import gzip
import math
import zlib
from pathlib import Path

import numpy as np

from edgedistill.base.errors import InputError, Problem
from edgedistill.data.content import require_folder
from edgedistill.data.fingerprint import IDX_CLASSES, IDX_FILES, idx_files
from edgedistill.data.images import size_fault
from edgedistill.data.sources import GreyImages, Joined, Loaded, Pixels, ranges

_UNSIGNED_BYTE = 8


def load_idx(folder: Path) -> Loaded:
    """MNIST's four files in one folder: `train-*` and `t10k-*`, the test split; without the latter pair there is none.
    Class names are the labels' numbers, or the lines of `classes.txt`. Raises InputError listing all that is wrong."""
    files = idx_files(require_folder(folder, "the data folder"))
    problems = _missing(folder, files)
    arrays: dict[str, Pixels] = {}
    for role, path in files.items():
        try:
            arrays[role] = read_idx(path, dimensions=3 if role.endswith("images") else 1)
        except InputError as error:
            problems.append(Problem(str(path), error.message, error.fix))
    for split in ("train", "test"):
        images, labels = arrays.get(f"{split} images"), arrays.get(f"{split} labels")
        if images is not None and labels is not None and len(images) != len(labels):
            problems.append(
                Problem(
                    str(files[f"{split} labels"]),
                    f"has {len(labels)} labels for {len(images)} images",
                    "get both files anew",
                )
            )
    label_arrays = [array for role, array in arrays.items() if role.endswith("labels") and len(array)]
    highest = max((int(array.max()) for array in label_arrays), default=0)
    classes = _class_names(folder / IDX_CLASSES, highest, problems)
    if problems:
        raise InputError(f"{folder} has {len(problems)} problem{'s' * (len(problems) > 1)}", problems=problems)
    has_test = "test images" in arrays
    splits = ["train", "test"] if has_test else ["train"]
    indices = ranges([len(arrays[f"{split} labels"]) for split in splits])
    return Loaded(
        name=folder.name,
        classes=classes,
        labels=np.concatenate([arrays[f"{split} labels"] for split in splits]).astype(np.int64),
        images=Joined(tuple(GreyImages(arrays[f"{split} images"]) for split in splits)),
        train=indices[0],
        test=indices[1] if has_test else None,
    )


def read_idx(path: Path, dimensions: int) -> Pixels:
    """The array of one IDX file, gzipped (by its name) or not, uint8. Raises InputError if its header does not say
    unsigned bytes in so many dimensions, or its length is not what the header says."""
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as stream:
            head = stream.read(4 + 4 * dimensions)
            if not head:
                raise InputError("is empty", fix="get the file anew")
            if len(head) < 4 + 4 * dimensions or head[:4] != bytes((0, 0, _UNSIGNED_BYTE, dimensions)):
                raise InputError(
                    f"does not begin as an IDX file of unsigned bytes in {dimensions} dimension{'s' * (dimensions > 1)}",
                    fix="check that it is the right file, and unpack anything but .gz",
                )
            shape = tuple(np.frombuffer(head, ">u4", offset=4).tolist())
            expected = math.prod(shape)
            if dimensions == 3 and shape[0] and (fault := size_fault(shape[2], shape[1])):
                raise InputError(f"{fault}, by its header", fix="get the file anew")
            # One byte more than expected tells a longer file without reading all of it.
            body = stream.read(expected + 1) if path.suffix == ".gz" else _read_plain(path, len(head), expected)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise InputError(f"is not a whole gzip file: {error}", fix="get the file anew") from None
    except OSError as error:
        raise InputError(f"cannot be read: {error.strerror}", fix="check its permissions") from None
    if len(body) != expected:
        found = f"{len(body)}" if len(body) < expected else "more"
        raise InputError(f"has {found} bytes of data where its header says {expected}", fix="get the file anew")
    if not expected:
        raise InputError("has a header and no data", fix="get the file anew")
    return np.frombuffer(body, np.uint8).reshape(shape)


def _read_plain(path: Path, offset: int, expected: int) -> bytes:
    """Data of a plain file, at most what its size allows: a header may ask for more memory than there is."""
    with path.open("rb") as stream:
        stream.seek(offset)
        return stream.read(min(expected, path.stat().st_size - offset) + 1)


def _missing(folder: Path, files: dict[str, Path]) -> list[Problem]:
    """Files that should be there: both of `train`, and both of `t10k` or neither."""
    needs_test = any(role.startswith("test") for role in files)
    wanted = [role for role in IDX_FILES if role.startswith("train") or needs_test]
    return [
        Problem(str(folder / IDX_FILES[role].format("-")), "does not exist, nor gzipped as .gz", f"add the {role} file")
        for role in wanted
        if role not in files
    ]


def _class_names(path: Path, highest_label: int, problems: list[Problem]) -> tuple[str, ...]:
    """Names from `classes.txt`, one a line; the numbers 0 to the highest label where there is no such file."""
    if not path.exists():
        return tuple(str(label) for label in range(highest_label + 1))
    try:
        names = tuple(line.strip() for line in path.read_text(encoding="utf-8").splitlines() if line.strip())
    except (OSError, UnicodeDecodeError) as error:
        problems.append(Problem(str(path), f"cannot be read: {error}", "save it as UTF-8 text, a name a line"))
        return ()
    if len(names) <= highest_label:
        problems.append(
            Problem(
                str(path),
                f"has {len(names)} names and the labels go up to {highest_label}",
                f"give {highest_label + 1} names, one a line",
            )
        )
    if twice := sorted({name for name in names if names.count(name) > 1}):
        problems.append(Problem(str(path), f"names {', '.join(twice)} more than once", "give each class its own name"))
    return names
