"""What every runtime keeps, as tests.

    from edgedistill.testing import FormatConformance

    class TestMine(FormatConformance):
        def runtime(self):
            return MyRuntime()

        def portable(self, program, contract, folder):
            return export_mine(program, contract, folder / "model.mine")

pytest then tells, by name, what a runtime lacks. What needs hardware that is not here is skipped with the runtime's own
words for what it needs.
"""

from __future__ import annotations

import inspect
import shutil
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torch.export import ExportedProgram

from edgedistill.base.arrays import Images, Logits
from edgedistill.base.errors import EdgedistillError, Problem
from edgedistill.base.isolation import Limits, in_child
from edgedistill.base.store import file_sha256, size_bytes
from edgedistill.devices.base import run_pushed, sample
from edgedistill.devices.local import LocalDevice
from edgedistill.devices.session import MeasurementProtocol, NotRunnableError
from edgedistill.devices.stats import ratio
from edgedistill.documents.artifacts import CompiledArtifact, ExportedModel, Inspection
from edgedistill.documents.specs import Contract, Format, Percentile, Precision, Target
from edgedistill.formats.format import ModelFormat
from edgedistill.networks.program.program import probe_images, reference_logits, to_program

CONTRACT = Contract(
    resolution=32, mean=(120.0, 115.0, 100.0), std=(60.0, 58.0, 62.0), labels=("anchor", "Bär", "cup", "dé", "ear")
)
_METHODS = {
    "unsupported": ("model", "target"),
    "compile": ("model", "target", "folder"),
    "run": ("artifact", "batches"),
    "profile": ("artifact", "inputs", "protocol"),
    "inspect": ("artifact",),
}
_ROOMY = Limits(seconds=300, memory_bytes=4 * 2**30)


class _Network(nn.Module):
    """A few of the operations that image classifiers are made of; float32 [N, 3, 32, 32] in 0..255 to logits [N, 5]."""

    def __init__(self) -> None:
        super().__init__()
        self.mean: torch.Tensor
        self.std: torch.Tensor
        self.register_buffer("mean", torch.tensor(CONTRACT.mean).view(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor(CONTRACT.std).view(1, 3, 1, 1))
        self.stem = nn.Conv2d(3, 16, 3, stride=2, padding=1)
        self.depthwise = nn.Conv2d(16, 16, 3, padding=1, groups=16)
        self.pointwise = nn.Conv2d(16, 16, 1)
        self.head = nn.Linear(16, len(CONTRACT.labels))

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.stem((image - self.mean) / self.std))
        x = x + self.pointwise(nn.functional.hardswish(self.depthwise(x)))
        logits: torch.Tensor = self.head(x.mean((2, 3)))
        return logits


def conformance_network() -> nn.Module:
    """The network that the suite exports: the same weights on every call."""
    with torch.random.fork_rng(devices=()):
        torch.manual_seed(0)
        return _Network().eval().requires_grad_(False)


