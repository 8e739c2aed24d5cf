"""What several teachers say of stored views, as one: the weighted mean of their probabilities, or of their vectors.

The mean of softmax outputs is what MEAL V2 lets students learn (Shen and Savvides 2020, https://arxiv.org/abs/2009.08453).
That some teachers are left out of some views is after UNIC (Sariyildiz et al. 2024, https://arxiv.org/abs/2408.05088).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from edgedistill.base.store import digest
from edgedistill.data.sources import Indices
from edgedistill.distill.stored.encoding import shifted
from edgedistill.distill.stored.signals import StoredSignal
from edgedistill.documents.recipes import EMBEDDING
from edgedistill.networks.tasks import unit

Shares: TypeAlias = NDArray[np.float64]

LEAST: Final = 1e-30
"""A probability below it counts as this: its logarithm still is a number."""
ROUNDS: Final = 1000
ENOUGH: Final = 1e-7


@dataclass(frozen=True)
class MixedSignal:
    """The outputs of several teachers as one signal: of each class the logarithm of its mean probability, or the mean of
    their vectors at length 1, by `weights`, which sum to 1. Each of `parts` is left out of the share `drop` of all images,
    drawn for each view of an image by `seed`; one always stays."""

    parts: tuple[StoredSignal, ...]
    weights: tuple[float, ...]
    drop: float = 0.0
    seed: int = 0

    @property
    def tap(self) -> str:
        return self.parts[0].tap

    @property
    def key(self) -> str:
        """What identifies it: all that it depends on."""
        return digest([[part.key for part in self.parts], self.weights, self.drop, self.seed])

    @property
    def images(self) -> int:
        return self.parts[0].images

    @property
    def width(self) -> int:
        return self.parts[0].width

    def at(self, view: int, positions: Indices) -> NDArray[np.float16]:
        """Of view index `view` of the images at `positions` [n] of the training split: float16 [n, width], logits shifted so
        that the largest of a row is 0, vectors at length 1."""
        shares = self._shares(view, positions)
        mean = np.zeros((len(positions), self.width))
        vectors = self.tap == EMBEDDING
        for part, share in zip(self.parts, shares, strict=True):
            if share.any():
                said = part.at(view, positions)
                mean += share[:, None] * (unit(said) if vectors else softmax(said))
        if vectors:
            return unit(mean).astype(np.float16)
        rows: NDArray[np.float16] = shifted(np.log(np.maximum(mean, LEAST)).astype(np.float32)).astype(np.float16)
        return rows

    def stated_errors(self, views: int) -> NDArray[np.float32] | None:
        """Of each image in each of `views` view indices [views, n] the weighted mean of those of its parts, which stands for
        its own. None where all of them are kept whole."""
        found = [(w, e) for w, part in zip(self.weights, self.parts) if (e := part.stated_errors(views)) is not None]
        if not found:
            return None
        errors: NDArray[np.float32] = np.sum([weight * error for weight, error in found], axis=0).astype(np.float32)
        return errors

    def _shares(self, view: int, positions: Indices) -> Shares:
        """The weight of each part for each image [k, n]; those of an image sum to 1."""
        weights = np.repeat(np.array(self.weights)[:, None], len(positions), axis=1)
        if not self.drop:
            return weights
        drawn = np.stack(
            [_uniform(self._streams[part] + np.uint64(view), positions) for part in range(len(self.parts))]
        )
        stays = drawn >= self.drop
        stays[drawn.argmax(axis=0), np.arange(len(positions))] = True
        weights = np.where(stays, weights, 0.0)
        # A part of no weight may be the one that stays.
        weights = np.where(weights.sum(axis=0) > 0, weights, stays)
        shares: Shares = weights / weights.sum(axis=0)
        return shares

    @cached_property
    def _streams(self) -> NDArray[np.uint64]:
        """One a part, far apart."""
        return np.random.PCG64(np.random.SeedSequence([self.seed, len(self.parts)])).random_raw(len(self.parts))


Signal: TypeAlias = StoredSignal | MixedSignal
"""What one teacher gives at a tap, or several together."""


def softmax(logits: NDArray[np.floating]) -> Shares:
    """Probabilities [n, classes] of logits [n, classes], in double precision."""
    wide = logits.astype(np.float64)
    powers = np.exp(wide - wide.max(axis=1, keepdims=True))
    shares: Shares = powers / powers.sum(axis=1, keepdims=True)
    return shares


def mixture_weights(likelihoods: Shares) -> tuple[float, ...]:
    """The weights, of sum 1, of a mean that makes what was seen likeliest: `likelihoods` [k, n] are what each of k says of n
    images' labels. By expectation and maximisation (Dempster, Laird and Rubin 1977,
    https://doi.org/10.1111/j.2517-6161.1977.tb01600.x): each step raises the likelihood, which has one maximum."""
    said = np.maximum(likelihoods, LEAST)
    weights = np.full(len(said), 1 / len(said))
    for _ in range(ROUNDS):
        shares = weights[:, None] * said
        better = (shares / shares.sum(axis=0)).mean(axis=1)
        moved = np.abs(better - weights).max()
        weights = better
        if moved < ENOUGH:
            break
    return tuple((weights / weights.sum()).tolist())


def _uniform(stream: np.uint64, positions: Indices) -> Shares:
    """In 0..1 for each position [n], the same whichever others are asked with it: splitmix64 (Steele, Lea and Flood 2014,
    https://doi.org/10.1145/2660193.2660195)."""
    with np.errstate(over="ignore"):
        mixed = (positions.astype(np.uint64) + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15) + _mixed(stream)
        found: Shares = (_mixed(mixed) >> np.uint64(11)).astype(np.float64) / 2**53
    return found


def _mixed(value: np.uint64 | NDArray[np.uint64]) -> NDArray[np.uint64]:
    with np.errstate(over="ignore"):
        found = np.asarray(value, np.uint64)
        found = (found ^ (found >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        found = (found ^ (found >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return found ^ (found >> np.uint64(31))
