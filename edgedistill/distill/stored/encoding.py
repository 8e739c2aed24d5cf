"""How what a teacher gives is written: records of fixed size, by its kind and width.

Every loss has to be possible from the stored logits, at any temperature, so all classes are kept as long as that is
affordable. Their rows are shifted so that the largest is 0. A shift changes no probability.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from edgedistill.data.sources import Indices
from edgedistill.documents.recipes import LOGITS

LOWEST: Final = -65504.0
"""The most negative float16."""
MOST_DENSE: Final = 256
"""Classes up to which every logit is a float16."""
MOST_BYTES: Final = 4096
"""Classes up to which every logit is a byte."""
TOP: Final = 128
"""Classes that are kept of an image beyond that."""
STATED_TEMPERATURE: Final = 2.0
"""At which the error of rows that are not kept whole is stated: at 1 the others' probability is right, however it lies."""

Rows16 = NDArray[np.float16]
Rows32 = NDArray[np.float32]
Records = NDArray[np.void]


def shifted(logits: Rows32) -> Rows32:
    """The row's largest taken off, in double precision: the difference of two large logits must not overflow."""
    wide = logits.astype(np.float64)
    result: Rows32 = np.maximum(wide - wide.max(axis=1, keepdims=True), LOWEST).astype(np.float32)
    return result


@dataclass(frozen=True)
class Encoding(ABC):
    """Of rows of `width` numbers."""

    width: int

    @property
    @abstractmethod
    def record(self) -> np.dtype[np.void]:
        """One image."""

    @abstractmethod
    def encode(self, rows: Rows32) -> Records:
        """Records [n] of rows [n, width], all of them finite."""

    @abstractmethod
    def decode(self, records: Records) -> Rows16:
        """Rows [n, width], logits shifted."""

    def comparable(self, rows: Rows32) -> Rows32:
        """What `decode` is to give of `rows` [n, width] but for rounding."""
        return shifted(rows)

    def stated_error(self, records: Records) -> Rows32 | None:
        """Of each record [n], in 0..1: half the sum over classes of |p - q|, p the teacher's probabilities at
        STATED_TEMPERATURE and q those of what is read. None where every number of a row is kept."""
        return None


class Dense(Encoding):
    """Every logit as float16, whose steps are finest where the probability is."""

    @property
    def record(self) -> np.dtype[np.void]:
        return np.dtype([("logits", "<f2", (self.width,))])

    def encode(self, rows: Rows32) -> Records:
        return _packed(self.record, logits=shifted(rows).astype(np.float16))

    def decode(self, records: Records) -> Rows16:
        logits: Rows16 = records["logits"]
        return logits


class Bytes(Encoding):
    """Every logit x of a row as a byte, round(255 sqrt(x / lowest)): the steps are finest near the largest, where the
    probability is, and widest at the row's lowest, which is kept."""

    @property
    def record(self) -> np.dtype[np.void]:
        return np.dtype([("lowest", "<f4"), ("roots", "u1", (self.width,))])

    def encode(self, rows: Rows32) -> Records:
        logits = shifted(rows)
        lowest = logits.min(axis=1)
        share = logits / np.where(lowest < 0, lowest, 1)[:, None]
        return _packed(self.record, lowest=lowest, roots=np.rint(255 * np.sqrt(share)).astype(np.uint8))

    def decode(self, records: Records) -> Rows16:
        roots = records["roots"].astype(np.float32) / 255
        logits: Rows16 = (np.square(roots) * records["lowest"][:, None]).astype(np.float16)
        return logits


class Top(Encoding):
    """The TOP largest logits as float16. The others all get one value, with which their probability together is what it was
    at temperature 1. At others it is not: each record states its error."""

    @property
    def record(self) -> np.dtype[np.void]:
        return np.dtype([("classes", "<u4", (TOP,)), ("logits", "<f2", (TOP,)), ("rest", "<f2"), ("error", "<f2")])

    def encode(self, rows: Rows32) -> Records:
        logits = shifted(rows)
        order = np.argpartition(logits, -TOP, axis=1)
        top, rest = order[:, -TOP:], np.take_along_axis(logits, order[:, :-TOP], axis=1).astype(np.float64)
        level = np.log(np.exp(rest).mean(axis=1).clip(min=np.exp(-80.0)))
        records = _packed(
            self.record,
            classes=top,
            logits=np.take_along_axis(logits, top, axis=1).astype(np.float16),
            rest=level.astype(np.float16),
            error=np.zeros(len(logits), np.float16),
        )
        difference = _probabilities(logits) - _probabilities(self.decode(records))
        records["error"] = np.abs(difference).sum(axis=1) / 2
        return records

    def decode(self, records: Records) -> Rows16:
        logits = np.repeat(records["rest"][:, None], self.width, axis=1)
        np.put_along_axis(logits, records["classes"].astype(np.int64), records["logits"], axis=1)
        return logits

    def stated_error(self, records: Records) -> Rows32 | None:
        errors: Rows32 = records["error"].astype(np.float32)
        return errors


class Features(Encoding):
    """Every unit x of a row, within float16's range, as round(127 x / largest), and the largest size of the row."""

    @property
    def record(self) -> np.dtype[np.void]:
        return np.dtype([("largest", "<f4"), ("units", "i1", (self.width,))])

    def encode(self, rows: Rows32) -> Records:
        largest = np.abs(rows).max(axis=1)
        share = rows / np.where(largest > 0, largest, 1)[:, None]
        return _packed(self.record, largest=largest, units=np.rint(127 * share).astype(np.int8))

    def comparable(self, rows: Rows32) -> Rows32:
        return rows

    def decode(self, records: Records) -> Rows16:
        rows: Rows16 = (records["units"] * (records["largest"][:, None] / 127)).astype(np.float16)
        return rows


def encoding_of(tap: str, width: int) -> Encoding:
    """The one that is used for what a teacher gives at `tap`, a row of `width` numbers an image."""
    if tap != LOGITS:
        return Features(width)
    if width <= MOST_DENSE:
        return Dense(width)
    return Bytes(width) if width <= MOST_BYTES else Top(width)


def _probabilities(logits: Rows16 | Rows32) -> Rows32:
    """At STATED_TEMPERATURE, of rows whose largest is 0."""
    powers = np.exp(logits.astype(np.float32) / STATED_TEMPERATURE)
    result: Rows32 = powers / powers.sum(axis=1, keepdims=True)
    return result


def _packed(record: np.dtype[np.void], **columns: NDArray[np.generic] | Indices) -> Records:
    result = np.empty(len(next(iter(columns.values()))), record)
    for name, values in columns.items():
        result[name] = values
    return result
