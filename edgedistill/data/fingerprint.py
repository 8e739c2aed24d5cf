"""The hash of the data that a build file names, found without loading it.

Whether a build has anything to do is decided on this, so nothing here imports torch, scikit-learn, datasets or Pillow.
"""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from edgedistill.base.errors import MissingDependencyError
from edgedistill.base.progress import Listener, silent
from edgedistill.base.store import digest, tool_version
from edgedistill.data.content import FileContent, Scan, content_hashes, require_folder, scan
from edgedistill.data.tree import look
from edgedistill.documents.build_file import DataConfig

IDX_FILES = {
    "train images": "train-images{}idx3-ubyte",
    "train labels": "train-labels{}idx1-ubyte",
    "test images": "t10k-images{}idx3-ubyte",
    "test labels": "t10k-labels{}idx1-ubyte",
}
IDX_CLASSES = "classes.txt"
LABELS_FILE = "labels.csv"
UNLABELLED_FOLDER = "the folder of unlabelled images"
"""What [data] unlabelled is called in errors."""


def fingerprint(config: DataConfig, listener: Listener = silent) -> str:
    """SHA-256 (hex) of the content that `config` names: of the images on their background and of the labels, not of how they
    are split or limited. `listener` hears how far it is, if it takes long.

    Files that cannot be read count as such; `load_dataset` lists them. A Hugging Face data set by name is known here by
    that name alone, since its content is only known once it is loaded. Raises InputError for a missing folder.
    """
    return with_fingerprint(_labelled(config, listener), config, listener)


def with_fingerprint(labelled: str, config: DataConfig, listener: Listener = silent) -> str:
    """The fingerprint of the labelled images and, where there are any, of those without labels."""
    content: dict[str, object] = {"labelled": labelled, "background": config.background}
    if config.unlabelled is not None:
        found = scan(require_folder(config.unlabelled, UNLABELLED_FOLDER), listener)
        content["unlabelled"] = _of_files(found)
    return digest(content)


def _labelled(config: DataConfig, listener: Listener) -> str:
    if config.source == "digits":
        file = digits_file()
        return digest({"digits": _hashed(file.parent, [str(file)]), "scikit-learn": tool_version("scikit-learn")})
    if config.path is None:
        return digest({"huggingface": config.name, "columns": _columns(config)})
    folder = require_folder(config.path, "the data folder")
    if config.source == "idx":
        files = [*idx_files(folder).values(), folder / IDX_CLASSES]
        return digest({"idx": _hashed(folder, [str(file) for file in files if file.exists()])})
    return fingerprint_of(config, scan(folder, listener))


def fingerprint_of(config: DataConfig, found: Scan) -> str:
    """The same for a source of files in folders (`folder`, `huggingface` with a path) that was looked through already."""
    content = _of_files(found)
    if config.source == "huggingface":
        return digest({"huggingface": content, "columns": _columns(config)})
    columns: dict[str, list[str]] = {"columns": _columns(config)} if labels_file(found) else {}
    # Folders count too: an empty one is a class without images.
    return digest({"folder": content, "folders": _relative(found.folder, found.tree.folders), **columns})


def _of_files(found: Scan) -> list[tuple[str, str]]:
    return _named(found.folder, [file.path for file in found.tree.files], found.contents)


def labels_file(found: Scan) -> str | None:
    """The path of the `labels.csv` of a folder of images, if it has one: that then says which class each image is of."""
    path = f"{found.folder}{os.sep}{LABELS_FILE}"
    return path if path in found.contents else None


def _columns(config: DataConfig) -> list[str]:
    return [config.image_column, config.label_column]


def digits_file() -> Path:
    """Where scikit-learn keeps its digits. Raises MissingDependencyError where it is not installed."""
    found = importlib.util.find_spec("sklearn")
    if found is None or not found.submodule_search_locations:
        raise MissingDependencyError('source = "digits" needs scikit-learn', fix="pip install scikit-learn")
    return Path(found.submodule_search_locations[0]) / "datasets" / "data" / "digits.csv.gz"


def idx_files(folder: Path) -> dict[str, Path]:
    """Which of MNIST's four files are in `folder`, by role (keys of IDX_FILES). Both spellings (`-idx3-`, `.idx3-`) are
    known, gzipped or not; a plain file goes before its gzipped twin."""
    result = {}
    for role, pattern in IDX_FILES.items():
        names = [pattern.format(mark) + suffix for suffix in ("", ".gz") for mark in ("-", ".")]
        if found := [folder / name for name in names if (folder / name).is_file()]:
            result[role] = found[0]
    return result


def _hashed(folder: Path, files: Sequence[str]) -> list[tuple[str, str]]:
    return _named(folder, files, content_hashes([look(file, Path(file).stat) for file in files]))


def _named(folder: Path, files: Sequence[str], contents: Mapping[str, FileContent]) -> list[tuple[str, str]]:
    """Relative path and content hash of each file; why it cannot be read in place of the hash."""
    hashes = (contents[file].sha256 or contents[file].fault for file in files)
    return list(zip(_relative(folder, files), hashes, strict=True))


def _relative(folder: Path, paths: Sequence[str]) -> list[str]:
    """The part after `folder` of paths below it."""
    skipped = len(str(folder)) + 1
    return [path[skipped:].replace(os.sep, "/") for path in paths]
