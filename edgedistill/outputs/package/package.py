"""The package that an app ships: `OUT/package/`, swapped in whole, and the check that it still is what was measured.

student-<precision>.onnx | .mlpackage | .tflite | .pte | -sm<..>.engine      the artifacts
student-<precision>-sm<..>.engine.json     an engine's builder's record: without its GPU nothing can be read off it
labels.txt        a class a line, in the order of the logits; of an embedding only where classes have vectors
contract.json     how a picture gets into each file, step by step, and what comes out
golden/           pictures, and each file's outputs for them, to replay
schemas/          JSON Schemas of the documents here
MODEL_CARD.md
card/             the wrong pictures that the card shows
build-engine.sh   where a TensorRT engine can only be built on the device
manifest.json     where the artifacts come from
SHA256SUMS        the hash of every file above
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from pydantic import BaseModel

from edgedistill.base.errors import InputError, Problem
from edgedistill.base.store import file_sha256, size_bytes, sync_folder, sync_tree
from edgedistill.documents.artifacts import TensorSignature
from edgedistill.documents.package import (
    PLATFORM_FORMATS,
    FileContract,
    ImageInput,
    Manifest,
    Output,
    PackageContract,
    Platform,
    preparation,
)
from edgedistill.documents.results import BuildResult
from edgedistill.documents.specs import Contract, Format, Precision, Probabilities
from edgedistill.formats import format_for
from edgedistill.formats.carried import labels_text
from edgedistill.outputs.package.golden import DOCUMENT, Golden, write_golden
from edgedistill.outputs.package.integrity import FIX, SUMS, check_sums, write_sums

PACKAGE = "package"
MANIFEST = "manifest.json"
CONTRACT = "contract.json"
MODEL_CARD = "MODEL_CARD.md"
LABELS = "labels.txt"
SCHEMAS = ("contract", "golden", "manifest", "kit_latency")
_TEMPORARY = f".{PACKAGE}.new"
_REPLACED = f".{PACKAGE}.old"


@dataclass(frozen=True)
class PackageFile:
    """An artifact for the package: where it lies now (`source`, a file or a Core ML folder), its name in the package, and
    its signature as the exporter recorded it. `record` is the text of `NAME.json` beside it, where there is one;
    `probabilities` how they come of its logits."""

    format: Format
    precision: Precision
    source: Path
    name: str
    inputs: tuple[TensorSignature, ...]
    outputs: tuple[TensorSignature, ...]
    record: str = ""
    probabilities: Probabilities | None = None


@dataclass(frozen=True, eq=False)
class PackageContents:
    """All that goes into a package. `manifest` says where its files come from, and `proven` names the one that was proven,
    where one was; `card` is MODEL_CARD.md's text; `trtexec` the shell command that builds the TensorRT engine on the device,
    run from inside the package; empty where the engine itself is in `files` or not wanted. `pictures` are those that the
    card shows: where they lie now, by their paths in the package."""

    files: tuple[PackageFile, ...]
    contract: Contract
    golden: Golden
    manifest: Manifest
    card: str
    proven: str = ""
    trtexec: str = ""
    pictures: Mapping[str, Path] = field(default_factory=dict)


def package_folder(path: Path) -> Path:
    """The package at `path`, or in the output folder of a build. Raises InputError where there is none."""
    for folder in (path, path / PACKAGE):
        if (folder / CONTRACT).is_file() or (folder / SUMS).is_file():
            return folder
    raise InputError(f"{path} is no package: it has no {CONTRACT}", fix="give the folder `package` of a build")


def artifact_name(format: Format, precision: Precision, compute_capabilities: Sequence[int] = ()) -> str:
    """`student-int8.onnx`, `student-fp16.mlpackage`, `student-fp16-sm80-86.engine`."""
    return format_for(format).file_name(f"student-{precision}", compute_capabilities)


def write_package(out: Path, contents: PackageContents) -> tuple[Path, ...]:
    """Write `out/package/`: made whole under a temporary name and renamed; an older package is there until then.

    Returns the artifacts' paths, in the order of `contents.files`. The caller holds the lock on `out`. A kill
    between the two renames leaves no package, which `package_problems` reports, so that the next build makes it again; the
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


