"""`package verify`: whether a package is whole, agrees with itself, and computes what it says."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from edgedistill.base.errors import EdgedistillError, Problem, printable
from edgedistill.commands.examine import inspect, verify
from edgedistill.data.images import read_rgb
from edgedistill.documents.answers import PackageVerifyResult, VerifyResult
from edgedistill.documents.package import GoldenDocument, PackageContract, preparation
from edgedistill.documents.specs import Contract
from edgedistill.formats import format_for
from edgedistill.formats.carried import labels_text
from edgedistill.outputs.package.integrity import SUMS, check_sums
from edgedistill.outputs.package.package import CONTRACT, package_folder
from edgedistill.outputs.package.replay import inside, prepared, read_contract, read_golden


def verify_package(path: Path | str, *, target: str | Path = "host") -> PackageVerifyResult:
    """Whether the package in the folder `path`, or in a build's output folder, is what was built: every file by its hash;
    the labels, the steps and the golden data of `contract.json` beside what the model files themselves carry; and each
    file's outputs for the golden pictures, where it can run here. Raises InputError for a folder that is no package."""
    package = package_folder(Path(path))
    problems = check_sums(package)
    failures = [_told(problem) for problem in problems]
    if failures:
        # What is read from a damaged package says nothing of the one that was built.
        return _result(package, [], failures, ())
    checks = [f"every file has the SHA-256 of {SUMS}, and there is no other"]
    contract, golden = read_contract(package), read_golden(package)
    failures += _disagreements(package, contract, golden)
    verified: list[VerifyResult] = []
    for name in contract.files:
        try:
            verified.append(verify(inside(package, name), target=target))
        except EdgedistillError as error:
            failures.append(f"{name}: {error.message}")
        else:
            failures += [f"{name}: {failure}" for failure in verified[-1].failures]
    if not failures:
        checks.append("the labels, the steps and the golden pictures are those of the model files")
    return _result(package, checks, failures, tuple(verified))


def _disagreements(package: Path, contract: PackageContract, golden: GoldenDocument) -> Iterator[str]:
    """Where the documents of a package say something else than its model files."""
    if contract.labels_file is not None:
        labels = inside(package, contract.labels_file)
        if not labels.is_file() or labels.read_bytes() != labels_text(contract.labels).encode():
            yield f"{contract.labels_file} has other labels than {CONTRACT}"
    stated = {name: file.tolerance for name, file in contract.files.items() if file.tolerance is not None}
    if stated != {name: file.tolerance for name, file in golden.files.items()}:
        yield f"{contract.golden} has outputs of other files, or with other tolerances, than {CONTRACT}"
    for name, file in contract.files.items():
        inspected = inspect(inside(package, name))
        own, carried = inspected.contract, inspected.probabilities
        found = (carried.temperature, carried.none_below) if carried else (None, None)
        if format_for(file.format).has_metadata and found != (file.temperature, file.none_below):
            yield f"{name} has another temperature or threshold than {CONTRACT}"
        if own is None:
            yield f"{name} carries no contract"
        elif changed := list(_changed(contract, own)):
            yield f"{name} has another contract than {CONTRACT}: {', '.join(changed)} differ"
        else:
            yield from _unlike(package, golden, own)


def _changed(stated: PackageContract, own: Contract) -> Iterator[str]:
    pairs = {
        "task": (stated.task, own.task),
        "labels": (stated.labels, own.labels),
        "preparation": (stated.preparation, preparation(own)),
        "vector": (stated.vector, own.vector),
        "input": ((stated.input.width, stated.input.height), (own.resolution, own.resolution)),
        "output": ((stated.output.name, stated.output.width), (own.output_name, own.width)),
    }
    return (name for name, (one, other) in pairs.items() if one != other)


def _unlike(package: Path, golden: GoldenDocument, own: Contract) -> Iterator[str]:
    """Golden pictures of which the contract makes something else than what stands beside them."""
    for picture in golden.pictures:
        pixels = prepared(package, picture.file, own)
        kept = read_rgb(inside(package, picture.prepared), own.background).transpose(2, 0, 1)
        if not np.array_equal(pixels, kept):
            yield f"{picture.prepared} is not what the contract makes of {picture.file}"


def _told(problem: Problem) -> str:
    return f"{problem.where} {problem.what}"


def _result(
    package: Path, checks: list[str], failures: list[str], verified: tuple[VerifyResult, ...]
) -> PackageVerifyResult:
    return PackageVerifyResult(
        path=str(package),
        ok=not failures,
        files=sum(path.is_file() for path in package.rglob("*")),
        checks=tuple(checks),
        failures=tuple(map(printable, failures)),
        verified=verified,
    )
