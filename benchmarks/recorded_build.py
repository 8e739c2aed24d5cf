"""What a finished build came to, for docs/benchmarks.

python benchmarks/recorded_build.py OUT --json FILE
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from pathlib import Path
from typing import Any

from edgedistill.documents.measurements import MeasuredLatency
from edgedistill.outputs.explain.build_folder import read_build
from edgedistill.outputs.explain.winner import times_faster, winning_artifact


def recorded(out: Path) -> dict[str, Any]:
    """Of the build in an output folder what won, how good it is, and how it was proven. Raises SystemExit where nothing
    did."""
    result = read_build(out)
    file = winning_artifact(result)
    if file is None or result.student is None or result.proof is None:
        raise SystemExit(f"the build in {out} proved nothing")
    latency, teacher = file.latency, result.teacher
    assert isinstance(latency, MeasuredLatency) and isinstance(teacher.latency, MeasuredLatency)
    return {
        "status": result.status,
        "student": result.student.spec.label,
        "precision": file.precision,
        "bytes": file.bytes,
        "metric": result.metric,
        "quality": file.quality,
        "quality_interval": file.quality_interval,
        "p95_ms": latency.p95_ms,
        "budget": result.budget.claim,
        "share": statistics.median(result.proof.values) if result.proof.share else None,
        "sessions": len(result.proof.values),
        "times_faster": times_faster(result, file),
        "teacher": teacher.name,
        "teacher_quality": teacher.quality,
        "teacher_p95_ms": teacher.latency.p95_ms,
        "trials": len(result.trials),
        "train_images": result.data.train,
        "test_images": result.data.test,
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--json", type=Path, required=True)
    arguments = parser.parse_args()
    found = recorded(arguments.out)
    arguments.json.write_text(json.dumps(found, indent=1) + "\n")
    print(json.dumps(found, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
