"""What the images of a data set are called."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from edgedistill.data.folder import FolderImages
from edgedistill.data.sources import ImageSource, Joined


def image_names(images: ImageSource, folders: Sequence[Path]) -> list[str]:
    """Of each image its path below the first of `folders` that it lies in, with slashes; its index where it is no file."""
    roots = [f"{folder}{os.sep}" for folder in folders]
    names: list[str] = []
    for part in images.parts if isinstance(images, Joined) else (images,):
        if isinstance(part, FolderImages):
            names += [_below(path, roots) for path in part.paths]
        else:
            names += map(str, range(len(names), len(names) + len(part)))
    return names


def _below(path: str, roots: Sequence[str]) -> str:
    root = next((root for root in roots if path.startswith(root)), "")
    return path[len(root) :].replace(os.sep, "/")
