"""A data set, from wherever it comes: images on demand, labels, classes, explicit splits, and a hash of it all."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from edgedistill.base.errors import Problem
from edgedistill.base.progress import Listener, silent
from edgedistill.base.store import Store
from edgedistill.data.content import content_hashes, require_folder, scan
from edgedistill.data.fingerprint import UNLABELLED_FOLDER, fingerprint, fingerprint_of, with_fingerprint
from edgedistill.data.problems import data_error
from edgedistill.data.sources import UNLABELLED, ImageSource, Indices, Joined, Loaded
from edgedistill.data.splits import Splits, limited, make_splits
from edgedistill.data.tree import look
from edgedistill.documents.build_file import DataConfig


@dataclass(frozen=True, eq=False)
class Keeping:
    """Where images that were prepared are kept: those of each part of the data and each contract that take no more than
    `limit_bytes`, as a stage of `store`."""

    store: Store
    limit_bytes: int


@dataclass(frozen=True, eq=False)
class Dataset:
    """Images with a label each, or none. `labels` int64 [N] index `classes`, or are UNLABELLED, which occurs in the training
    split alone; of data without classes all are. `images` gives uint8 [H, W, 3]; `fingerprint` is the hash of the content
    (not of the splits). Without `keeping` images are prepared anew each time."""

    name: str
    classes: tuple[str, ...]
    labels: Indices
    images: ImageSource
    splits: Splits
    fingerprint: str
    keeping: Keeping | None = None

    def __getstate__(self) -> dict[str, object]:
        """Without `keeping`, whose store has a listener of this process: others train on the images, and judge nothing."""
        return {name: value for name, value in self.__dict__.items() if name != "keeping"}

    @property
    def labelled(self) -> Dataset:
        """The same without the training images that have no label."""
        train = self.splits.train
        return replace(self, splits=replace(self.splits, train=train[self.labels[train] != UNLABELLED]))


def load_dataset(config: DataConfig, listener: Listener = silent, *, need_labels: bool = True) -> Dataset:
    """The data that `config` names, checked and split. `listener` hears warnings, and how far a long check is. With
    `need_labels` off images in a folder may all be without one.

    Raises InputError with the problems of the data, MissingDependencyError for a source whose package is absent.
    """
    if config.source == "folder":
        content, loaded = _from_folder(config, listener, need_labels=need_labels)
    else:
        content = fingerprint(config, listener)
        loaded = _load(config, listener)
    splits = make_splits(loaded, config.split)
    if problems := _class_problems(loaded, splits) if loaded.classes or need_labels else []:
        raise data_error(f"the data set {loaded.name} cannot be learnt from", problems)
    if config.limit is not None:
        splits = replace(splits, train=limited(splits.train, loaded.labels, config.limit, config.split.seed))
    dataset = Dataset(loaded.name, loaded.classes, loaded.labels, loaded.images, splits, content)
    if loaded.unlabelled is not None:
        dataset = with_unlabelled(dataset, loaded.unlabelled)
    if config.unlabelled is not None:
        dataset = with_unlabelled(dataset, _unlabelled(config.unlabelled, config, dataset, listener))
    return dataset


def with_unlabelled(dataset: Dataset, images: ImageSource) -> Dataset:
    """`dataset` with further training images that have no label."""
    first = len(dataset.images)
    added = np.arange(first, first + len(images), dtype=np.int64)
    return replace(
        dataset,
        labels=np.concatenate([dataset.labels, np.full(len(images), UNLABELLED)]),
        images=Joined((dataset.images, images)),
        splits=replace(dataset.splits, train=np.concatenate([dataset.splits.train, added])),
    )


def _unlabelled(folder: Path, config: DataConfig, dataset: Dataset, listener: Listener) -> ImageSource:
    """The images of a folder, without those whose content is in the validation or the test split: students that were taught
    on them would be judged by them."""
    from edgedistill.data.folder import FolderImages, load_unlabelled

    images = dataset.images.parts[0] if isinstance(dataset.images, Joined) else dataset.images
    kept = np.concatenate([dataset.splits.validation, dataset.splits.test]).tolist()
    paths = [images.paths[index] for index in kept] if isinstance(images, FolderImages) else []
    held_out = {content.sha256 for content in content_hashes([look(path, Path(path).stat) for path in paths]).values()}
    return load_unlabelled(scan(require_folder(folder, UNLABELLED_FOLDER), listener), config, held_out, listener)


def _load(config: DataConfig, listener: Listener) -> Loaded:
    """Each source's module is imported only when it is asked for: some bring large packages."""
    if config.source == "digits":
        from edgedistill.data.digits import load_digits

        return load_digits()
    if config.source == "huggingface":
        from edgedistill.data.huggingface import load_huggingface

        return load_huggingface(config, listener)
    assert config.path is not None, "DataConfig requires a path for this source"
    from edgedistill.data.idx import load_idx

    return load_idx(config.path)


def _from_folder(config: DataConfig, listener: Listener, *, need_labels: bool) -> tuple[str, Loaded]:
    """The fingerprint and the images of a folder, which is looked through once for both."""
    from edgedistill.data.folder import load_folder

    assert config.path is not None, "DataConfig requires a path for this source"
    found = scan(require_folder(config.path, "the data folder"), listener)
    content = with_fingerprint(fingerprint_of(config, found), config, listener)
    return content, load_folder(found, config, listener, need_labels=need_labels)


def _class_problems(loaded: Loaded, splits: Splits) -> list[Problem]:
    if len(loaded.classes) < 2:
        return [Problem(loaded.name, f"has {len(loaded.classes)} class", "a classifier needs two or more")]
    trained = set(np.unique(loaded.labels[splits.train]).tolist())
    return [
        Problem(loaded.name, f"class {name} has no training image", "add some, or take the class out")
        for index, name in enumerate(loaded.classes)
        if index not in trained
    ]
