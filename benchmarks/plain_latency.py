"""Sessions of an ONNX file by plain ONNX Runtime in a loop: what the other scripts hold edgedistill's claims against.
Nothing of edgedistill is imported, and no run is left out.

    python benchmarks/plain_latency.py MODEL SECONDS FRACTION [TEACHER]

prints one session: the percentile (FRACTION 0.95 is p95) of MODEL's latency in ms over SECONDS of runs after a warm-up
of a quarter of a second, with one thread on the last CPU; with TEACHER, which runs in turn with it for 40 ms each, the
ratio of the percentiles.
"""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path

WARMUP_S = 0.25
TURN_S = 0.04
LEAST_RUNS = 5
RUNS_BEYOND = 20
SUSPICIOUS, MORE_SESSIONS = 0.8, 60


def plain_sessions(
    model: Path, seconds: float, fraction: float, teacher: Path | None, pause_s: float
) -> Iterator[float]:
    """Sessions without end, each a fresh process, with a pause between two."""
    command = [sys.executable, __file__, str(model), str(seconds), str(fraction), *([str(teacher)] if teacher else [])]
    while True:
        yield float(subprocess.check_output(command, stderr=subprocess.DEVNULL))
        time.sleep(pause_s)


def judged(sessions: Iterator[float], limit: float, count: int) -> tuple[list[float], int]:
    """The first `count` of the sessions and how many are inside the limit; 60 more are taken where fewer than 80% are."""
    values = list(islice(sessions, count))
    if sum(value <= limit for value in values) < SUSPICIOUS * count:
        values += islice(sessions, MORE_SESSIONS)
    return values, sum(value <= limit for value in values)


def opened(path: str) -> Callable[[], float]:
    """A function that runs the model once, on the next of eight random images; returns the seconds that it took."""
    import numpy as np
    import onnxruntime  # type: ignore[import-untyped]

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    node = session.get_inputs()[0]
    images = np.random.default_rng(0).integers(0, 256, (8, *node.shape), np.uint8)
    turn = itertools.cycle({node.name: image} for image in images)

    def run() -> float:
        feed = next(turn)
        start = time.perf_counter()
        session.run(None, feed)
        return time.perf_counter() - start

    return run


def run_for(run: Callable[[], float], least_s: float) -> list[float]:
    """Seconds of runs for so long, at least five of them."""
    end, samples = time.perf_counter() + least_s, list[float]()
    while time.perf_counter() < end or len(samples) < LEAST_RUNS:
        samples.append(run())
    return samples


def quantile(samples: list[float], fraction: float) -> float:
    """The smallest sample that so large a share of them does not exceed."""
    place = -(-len(samples) * round(fraction * 100) // 100) - 1
    return sorted(samples)[place]


def main() -> None:
    model, seconds, fraction, *teacher = sys.argv[1:]
    if sys.platform == "linux":
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    runs = [opened(path) for path in (model, *teacher)]
    for run in runs:
        run_for(run, WARMUP_S)
    if not teacher:
        print(quantile(run_for(runs[0], float(seconds)), float(fraction)) * 1e3)
        return
    taken: list[list[float]] = [[], []]
    end = time.perf_counter() + float(seconds)
    while time.perf_counter() < end:
        for run, samples in zip(runs, taken, strict=True):
            samples += run_for(run, TURN_S)
    # A session too short for the percentile compares medians, as a build does.
    enough = min(map(len, taken)) * (1 - float(fraction)) >= RUNS_BEYOND
    mine, its = (quantile(samples, float(fraction) if enough else 0.5) for samples in taken)
    print(mine / its)


if __name__ == "__main__":
    main()
