"""Roofs from sessions, and operators beside them."""

from __future__ import annotations

from pathlib import Path

import factories
import pytest

from edgedistill.devices.latency.roofs import measure_roofs, placed
from edgedistill.devices.session import SessionJob, SessionReport
from edgedistill.documents.measurements import OpTiming
from edgedistill.documents.profiled import Roofs

ROOFS = Roofs(
    fp32_multiply_adds_per_s=1e9, int8_multiply_adds_per_s=4e9, memory_bytes_per_s=1e9, cache_bytes_per_s=10e9
)


def product(op_type: str, us: float, side: int = 100) -> OpTiming:
    shape = (side, side)
    return OpTiming(
        name=op_type, op_type=op_type, median_us=us, inputs=(shape, shape), outputs=(shape,), bytes=12 * side**2
    )


def test_the_best_operator_of_a_file_is_its_roof() -> None:
    answers = {
        "fp32": (product("MatMul", 2000), product("MatMul", 1000), OpTiming(name="r", op_type="Relu", median_us=1)),
        "int8": (product("QLinearMatMul", 250),),
        "memory": (OpTiming(name="n", op_type="Neg", median_us=100, bytes=100_000),),
        "cache": (
            OpTiming(name="n0", op_type="Neg", median_us=0, bytes=1000),
            OpTiming(name="n1", op_type="Neg", median_us=10, bytes=100_000),
        ),
    }
    asked: list[SessionJob] = []

    def execute(job: SessionJob) -> SessionReport:
        asked.append(job)
        session, where = factories.make_session([1000]), factories.make_environment()
        return SessionReport(session=session, environment=where, op_timings=answers[job.model.stem])

    kinds = {"fp32": "MatMul", "int8": "QLinearMatMul", "memory": "Neg", "cache": "Neg"}
    files = {name: (Path(f"{name}.onnx"), kind) for name, kind in kinds.items()}
    assert measure_roofs(files, Path("on_device.py"), 2, execute) == ROOFS
    assert all((job.threads, job.operators, job.anchor) == (2, True, None) for job in asked)


def test_where_operators_are_not_timed_there_is_no_roof() -> None:
    asked: list[SessionJob] = []

    def execute(job: SessionJob) -> SessionReport:
        asked.append(job)
        return SessionReport(
            session=factories.make_session([1]), environment=factories.make_environment(), op_timings=()
        )

    files = {name: (Path(f"{name}.onnx"), "MatMul") for name in ("fp32", "int8")}
    assert measure_roofs(files, Path("on_device.py"), 1, execute) is None
    assert len(asked) == 1, "one session tells it"


def test_what_limits_an_operator_is_what_takes_longer() -> None:
    arithmetic = placed(product("MatMul", 2000), ROOFS)
    assert arithmetic is not None and arithmetic.multiply_adds == 10**6
    assert (arithmetic.allowed_us, arithmetic.reached) == (pytest.approx(1000), pytest.approx(0.5))
    integers = placed(product("QLinearMatMul", 500), ROOFS)
    assert integers is not None and integers.reached == pytest.approx(0.5), "four times as fast a roof"
    moving = placed(OpTiming(name="a", op_type="Add", median_us=40, outputs=((1, 9),), bytes=100_000), ROOFS)
    assert moving is not None and (moving.multiply_adds, moving.reached) == (0, pytest.approx(0.25))


@pytest.mark.parametrize(
    "changes", [{"bytes": None}, {"bytes": 0}, {"median_us": 0.0}, {"inputs": ()}, {"op_type": "Attention"}]
)
def test_what_is_not_known_has_no_place(changes: dict[str, object]) -> None:
    assert placed(product("MatMul", 2000).model_copy(update=changes), ROOFS) is None


def test_operators_that_do_not_tell_what_they_multiply_give_no_roof() -> None:
    def execute(job: SessionJob) -> SessionReport:
        timing = OpTiming(name="product", op_type="MatMul", median_us=100)
        where = factories.make_environment()
        return SessionReport(session=factories.make_session([1]), environment=where, op_timings=(timing,))

    assert measure_roofs({"fp32": (Path("fp32.onnx"), "MatMul")}, Path("on_device.py"), 1, execute) is None
