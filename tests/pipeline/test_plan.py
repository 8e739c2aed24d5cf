"""What a plan says of measuring: no more probes than there are candidates, and all that may be measured counted. Of the data
and the teacher it tells what they are, and finds at once what is wrong with them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import timm
import torch

from edgedistill.base.errors import InputError, UnsupportedError
from edgedistill.base.store import Store
from edgedistill.data.sources import UNLABELLED
from edgedistill.devices.proof import ProofPlan
from edgedistill.documents.answers import Plan, PlannedRung
from edgedistill.documents.build_file import BuildConfig
from edgedistill.documents.specs import Format, Precision, ProofLevel, QuantScheme
from edgedistill.pipeline.jobs import Changes, jobs_of
from edgedistill.pipeline.measure import SCALE_SESSIONS
from edgedistill.pipeline.plan import START_S, _crossed, _measured, plan_of
from edgedistill.pipeline.prepare import open_bench

CONFIG = BuildConfig.model_validate(
    {
        "budget": "5ms",
        "teacher": {"model": "timm:resnet18"},
        "profile": {"compare": "2s", "session": "5s", "pause": "1s", "proof": "standard"},
    }
)


def planned(candidates: int, *students: int, device: object = "a device", config: BuildConfig = CONFIG) -> Any:
    bench: Any = SimpleNamespace(
        config=config,
        meter=SimpleNamespace(device=device, settings=config.profile),
        target=SimpleNamespace(name="board"),
        schemes=[QuantScheme(precision=Precision.FP32), QuantScheme(precision=Precision.INT8)],
        formats=(Format.ONNX, Format.COREML),
    )
    rungs = [PlannedRung(epochs=4 * 2**n, students=count, image_passes=0) for n, count in enumerate(students)]
    return _measured(bench, candidates, rungs)


@pytest.mark.parametrize(
    ("candidates", "students", "probes", "compared"),
    [
        (100, (8, 4, 2), 8, (8 + 8 + 2) * 2),
        (100, (8,), 8, (8 + 8) * 2),
        (3, (3, 2), 3, (3 + 3 + 2) * 2),
    ],
)
def test_sessions_are_counted(candidates: int, students: tuple[int, ...], probes: int, compared: int) -> None:
    """Each file is compared once; the scale and a proof that says yes at its first look take sessions of their own."""
    found = planned(candidates, *students)
    own = SCALE_SESSIONS + ProofPlan.at(ProofLevel.STANDARD).looks[0].sessions
    assert (found.probes, found.formats) == (probes, ("onnx", "coreml"))
    assert found.measure_seconds == pytest.approx(compared * (2.0 + START_S) + own * (5.0 + 1.0 + START_S))


def test_a_thorough_proof_takes_longer() -> None:
    seconds = []
    for level in ProofLevel:
        profile = CONFIG.profile.model_copy(update={"proof": level})
        seconds.append(planned(100, 8, config=CONFIG.model_copy(update={"profile": profile})).measure_seconds)
    assert seconds == sorted(set(seconds))


def test_without_a_device_nothing_is_measured() -> None:
    found = planned(100, 8, 4, device=None)
    assert (found.measured, found.probes, found.measure_seconds) == (False, 0, 0.0)


# -- whole plans ------------------------------------------------------------------------------------------------

TEXT = """budget = "5ms"

[teacher]
model = "timm:resnet10t"
resolution = 16
arguments = { channels = [8, 8, 8, 8] }
fit = { epochs = 3 }

[data]
limit = 100

