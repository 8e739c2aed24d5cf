"""coremltools' own operator tests, their expected values compared with what the reference interpreter computes.

    python benchmarks/coreml_operators.py [--json FILE] [--files GLOB] [--select EXPRESSION] [--resume]

On anything but a Mac these tests build a model, compare nothing and pass. Here their comparison is replaced: the package
that a test made is read back from disk and computed by `edgedistill.formats.coreml.reference`, and the outputs are held
against the test's expected values with the test's own tolerances. ML Program cases only, in fp16 as the tests do by
default and in fp32, where the tolerances are far closer. Printed by file: cases that compared outputs and how many of
those passed and failed, and cases that compared none (shape inference, errors that a builder has to raise).

Each file runs in a process of its own and the results are written after each; `--resume` keeps what FILE already has.
"""

from __future__ import annotations

import argparse
import gc
import importlib
import json
import multiprocessing
import os
import re
import sys
from collections import Counter
from collections.abc import Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgedistill.base.errors import EdgedistillError

TESTS = "coremltools.converters.mil.mil.ops.tests"
HALF_ATOL, HALF_RTOL = 0.5, 0.05
"""What coremltools widens the tolerances of a half-precision case to."""
PRECISIONS = ("fp16", "fp32", "mixed")
MESSAGE_LENGTH = 300


def compare(mlmodel: Any, input_key_values: Any, expected_outputs: Any, **options: Any) -> dict[str, Any] | None:
    """What coremltools' `compare_backend` does on a Mac, with the interpreter in Core ML's place."""
    if not mlmodel.is_package or expected_outputs is None:
        return None
    Cases.comparing, Cases.precision = True, options.get("dtype", "fp32")
    try:
        interpreter = options.get("state") or interpreter_of(mlmodel)
        if Cases.precision == "fp32" and has_half_tensors(interpreter.package):
            Cases.precision = "mixed"
        inputs = {name: as_array(value) for name, value in (input_key_values or {}).items()}
        outputs: dict[str, Any] = interpreter.run(inputs)
    except EdgedistillError as error:
        # What coremltools raises on a Mac, and what tests of errors in a run wait for.
        raise RuntimeError(f"Unable to compute the prediction using ML Program: {error}") from error
    atol, rtol = options.get("atol", 1e-4), options.get("rtol", 1e-5)
    if options.get("dtype", "fp32") == "fp16":
        atol, rtol = max(atol * 100, HALF_ATOL), max(rtol * 100, HALF_RTOL)
    for name, wanted in expected_outputs.items():
        got = outputs[name] if name in outputs else outputs[name.replace("/", "_")]
        if options.get("also_compare_shapes", True) and isinstance(wanted, np.ndarray | np.generic):
            assert np.shape(got) == np.shape(wanted) or (np.shape(wanted), np.shape(got)) == ((), (1,)), (
                name,
                got,
                wanted,
            )
        if options.get("allow_mismatch_ratio"):
            assert 1 - np.isclose(got, wanted, atol=atol, rtol=rtol).mean() <= options["allow_mismatch_ratio"]
        else:
            np.testing.assert_allclose(got, wanted, atol=atol, rtol=rtol)
    Cases.compared = True
    return outputs


def has_half_tensors(package: Any) -> bool:
    """Whether a program has inputs, weights or other tensors in half precision."""
    types = importlib.import_module("coremltools.converters.mil.mil.types")
    variables = [*package.function.inputs.values(), *(var for op in package.function.operations for var in op.outputs)]
    return any(types.is_tensor(var.sym_type) and var.dtype == types.fp16 for var in variables)


def interpreter_of(mlmodel: Any) -> Any:
    """The interpreter of a model's package. It is also the model's state: tests of stateful models make one, which only a
    Mac can, and hand it to every comparison."""
    from edgedistill.formats.coreml.package import read_package
    from edgedistill.formats.coreml.reference.interpreter import Interpreter

    return Interpreter(read_package(Path(mlmodel.package_path)))


def as_array(value: Any) -> np.ndarray:
    """A picture as [1, channels, height, width]; a scalar as a vector of one, which Core ML takes it for."""
    array = np.asarray(value)
    if isinstance(value, np.ndarray | np.generic | int | float | list | tuple):
        return array.reshape(1) if array.ndim == 0 else array
    planes = array[None] if array.ndim == 2 else array[..., :3].transpose(2, 0, 1)
    return planes[None]


