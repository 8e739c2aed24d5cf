"""`--data`: a data set named on a command line."""

from __future__ import annotations

from pathlib import Path

from edgedistill.base.errors import InputError
from edgedistill.base.paths import nearest
from edgedistill.documents.build_file import DataConfig


def data_config(text: str) -> DataConfig:
    """`digits`; a folder with MNIST's four files; a folder saved by Hugging Face datasets; else a folder of images by class.
    The crop is the middle square, as exported models expect it. Raises InputError for a folder that is not there."""
    if text == "digits":
        return DataConfig(source="digits")
    path = Path(text).expanduser().absolute()
    if not path.is_dir():
        raise InputError(
            f"--data: {text} {'is a file' if path.exists() else 'does not exist'}",
            fix=nearest(
                Path(text),
                "give digits, or a folder: of images by class, of MNIST's four files, or saved by Hugging Face datasets",
            ),
        )
    if any(path.glob("*-images-idx3-ubyte*")):
        return DataConfig(source="idx", path=path)
    if (path / "dataset_info.json").is_file() or (path / "dataset_dict.json").is_file():
        return DataConfig(source="huggingface", path=path)
    return DataConfig(source="folder", path=path, crop="center")
