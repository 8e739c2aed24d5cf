"""A neighbour on purpose: a busy loop on one processor for a share of the time, until it is ended.

    python benchmarks/neighbour.py [--cpu 0] [--share 0.5] [--period-ms 40] [--seconds 600]

What a build beside it says, and the stranger's check beside it, is what the budgets' claims are held against on a busy
machine.
"""

from __future__ import annotations

import argparse
import os
import sys
import time


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cpu", type=int, default=0)
    parser.add_argument("--share", type=float, default=0.5)
    parser.add_argument("--period-ms", type=float, default=40.0)
    parser.add_argument("--seconds", type=float, default=600.0)
    arguments = parser.parse_args()
    if sys.platform != "linux":
        raise SystemExit("a process can be held to one processor on Linux alone")
    os.sched_setaffinity(0, {arguments.cpu})
    import numpy as np

    matrix = np.ones((256, 256), np.float32)
    end, period_s = time.monotonic() + arguments.seconds, arguments.period_ms / 1e3
    while (began := time.monotonic()) < end:
        while time.monotonic() - began < arguments.share * period_s:
            matrix @ matrix
        time.sleep((1 - arguments.share) * period_s)


if __name__ == "__main__":
    main()
