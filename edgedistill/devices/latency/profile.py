"""A device profile: what `calibrate` measured on a device, and the models that it gives.

It holds the measurements and not the models: those are fitted again in a moment, with whatever the code has learnt
since.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Literal, TypeAlias

import numpy as np
from pydantic import Field, ValidationError

from edgedistill.base.errors import InputError
from edgedistill.base.store import write_atomic
from edgedistill.devices.latency.law import MIN_ROWS, Learnt
from edgedistill.devices.latency.memory import BytesModel
from edgedistill.devices.latency.model import LatencyModel, Row
from edgedistill.documents.artifacts import Fraction
from edgedistill.documents.measurements import Environment, RelativeLatency
from edgedistill.documents.problems import first_fault
from edgedistill.documents.specs import Format, Frozen, Percentile, Precision, StudentSpec
from edgedistill.networks.structure import Structure

ONE_BY_ONE = 60
FOLDS = 10


class Quantity(StrEnum):
    """What is predicted of a file. One session compares medians, so that its ratio to the anchor is the same at every
    percentile."""

    LATENCY = "latency"
    MEMORY = "peak memory"
    SIZE = "file size"


class CalibrationRow(Frozen):
    """One file of a student with random weights, in one session in turn with the anchor. `peak_memory_bytes` is the
    process' largest resident size, the runtime's own included, null where the system does not tell. `multiplying` is the
    share of the operators' time in convolutions and matrix products, null where that is not known."""

    spec: StudentSpec
    structure: Structure
    precision: Precision
    relative: RelativeLatency
    bytes: Annotated[int, Field(gt=0)]
    peak_memory_bytes: Annotated[int, Field(gt=0)] | None
    sha256: str
    multiplying: Fraction | None = None

    def measured(self, quantity: Quantity) -> float | None:
        """In ms at p50, by the anchor's latency in this calibration, or in bytes; None where it is not known."""
        if quantity is Quantity.LATENCY:
            return self.relative.in_ms(Percentile.P50)
        return self.peak_memory_bytes if quantity is Quantity.MEMORY else self.bytes


RowValue: TypeAlias = tuple[CalibrationRow, float]
"""A row, and what was measured of one quantity."""


class LeftOutError(Frozen):
    """How well models predict rows that they never saw, as shares of what was measured: every row once, `left_out` rows
    at a time. `coverage` is the share of rows inside the 90% interval of the model that was fitted without them."""

    precision: Precision
    quantity: Quantity
    rows: int
    left_out: int
    median_error: Annotated[float, Field(ge=0)]
    mape: Annotated[float, Field(ge=0)]
    within_10: Fraction
    coverage: Fraction


class DeviceProfile(Frozen):
    """What was measured on a device, in which `environment`, and what the models fitted to it miss. `anchor` is the network
    whose file ran in turn with each: a later export of it may be another file, and takes the same time.

    `facts` are the device's own, `threads` the target's. `failures` are candidates that could not be made or measured,
    with the reason. `seconds` is what the calibration took; `reused` counts the steps that an earlier one had done.
    """

    schema_version: Literal[3] = 3
    edgedistill_version: str
    target: str
    title: str
    runtime: Format
    threads: int
    environment: Environment
    facts: dict[str, str]
    anchor: str
    precisions: tuple[Precision, ...]
    percentiles: tuple[Percentile, ...] = tuple(Percentile)
    rows: tuple[CalibrationRow, ...]
    errors: tuple[LeftOutError, ...]
    failures: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    measured_at: str
    seconds: float
    reused: int

    def of(self, precision: Precision) -> tuple[CalibrationRow, ...]:
        """The rows in a precision."""
        return tuple(row for row in self.rows if row.precision is precision)

    def latency_model(self, precision: Precision, percentile: Percentile) -> LatencyModel | None:
        """Fitted to the rows in that precision; None where they are too few."""
        found = [Row(row.structure, row.relative.in_ms(percentile), row.multiplying) for row in self.of(precision)]
        basis = f"{len(found)} models of the profile of {self.target} from {self.measured_at[:10]}"
        return LatencyModel.fit(found, basis) if len(found) >= MIN_ROWS else None

    def bytes_model(self, precision: Precision, quantity: Quantity) -> BytesModel | None:
        """Size of a file, or peak memory of a process that runs it; None where the rows are too few."""
        found = _known(self.of(precision), quantity)
        return _bytes_model(found) if len(found) >= MIN_ROWS else None

    def save(self, path: Path) -> None:
        """Write the profile as JSON, whole or not at all."""
        write_atomic(path, self.model_dump_json(indent=1) + "\n")

    @classmethod
    def load(cls, path: Path) -> DeviceProfile:
        """What `save` wrote. Raises InputError for a file that is not there or no device profile, naming the first thing
        that is wrong with it."""
        try:
            return cls.model_validate_json(path.read_bytes())
        except OSError as error:
            raise InputError(f"{path} cannot be read: {error.strerror}", fix="check the path") from None
        except ValidationError as error:
            what = f"{path} is not a device profile: {first_fault(error)}"
            raise InputError(what, fix="measure it again: edgedistill calibrate") from None


def left_out_error(rows: Sequence[CalibrationRow], quantity: Quantity) -> LeftOutError | None:
    """Of rows in one precision, each predicted by a model that never saw it; None where too few would be left to fit.

    One row at a time is left out, of more than `ONE_BY_ONE` a tenth: what the law misses takes long to learn from many.
    """
    known = _known(rows, quantity)
    folds = len(known) if len(known) <= ONE_BY_ONE else FOLDS
    if len(known) <= MIN_ROWS:
        return None
    found: list[tuple[float, float, float, float]] = []
    for fold in range(folds):
        model = _fitted([row for place, row in enumerate(known) if place % folds != fold], quantity)
        found += [(value, *model.predict(row.structure)) for row, value in known[fold::folds]]
    measured, estimates, low, high = np.array(found).T
    error = np.abs(estimates / measured - 1)
    return LeftOutError(
        precision=rows[0].precision,
        quantity=quantity,
        rows=len(known),
        left_out=-(-len(known) // folds),
        median_error=float(np.median(error)),
        mape=float(error.mean()),
        within_10=float((error <= 0.1).mean()),
        coverage=float(np.mean((low <= measured) & (measured <= high))),
    )


def _known(rows: Sequence[CalibrationRow], quantity: Quantity) -> list[RowValue]:
    return [(row, value) for row in rows if (value := row.measured(quantity)) is not None]


def _fitted(known: Sequence[RowValue], quantity: Quantity) -> Learnt:
    if quantity is Quantity.LATENCY:
        return LatencyModel.fit([Row(row.structure, value, row.multiplying) for row, value in known])
    return _bytes_model(known)


def _bytes_model(known: Sequence[RowValue]) -> BytesModel:
    return BytesModel.fit([(row.structure, round(value)) for row, value in known])
