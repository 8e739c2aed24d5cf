"""Whether two versions build the same: one build file by an older checkout and by this one, with the same latencies.

    python benchmarks/same_build.py examples/digits/build.toml --before CHECKOUT --work DIR --json FILE

The older version builds with an empty cache, and each of its measuring sessions is written down under the hashes of the
files that it ran. This version then builds with an empty cache of its own and is handed these sessions in the place of
measurements; a session that was not written down is measured and counted. Compared are the tensors of the teacher and of
every student at each rung, and the bytes of every exported file without its metadata, which hold a hash of the code.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import runpy
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, get_type_hints

if TYPE_CHECKING:
    from edgedistill.devices.session import SessionJob, SessionReport


def digest_of(path: Path | None) -> str:
    return "" if path is None else hashlib.sha256(Path(path).read_bytes()).hexdigest()


def build_with(manner: str, log: Path, build: Path, out: Path) -> None:
    """In a process of one of the versions: a build of which the sessions are written to `log`, or taken from there."""
    from edgedistill.devices.local import LocalDevice

    measure, asked = LocalDevice.run, Counter[str]()
    # Asked of the method itself: not every version has it in the same module.
    report_type: type[SessionReport] = get_type_hints(measure)["return"]

    def run(self: LocalDevice, job: SessionJob) -> SessionReport:
        key = json.dumps([digest_of(job.model), digest_of(job.anchor), job.seconds, job.min_runs, job.operators])
        asked[key] += 1
        file = log / f"{hashlib.sha256(key.encode()).hexdigest()}.{asked[key]}.json"
        if manner == "replay" and file.exists():
            return report_type.model_validate_json(file.read_text())
        report = measure(self, job)
        (file if manner == "record" else file.with_suffix(".new")).write_text(report.model_dump_json())
        return report

    LocalDevice.run = run  # type: ignore[method-assign]
    sys.argv = ["edgedistill", "build", str(build), "--target", "host", "--out", str(out)]
    runpy.run_module("edgedistill", run_name="__main__")


def tensors_of(file: Path) -> str:
    """Hash of the tensors in a safetensors file, by name."""
    from safetensors.numpy import load_file

    whole = hashlib.sha256()
    for name, values in sorted(load_file(file).items()):
        whole.update(f"{name} {values.dtype} {values.shape}".encode() + values.tobytes())
    return whole.hexdigest()


def content_of(path: Path) -> str:
    """Hash of an exported file without its metadata."""
    if path.suffix == ".onnx":
        import onnx

        model = onnx.load(path)
        del model.metadata_props[:]
        return hashlib.sha256(model.SerializeToString(deterministic=True)).hexdigest()
    if path.suffix == ".mlpackage":
        from coremltools.proto import Model_pb2

        whole = hashlib.sha256()
        for file in sorted(path.rglob("*")):
            if file.suffix == ".mlmodel":
                spec = Model_pb2.Model.FromString(file.read_bytes())
                spec.description.ClearField("metadata")
                whole.update(spec.SerializeToString(deterministic=True))
            elif file.name == "weight.bin":
                whole.update(file.read_bytes())
        return whole.hexdigest()
    return digest_of(path)


def made(cache: Path, out: Path) -> dict[str, dict[str, str]]:
    """What a build made: hashes of weights and files by a name that both versions give."""
    found: dict[str, dict[str, str]] = {"teacher": {}, "students": {}, "files": {}}
    for file in cache.glob("teacher/*/teacher.safetensors"):
        found["teacher"]["teacher"] = tensors_of(file)
    for file in cache.glob("train/*/student.safetensors"):
        told = json.loads((file.parent / "student.json").read_text())
        found["students"][json.dumps([told["spec"], told["epochs"]])] = tensors_of(file)
    for file in [*cache.glob("export/*/model*"), *(out / "package").glob("student-*")]:
        if ".engine" not in file.name:  # a builder of engines does not give the same bytes twice
            content = content_of(file)
            found["files"][f"{file.name} {content}"] = content
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("build", type=Path)
    parser.add_argument("--before", type=Path, required=True, help="a checkout of the older version")
    parser.add_argument("--work", type=Path, required=True, help="an empty folder")
    parser.add_argument("--json", type=Path, required=True)
    parser.add_argument("--child", nargs=2, metavar=("MANNER", "LOG"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        build_with(arguments.child[0], Path(arguments.child[1]), arguments.build, arguments.work)
        return
    log, here = arguments.work.absolute() / "sessions", Path(__file__).resolve().parents[1]
    log.mkdir(parents=True)
    results: dict[str, dict[str, dict[str, str]]] = {}
    for name, manner, checkout in (("before", "record", arguments.before.absolute()), ("now", "replay", here)):
        folder = arguments.work.absolute() / name
        shutil.copytree(arguments.build.parent, folder / "example", ignore=shutil.ignore_patterns("out"))
        variables = {"PYTHONPATH": str(checkout), "EDGEDISTILL_CACHE": str(folder / "cache")}
        command = [sys.executable, __file__, str(folder / "example" / arguments.build.name), "--before", str(checkout)]
        command += ["--work", str(folder / "out"), "--json", str(arguments.json), "--child", manner, str(log)]
        subprocess.run(command, env=os.environ | variables, cwd=folder, check=False)
        results[name] = made(folder / "cache", folder / "out")
    before, now = results["before"], results["now"]
    summary = {
        kind: {
            "before": len(before[kind]),
            "now": len(now[kind]),
            "same": sum(now[kind].get(name) == value for name, value in before[kind].items()),
            "differ": sorted(
                name for name in {*before[kind], *now[kind]} if before[kind].get(name) != now[kind].get(name)
            ),
        }
        for kind in before
    }
    document = {
        **summary,
        "sessions": len(list(log.glob("*.json"))),
        "sessions_measured_anew": len(list(log.glob("*.new"))),
        "shipped": {n: json.loads((arguments.work / n / "out" / "build.json").read_text())["verdict"] for n in results},
    }
    arguments.json.write_text(json.dumps(document, indent=1) + "\n")
    print(json.dumps(document, indent=1))


if __name__ == "__main__":
    main()
