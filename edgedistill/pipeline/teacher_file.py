"""A teacher that comes as an ONNX file: it labels views through the format's own runtime."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NoReturn

from edgedistill.base.arrays import Images, Logits
from edgedistill.base.errors import InputError, UnsupportedError
from edgedistill.base.isolation import Limits
from edgedistill.base.store import file_sha256, stage_key
from edgedistill.data.preprocessing import make_contract, prepare, scaled
from edgedistill.distill.teachers.answering import Answering
from edgedistill.distill.teachers.teacher import Teacher
from edgedistill.documents.artifacts import CompiledArtifact, ExportedModel
from edgedistill.documents.specs import Contract, Format
from edgedistill.formats import format_for, tools_of
from edgedistill.formats.foreign import reading, reading_within
from edgedistill.formats.onnx.classifier import Classifier, read_classifier, weights_of, with_edge
from edgedistill.pipeline import code
from edgedistill.pipeline.bench import Source
from edgedistill.pipeline.make import load_made, save_made
from edgedistill.pipeline.teacher_side import teacher_side
from edgedistill.pipeline.workbench import Workbench

STAGE: Final = "teacher-file"
PROBES: Final = 8
"""Training images by whose outputs probabilities are told from logits."""


def teacher_of_file(bench: Workbench, path: Path) -> Teacher:
    """The network in the ONNX file at `path` as a teacher, its own normalisation put inside. Raises InputError."""
    config = bench.config.teacher
    found = reading(path, read_classifier, path)
    side = teacher_side(config, None if bench.vector else len(bench.dataset.classes), bench.base)
    contract = _contract(bench, found, side, path)
    sha256 = file_sha256(path)

    def key_of(contract_part: dict[str, object]) -> str:
        parts = {"file": sha256, "contract": contract_part, "data": bench.data_key}
        return stage_key(parts, code=code.TEACHER_FILE, tools=tools_of(Format.ONNX))

    def make(folder: Path) -> None:
        probes = prepare(bench.dataset.images, bench.dataset.splits.train[:PROBES], contract)
        limits, out = Limits.for_file(path), folder / "teacher.onnx"
        made = reading_within(path, limits, with_edge, path, contract, out, build_hash=sha256, probes=probes)
        save_made(made, folder / "exported.json")

    folder = bench.store.stage(STAGE, key_of(contract.model_dump(mode="json")), make, subject=config.model)
    model = load_made(ExportedModel, folder / "exported.json")
    artifact = format_for(Format.ONNX).artifact(model.path, model.scheme, bench.target)
    return Teacher(
        name=config.model,
        module=Answering(_Runner(artifact)),
        contract=contract,
        key=key_of(contract.computed),
        parameters=reading(path, weights_of, path),
        file=model,
    )


def source_of(teacher: Teacher) -> Source | None:
    """A teacher that came as a file as a source of that; None for another."""
    if teacher.file is None:
        return None
    return Source(f"teacher {teacher.name}", teacher.key, teacher.contract, _no_torch, teacher.file)


def _no_torch() -> NoReturn:
    raise UnsupportedError("there is no torch model behind an ONNX teacher", fix="use a target that runs ONNX files")


def _contract(bench: Workbench, found: Classifier, side: int, path: Path) -> Contract:
    """What the file is fed by: mean and deviation as the build file states them, for a file of floats."""
    config = bench.config.teacher
    if found.takes_uint8 and config.mean is not None:
        raise InputError(f"{path} takes bytes: it has its mean and std inside", fix="leave them out of [teacher]")
    if not found.takes_uint8 and (config.mean is None or config.std is None):
        raise InputError(
            f"{path} takes floats, and does not say how pixels become such",
            fix="add to [teacher] the mean and std that it was trained with; for pixels in 0..1 mean = [0, 0, 0] and "
            "std = [1, 1, 1]",
        )
    mean = (0.0, 0.0, 0.0) if config.mean is None else scaled(config.mean)
    std = (1.0, 1.0, 1.0) if config.std is None else scaled(config.std)
    return make_contract(bench.data, bench.dataset.classes, side, mean, std, bench.vector)


class _Runner:
    """Runs a file on batch after batch, loaded once: what a runtime reads its batches from is filled as it asks."""

    def __init__(self, artifact: CompiledArtifact) -> None:
        self._artifact = artifact
        self._waiting: deque[Images] = deque()
        self._answers: Iterator[Logits] = iter(())

    def __call__(self, images: Images) -> Logits:
        self._waiting.append(images)
        answer = next(self._answers, None)
        if answer is None:  # the first batch, or the runtime has ended with an error
            form = format_for(self._artifact.format)
            self._answers = form.run(self._artifact, self._batches())
            answer = next(self._answers)
        return answer

    def _batches(self) -> Iterator[Images]:
        while self._waiting:
            yield self._waiting.popleft()
