"""`verify`, `evaluate`, `inspect` and `run` of any model file: each reads it in a child process with limits.

A file is foreign until it has been read: a parser that it crashes, or that it makes ask for all memory, ends its child, and
the command says so.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

import numpy as np

from edgedistill.base.arrays import Images, Logits
from edgedistill.base.errors import Collected, InputError, printable
from edgedistill.base.isolation import Limits
from edgedistill.base.paths import require_file
from edgedistill.base.progress import Listener, silent
from edgedistill.data.argument import data_config
from edgedistill.data.datasets import load_dataset
from edgedistill.data.images import check_image, read_rgb
from edgedistill.data.preprocessing import prepare, resize
from edgedistill.devices.session import NotRunnableError
from edgedistill.documents.answers import EvaluateResult, Guess, InspectResult, RunResult, VerifyResult
from edgedistill.documents.artifacts import CompiledArtifact, Inspection
from edgedistill.documents.specs import ComputedBy, Contract, Probabilities, Target
from edgedistill.documents.targets import load_target
from edgedistill.formats import format_for
from edgedistill.formats.foreign import format_of, open_file, reading, reading_within
from edgedistill.formats.format import Opened
from edgedistill.formats.running import beside, run_all, test_quality
from edgedistill.networks.confidence import probabilities
from edgedistill.networks.program.probes import probe_images
from edgedistill.networks.tasks import Task, Truth, task_of
from edgedistill.outputs.package.package import MANIFEST
from edgedistill.outputs.package.replay import replay_of

P = ParamSpec("P")
R = TypeVar("R")

PROBES = 8
_SLOWER = 4
"""So many times longer than alone an image may take among others: processors slow down, and others use them."""


def inspect(path: Path | str, *, target: str | Path = "host") -> InspectResult:
    """What is in a model file of any format, without running it. Raises InputError for one that is damaged, too large to
    read or no model."""
    opened, inspection = _inspected(Path(path), target)
    artifact = opened.artifact
    return InspectResult(
        **_printable(inspection.model_dump()),
        path=str(path),
        format=artifact.format,
        precision=artifact.scheme.precision,
        bytes=artifact.bytes,
        sha256=artifact.sha256,
        contract=opened.contract,
        probabilities=opened.probabilities,
    )


def _printable(value: Any) -> Any:
    """A document without characters that a terminal acts on: names come from the file, and some readers print them."""
    if isinstance(value, str):
        return printable(value)
    if isinstance(value, Mapping):
        return {_printable(name): _printable(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_printable(inner) for inner in value]
    return value


def verify(path: Path | str, *, against: Path | str | None = None, target: str | Path = "host") -> VerifyResult:
    """Whether a model file is whole, is what its package says, and computes what its package's golden data, or the file
    `against`, say. Raises InputError for files that cannot be read or compared."""
    path, against = Path(path), None if against is None else Path(against)
    opened, inspection = _inspected(path, target)
    artifact = opened.artifact
    checks = list(inspection.checks)
    failures: list[str] = []
    if (recorded := _recorded_sha256(path)) is not None:
        same = recorded == artifact.sha256
        (checks if same else failures).append(
            "its SHA-256 is the one in the package's manifest"
            if same
            else "its SHA-256 is not the one in the package's manifest: it was changed (copy the package again)"
        )
    parity, not_run = None, ""
    images, wanted = _expected(path, against, opened, load_target(str(target)))
    if images is None:
        not_run = "it carries no contract, so there is nothing to feed it"
    else:
        logits, not_run = reading(path, _logits, artifact, images)
        if logits is not None:
            task = task_of(opened.contracted())
            said = "logits" if task.name == "classification" else "vectors"
            checks.append(f"it runs on {len(images)} images, and all its {said} are finite")
            if wanted is not None:
                if logits.shape != wanted.outputs.shape:
                    raise InputError(f"the files give {said} of {list(logits.shape)} and {list(wanted.outputs.shape)}")
                parity = beside(task, logits, wanted.outputs)
                found = f"its {said} differ from {wanted.whose} by at most {parity.max_abs_error:.3g}"
                far = wanted.tolerance is not None and parity.max_abs_error > wanted.tolerance
                allowed = "" if wanted.tolerance is None else f"; the package allows {wanted.tolerance:.3g}"
                (failures if far else checks).append(found + allowed)
    return VerifyResult(
        path=str(path),
        format=artifact.format,
        precision=artifact.scheme.precision,
        sha256=artifact.sha256,
        ok=not failures,
        checks=tuple(map(printable, checks)),
        failures=tuple(failures),
        against=None if against is None else str(against),
        parity=parity,
        computed_by=None if not_run else format_for(artifact.format).computed_by,
        not_run=printable(not_run),
    )


def evaluate(
    path: Path | str,
    *,
    data: str,
    split: str = "test",
    limit: int | None = None,
    against: Path | str | None = None,
    target: str | Path = "host",
    listener: Listener = silent,
) -> EvaluateResult:
    """Quality of a model file on a split ("train", "validation", "test") of `data` (see `--data`), of its first `limit`
    labelled images, these through the file's own contract. A file that is judged by its teacher's neighbours needs no
    labels, but a file of the teacher, `against` which it is held. Raises InputError where there are no such images, or data
    and contract have other classes, NotRunnableError where nothing here runs the file."""
    path, against = Path(path), None if against is None else Path(against)
    if split not in ("train", "validation", "test"):
        raise InputError(f"unknown split {split!r}", fix="use train, validation or test")
    if limit is not None and limit < 1:
        raise InputError(f"of {limit} images nothing can be told", fix="give a limit of at least 1, or none")
    opened = reading(path, open_file, path, load_target(str(target)))
    contract, artifact = opened.contracted(), opened.artifact
    task, other = task_of(contract), _teacher(path, contract, against, target)
    config = data_config(data).model_copy(update={"background": contract.background})
    dataset = load_dataset(config, listener, need_labels=other is None)
    if other is None:  # what an image without a label should be is not known: it judges nothing
        dataset = dataset.labelled
    if contract.labels and len(dataset.classes) != len(contract.labels):
        raise InputError(
            f"{data} has {len(dataset.classes)} classes, and {path.name} tells {len(contract.labels)} apart",
            fix="give the data set that the model was trained for",
        )
    indices = getattr(dataset.splits, split)[:limit]
    if len(indices) == 0:
        raise InputError(f"{data} has no {split} split", fix="use --split train, validation or test")
    images = prepare(dataset.images, indices, contract)
    truth: Truth = dataset.labels[indices]
    if other is not None:
        shown = prepare(dataset.images, indices, other.contracted())
        truth = over_all(other.artifact, shown, run_file, other.artifact, shown)
    began = time.monotonic()
    quality = over_all(artifact, images, _quality, artifact, task, images, truth)
    return EvaluateResult(
        path=str(path),
        format=artifact.format,
        precision=artifact.scheme.precision,
        sha256=artifact.sha256,
        data=data,
        split=split,
        images=len(images),
        metric=task.metric,
        quality=quality,
        computed_by=format_for(artifact.format).computed_by,
        seconds=time.monotonic() - began,
    )


def run(path: Path | str, image: Path | str, *, top: int = 5, target: str | Path = "host") -> RunResult:
    """The `top` most probable classes of an image, by a model file and through its contract, or its vector. Raises
    InputError for an image that cannot be read, NotRunnableError where nothing here runs the file."""
    path, image = Path(path), Path(image)
    wrong = Collected()
    with wrong:
        format_of(path)
    with wrong:
        require_file(image, "name an image file")
    wrong.raise_any()
    opened = reading(path, open_file, path, load_target(str(target)))
    contract = opened.contracted()
    if fault := check_image(image).fault:
        raise InputError(f"{image} {fault}", fix="give an image that an ordinary viewer opens")
    pixels = resize(read_rgb(image, contract.background), contract)[None]
    found = reading(path, run_file, opened.artifact, pixels)[0]
    if len(found) != contract.width:
        what = "logits" if contract.vector is None else "numbers"
        raise InputError(
            f"{path} gives {len(found)} {what}, and its contract names {contract.width}"
            + " classes" * (contract.vector is None),
            fix="export it again from its model",
        )
    if contract.vector is not None:
        return RunResult(
            path=str(path),
            format=opened.artifact.format,
            input=str(image),
            computed_by=format_for(opened.artifact.format).computed_by,
            vector=tuple(found.tolist()),
        )
    own = opened.probabilities or Probabilities(temperature=1.0)
    (shares,) = probabilities(found[None], own.temperature)
    best = np.argsort(-shares, kind="stable")[:top]
    return RunResult(
        path=str(path),
        format=opened.artifact.format,
        input=str(image),
        computed_by=format_for(opened.artifact.format).computed_by,
        top=tuple(Guess(index=int(i), label=contract.labels[i], probability=float(shares[i])) for i in best.tolist()),
        none_of_these=bool(shares.max() < (own.none_below or 0.0)),
    )


def over_all(
    artifact: CompiledArtifact, images: Images, function: Callable[P, R], *args: P.args, **kwargs: P.kwargs
) -> R:
    """`function`, which runs the file over all `images`, in a child with limits for so many."""
    path, began = artifact.path, time.monotonic()
    # One image alone first: a file that never ends is then known for one in minutes, however many images there are.
    reading(path, run_file, artifact, images[:1])
    seconds_one, alone = time.monotonic() - began, Limits.for_file(path)
    limits = Limits(alone.seconds + _SLOWER * seconds_one * len(images), alone.memory_bytes + images.nbytes)
    return reading_within(path, limits, function, *args, **kwargs)


def _teacher(path: Path, contract: Contract, against: Path | None, target: str | Path) -> Opened | None:
    """The file of a teacher that a file's answers are held against; None where it is judged by labels."""
    if not task_of(contract).by_teacher:
        if against is not None:
            raise InputError(f"{path.name} is judged by labels, not against another file", fix="leave --against out")
        return None
    if against is None:
        raise InputError(
            f"{path.name} is judged by whether it finds the neighbours that its teacher finds",
            fix="add --against FILE, a file of the teacher: a build leaves teacher.onnx beside its package",
        )
    other = reading(against, open_file, against, load_target(str(target)))
    if other.contracted().vector is None:
        raise InputError(f"{against.name} gives classes, and vectors are asked for", fix="name a file of the teacher")
    return other


