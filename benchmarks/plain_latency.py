"""Latency of an ONNX file by plain ONNX Runtime in a loop: what the other scripts hold edgedistill's figures against.
Nothing of edgedistill is imported.

A processor that changes its speed (a neighbour on the same core, a clock that rises and falls) gives two latencies for one
model, and what edgedistill states was taken at one speed. It states that as the duration of a fixed piece of arithmetic;
here too the runs between two looks count if both found it, and the others do not.
"""

from __future__ import annotations

import itertools
import os
import statistics
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

TOLERANCE = 0.2
BLOCK_S = 0.005
REPEATS = 15
PATIENCE_S = 60.0


class Plain(NamedTuple):
    """The processor's speed in us, and the latencies in ms of the runs at the speed wanted, or where too few were at it of
    all."""

    speed_us: float
    samples_ms: list[float]


def reference_us() -> float:
    """Median duration in us of four products of 48x48 matrices and 400 additions in a Python loop."""
    import numpy as np

    matrix = np.full((48, 48), 0.5, np.float32)
    durations = []
    for _ in range(REPEATS):
        began = time.perf_counter_ns()
        for _ in range(4):
            matrix @ matrix
        total = 0
        for number in range(400):
            total += number
        durations.append(time.perf_counter_ns() - began)
    return statistics.median(durations) / 1e3


def plain_latency(
    model: Path, images: Sequence[Any] | None, runs: int, wanted_us: float | None, threads: int = 1
) -> Plain:
    """`runs` runs at batch 1 on the last CPUs after a warm-up of one second, on `images` (each without its batch dimension)
    in turn, or zeros. To be called in a fresh process."""
    # The matrix product of the reference is to stay on the pinned CPU.
    os.environ |= {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    import numpy as np
    import onnxruntime

    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[-threads:])
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    session = onnxruntime.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
    given = session.get_inputs()[0]
    values = [np.zeros(given.shape, np.uint8)] if images is None else [image[None] for image in images]
    turn = itertools.cycle({given.name: value} for value in values)
    end = time.perf_counter() + 1
    while time.perf_counter() < end:
        session.run(None, next(turn))
    at_speed: list[float] = []
    everything: list[float] = []
    speeds: list[float] = []
    all_speeds: list[float] = []
    before_us, given_up = reference_us(), time.perf_counter() + PATIENCE_S
    while len(at_speed) < runs and time.perf_counter() < given_up:
        block: list[float] = []
        end = time.perf_counter() + BLOCK_S
        while time.perf_counter() < end:
            began = time.perf_counter_ns()
            session.run(None, next(turn))
            block.append((time.perf_counter_ns() - began) / 1e6)
        after_us = reference_us()
        everything += block
        all_speeds.append(after_us)
        if wanted_us is None or all(abs(us / wanted_us - 1) <= TOLERANCE for us in (before_us, after_us)):
            at_speed += block
            speeds.append(after_us)
        before_us = after_us
    if len(at_speed) < runs:
        return Plain(statistics.median(all_speeds), everything[-runs:])
    return Plain(statistics.median(speeds), at_speed[:runs])
