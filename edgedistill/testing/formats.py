"""What every format keeps, as tests.

    from edgedistill.testing import FormatConformance

    class TestMine(FormatConformance):
        def form(self):
            return MyFormat()

pytest then tells, by name, what a format lacks. What needs hardware that is not here is skipped with the format's own
words for what it needs.
"""

from __future__ import annotations

import inspect
import platform
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from edgedistill.base.arrays import Images, Logits
from edgedistill.base.errors import EdgedistillError, Problem
from edgedistill.base.isolation import Limits, in_child
from edgedistill.base.store import copy_atomic, file_sha256, size_bytes
from edgedistill.devices.base import run_pushed, sample
from edgedistill.devices.local import LocalDevice
from edgedistill.devices.session import MeasurementProtocol, NotRunnableError
from edgedistill.devices.stats import ratio
from edgedistill.documents.artifacts import CompiledArtifact, ExportedModel, Inspection
from edgedistill.documents.measurements import Profile
from edgedistill.documents.specs import Contract, Format, Percentile, Precision, QuantScheme, Target, VectorContract
from edgedistill.formats import format_for
from edgedistill.formats.format import Conversion, ModelFormat, Opened
from edgedistill.networks.build import Normalised
from edgedistill.networks.program.probes import probe_images
from edgedistill.networks.program.program import reference_logits, to_program

