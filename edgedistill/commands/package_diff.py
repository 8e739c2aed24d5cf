"""`package diff`: what an app gets with another package in place of the one that it ships."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from edgedistill.base.arrays import Logits
from edgedistill.base.errors import InputError
from edgedistill.base.progress import Listener, silent
from edgedistill.commands.examine import over_all, run_file
from edgedistill.data.argument import data_config
from edgedistill.data.datasets import load_dataset
from edgedistill.data.preprocessing import prepare
from edgedistill.devices.session import NotRunnableError
from edgedistill.documents.answers import ChangedAnswers, FileDiff, PackageDiff
from edgedistill.documents.package import Manifest, PackageContract
from edgedistill.documents.specs import Contract, Format
from edgedistill.documents.targets import load_target
from edgedistill.formats.foreign import open_file, reading
from edgedistill.formats.format import Opened
from edgedistill.networks.tasks import cosines
from edgedistill.outputs.package.integrity import check_sums
from edgedistill.outputs.package.package import package_folder
from edgedistill.outputs.package.replay import prepared, read_contract, read_golden, read_manifest

SAME_VECTOR: Final = 0.99
"""Vectors of two files are the same answer where their cosine is at least that."""


@dataclass(frozen=True, eq=False)
class _Package:
    folder: Path
    contract: PackageContract
    manifest: Manifest

    @staticmethod
    def at(path: Path) -> _Package:
        folder = package_folder(path)
        if problems := check_sums(folder):
            raise InputError(f"{folder} is not as it was built", problems=problems)
        return _Package(folder, read_contract(folder), read_manifest(folder))

    def file(self, format: Format) -> str | None:
        """Its file of that format: one that is recommended for a platform, else the first."""
        own = [name for name, file in self.contract.files.items() if file.format is format]
        return next((name for name in own if name in self.contract.recommended.values()), next(iter(own), None))


@dataclass(frozen=True, eq=False)
class _Answers:
    """What a file says of images: outputs float32 [N, width], and the label of each; None for vectors."""

    outputs: Logits
    labels: tuple[str, ...] | None


@dataclass(frozen=True, eq=False)
class _Data:
    """Images of the user, given by a contract, and the label of each."""

    name: str
    split: str
    listener: Listener

    def images(self, contract: Contract) -> tuple[NDArray[np.uint8], tuple[str, ...]]:
        config = data_config(self.name).model_copy(update={"background": contract.background})
        dataset = load_dataset(config, self.listener)
        indices = getattr(dataset.splits, self.split)
        if len(indices) == 0:
            raise InputError(f"{self.name} has no {self.split} split", fix="use --split train, validation or test")
        labels = tuple(dataset.classes[label] if label >= 0 else "" for label in dataset.labels[indices])
        return prepare(dataset.images, indices, contract), labels


def diff_packages(
    first: Path | str,
    second: Path | str,
    *,
    data: str | None = None,
    split: str = "test",
    max_changed: float | None = None,
    target: str | Path = "host",
    listener: Listener = silent,
) -> PackageDiff:
    """What differs between the packages `first` and `second`: their contracts, and of each format size, quality, latency and
    the answers that change, on the golden pictures of `first` and on a split of `data`. `max_changed` is the largest share
    of changed answers, 0 to 1, on `data`, or without it on the golden pictures. Raises InputError for folders that are no
    packages or are damaged, a gate that nothing here can judge, and data without such images."""
    if split not in ("train", "validation", "test"):
        raise InputError(f"unknown split {split!r}", fix="use train, validation or test")
    if max_changed is not None and not 0 <= max_changed <= 1:
        raise InputError(f"--max-changed {max_changed:g} is no share", fix="give one like 1%, or 0.01")
    both = (_Package.at(Path(first)), _Package.at(Path(second)))
    formats = list(dict.fromkeys(file.format for one in both for file in one.contract.files.values()))
    shown = None if data is None else _Data(data, split, listener)
    files = tuple(_file_diff(both, format, shown, target) for format in formats)
    judged = [found for file in files if (found := file.on_data if data else file.on_golden) is not None]
    if max_changed is not None and not judged:
        why = "; ".join(dict.fromkeys(file.not_run for file in files if file.not_run)) or "they share no format"
        raise InputError(f"no answers of both packages can be compared: {why}", fix="leave --max-changed out")
    return PackageDiff(
        paths=(str(both[0].folder), str(both[1].folder)),
        contract=tuple(_contract_changes(both[0].contract, both[1].contract)),
        metric=both[1].manifest.metric,
        files=files,
        data=data,
        max_changed=max_changed,
        ok=max_changed is None or all(found.share <= max_changed for found in judged),
    )


def _contract_changes(one: PackageContract, other: PackageContract) -> Iterator[str]:
    """Sentences of what an app has to do otherwise, or gets otherwise."""
    if one.task != other.task:
        yield f"the task was {one.task} and is {other.task}"
    gone, new = (sorted(set(a.labels) - set(b.labels)) for a, b in ((one, other), (other, one)))
    if gone:
        yield f"labels that are gone: {', '.join(gone)}"
    if new:
        yield f"new labels: {', '.join(new)}"
    if not gone and not new and one.labels != other.labels:
        yield "the labels have another order: take them from the new package"
    steps = [{step.step: step for step in contract.preparation} for contract in (one, other)]
    for name in dict.fromkeys((*steps[0], *steps[1])):
        before, after = (found.get(name) for found in steps)
        if before is None or after is None:
            yield f"the step {name} is {'new' if before is None else 'gone'}"
        elif before != after:
            fields = [key for key, value in before if value != getattr(after, key)]
            said = (f"{key} {getattr(before, key)} is now {getattr(after, key)}" for key in fields)
            yield f"the step {name}: {', '.join(said)}"
    if one.output != other.output:
        yield f"the output was {one.output.name} of {one.output.width} and is {other.output.name} of {other.output.width}"
    yield from _probability_changes(one, other)


def _probability_changes(one: PackageContract, other: PackageContract) -> Iterator[str]:
    for name in (name for name in one.files if name in other.files):
        for what, key in (("temperature", "temperature"), ("threshold of none of these", "none_below")):
            was, now = (getattr(contract.files[name], key) for contract in (one, other))
            if was != now:
                shown = ("none" if value is None else f"{value:.3f}" for value in (was, now))
                yield f"{name}: the {what} was {' and is '.join(shown)}"


def _file_diff(both: tuple[_Package, _Package], format: Format, data: _Data | None, target: str | Path) -> FileDiff:
    names = (both[0].file(format), both[1].file(format))
    before, after = (one.manifest.artifacts.get(name or "") for one, name in zip(both, names, strict=True))
    on_golden, on_data, not_run = None, None, ""
    if names[0] is not None and names[1] is not None:
        paths = [one.folder / name for one, name in zip(both, names, strict=True) if name]
        try:
            opened = [reading(path, open_file, path, load_target(str(target))) for path in paths]
            on_golden = _on_golden(both[0].folder, opened)
            on_data = None if data is None else _on_data(data, opened)
        except NotRunnableError as error:
            not_run = error.message
    return FileDiff(
        format=format,
        files=names,
        bytes=(before.bytes if before else None, after.bytes if after else None),
        quality=(before.quality if before else None, after.quality if after else None),
        latency=(before.latency if before else None, after.latency if after else None),
        on_golden=on_golden,
        on_data=on_data,
        not_run=not_run,
    )


def _on_golden(package: Path, opened: Sequence[Opened]) -> ChangedAnswers:
    pictures = read_golden(package).pictures
    answers = []
    for file in opened:
        images = np.stack([prepared(package, picture.file, file.contracted()) for picture in pictures])
        answers.append(_Answers(reading(file.artifact.path, run_file, file.artifact, images), _labels(file)))
    return _changed(answers, None)


def _on_data(data: _Data, opened: Sequence[Opened]) -> ChangedAnswers:
    answers: list[_Answers] = []
    truth: tuple[str, ...] = ()
    for file in opened:
        images, truth = data.images(file.contracted())
        outputs = over_all(file.artifact, images, run_file, file.artifact, images)
        answers.append(_Answers(outputs, _labels(file)))
    return _changed(answers, truth)


def _labels(opened: Opened) -> tuple[str, ...] | None:
    contract = opened.contracted()
    return contract.labels if contract.vector is None else None


def _changed(answers: Sequence[_Answers], truth: tuple[str, ...] | None) -> ChangedAnswers:
    one, other = answers
    count = len(one.outputs)
    if one.labels is None and other.labels is None and one.outputs.shape == other.outputs.shape:
        changed = int((cosines(one.outputs, other.outputs) < SAME_VECTOR).sum())
        return ChangedAnswers(images=count, changed=changed, gained=None, lost=None)
    if one.labels is None or other.labels is None:
        return ChangedAnswers(images=count, changed=count, gained=None, lost=None)
    before = [one.labels[place] for place in one.outputs.argmax(axis=1)]
    after = [other.labels[place] for place in other.outputs.argmax(axis=1)]
    pairs = list(zip(before, after, truth or ("",) * count, strict=True))
    return ChangedAnswers(
        images=count,
        changed=sum(a != b for a, b, _ in pairs),
        gained=sum(b == label != a for a, b, label in pairs) if truth else None,
        lost=sum(a == label != b for a, b, label in pairs) if truth else None,
    )
