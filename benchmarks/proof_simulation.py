"""How often a proof says yes that should not, and how often one that should, on simulated devices whose truth is known.

    python benchmarks/proof_simulation.py [--json FILE] [--sessions N] [--seed N]

A device is fast and slow by turns (`tests/support/simulated_devices.py`). A state lasts as long as the share of the period
says: in the mean, where its times are exponential, or at most. The period is that of the first look, the shortest in which a
proof can say yes. The false rate is that of proofs with all finalists of which one is met though a little less than the
claimed share of sessions keeps the limit: the worst of several limits and of several shares of time in the slow state. The
power is the rate of one finalist's proofs that are met at limits above the 80th percentile of the device's sessions: the
least of those devices.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).parents[1]
sys.path.insert(0, str(REPOSITORY / "tests" / "support"))

from simulated_devices import EVERY_S, RUNS, SESSION_S, Simulated, limit_at, prove  # noqa: E402

from edgedistill.devices.proof import ProofPlan  # noqa: E402
from edgedistill.documents.specs import ProofLevel  # noqa: E402

LASTING = (0.01, 0.025, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0)
"""How long the longer state lasts, as a share of the period."""
BELOW = (0.005, 0.01, 0.03, 0.1)
"""By how much less than the claimed share of sessions keeps a limit at which a proof is false."""
ABOVE = (1.1, 1.25, 1.5)
"""Limits at which a proof should be met, as multiples of the 80th percentile of sessions."""
BURST_S = 0.3


@dataclass(frozen=True)
class Kind:
    """Devices of one kind: of these shares of time in the slow state, or with bursts."""

    name: str
    slow_shares: tuple[float, ...] = (0.1, 0.2, 0.3)
    changes: tuple[tuple[str, Any], ...] = ()

    def devices(self, lasts_s: float) -> Iterator[Simulated]:
        """One for each share; `lasts_s` is the mean of the longer state, or its bound."""
        changes = dict(self.changes)
        mean_s = lasts_s / 2 if changes.get("bounded") else lasts_s
        if not self.slow_shares:
            yield Simulated(self.name, mean_s, min(BURST_S, mean_s), **changes)
        for share in self.slow_shares:
            yield Simulated(self.name, mean_s, mean_s * share / (1 - share), **changes)


NOISY = (("session_noise", 0.01), ("run_noise", 0.1))
KINDS = (
    Kind("two speeds"),
    Kind("two speeds, noisy runs", changes=NOISY),
    Kind("two speeds, no state longer", changes=(("bounded", True),)),
    Kind("two speeds, noisy runs, no state longer", changes=(("bounded", True), *NOISY)),
    Kind("throttling", changes=(("by_degrees", True),)),
    Kind("bursts of 0.3 s", slow_shares=(), changes=(("factor", 3.0),)),
)


def row(kind: Kind, level: ProofLevel, lasting: float, sessions: int, seed: int) -> dict[str, Any]:
    """The figures of one kind of device at one level."""
    plan = ProofPlan.at(level)
    period_s = plan.looks[0].sessions * EVERY_S
    false: list[tuple[float, float]] = []
    power: list[list[float]] = []
    for device in kind.devices(lasting * period_s):
        values = device.sessions(sessions, seed)
        outcomes = [prove(values, limit_at(values, plan.claimed - below), plan) for below in BELOW]
        false += [(each.rate(), each.error()) for each in outcomes]
        typical = limit_at(values, 0.8)
        power.append([prove(values, typical * above, plan, finalists=1).rate() for above in ABOVE])
    rate, error = max(false)
    return {
        "kind": kind.name,
        "level": level.value,
        "lasts_of_period": lasting,
        "lasts_s": round(lasting * period_s, 2),
        "false_rate": round(rate, 4),
        "standard_error": round(error, 4),
        "power": {
            f"{above:g}": round(min(rates), 3) for above, rates in zip(ABOVE, zip(*power, strict=True), strict=True)
        },
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--sessions", type=int, default=100_000, help="of each device")
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    plans = {level: ProofPlan.at(level) for level in ProofLevel}
    for level, plan in plans.items():
        looks = ", then ".join(f"{look.sessions} with {look.over_allowed} over" for look in plan.looks)
        print(f"{level.value}: {plan.claimed:.0%} of sessions, looks at {looks}, {plan.finalists} finalists")
    print(f"\n{'kind':40} {'lasts':>9}" + "".join(f"  {level.value:>8}: false, power at {ABOVE}" for level in plans))
    rows: list[dict[str, Any]] = []
    for kind in KINDS:
        for lasting in LASTING:
            found = [row(kind, level, lasting, arguments.sessions, arguments.seed) for level in plans]
            rows += found
            told = "".join(
                f"  {one['false_rate']:8.1%} +-{one['standard_error']:.1%}  "
                + " ".join(f"{rate:4.0%}" for rate in one["power"].values())
                for one in found
            )
            print(f"{kind.name:40} {lasting:9.3f}{told}", flush=True)
    if arguments.json:
        document = {
            "sessions": arguments.sessions,
            "seed": arguments.seed,
            "session_s": SESSION_S,
            "every_s": EVERY_S,
            "runs": RUNS,
            "plans": {
                level.value: {
                    "claimed": plan.claimed,
                    "finalists": plan.finalists,
                    "looks": [[look.sessions, look.over_allowed, look.alpha] for look in plan.looks],
                }
                for level, plan in plans.items()
            },
            "rows": rows,
        }
        arguments.json.write_text(json.dumps(document, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