def package_problems(out: Path, result: BuildResult) -> tuple[Problem, ...]:
    """What of `out/package/` is missing or changed since the build: every file against the package's sums, then its
    artifacts against `result`. Empty if all is well, or if the build shipped nothing. Reads files, loads no model."""
    if not result.artifacts:
        return ()
    return check_sums(out / PACKAGE) or tuple(
        Problem(str(out / artifact.path), "is not the file that was built (its SHA-256 differs)", FIX)
        for artifact in result.artifacts
        if not (out / artifact.path).exists() or file_sha256(out / artifact.path) != artifact.sha256
    )


def _fill(folder: Path, contents: PackageContents) -> None:
    from edgedistill.outputs.schemas import schema_path  # it loads every document: too much for a check of the package

    for file in contents.files:
        # Links are followed: a package that points into the cache would die with it.
        if file.source.is_dir():
            shutil.copytree(file.source, folder / file.name, copy_function=shutil.copyfile)
        else:
            shutil.copyfile(file.source, folder / file.name)
        if file.record:
            _write(folder / f"{file.name}.json", file.record)
    if contents.contract.labels:
        _write(folder / LABELS, labels_text(contents.contract.labels))
    _write(folder / CONTRACT, _json(package_contract(contents)))
    _write(folder / MANIFEST, _json(contents.manifest))
    _write(folder / MODEL_CARD, contents.card)
    for name, picture in contents.pictures.items():
        (folder / name).parent.mkdir(exist_ok=True)
        shutil.copyfile(picture, folder / name)
    write_golden(folder, contents.golden, contents.contract)
    (folder / "schemas").mkdir()
    for name in SCHEMAS:
        shutil.copyfile(schema_path(name), folder / "schemas" / schema_path(name).name)
    if contents.trtexec:
        script = folder / "build-engine.sh"
        _write(script, _script(contents.trtexec))
        script.chmod(0o755)
    write_sums(folder)


def package_contract(contents: PackageContents) -> PackageContract:
    """`contract.json`."""
    contract = contents.contract
    return PackageContract(
        task=contract.task,
        preparation=preparation(contract),
        input=ImageInput(name=contract.input_name, width=contract.resolution, height=contract.resolution),
        output=Output(name=contract.output_name, width=contract.width),
        labels=contract.labels,
        labels_file=LABELS if contract.labels else None,
        vector=contract.vector,
        files={
            file.name: FileContract(
                format=file.format,
                precision=file.precision,
                input=format_for(file.format).input_edge(contract),
                inputs=file.inputs,
                outputs=file.outputs,
                tolerance=run.tolerance if (run := contents.golden.runs.get(file.name)) else None,
                temperature=file.probabilities.temperature if file.probabilities else None,
                none_below=file.probabilities.none_below if file.probabilities else None,
            )
            for file in contents.files
        },
        recommended=recommended(contents.files, contents.proven),
        golden=DOCUMENT,
    )


def recommended(files: Sequence[PackageFile], proven: str) -> dict[Platform, str]:
    """The file for an app by platform: of the first of its formats that there is, the one that was proven, else the one of
    its precision, else the smallest. Engines and platforms without a file are left out."""
    precision = next((file.precision for file in files if file.name == proven), None)
    found: dict[Platform, str] = {}
    for platform, formats in PLATFORM_FORMATS.items():
        own = next((some for format in formats if (some := [f for f in files if f.format is format])), [])
        if own:
            best = min(own, key=lambda f: (f.name != proven, f.precision is not precision, size_bytes(f.source)))
            found[platform] = best.name
    return found


def _script(command: str) -> str:
    return (
        "#!/bin/sh\n"
        "# Builds the TensorRT engine on the device itself: an engine made elsewhere does not load there.\n"
        'set -eu\ncd "$(dirname "$0")"\n'
        f"{command.strip()}\n"
    )


def _json(document: BaseModel) -> str:
    return document.model_dump_json(indent=2) + "\n"


def _write(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")