class Cases:
    """A pytest plug-in that replaces the comparison and counts what was compared."""

    comparing = False
    compared = False
    precision = ""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.failures: dict[str, dict[str, Any]] = {}

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        for name in ("coremltools.converters.mil.testing_utils", f"{TESTS}.testing_utils"):
            vars(importlib.import_module(name))["compare_backend"] = compare
        for module in {item.module for item in session.items if isinstance(item, pytest.Function)}:
            if hasattr(module, "compare_backend"):
                module.compare_backend = compare
        importlib.import_module("coremltools").models.MLModel.make_state = interpreter_of
        # Half of a case's time, and neither changes what is compared: the converter checks its own graph after each of a
        # hundred passes, and collects garbage by hand, which walks through all that was imported.
        importlib.import_module("coremltools.converters.mil.mil").Program.validate = lambda *_, **__: None
        gc.freeze()

    def pytest_runtest_setup(self, item: pytest.Item) -> None:
        Cases.comparing = Cases.compared = False

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.when != "call":
            return
        if report.passed and Cases.compared:
            self.counts[f"passed_{Cases.precision}"] += 1
        elif report.failed and Cases.comparing:
            self.counts[f"failed_{Cases.precision}"] += 1
            self.note(report, f"failed in {Cases.precision}")
        elif report.failed:
            self.counts["broken"] += 1
            self.note(report, "broken before comparing")
        else:
            self.counts["not_compared"] += 1

    def note(self, report: pytest.TestReport, kind: str) -> None:
        """Failures of one test function stand together, with the first one's message."""
        crash = getattr(report.longrepr, "reprcrash", None)
        message = str(crash.message if crash else report.longrepr).partition("\n\n")[0]
        message = re.sub(r"\S+\.mlpackage", "the package", message)[:MESSAGE_LENGTH]
        case = report.nodeid.partition("::")[2]
        entry = self.failures.setdefault(
            f"{case.partition('[')[0]} {kind}", {"cases": 0, "first": case, "message": message}
        )
        entry["cases"] += 1


def run_file(file: Path, folder: Path, select: str, results: Connection) -> None:
    """One test file in a child process; sends its counts and failures."""
    cases = Cases()
    options = [
        "-q",
        "--no-header",
        "--tb=short",
        "-p",
        "no:cacheprovider",
        "-p",
        "no:randomly",
        "-p",
        "no:logging",
        "-c",
        os.devnull,
    ]
    options += ["--rootdir", str(folder), "-W", "ignore", "--show-capture=no", "-r", "N", "--disable-warnings"]
    if select:
        options += ["-k", select]
    pytest.main([*options, str(file)], plugins=[cases])
    results.send({"counts": dict(cases.counts), "failures": cases.failures})


def in_child(file: Path, folder: Path, select: str) -> dict[str, Any]:
    """What `run_file` sends; a file whose process ends without sending is a crash."""
    # A fork has coremltools already, which takes seconds to import.
    context = multiprocessing.get_context("fork")
    here, there = context.Pipe(duplex=False)
    child = context.Process(target=run_file, args=(file, folder, select, there))
    child.start()
    there.close()
    try:
        result: dict[str, Any] = here.recv()
    except EOFError:
        result = {"counts": {}, "failures": {}, "crashed": True}
    child.join()
    return result


def shares(count: Counter[str], precisions: Sequence[str] = PRECISIONS) -> dict[str, float]:
    """Cases compared, passed and failed, and the share that passed."""
    passed = sum(count[f"passed_{precision}"] for precision in precisions)
    failed = sum(count[f"failed_{precision}"] for precision in precisions)
    share = passed / (passed + failed) if passed + failed else 0.0
    return {"compared": passed + failed, "passed": passed, "failed": failed, "share_passed": round(share, 4)}


def document_of(files: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """Totals over all files, at each precision, then each file."""
    total: Counter[str] = Counter()
    for result in files.values():
        total.update(result["counts"])
    return {
        **shares(total),
        "not_compared": total["not_compared"],
        "broken_before_comparing": total["broken"],
        "precisions": {precision: shares(total, [precision]) for precision in PRECISIONS},
        "crashed": [name for name, result in files.items() if result.get("crashed")],
        "files": files,
    }


def show(name: str, result: dict[str, Any]) -> None:
    """A line of a file's counts."""
    if result.get("crashed"):
        print(f"{name:42} crashed")
        return
    count = Counter(result["counts"])
    total = shares(count)
    print(
        f"{name:42} compared {total['compared']:5} passed {total['passed']:5} failed {total['failed']:4} "
        f"not compared {count['not_compared']:5} broken {count['broken']:4}",
        flush=True,
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--files", default="*/test_*.py")
    parser.add_argument("--select", default="")
    parser.add_argument("--resume", action="store_true")
    arguments = parser.parse_args()
    # coremltools' own switches, read when its tests are imported.
    os.environ |= {"PYMIL_TEST_TARGETS": "mlprogram", "INCLUDE_MIL_FP32_UNIT_TESTS": "1"}
    folder = Path(importlib.import_module(TESTS).__file__ or "").parent
    files: dict[str, dict[str, Any]] = {}
    if arguments.resume and arguments.json and arguments.json.exists():
        files = json.loads(arguments.json.read_text())["files"]
    for path in sorted(folder.glob(arguments.files)):
        name = path.relative_to(folder).as_posix()
        if name not in files:
            files[name] = in_child(path, folder, arguments.select)
            if arguments.json:
                arguments.json.write_text(json.dumps(document_of(files), indent=1) + "\n")
    for name, result in files.items():
        show(name, result)
    document = document_of(files)
    for title, total in {"all": document, **document["precisions"]}.items():
        print(
            f"{title:5} {total['compared']} compared, {total['passed']} passed ({total['share_passed']:.1%}), "
            f"{total['failed']} failed"
        )
    print(f"{document['not_compared']} not compared, {document['broken_before_comparing']} broken before comparing")
    return 0


if __name__ == "__main__":
    sys.exit(main())
