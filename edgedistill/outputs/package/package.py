"""The package that an app ships: `OUT/package/`, swapped in whole, and the check that it still is what was measured.

student-<precision>.onnx | .mlpackage | .tflite | .pte | -sm<..>.engine      the artifacts
student-<precision>-sm<..>.engine.json     an engine's builder's record: without its GPU nothing can be read off it
labels.txt        a class a line, in the order of the logits; of an embedding only where classes have vectors
contract.json     the input and output contract, and how each file takes it
golden/           inputs and outputs to replay
MODEL_CARD.md
build-engine.sh   where a TensorRT engine can only be built on the device
manifest.json     size and SHA-256 of every file above
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgedistill.base.errors import Problem
from edgedistill.base.store import file_sha256, size_bytes, sync_folder, sync_tree
from edgedistill.documents.artifacts import TensorSignature
from edgedistill.documents.results import BuildResult
from edgedistill.documents.specs import Contract, Format, Precision
from edgedistill.formats import format_for
from edgedistill.outputs.package.golden import PICTURE, PREPARED, Golden, write_golden

PACKAGE = "package"
MANIFEST = "manifest.json"
CONTRACT = "contract.json"
_TEMPORARY = f".{PACKAGE}.new"
_REPLACED = f".{PACKAGE}.old"
_FIX = "run the same build again; it makes the package anew from what is in the cache"


@dataclass(frozen=True)
class PackageFile:
    """An artifact for the package: where it lies now (`source`, a file or a Core ML folder), its name in the package, and
    its signature as the exporter recorded it. `record` is the text of `NAME.json` beside it, where there is one."""

    format: Format
    precision: Precision
    source: Path
    name: str
    inputs: tuple[TensorSignature, ...]
    outputs: tuple[TensorSignature, ...]
    record: str = ""


@dataclass(frozen=True, eq=False)
class PackageContents:
    """All that goes into a package. `card` is MODEL_CARD.md's text; `trtexec` the shell command that builds the TensorRT
    engine on the device, run from inside the package; empty where the engine itself is in `files` or not wanted."""

    files: tuple[PackageFile, ...]
    contract: Contract
    golden: Golden
    card: str
    trtexec: str = ""


def artifact_name(format: Format, precision: Precision, compute_capabilities: Sequence[int] = ()) -> str:
    """`student-int8.onnx`, `student-fp16.mlpackage`, `student-fp16-sm80-86.engine`."""
    return format_for(format).file_name(f"student-{precision}", compute_capabilities)


def write_package(out: Path, contents: PackageContents) -> tuple[Path, ...]:
    """Write `out/package/`: made whole under a temporary name and renamed; an older package is there until then.

    Returns the artifacts' paths, in the order of `contents.files`. The caller holds the lock on `out`. A kill
    between the two renames leaves no package, which `verify_package` reports, so that the next build makes it again; the
    old one is never mixed with the new. Raises FileNotFoundError if a source is missing.
    """
    names = [file.name for file in contents.files]
    if len(set(names)) != len(names):
        raise ValueError(f"two artifacts of one name: {', '.join(sorted(names))}")
    out.mkdir(parents=True, exist_ok=True)
    temporary, replaced, final = out / _TEMPORARY, out / _REPLACED, out / PACKAGE
    for leftover in (temporary, replaced):
        shutil.rmtree(leftover, ignore_errors=True)
    temporary.mkdir()
    _fill(temporary, contents)
    sync_tree(temporary)
    if final.exists():
        final.replace(replaced)
    temporary.replace(final)
    sync_folder(out)
    shutil.rmtree(replaced, ignore_errors=True)
    return tuple(final / name for name in names)


def verify_package(out: Path, result: BuildResult) -> tuple[Problem, ...]:
    """What of `out/package/` is missing or changed since the build: its artifacts against `result`, every other file
    against the package's manifest. Empty if all is well, or if the build shipped nothing. Reads files, loads no model."""
    if not result.artifacts:
        return ()
    shipped = {artifact.path for artifact in result.artifacts}
    problems = [found for a in result.artifacts if (found := _compare(out / a.path, a.sha256))]
    manifest = out / PACKAGE / MANIFEST
    try:
        files = {name: entry["sha256"] for name, entry in json.loads(manifest.read_text())["files"].items()}
    except FileNotFoundError:
        return (*problems, Problem(str(manifest), "is missing", _FIX))
    except (ValueError, KeyError, TypeError, AttributeError, OSError):
        return (*problems, Problem(str(manifest), "cannot be read", _FIX))
    for name, sha256 in files.items():
        if f"{PACKAGE}/{name}" not in shipped and (problem := _compare(out / PACKAGE / name, sha256)):
            problems.append(problem)
    return tuple(problems)


