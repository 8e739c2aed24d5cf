"""Train, validation and test: as given, or drawn by a stated seed and fraction, stratified by class.

The draws use only the raw stream of PCG64, which numpy promises never to change (its `permutation` it does not).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgedistill.base.errors import InputError
from edgedistill.data.sources import Indices, Loaded
from edgedistill.documents.build_file import SplitConfig

_SPLIT_STREAM = 1
_LIMIT_STREAM = 2


@dataclass(frozen=True, eq=False)
class Splits:
    """Disjoint sorted int64 indices into the data set. `seed` is that of the drawn ones, None if all were given."""

    train: Indices
    validation: Indices
    test: Indices
    seed: int | None


def make_splits(loaded: Loaded, config: SplitConfig) -> Splits:
    """The splits that the source came with; a missing one is taken out of its training images.

    Raises InputError where there are too few images, or the fractions leave nothing to train on.
    """
    train = np.sort(loaded.train)
    wanted = {"validation": config.validation, "test": config.test}
    given = {"validation": loaded.validation, "test": loaded.test}
    splits = {name: np.sort(indices) for name, indices in given.items() if indices is not None}
    fractions = {name: fraction for name, fraction in wanted.items() if name not in splits}
    if fractions:
        if sum(fractions.values()) >= 1:
            raise InputError(
                f"[data.split] takes {' and '.join(f'{f:g} for {n}' for n, f in fractions.items())}: nothing is left",
                fix="let validation and test add up to less than 1, e.g. 0.15 each",
            )
        rest, *drawn = stratified(loaded.labels[train], tuple(fractions.values()), config.seed)
        for name, part in zip(fractions, drawn, strict=True):
            if not len(part):
                raise InputError(
                    f"{len(train)} images are too few to take a {name} split of {fractions[name]:g} out of them",
                    fix=f"add images, or raise {name} under [data.split]",
                )
            splits[name] = train[part]
        train = train[rest]
    return Splits(train, splits["validation"], splits["test"], config.seed if fractions else None)


def stratified(labels: Indices, fractions: tuple[float, ...], seed: int) -> list[Indices]:
    """Positions 0..n-1 in 1 + len(fractions) sorted parts: the rest first, then a part a fraction.

    Of each class every part holds its fraction to within one image, of the whole its fraction rounded, and the rest
    keeps at least one image a class.
    """
    classes, inverse, counts = np.unique(labels, return_inverse=True, return_counts=True)
    quotas = [counts * fraction for fraction in fractions]
    taken = [_apportion(quota, round(fraction * len(labels))) for quota, fraction in zip(quotas, fractions)]
    for one in range(len(classes)):
        while sum(int(part[one]) for part in taken) > counts[one] - 1:
            greediest = max(range(len(taken)), key=lambda k: taken[k][one] - quotas[k][one])
            taken[greediest][one] -= 1
    parts: list[list[Indices]] = [[] for _ in range(1 + len(fractions))]
    for one, members in enumerate(_members(inverse, counts, seed, _SPLIT_STREAM)):
        start = 0
        for part, sizes in zip(parts[1:], taken):
            part.append(members[start : start + sizes[one]])
            start += int(sizes[one])
        parts[0].append(members[start:])
    return [np.sort(np.concatenate(part)) if part else np.empty(0, np.int64) for part in parts]


def limited(train: Indices, labels: Indices, limit: int, seed: int) -> Indices:
    """At most `limit` of the indices `train`, stratified by class with at least one image of each.

    Raises InputError if `limit` is below the number of classes.
    """
    if limit >= len(train):
        return train
    classes, inverse, counts = np.unique(labels[train], return_inverse=True, return_counts=True)
    if limit < len(classes):
        raise InputError(
            f"[data] limit = {limit} cannot hold one training image of each of {len(classes)} classes",
            fix=f"set limit to {len(classes)} or more",
        )
    sizes = _apportion(counts * (limit / len(train)), limit)
    while (sizes == 0).any():
        sizes[np.argmax(sizes)] -= 1
        sizes[np.argmin(sizes)] += 1
    members = _members(inverse, counts, seed, _LIMIT_STREAM)
    kept: Indices = train[np.sort(np.concatenate([group[:size] for group, size in zip(members, sizes)]))]
    return kept


def _apportion(quotas: NDArray[np.floating[Any]], total: int) -> Indices:
    """Whole numbers that add up to `total`, each the floor or the ceiling of its quota (largest remainders first)."""
    whole: Indices = np.floor(quotas).astype(np.int64)
    by_remainder = np.argsort(whole - quotas, kind="stable")
    whole[by_remainder[: max(0, total - int(whole.sum()))]] += 1
    return whole


def _members(inverse: Indices, counts: Indices, seed: int, stream: int) -> list[Indices]:
    """Positions of each class, in a drawn order. `inverse` is the class of each position, `counts` how many it has."""
    bits = np.random.PCG64(np.random.SeedSequence([seed, stream]))
    order = np.argsort(bits.random_raw(len(inverse)), kind="stable")
    by_class = order[np.argsort(inverse[order], kind="stable")]
    return np.split(by_class.astype(np.int64), np.cumsum(counts)[:-1])
