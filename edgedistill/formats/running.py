"""Parity and accuracy of an artifact, by running it: never of the torch model it came from."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from edgedistill.base.arrays import ImageRows, Images, Logits
from edgedistill.base.errors import InputError, TrialFailure, UnsupportedError
from edgedistill.base.intervals import pack
from edgedistill.devices.session import NotRunnableError
from edgedistill.documents.artifacts import CompiledArtifact, Inspected, Parity, Verification, Verified
from edgedistill.documents.recipes import EMBEDDING
from edgedistill.documents.specs import ComputedBy
from edgedistill.formats.format import ModelFormat
from edgedistill.networks.tasks import Task, Truth, cosines

BATCH_IMAGES = 256
REFERENCE_IMAGES = 256
"""So many images are computed where an interpreter, a hundred times slower than a runtime, stands in for one."""


def verify(
    runtime: ModelFormat,
    artifact: CompiledArtifact,
    task: Task,
    reference_logits: Logits,
    images: ImageRows,
    truth: Truth,
) -> Verification:
    """Run the artifact on the validation split and compare it with the fp32 torch program; a reference interpreter on the
    first REFERENCE_IMAGES of it.

    `reference_logits` float32 [n, C] are that program's for `images` uint8 [n, 3, R, R]. By `task` the answers are held
    against what the images are. Where this machine cannot run the artifact, the result is Inspected with the runtime's own
    checks and the reason. Raises TrialFailure for outputs that are not finite or of another shape, ValueError for arrays
    that do not belong together.
    """
    if not len(images) == len(truth) == len(reference_logits) or len(images) == 0:
        raise ValueError(f"{len(images)} images, {len(truth)} labels, {len(reference_logits)} reference logits")
    if not np.isfinite(reference_logits).all():
        raise ValueError("the reference logits are not finite")
    if runtime.computed_by is ComputedBy.REFERENCE:
        images, truth = images[:REFERENCE_IMAGES], truth[:REFERENCE_IMAGES]
        reference_logits = reference_logits[:REFERENCE_IMAGES]
    try:
        logits = run_all(runtime, artifact, images, classes=reference_logits.shape[1])
    except NotRunnableError as error:
        return Inspected(reason=error.message, checks=runtime.inspect(artifact).checks)
    right = task.right(logits, truth)
    return Verified(
        computed_by=runtime.computed_by,
        parity=beside(task, logits, reference_logits),
        quality_validation=float(right.mean()),
        right=pack(right.tolist()),
        temperature=task.temperature(logits, truth),
    )


def beside(task: Task, outputs: Logits, reference: Logits) -> Parity:
    """How far a task's outputs [n, C] are from others of the same shape."""
    error, images = float(np.abs(outputs - reference).max()), len(outputs)
    if task.output == EMBEDDING:
        found = np.clip(cosines(outputs, reference), -1, 1)
        return Parity(
            max_abs_error=error, cosine_mean=float(found.mean()), cosine_least=float(found.min()), images=images
        )
    agreement = float((outputs.argmax(axis=1) == reference.argmax(axis=1)).mean())
    return Parity(max_abs_error=error, top1_agreement=agreement, images=images)


def test_logits(runtime: ModelFormat, artifact: CompiledArtifact, images: ImageRows) -> Logits:
    """The artifact's logits float32 [n, C] for the test split's `images`, uint8 [n, 3, R, R].

    Apart from `verify`, so that the test split is read only where it is asked for by name: it is for the shipped files,
    once, after the winner is fixed. Raises NotRunnableError, and TrialFailure and ValueError as `verify` does.
    """
    if len(images) == 0:
        raise ValueError("there are no images")
    return run_all(runtime, artifact, images, classes=None)


def test_quality(
    runtime: ModelFormat, artifact: CompiledArtifact, task: Task, images: ImageRows, truth: Truth
) -> float:
    """Score (0 to 1) of `test_logits` by `task` beside what the images are. Raises what that does."""
    if len(images) != len(truth):
        raise ValueError(f"{len(images)} images, {len(truth)} labels")
    return task.score(test_logits(runtime, artifact, images), truth)


def run_all(runtime: ModelFormat, artifact: CompiledArtifact, images: ImageRows, classes: int | None) -> Logits:
    """The artifact's logits float32 [n, C] for all `images`, checked batch by batch: C is `classes` (None: that of the first
    batch), every value finite. Raises TrialFailure naming the artifact, NotRunnableError."""
    name = f"{artifact.path.name} ({artifact.format}, {artifact.scheme.label})"
    parts: list[Logits] = []
    rows = 0
    for logits in runtime.run(artifact, _batches(images)):
        expected_rows = min(BATCH_IMAGES, len(images) - rows)
        columns = logits.shape[1] if logits.ndim == 2 and classes is None else classes
        if logits.shape != (expected_rows, columns):
            wanted = f"[{expected_rows}, {columns if columns is not None else 'classes'}]"
            raise TrialFailure(f"{name} gives logits of shape {list(logits.shape)} instead of {wanted}")
        if not np.isfinite(logits).all():
            broken = rows + int(np.flatnonzero(~np.isfinite(logits).all(axis=1))[0])
            raise TrialFailure(f"{name} gives logits that are not finite, first for image {broken}")
        parts.append(logits.astype(np.float32, copy=False))
        rows += expected_rows
        classes = columns
    if rows != len(images):
        raise TrialFailure(f"{name} gives logits for {rows} of {len(images)} images")
    return np.concatenate(parts)


def fitting(batches: Iterable[Images], size: tuple[int, ...], name: str) -> Iterator[Images]:
    """The batches, each of images of that `size`, [3, R, R]. Raises InputError for others."""
    for batch in batches:
        if batch.shape[1:] != size:
            raise InputError(
                f"images are {batch.shape[1:]}, {name} takes {size}", fix="resize them to the contract's resolution"
            )
        yield batch


def over_threads(
    infer: Callable[[Images], Logits], batches: Iterable[Images], workers: int, at_once: int | None
) -> Iterator[Logits]:
    """`infer` over pieces of each batch in so many threads: of `at_once` images where a file takes just as many, else one
    piece a worker. Raises UnsupportedError where a batch cannot be cut so."""
    with ThreadPoolExecutor(workers) as pool:
        for batch in batches:
            size = at_once or max(1, -(-len(batch) // workers))
            if at_once is not None and (at_once < 1 or len(batch) % at_once):
                message = f"the graph takes {at_once} images at a time; a batch has {len(batch)}"
                raise UnsupportedError(message, fix="export it with a batch of 1")
            images = np.ascontiguousarray(batch)
            pieces = pool.map(infer, [images[i : i + size] for i in range(0, len(images), size)])
            yield np.concatenate(list(pieces)).astype(np.float32, copy=False)


def _batches(images: ImageRows) -> Iterator[Images]:
    return (images[start : start + BATCH_IMAGES] for start in range(0, len(images), BATCH_IMAGES))
