"""How a teacher's logits are written: records of fixed size, by the number of classes.

Every loss has to be possible from what is stored, at any temperature, so all classes are kept as long as that is affordable.
Rows are shifted so that their largest logit is 0. A shift changes no probability.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from edgedistill.data.sources import Indices

LOWEST: Final = -65504.0
"""The most negative float16."""
MOST_DENSE: Final = 256
"""Classes up to which every logit is a float16."""
MOST_BYTES: Final = 4096
"""Classes up to which every logit is a byte."""
TOP: Final = 128
"""Classes that are kept of an image beyond that."""

Logits16 = NDArray[np.float16]
Logits32 = NDArray[np.float32]
Records = NDArray[np.void]


def shifted(logits: Logits32) -> Logits32:
    """The row's largest taken off, in double precision: the difference of two large logits must not overflow."""
    wide = logits.astype(np.float64)
    result: Logits32 = np.maximum(wide - wide.max(axis=1, keepdims=True), LOWEST).astype(np.float32)
    return result


@dataclass(frozen=True)
class Encoding(ABC):
    """Of logits of `classes` classes."""

    classes: int

    @property
    @abstractmethod
    def record(self) -> np.dtype[np.void]:
        """One image."""

    @abstractmethod
    def encode(self, logits: Logits32) -> Records:
        """Records [n] of shifted logits [n, classes], all of them finite."""

    @abstractmethod
    def decode(self, records: Records) -> Logits16:
        """Logits [n, classes], shifted."""


class Dense(Encoding):
    """Every logit as float16, whose steps are finest where the probability is."""

    @property
    def record(self) -> np.dtype[np.void]:
        return np.dtype([("logits", "<f2", (self.classes,))])

    def encode(self, logits: Logits32) -> Records:
        return _packed(self.record, logits=logits.astype(np.float16))

    def decode(self, records: Records) -> Logits16:
        logits: Logits16 = records["logits"]
        return logits


class Bytes(Encoding):
    """Every logit x of a row as a byte, round(255 sqrt(x / lowest)): the steps are finest near the largest, where the
    probability is, and widest at the row's lowest, which is kept."""

    @property
    def record(self) -> np.dtype[np.void]:
        return np.dtype([("lowest", "<f4"), ("roots", "u1", (self.classes,))])

    def encode(self, logits: Logits32) -> Records:
        lowest = logits.min(axis=1)
        share = logits / np.where(lowest < 0, lowest, 1)[:, None]
        return _packed(self.record, lowest=lowest, roots=np.rint(255 * np.sqrt(share)).astype(np.uint8))

    def decode(self, records: Records) -> Logits16:
        roots = records["roots"].astype(np.float32) / 255
        logits: Logits16 = (np.square(roots) * records["lowest"][:, None]).astype(np.float16)
        return logits


class Top(Encoding):
    """The TOP largest logits as float16. The others all get one value, with which their probability together is what it was
    at temperature 1."""

    @property
    def record(self) -> np.dtype[np.void]:
        return np.dtype([("classes", "<u4", (TOP,)), ("logits", "<f2", (TOP,)), ("rest", "<f2")])

    def encode(self, logits: Logits32) -> Records:
        order = np.argpartition(logits, -TOP, axis=1)
        top, rest = order[:, -TOP:], np.take_along_axis(logits, order[:, :-TOP], axis=1).astype(np.float64)
        level = np.log(np.exp(rest).mean(axis=1).clip(min=np.exp(-80.0)))
        return _packed(
            self.record,
            classes=top,
            logits=np.take_along_axis(logits, top, axis=1).astype(np.float16),
            rest=level.astype(np.float16),
        )

    def decode(self, records: Records) -> Logits16:
        logits = np.repeat(records["rest"][:, None], self.classes, axis=1)
        np.put_along_axis(logits, records["classes"].astype(np.int64), records["logits"], axis=1)
        return logits


def encoding_of(classes: int) -> Encoding:
    """The one that is used for so many classes."""
    if classes <= MOST_DENSE:
        return Dense(classes)
    return Bytes(classes) if classes <= MOST_BYTES else Top(classes)


def _packed(record: np.dtype[np.void], **columns: NDArray[np.generic] | Indices) -> Records:
    result = np.empty(len(next(iter(columns.values()))), record)
    for name, values in columns.items():
        result[name] = values
    return result