class FormatConformance:
    """Subclass it, give `runtime` and `portable`, and change `target` or `tolerance` where yours need it."""

    tolerance = 1e-3
    """The largest difference of a logit that is allowed, of the largest logit."""

    def runtime(self) -> ModelFormat:
        """The runtime under test."""
        raise NotImplementedError("give runtime()")

    def portable(self, program: ExportedProgram, contract: Contract, folder: Path) -> ExportedModel:
        """`program` in fp32 as the file that the runtime compiles, inside `folder`."""
        raise NotImplementedError("give portable()")

    def target(self, form: Format) -> Target:
        """The target that files are compiled for: this machine."""
        return Target(
            name="here",
            title="this machine",
            runtime=form,
            formats=(form,),
            precisions=(Precision.FP32,),
            transport="local",
            compute_capabilities=(75, 80, 86, 89, 120),
        )

    # -- what the tests share -----------------------------------------------------------------------------------------

    @pytest.fixture(scope="class")
    @classmethod
    def model(cls, tmp_path_factory: pytest.TempPathFactory) -> ExportedModel:
        program = to_program(conformance_network(), CONTRACT)
        return cls().portable(program, CONTRACT, tmp_path_factory.mktemp("portable"))

    @pytest.fixture(scope="class")
    @classmethod
    def artifact(cls, model: ExportedModel, tmp_path_factory: pytest.TempPathFactory) -> CompiledArtifact:
        suite, runtime = cls(), cls().runtime()
        return runtime.compile(model, suite.target(runtime.format), tmp_path_factory.mktemp("compiled"))

    def logits(self, artifact: CompiledArtifact, *batches: Images) -> list[Logits]:
        """What the runtime gives; skips where it says that this machine cannot run the file."""
        try:
            return list(self.runtime().run(artifact, batches))
        except NotRunnableError as error:
            pytest.skip(error.message)

    # -- the tests ----------------------------------------------------------------------------------------------------

    def test_it_has_the_five_methods(self) -> None:
        runtime = self.runtime()
        lacking = [name for name in ("format", "computed_by") if not hasattr(runtime, name)]
        for name, wanted in _METHODS.items():
            method = getattr(runtime, name, None)
            if method is None:
                lacking.append(f"{name}({', '.join(wanted)})")
            elif tuple(inspect.signature(method).parameters) != wanted:
                lacking.append(f"{name} with the parameters ({', '.join(wanted)})")
        assert not lacking, f"the runtime lacks {', '.join(lacking)}"

    def test_it_takes_a_plain_network(self, model: ExportedModel) -> None:
        runtime = self.runtime()
        assert runtime.unsupported(model, self.target(runtime.format)) == ()

    def test_what_it_does_not_take_is_named(self, model: ExportedModel) -> None:
        runtime = self.runtime()
        stranger = Format.EXECUTORCH if runtime.format is not Format.EXECUTORCH else Format.COREML
        path = model.path.with_name("stranger.bin")
        path.write_bytes(b"this is no model")
        try:
            found = runtime.unsupported(
                model.model_copy(update={"format": stranger, "path": path}), self.target(runtime.format)
            )
        except EdgedistillError as error:
            assert error.message
        else:
            assert found and all(isinstance(problem, Problem) and problem.what for problem in found)

    def test_what_it_compiles_is_whole_and_recorded(self, model: ExportedModel, tmp_path: Path) -> None:
        runtime = self.runtime()
        before = file_sha256(model.path)
        artifact = runtime.compile(model, self.target(runtime.format), tmp_path / "new")
        assert file_sha256(model.path) == before, "the portable file is left alone"
        assert artifact.path.is_relative_to(tmp_path / "new")
        assert [p for p in (tmp_path / "new").iterdir() if p != artifact.path] == [], "nothing else is left there"
        assert (artifact.format, artifact.scheme) == (runtime.format, model.scheme)
        assert artifact.sha256 == file_sha256(artifact.path)
        assert artifact.bytes == size_bytes(artifact.path)
        assert artifact.toolchain and "absent" not in artifact.toolchain.values()

    def test_it_compiles_over_an_older_file(self, model: ExportedModel, tmp_path: Path) -> None:
        runtime, target = self.runtime(), self.target(self.runtime().format)
        first = runtime.compile(model, target, tmp_path)
        again = runtime.compile(model, target, tmp_path)
        assert again.path == first.path
        assert again.sha256 == file_sha256(again.path)

    def test_it_computes_what_the_network_computes(self, artifact: CompiledArtifact) -> None:
        images = probe_images(CONTRACT, 5)
        wanted = reference_logits(conformance_network(), images)
        (got,) = self.logits(artifact, images)
        assert got.dtype == np.float32
        assert got.shape == wanted.shape
        assert np.abs(got - wanted).max() <= self.tolerance * np.abs(wanted).max()

    def test_batches_change_nothing(self, artifact: CompiledArtifact) -> None:
        images = probe_images(CONTRACT, 5)
        before = images.copy()
        (together,) = self.logits(artifact, images)
        apart = self.logits(artifact, images[:1], images[1:2], images[2:])
        assert [len(part) for part in apart] == [1, 1, 3]
        np.testing.assert_allclose(np.concatenate(apart), together, rtol=1e-5, atol=1e-5)
        np.testing.assert_array_equal(images, before)

    def test_a_machine_that_cannot_run_it_is_told_before_the_first_batch(self, artifact: CompiledArtifact) -> None:
        drawn = []

        def batches() -> Iterator[Images]:
            drawn.append(True)
            yield probe_images(CONTRACT)

        try:
            next(iter(self.runtime().run(artifact, batches())))
        except NotRunnableError as error:
            assert error.message
            assert not drawn
        else:
            assert drawn

    def protocol(self, artifact: CompiledArtifact, anchor: CompiledArtifact | None = None) -> MeasurementProtocol:
        """One short session on this machine."""
        return MeasurementProtocol(
            target=self.target(artifact.format),
            seconds=0.3,
            min_runs=60,
            operators=False,
            execute=partial(run_pushed, LocalDevice()),
            sample=sample,
            anchor=anchor,
        )

    def test_it_measures(self, artifact: CompiledArtifact) -> None:
        try:
            profile = self.runtime().profile(artifact, probe_images(CONTRACT, 4), self.protocol(artifact))
        except NotRunnableError as error:
            pytest.skip(error.message)
        assert (profile.artifact_sha256, profile.target) == (artifact.sha256, "here")
        assert profile.anchor_sha256 is None
        (session,) = profile.sessions
        assert len(session.samples_ns) >= 60
        assert min(session.samples_ns) > 0
        assert session.load_ms >= 0
        assert not session.anchor_ns

    def test_it_measures_two_files_in_turn(self, artifact: CompiledArtifact) -> None:
        protocol = self.protocol(artifact, anchor=artifact)
        try:
            profile = self.runtime().profile(artifact, probe_images(CONTRACT, 4), protocol)
        except NotRunnableError as error:
            pytest.skip(error.message)
        assert profile.anchor_sha256 == artifact.sha256
        (session,) = profile.sessions
        assert min(len(session.samples_ns), len(session.anchor_ns)) >= 60
        assert sum(mine for mine, _ in session.turns) == len(session.samples_ns), "every run counts"
        assert sum(its for _, its in session.turns) == len(session.anchor_ns), "every run counts"
        assert 0.5 < ratio(session, Percentile.P50) < 2, "a file is about as fast as itself"

    def test_it_looks_inside_without_running(self, artifact: CompiledArtifact) -> None:
        found = self.runtime().inspect(artifact)
        assert isinstance(found, Inspection)
        assert found.checks and all(check == check.strip() and check for check in found.checks)
        assert all(isinstance(value, str) for value in found.facts.values())
        assert all(count > 0 for count in found.operations.values())
        assert all(layer.name and layer.weights and layer.arithmetic for layer in found.layers)
        assert sum(found.bytes_by_part.values()) in (0, artifact.bytes), "the parts of a file add up to it"

    @pytest.mark.parametrize("damage", ["truncated", "random", "empty"])
    def test_a_damaged_file_is_an_error_in_words(self, artifact: CompiledArtifact, tmp_path: Path, damage: str) -> None:
        damaged = artifact.model_copy(update={"path": tmp_path / artifact.path.name})
        _damage(artifact.path, damaged.path, damage)
        whole = self.runtime().inspect(artifact).checks
        found = in_child("inspecting a damaged file", _ROOMY, _outcome, self.runtime(), damaged)
        assert found != whole, f"a {damage} file passed every check"


def _outcome(runtime: ModelFormat, artifact: CompiledArtifact) -> tuple[str, ...]:
    """What `inspect` says of a damaged file, be it in checks or as an error."""
    try:
        return runtime.inspect(artifact).checks
    except EdgedistillError as error:
        assert error.message
        return (error.message,)


def _damage(source: Path, target: Path, how: str) -> None:
    """A copy of a file, or of a folder whose largest file is the one damaged."""
    if source.is_dir():
        shutil.copytree(source, target)
        victim = max((p for p in target.rglob("*") if p.is_file()), key=lambda p: p.stat().st_size)
    else:
        shutil.copyfile(source, target)
        victim = target
    content = victim.read_bytes()
    random = np.random.default_rng(0).bytes(len(content))
    victim.write_bytes({"truncated": content[: len(content) // 3], "random": random, "empty": b""}[how])