def _compare(path: Path, sha256: str) -> Problem | None:
    if not path.exists():
        return Problem(str(path), "is missing", _FIX)
    if file_sha256(path) != sha256:
        return Problem(str(path), "is not the file that was built (its SHA-256 differs)", _FIX)
    return None


def _fill(folder: Path, contents: PackageContents) -> None:
    for file in contents.files:
        # Links are followed: a package that points into the cache would die with it.
        if file.source.is_dir():
            shutil.copytree(file.source, folder / file.name, copy_function=shutil.copyfile)
        else:
            shutil.copyfile(file.source, folder / file.name)
        if file.record:
            (folder / f"{file.name}.json").write_text(file.record, encoding="utf-8")
    if contents.contract.labels:
        (folder / "labels.txt").write_text(labels_text(contents.contract.labels), encoding="utf-8")
    (folder / CONTRACT).write_text(_json(contract_document(contents)), encoding="utf-8")
    (folder / "MODEL_CARD.md").write_text(contents.card, encoding="utf-8")
    write_golden(folder / "golden", contents.golden, contents.contract)
    if contents.trtexec:
        script = folder / "build-engine.sh"
        script.write_text(_script(contents.trtexec), encoding="utf-8")
        script.chmod(0o755)
    # An artifact is one entry, folder or not, hashed the way build.json states it; the rest is listed file by file.
    artifacts = {file.name for file in contents.files}
    rest = [path for path in folder.rglob("*") if path.is_file() and path.relative_to(folder).parts[0] not in artifacts]
    files = {
        path.relative_to(folder).as_posix(): {"bytes": size_bytes(path), "sha256": file_sha256(path)}
        for path in sorted([*(folder / name for name in artifacts), *rest])
    }
    (folder / MANIFEST).write_text(_json({"files": files}), encoding="utf-8")


def labels_text(labels: Sequence[str]) -> str:
    """A label a line. A control character, which would break the line, is written as its escape (`\\n`); contract.json has
    the exact text."""
    lines = ["".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in label) for label in labels]
    return "".join(f"{line}\n" for line in lines)


def contract_document(contents: PackageContents) -> dict[str, Any]:
    """`contract.json`: the contract that all files share, the edge of each (the dtype and layout in which it takes the
    shared input), and where the golden data lies."""
    return {
        "schema_version": 1,
        "contract": contents.contract.model_dump(mode="json"),
        "files": {
            file.name: {
                "format": file.format.value,
                "precision": file.precision.value,
                "input": _input_edge(file, contents.contract),
                "inputs": [signature.model_dump(mode="json") for signature in file.inputs],
                "outputs": [signature.model_dump(mode="json") for signature in file.outputs],
            }
            for file in contents.files
        },
        "golden": {
            "images": "golden/images.npy",
            "reference": "golden/reference.npy",
            "outputs": {name: f"golden/{name}.npy" for name in sorted(contents.golden.outputs)},
            "picture": f"golden/{PICTURE}",
            "picture_prepared": f"golden/{PREPARED}",
        },
    }


def _input_edge(file: PackageFile, contract: Contract) -> dict[str, Any]:
    """How this format takes RGB 0..255: as a tensor, or as an image object that Core ML itself unpacks."""
    shared = {"name": contract.input_name, "color": contract.color, "value_range": list(contract.value_range)}
    return shared | format_for(file.format).input_edge(contract)


def _script(command: str) -> str:
    return (
        "#!/bin/sh\n"
        "# Builds the TensorRT engine on the device itself: an engine made elsewhere does not load there.\n"
        'set -eu\ncd "$(dirname "$0")"\n'
        f"{command.strip()}\n"
    )


def _json(value: Any) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