def _inspected(path: Path, target: str | Path) -> tuple[Opened, Inspection]:
    return reading(path, _inspection, path, load_target(str(target)))


# -- in the child -----------------------------------------------------------------------------------------------------


def _inspection(path: Path, target: Target) -> tuple[Opened, Inspection]:
    opened = open_file(path, target)
    return opened, format_for(opened.artifact.format).inspect(opened.artifact)


def run_file(artifact: CompiledArtifact, images: Images) -> Logits:
    """The outputs of a file for images, float32 [n, width]. Raises NotRunnableError."""
    return run_all(format_for(artifact.format), artifact, images, classes=None)


def _logits(artifact: CompiledArtifact, images: Images) -> tuple[Logits | None, str]:
    try:
        return run_file(artifact, images), ""
    except NotRunnableError as error:
        return None, error.message


def _quality(artifact: CompiledArtifact, task: Task, images: Images, truth: Truth) -> float:
    return test_quality(format_for(artifact.format), artifact, task, images, truth)


# -- what it is held against ------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Wanted:
    """Outputs that a file should give, whose those are, and how far its own may lie from them; None where nothing says."""

    outputs: Logits
    whose: str
    tolerance: float | None = None


def _expected(path: Path, against: Path | None, opened: Opened, target: Target) -> tuple[Images | None, Wanted | None]:
    """Images, and the outputs that they should give where something says so."""
    if opened.contract is None:
        if against is not None:
            raise InputError(f"{path} carries no contract, so nothing can be fed to both", fix="compare exported files")
        return None, None
    if against is not None:
        other = reading(against, open_file, against, target)
        theirs = other.contracted().model_dump()
        if changed := [name for name, value in opened.contract.model_dump().items() if theirs[name] != value]:
            raise InputError(
                f"{path.name} and {against.name} are not comparable: their contracts differ in {', '.join(changed)}",
                fix="give files of one model",
            )
        images = probe_images(opened.contract, PROBES)
        return images, Wanted(reading(against, run_file, other.artifact, images), against.name)
    replay = replay_of(path.absolute().parent, path.name, opened.contract)
    if replay is None:
        return probe_images(opened.contract, PROBES), None
    own = replay.computed_by is ComputedBy.DEVICE
    whose = "those recorded for it in the package" if own else "the reference interpreter's in the package"
    return replay.images, Wanted(replay.outputs, whose, replay.tolerance)


def _recorded_sha256(path: Path) -> str | None:
    """What the manifest of the package that the file lies in says, None where there is none that names it."""
    try:
        files = json.loads((path.absolute().parent / MANIFEST).read_text(encoding="utf-8"))["artifacts"]
        return str(files[path.name]["sha256"])
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None
