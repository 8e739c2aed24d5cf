"""Does a build's proof hold for a stranger? Plain ONNX Runtime in a loop, nothing of edgedistill imported, nothing left
out.

    python benchmarks/reproduce_latency.py OUT [--sessions 20] [--pause 1] [--json FILE]

Reads the proof in OUT/build.json and takes as many sessions of the claim's length as asked, each in a fresh process
(see plain_latency.py). Where the budget is a share of the teacher's latency, OUT/teacher.onnx runs in turn with the
student. Printed are the sessions, how many of them are inside the budget, and what the build claims of such sessions.
Where fewer than 16 of 20 are inside, 60 more are taken. Exit code 1 where the share inside is below the claimed one
after that, or there is no proof.
"""

from __future__ import annotations

import argparse
import json
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from plain_latency import judged, plain_sessions


def proven(build: dict[str, Any]) -> dict[str, Any]:
    """The artifact that a build's proof is of."""
    return next(a for a in build["artifacts"] if a["measured_sha256"] == build["proof"]["artifact_sha256"])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--sessions", type=int, default=20)
    parser.add_argument("--pause", type=float, default=1.0)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    out = arguments.out
    build = json.loads((out / "build.json").read_text())
    proof = build["proof"]
    if proof is None or not proof["met"]:
        print(f"{out} holds no proof: {build['verdict']}")
        return 1
    path = proven(build)["path"]
    teacher = out / "teacher.onnx" if proof["share"] else None
    began, fraction = datetime.now(UTC).isoformat(timespec="seconds"), int(proof["percentile"][1:]) / 100
    sessions = plain_sessions(out / path, proof["session_s"], fraction, teacher, arguments.pause)
    values, inside = judged(sessions, proof["limit"], arguments.sessions)
    unit = "of the teacher's" if proof["share"] else "ms"
    print(f"{path}: {proof['percentile']} in {len(values)} sessions {min(values):.4f} to {max(values):.4f} {unit}")
    print(f"{inside} of {len(values)} inside {proof['limit']:.4f}; the build claims {proof['claimed']:.0%} of sessions")
    if arguments.json:
        found = {
            "began_at": began,
            "proof_began_at": proof["began_at"],
            "verdict": build["verdict"],
            "sessions": len(values),
            "inside": inside,
            "claimed": proof["claimed"],
            "limit": proof["limit"],
            "share_of_teacher": proof["share"],
            "values": values,
            "proof_values": proof["values"],
        }
        arguments.json.write_text(json.dumps(found, indent=1) + "\n")
    return 0 if inside >= proof["claimed"] * len(values) else 1


if __name__ == "__main__":
    sys.exit(main())