[space]
families = ["resnet"]
widths = [0.25]
depths = [0.5]
resolutions = [8]
"""
Ask = Callable[..., Plan]


@pytest.fixture
def ask(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Ask:
    """The plan of the build file above with edits, for targets, from an empty cache."""
    monkeypatch.setenv("EDGEDISTILL_CACHE", str(tmp_path / "cache"))

    def ask(*edits: tuple[str, str], targets: tuple[str, ...] = ("host",)) -> Plan:
        text = TEXT
        for old, new in edits:
            assert text.count(old) == 1, old
            text = text.replace(old, new)
        path = tmp_path / "build.toml"
        path.write_text(text)
        return plan_of(jobs_of(path, targets, Changes(), None))

    return ask


def problems_of(ask: Ask, *edits: tuple[str, str], **options: Any) -> list[str]:
    with pytest.raises(InputError) as caught:
        ask(*edits, **options)
    return [str(problem) for problem in caught.value.problems]


def test_the_splits_and_the_cost_of_the_teacher_are_told_and_no_weights_are_fetched(
    ask: Ask, monkeypatch: pytest.MonkeyPatch
) -> None:
    create, fetched = timm.create_model, []

    def creating(name: str, pretrained: bool = False, **rest: Any) -> Any:
        fetched.append(pretrained)
        return create(name, **rest)

    for module in ("distill.teachers.networks", "networks.timm_weights"):
        monkeypatch.setattr(f"edgedistill.{module}.create_model", creating)
    found = ask(("resolution = 16", "resolution = 16\npretrained = true"))
    assert fetched == [False]
    assert (found.data.source, found.data.classes, found.data.train) == ("digits", 10, 100)
    assert found.data.validation > 0 and found.data.test > 0
    network = create("resnet10t", num_classes=10, channels=[8, 8, 8, 8])
    teacher = found.teacher
    assert teacher.parameters == sum(p.numel() for p in network.parameters())
    assert (teacher.model, teacher.resolution) == ("timm:resnet10t", 16)
    assert (teacher.fit_epochs, teacher.fit_seconds) == (3, None)
    larger = ask(("resolution = 16", "resolution = 32"), ("fit = { epochs = 3 }", "fit = { epochs = 1 }")).teacher
    assert larger.multiply_adds == pytest.approx(4 * teacher.multiply_adds, rel=0.1)
    assert larger.fit_epochs == 1


@pytest.mark.parametrize("folds", [None, 3])
def test_the_trainings_for_an_assistant_are_counted(ask: Ask, folds: int | None) -> None:
    """A pilot of each that is tried, one of them whole, and two of the student. In cross-validation a pilot is as many
    trainings as there are parts, each without one of them."""
    edits = [
        ("resolution = 16", "resolution = 64"),
        ("channels = [8, 8, 8, 8]", "channels = [64, 128, 256, 512]"),
        ("widths = [0.25]", "widths = [0.125, 0.25, 0.5]"),
        ("[space]", f"[search]\nfolds = {folds}\n\n[space]" if folds else "[space]"),
    ]
    wanted = ("[data]", "[train]\nassistant = true\n\n[data]")
    assert ask(*edits, ("[data]", "[train]\nassistant = false\n\n[data]")).searches[0].assistant is None
    found = ask(*edits, wanted)
    (search,), images = found.searches, found.data.train
    assert search.assistant is not None and search.pilot is not None
    assert search.assistant.students == 1, (
        "of three candidates one has between twice the work of the middle one and half"
    )
    pilots, whole = 3 * search.pilot.epochs * images, search.rungs[-1].epochs * images
    assert search.assistant.image_passes == pilots * (folds - 1 if folds else 1) + whole


def test_cross_validation_leaves_out_no_image_without_a_label() -> None:
    bench: Any = SimpleNamespace(
        config=CONFIG.model_copy(update={"search": CONFIG.search.model_copy(update={"folds": 4})})
    )
    labels = np.array([0] * 60 + [UNLABELLED] * 40 + [1] * 10)
    bench.taught = SimpleNamespace(labels=labels, splits=SimpleNamespace(train=np.arange(100)))
    found = _crossed(bench, 5, 2)
    assert (found.students, found.image_passes) == (8, 2 * 5 * (3 * 60 + 4 * 40))


def test_what_is_wrong_with_the_teacher_and_with_the_space_is_told_at_once_for_all_targets(ask: Ask) -> None:
    edits = (("channels =", "chanels ="), ("[space]", "[space]\nmax_parameters = 10"))
    teacher, space = problems_of(ask, *edits, targets=("host", "host-litert"))
    assert "timm cannot build resnet10t" in teacher
    assert "[space] max_parameters" in space


def test_a_module_that_the_teacher_lacks_is_told_before_it_is_fitted(ask: Ask) -> None:
    term = '[[train.terms]]\nloss = "cosine"\naligner = "linear"\ntap = "layer9"\n\n[[train.terms]]\nloss = "kl"\n\n[space]'
    with pytest.raises(InputError, match="the teacher has no module 'layer9'") as caught:
        ask(("[space]", term))
    assert "network.layer" in caught.value.fix


def test_weights_that_torch_alone_can_read_are_looked_at_where_the_data_are_wrong_too(ask: Ask, tmp_path: Path) -> None:
    (tmp_path / "teacher.pt").write_bytes(b"\x80\x02")
    data, weights = problems_of(
        ask, ("limit = 100", "limit = 5"), ("fit = { epochs = 3 }", 'checkpoint = "teacher.pt"')
    )
    assert "limit = 5" in data and "teacher.pt is damaged" in weights


def test_more_processes_than_gpus_are_told_of_before_data_and_teacher_are_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 1)
    train, data = {"device": "cuda", "processes": 2}, {"source": "folder", "path": str(tmp_path / "missing")}
    config = BuildConfig.model_validate(
        {"budget": "5ms", "teacher": {"model": "timm:resnet18"}, "train": train, "data": data}
    )
    target: Any = None
    with pytest.raises(
        UnsupportedError, match="processes = 2: there is 1 GPU, and each needs one of its own"
    ) as caught:
        open_bench(config, target, Store(tmp_path), base=tmp_path, require_measured=False)
    assert caught.value.fix == 'set processes = 1, or device = "cpu"'


def test_weights_that_students_cannot_start_from_are_told_before_anything_is_trained(ask: Ask, tmp_path: Path) -> None:
    """Each file, of another model or one that would run code."""
    torch.save(timm.create_model("test_vit").state_dict(), tmp_path / "vit.pt")
    torch.save(timm.create_model("test_resnet"), tmp_path / "code.pt")
    names = 'models = ["timm:test_resnet", "timm:test_byobnet"]'
    files = 'checkpoints = {"timm:test_resnet" = "vit.pt", "timm:test_byobnet" = "code.pt"}'
    edits = ('families = ["resnet"]', f"{names}\n{files}"), ("resolutions = [8]", "resolutions = [32]")
    problems = problems_of(ask, *edits, ("widths = [0.25]", "widths = [1]"), ("depths = [0.5]", "depths = [1]"))
    assert len(problems) == 2
    assert "timm:test_resnet at 32 px" in problems[0] and "vit.pt is not of this model" in problems[0]
    assert "timm:test_byobnet at 32 px" in problems[1] and "code.pt holds more than weights" in problems[1]


def test_weights_of_another_resolution_are_told_where_they_do_not_fit(ask: Ask, tmp_path: Path) -> None:
    """Biases of attention: a table for each resolution."""
    torch.save(timm.create_model("efficientformerv2_s0").state_dict(), tmp_path / "own.pt")
    name = "timm:efficientformerv2_s0"
    space = f'models = ["{name}"]\ncheckpoints = {{"{name}" = "own.pt"}}'
    edits = ('families = ["resnet"]', space), ("widths = [0.25]", "widths = [1]"), ("depths = [0.5]", "depths = [1]")
    (problem,) = problems_of(ask, *edits, ("resolutions = [8]", "resolutions = [64, 224]"))
    assert f"{name} at 64 px" in problem and "attention_biases" in problem and "[space] resolutions" in problem