CONTRACT = Contract(
    resolution=32, mean=(120.0, 115.0, 100.0), std=(60.0, 58.0, 62.0), labels=("anchor", "Bär", "cup", "dé", "ear")
)
_METHODS = {
    "open": ("path", "target"),
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


EMBEDDING = CONTRACT.model_copy(
    update={"task": "embedding", "output_name": "embedding", "labels": (), "vector": VectorContract(dimension=24)}
)
CALIBRATION = 16


def embedding_network() -> nn.Module:
    """A network that gives vectors, as `EMBEDDING` says: the same weights on every call."""
    with torch.random.fork_rng(devices=()):
        torch.manual_seed(0)
        layers = (nn.Conv2d(3, 16, 3, stride=2, padding=1), nn.ReLU(), nn.Conv2d(16, 32, 3, stride=4, padding=1))
        network = nn.Sequential(*layers, nn.ReLU(), nn.Flatten(), nn.Linear(512, 24))
        return Normalised(network, EMBEDDING.mean, EMBEDDING.std, unit=True).eval().requires_grad_(False)


class FormatConformance:
    """Subclass it, give `form`, and change `target`, `portable` or `tolerance` where yours need it."""

    tolerance = 1e-3
    """The largest difference of a logit that is allowed, of the largest logit."""

    def form(self) -> ModelFormat:
        """The format under test."""
        raise NotImplementedError("give form()")

    def portable(self, folder: Path) -> ExportedModel:
        """The suite's network in fp32 as the file that the format compiles, inside `folder`: made by the format's own
        `convert`, or that of the format which it takes files of."""
        return self._converted(conformance_network(), CONTRACT, Precision.FP32, folder)

    def _converted(
        self,
        network: nn.Module,
        contract: Contract,
        precision: Precision,
        folder: Path,
        full: ExportedModel | None = None,
    ) -> ExportedModel:
        """`full` is the fp32 file that other precisions may be made from."""
        form = self.form()
        maker = form if form.portable is form.format else format_for(form.portable)
        what = Conversion(
            contract=contract,
            build_hash="",
            module=lambda: network,
            program=lambda: to_program(network, contract),
            calibration=lambda: probe_images(contract, CALIBRATION),
            style=form.style(platform.machine()),
            full=full,
        )
        scheme = QuantScheme(precision=precision, calibration_images=0 if precision is Precision.FP32 else CALIBRATION)
        return maker.convert(what, scheme, folder / f"model-{precision}{maker.suffixes[0]}")

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
        return cls().portable(tmp_path_factory.mktemp("portable"))

    @pytest.fixture(scope="class")
    @classmethod
    def artifact(cls, model: ExportedModel, tmp_path_factory: pytest.TempPathFactory) -> CompiledArtifact:
        suite, form = cls(), cls().form()
        return form.compile(model, suite.target(form.format), tmp_path_factory.mktemp("compiled"))

    def logits(self, artifact: CompiledArtifact, *batches: Images) -> list[Logits]:
        """What the format gives; skips where it says that this machine cannot run the file."""
        try:
            return list(self.form().run(artifact, batches))
        except NotRunnableError as error:
            pytest.skip(error.message)

    # -- the tests ----------------------------------------------------------------------------------------------------

    def test_it_has_the_methods(self) -> None:
        form = self.form()
        lacking = [name for name in ("format", "suffixes", "computed_by") if not hasattr(form, name)]
        for name, wanted in _METHODS.items():
            method = getattr(form, name, None)
            if method is None:
                lacking.append(f"{name}({', '.join(wanted)})")
            elif tuple(inspect.signature(method).parameters) != wanted:
                lacking.append(f"{name} with the parameters ({', '.join(wanted)})")
        assert not lacking, f"the format lacks {', '.join(lacking)}"

    def test_its_files_are_called_and_fed_as_it_says(self, artifact: CompiledArtifact) -> None:
        form = self.form()
        assert form.format is artifact.format and artifact.path.name.endswith(form.suffixes)
        assert form.file_name("student").startswith("student") and form.file_name("student").endswith(form.suffixes)
        assert artifact.path.is_dir() is form.is_folder
        assert form.input_edge(CONTRACT).kind in ("tensor", "image")

    def test_equal_networks_give_equal_bytes(self, model: ExportedModel, tmp_path: Path) -> None:
        assert self.portable(tmp_path).sha256 == model.sha256
        assert [path.name for path in tmp_path.iterdir()] == [model.path.name], "nothing else is left there"

    def test_it_takes_a_plain_network(self, model: ExportedModel) -> None:
        form = self.form()
        assert form.unsupported(model, self.target(form.format)) == ()

    def test_what_it_does_not_take_is_named(self, model: ExportedModel) -> None:
        form = self.form()
        stranger = Format.EXECUTORCH if form.format is not Format.EXECUTORCH else Format.COREML
        path = model.path.with_name("stranger.bin")
        path.write_bytes(b"this is no model")
        try:
            found = form.unsupported(
                model.model_copy(update={"format": stranger, "path": path}), self.target(form.format)
            )
        except EdgedistillError as error:
            assert error.message
        else:
            assert found and all(isinstance(problem, Problem) and problem.what for problem in found)

    def test_a_file_of_another_format_is_not_compiled(self, model: ExportedModel, tmp_path: Path) -> None:
        form = self.form()
        other = next(one for one in Format if one not in (model.format, form.format))
        with pytest.raises(EdgedistillError):
            form.compile(model.model_copy(update={"format": other}), self.target(form.format), tmp_path / "new")
        assert not (tmp_path / "new").exists() or not list((tmp_path / "new").iterdir()), "nothing is left there"

    def test_what_it_compiles_is_whole_and_recorded(self, model: ExportedModel, tmp_path: Path) -> None:
        form = self.form()
        before = file_sha256(model.path)
        artifact = form.compile(model, self.target(form.format), tmp_path / "new")
        assert file_sha256(model.path) == before, "the portable file is left alone"
        assert artifact.path.is_relative_to(tmp_path / "new")
        assert [p for p in (tmp_path / "new").iterdir() if p != artifact.path] == [], "nothing else is left there"
        assert (artifact.format, artifact.scheme) == (form.format, model.scheme)
        assert artifact.sha256 == file_sha256(artifact.path)
        assert artifact.bytes == size_bytes(artifact.path)
        assert artifact.toolchain and "absent" not in artifact.toolchain.values()

    def test_it_compiles_over_an_older_file(self, model: ExportedModel, tmp_path: Path) -> None:
        form, target = self.form(), self.target(self.form().format)
        first = form.compile(model, target, tmp_path)
        again = form.compile(model, target, tmp_path)
        assert again.path == first.path
        assert again.sha256 == file_sha256(again.path)

    def test_its_file_is_opened_wherever_it_lies(self, artifact: CompiledArtifact, tmp_path: Path) -> None:
        form = self.form()
        path = tmp_path / f"elsewhere{artifact.path.suffix}"
        copy_atomic(artifact.path, path)
        if record := form.record(Opened(artifact, CONTRACT), path.name):
            path.with_name(f"{path.name}.json").write_text(record, encoding="utf-8")
        opened = form.open(path, self.target(form.format))
        assert opened.contract == CONTRACT
        assert (opened.artifact.path, opened.artifact.sha256) == (path, artifact.sha256)
        assert (opened.artifact.format, opened.artifact.scheme) == (artifact.format, artifact.scheme)

    def test_a_path_without_a_file_is_an_error_in_words(self, artifact: CompiledArtifact, tmp_path: Path) -> None:
        form = self.form()
        with pytest.raises(EdgedistillError) as caught:
            form.open(tmp_path / f"absent{artifact.path.suffix}", self.target(form.format))
        assert caught.value.message

    def test_it_computes_what_the_network_computes(self, artifact: CompiledArtifact) -> None:
        images = probe_images(CONTRACT, 5)
        wanted = reference_logits(conformance_network(), images)
        (got,) = self.logits(artifact, images)
        assert got.dtype == np.float32
        assert got.shape == wanted.shape
        assert np.abs(got - wanted).max() <= self.tolerance * np.abs(wanted).max()

    def test_vectors_have_length_1_in_integers_too(self, tmp_path: Path) -> None:
        """What divides a vector by its length stays in floating point: in 8 bits lengths would differ by percents."""
        form, network = self.form(), embedding_network()
        full = self._converted(network, EMBEDDING, Precision.FP32, tmp_path)
        small = self._converted(network, EMBEDDING, Precision.INT8, tmp_path, full)
        images = probe_images(EMBEDDING, 5)
        wanted = reference_logits(network, images)
        np.testing.assert_allclose(np.linalg.norm(wanted, axis=1), 1, atol=1e-5)
        for model, least in ((full, 0.9999), (small, 0.98)):
            assert form.unsupported(model, self.target(form.format)) == ()
            artifact = form.compile(model, self.target(form.format), tmp_path / model.scheme.label)
            (got,) = self.logits(artifact, images)
            np.testing.assert_allclose(np.linalg.norm(got, axis=1), 1, atol=2e-3)
            assert float((got * wanted).sum(axis=1).min()) > least

    def test_batches_change_nothing(self, artifact: CompiledArtifact) -> None:
        images = probe_images(CONTRACT, 5)
        before = images.copy()
        (together,) = self.logits(artifact, images)
        apart = self.logits(artifact, images[:1], images[1:2], images[2:])
        assert [len(part) for part in apart] == [1, 1, 3]
        np.testing.assert_allclose(np.concatenate(apart), together, rtol=1e-5, atol=1e-5)
        np.testing.assert_array_equal(images, before)

    def test_images_of_another_size_are_an_error_in_words(self, artifact: CompiledArtifact) -> None:
        smaller = probe_images(CONTRACT, 2)[:, :, 1:, 1:]
        try:
            list(self.form().run(artifact, [np.ascontiguousarray(smaller)]))
        except NotRunnableError as error:
            pytest.skip(error.message)
        except EdgedistillError as error:
            assert error.message
        else:
            pytest.fail("images of another size were computed")

    def test_a_machine_that_cannot_run_it_is_told_before_the_first_batch(self, artifact: CompiledArtifact) -> None:
        drawn = []

        def batches() -> Iterator[Images]:
            drawn.append(True)
            yield probe_images(CONTRACT)

        try:
            next(iter(self.form().run(artifact, batches())))
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

    def measured(
        self, artifact: CompiledArtifact, images: Images | None, anchor: CompiledArtifact | None = None
    ) -> Profile:
        """The format's profile of one short session; skips where it says that this machine cannot run the file."""
        try:
            return self.form().profile(artifact, images, self.protocol(artifact, anchor))
        except NotRunnableError as error:
            pytest.skip(error.message)

    @pytest.mark.parametrize("inputs", ["given", "made up"])
    def test_it_measures(self, artifact: CompiledArtifact, inputs: str) -> None:
        profile = self.measured(artifact, probe_images(CONTRACT, 4) if inputs == "given" else None)
        assert (profile.artifact_sha256, profile.target) == (artifact.sha256, "here")
        assert profile.anchor_sha256 is None
        (session,) = profile.sessions
        assert len(session.samples_ns) >= 60
        assert min(session.samples_ns) > 0
        assert session.load_ms >= 0
        assert not session.anchor_ns

    def test_it_measures_two_files_in_turn(self, artifact: CompiledArtifact) -> None:
        profile = self.measured(artifact, probe_images(CONTRACT, 4), anchor=artifact)
        assert profile.anchor_sha256 == artifact.sha256
        (session,) = profile.sessions
        assert min(len(session.samples_ns), len(session.anchor_ns)) >= 60
        assert sum(mine for mine, _ in session.turns) == len(session.samples_ns), "every run counts"
        assert sum(its for _, its in session.turns) == len(session.anchor_ns), "every run counts"
        assert 0.5 < ratio(session, Percentile.P50) < 2, "a file is about as fast as itself"

    def test_it_looks_inside_without_running(self, artifact: CompiledArtifact) -> None:
        found = self.form().inspect(artifact)
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
        whole = self.form().inspect(artifact).checks
        found = in_child("inspecting a damaged file", _ROOMY, _outcome, self.form(), damaged)
        assert found != whole, f"a {damage} file passed every check"


def _outcome(form: ModelFormat, artifact: CompiledArtifact) -> tuple[str, ...]:
    """What `inspect` says of a damaged file, be it in checks or as an error."""
    try:
        return form.inspect(artifact).checks
    except EdgedistillError as error:
        assert error.message
        return (error.message,)


def _damage(source: Path, target: Path, how: str) -> None:
    """A copy of a file, or of a folder whose largest file is the one damaged."""
    copy_atomic(source, target)
    victim = max((p for p in (target, *target.rglob("*")) if p.is_file()), key=lambda p: p.stat().st_size)
    content = victim.read_bytes()
    random = np.random.default_rng(0).bytes(len(content))
    victim.write_bytes({"truncated": content[: len(content) // 3], "random": random, "empty": b""}[how])
