"""The files of students that brute_force.py recorded: from the cache, or made as it made them, the student trained first.

Training is repeatable to the bit on machines of one kind, so that a record is enough: it takes minutes for each file that
is asked for, and not the hours of all."""

from __future__ import annotations

from brute_force import through_rungs

from edgedistill.base.progress import silent
from edgedistill.distill.stored.split_store import SplitStore
from edgedistill.documents.artifacts import CompiledArtifact, SchemeResult
from edgedistill.networks.space import Candidate
from edgedistill.pipeline.judge import origin_of
from edgedistill.pipeline.make import compiled, portable
from edgedistill.pipeline.prepare import open_store
from edgedistill.pipeline.teacher import open_teacher
from edgedistill.pipeline.train import source_of
from edgedistill.pipeline.work import Tuning
from edgedistill.pipeline.workbench import Workbench
from edgedistill.pipeline.workers import Processes


class RecordedFiles:
    """Files on `bench`."""

    def __init__(self, bench: Workbench) -> None:
        self.bench = bench
        self._made: dict[str, CompiledArtifact] = {}
        self._views: SplitStore | None = None

    def of(self, candidate: Candidate, result: SchemeResult) -> CompiledArtifact:
        """The file of a record. Raises ValueError where what is made here is another file than was recorded."""
        recorded = result.artifact
        path = self.bench.store.root / recorded.path
        if path.exists():
            return recorded.model_copy(update={"path": path})
        if recorded.sha256 not in self._made:
            self._made[recorded.sha256] = self._make(candidate, result)
        return self._made[recorded.sha256]

    def _make(self, candidate: Candidate, result: SchemeResult) -> CompiledArtifact:
        if self._views is None:
            open_teacher(self.bench)
            self.bench.executor = Processes(1, silent)
            self._views = open_store(self.bench)
        trained = through_rungs(self.bench, self._views, candidate)[-1][0]
        origin = origin_of(source_of(self.bench, trained), result.scheme, Tuning(self.bench, self._views, trained))
        made = compiled(self.bench, portable(self.bench, origin, result.scheme, self.bench.target.runtime))
        if made.sha256 != result.artifact.sha256:
            raise ValueError(
                f"{candidate.spec.label} in {result.scheme.label} came out as another file than was recorded: "
                "record all anew (brute_force.py, then --measure)"
            )
        return made
