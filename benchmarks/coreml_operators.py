"""coremltools' own operator tests, their expected values compared with what the reference interpreter computes.

    python benchmarks/coreml_operators.py [--json FILE] [--files GLOB] [--select EXPRESSION]

On anything but a Mac these tests build a model, compare nothing and pass. Here their comparison is replaced: the package
that a test made is read back from disk and computed by `edgedistill.runtimes.coreml_reference`, and the outputs are held
against the test's expected values with the test's own tolerances. Printed by file: cases that compared outputs and how
many of those passed and failed, and cases that compared none (shape inference, errors that a builder has to raise, the
older neural-network format).
"""

from __future__ import annotations

import argparse
import importlib
import json
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

TESTS = "coremltools.converters.mil.mil.ops.tests"
HALF_ATOL, HALF_RTOL = 0.5, 0.05


def compare(mlmodel: Any, input_key_values: Any, expected_outputs: Any, **options: Any) -> dict[str, Any] | None:
    """What coremltools' `compare_backend` does on a Mac, with the interpreter in Core ML's place."""
    from edgedistill.runtimes.coreml_reference.interpreter import run

    if not mlmodel.is_package or expected_outputs is None:
        return None
    Cases.comparing = True
    outputs = run(
        Path(mlmodel.package_path), {name: as_array(value) for name, value in (input_key_values or {}).items()}
    )
    atol, rtol = options.get("atol", 1e-4), options.get("rtol", 1e-5)
    if options.get("dtype", "fp32") == "fp16":
        atol, rtol = max(atol * 100, HALF_ATOL), max(rtol * 100, HALF_RTOL)
    for name, wanted in expected_outputs.items():
        got = outputs[name] if name in outputs else outputs[name.replace("/", "_")]
        if options.get("also_compare_shapes", True) and isinstance(wanted, np.ndarray | np.generic):
            assert np.shape(got) == np.shape(wanted) or (np.size(got) == np.size(wanted) == 1), (name, got, wanted)
        if options.get("allow_mismatch_ratio"):
            assert 1 - np.isclose(got, wanted, atol=atol, rtol=rtol).mean() <= options["allow_mismatch_ratio"]
        else:
            np.testing.assert_allclose(got, wanted, atol=atol, rtol=rtol)
    Cases.compared = True
    return outputs


def as_array(value: Any) -> np.ndarray:
    """A picture as [1, channels, height, width]."""
    array = np.asarray(value)
    if isinstance(value, np.ndarray | np.generic | int | float | list | tuple):
        return array
    planes = array[None] if array.ndim == 2 else array[..., :3].transpose(2, 0, 1)
    return planes[None]


class Cases:
    """A pytest plug-in that replaces the comparison and counts what was compared."""

    comparing = False
    compared = False

    def __init__(self) -> None:
        self.files: dict[str, Counter[str]] = {}
        self.failures: list[dict[str, str]] = []

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        for name in ("coremltools.converters.mil.testing_utils", f"{TESTS}.testing_utils"):
            importlib.import_module(name).compare_backend = compare
        for module in {item.module for item in session.items if isinstance(item, pytest.Function)}:
            if hasattr(module, "compare_backend"):
                module.compare_backend = compare

    def pytest_runtest_setup(self, item: pytest.Item) -> None:
        Cases.comparing = Cases.compared = False

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.when != "call":
            return
        file = "/".join(Path(report.nodeid.partition("::")[0]).parts[-2:])
        count = self.files.setdefault(file, Counter())
        if report.passed and Cases.compared:
            count["passed"] += 1
        elif report.failed and Cases.comparing:
            count["failed"] += 1
            crash = getattr(report.longrepr, "reprcrash", None)
            message = str(crash.message if crash else report.longrepr).partition("\n\n")[0]
            self.failures.append(
                {"case": report.nodeid.partition("tests/")[2] or report.nodeid, "message": message[:300]}
            )
        else:
            count["not compared"] += 1


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--files", default="*/test_*.py")
    parser.add_argument("--select", default="mlprogram")
    arguments = parser.parse_args()
    folder = Path(importlib.import_module(TESTS).__file__ or "").parent
    cases = Cases()
    files = [str(path) for path in sorted(folder.glob(arguments.files))]
    options = ["-q", "--no-header", "--tb=short", "-p", "no:cacheprovider", "-p", "no:randomly", "-c", "/dev/null"]
    options += ["--rootdir", str(folder), "-W", "ignore", "--show-capture=no", "-r", "N", "--disable-warnings"]
    if arguments.select:
        options += ["-k", arguments.select]
    pytest.main([*options, *files], plugins=[cases])
    total: Counter[str] = Counter()
    for file, count in sorted(cases.files.items()):
        total += count
        compared = count["passed"] + count["failed"]
        print(f"{file:45} compared {compared:6} passed {count['passed']:6} failed {count['failed']:5} "
              f"not compared {count['not compared']:6}")  # fmt: skip
    compared = total["passed"] + total["failed"]
    share = total["passed"] / compared if compared else 0.0
    print(f"{compared} compared, {total['passed']} passed ({share:.1%}), {total['failed']} failed")
    if arguments.json:
        document = {
            "compared": compared,
            "passed": total["passed"],
            "failed": total["failed"],
            "not_compared": total["not compared"],
            "share_passed": share,
            "files": {file: dict(count) for file, count in sorted(cases.files.items())},
            "failures": cases.failures,
        }
        arguments.json.write_text(json.dumps(document, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
