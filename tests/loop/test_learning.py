"""What students learn from and by, end to end: the default recipe, composed ones, losses of others, images without labels,
teachers of folds, views without a build."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import load_file
from sklearn.datasets import load_digits

import edgedistill as api
from edgedistill.base.errors import InputError
from edgedistill.base.progress import Note
from edgedistill.cli.app import run
from edgedistill.distill.recipes.losses import losses
from edgedistill.documents.specs import Contract, StudentSpec
from edgedistill.networks.build import build_student
from edgedistill.pipeline.views import Finds

BY_DEFAULT = ('recipe = "kd"\n', "")
COMPOSED = """[[train.terms]]
loss = "kl"
temperature = 2.0

[[train.terms]]
loss = "cross_entropy"
head = "own"

[[train.terms]]
loss = "smooth_l1"
weight = 0.5
tap = "features"
aligner = "orthogonal"
normaliser = "layer_norm"

[[train.terms]]
loss = "absolute"
weight = 0.1
scale = 0.5

[profile]
"""


def test_the_default_says_which_recipe_it_took_and_why(loop: Any, met: Any) -> None:
    """With teachers of folds, which label what they have not seen."""
    folds = ("fit = { epochs = 2,", "fit = { epochs = 2, crossfit = 2,")
    path = loop.write("default", "1000ms", BY_DEFAULT, folds, *loop.few)
    plan = api.plan(path)
    assert plan.teacher.crossfit == 2
    (pilot,) = [search.pilot for search in plan.searches]
    assert pilot is not None and (pilot.students, pilot.image_passes) == (2, 2 * pilot.epochs * 320)
    with pytest.raises(InputError, match="the teacher is not fitted yet"):
        api.views_info(path)

    built = loop.build(path)
    choice = built.result.recipe
    assert choice.asked == "default" and choice.recipe in ("kd", "labels")
    assert [run.recipe for run in choice.pilot] == ["kd", "labels"]
    quality = {run.recipe: run.quality_validation for run in choice.pilot}
    assert choice.recipe == "kd" or quality["labels"] > quality["kd"]
    assert choice.pilot[0].epochs == 2
    told = "; ".join(choice.reasons)
    assert f"recipe {choice.recipe}: {told}" in built.notes and "a pilot of" in told
    report = (built.out / "report.html").read_text()
    assert f"{choice.recipe}, which default chose" in report and choice.reasons[0] in report
    assert f"| recipe | {choice.recipe} |" in (built.out / "package" / "MODEL_CARD.md").read_text()
    assert loop.build(path).result == built.result

    subjects = Counter(stage.subject for stage in loop.done(path) if stage.stage == "teacher")
    assert subjects == {"timm:resnet10t, without a part of the images": 2}, "the whole one was in the cache"
    seen, plain = api.views_info(path).logits, api.views_info(met.path).logits
    assert seen is not None and plain is not None
    assert seen.agreement_labels != plain.agreement_labels


def test_the_default_tries_the_teachers_features(loop: Any, met: Any) -> None:
    """What was labelled for `met` is used again."""
    path = loop.write("features", "1000ms", BY_DEFAULT, *loop.few)
    (pilot,) = [search.pilot for search in api.plan(path).searches]
    assert pilot is not None and pilot.students == 3
    built = loop.build(path)
    choice = built.result.recipe
    assert [run.recipe for run in choice.pilot] == ["srd", "kd", "labels"]
    best = {run.recipe: run.quality_validation for run in choice.pilot}
    assert choice.recipe == "srd" or best[choice.recipe] > best["srd"]
    labelled = [stage for stage in loop.done(path) if stage.stage == "signals"]
    assert Counter(stage.subject for stage in labelled) == {"timm:resnet10t, features": 1}


def test_a_composed_recipe_with_images_without_labels_and_a_loss_of_another_package(
    loop: Any, met: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The loss is found by its entry point, in the build's process and in the worker's. What ships has nothing of it all."""
    (tmp_path / "absolute.py").write_text(
        "def absolute(student, teacher, *, scale: float = 1.0):\n    return scale * (student - teacher).abs().mean()\n"
    )
    info = tmp_path / "absolute-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: absolute\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[edgedistill.losses]\nabsolute = absolute:absolute\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    (loop.root / "more" / "deeper").mkdir(parents=True)
    for number, image in enumerate(load_digits().images[-60:]):
        pixels = np.repeat(np.rint(image * 255 / 16).astype(np.uint8)[:, :, None], 3, axis=2)
        # Others than those of the data set: what is in its validation or test split is left out.
        Image.fromarray(255 - pixels).save(loop.root / "more" / "deeper" / f"{number}.png")
    edits = (
        ('source = "digits"\n', f'source = "digits"\nunlabelled = "{loop.root / "more"}"\n'),
        ('recipe = "kd"\n', 'min_confidence = "40%"\n'),
        ("[profile]\n", COMPOSED),
    )
    losses.cache_clear()
    try:
        built = loop.build(loop.write("composed", "1000ms", *edits, *loop.few), apart=True)
        found = api.views_info(built.path)
    finally:
        losses.cache_clear()
    assert built.result.status == "met" and built.result.recipe.recipe == "composed"
    assert "0.1 absolute(scale=0.5)" in (built.out / "package" / "MODEL_CARD.md").read_text()

    assert built.result.data.unlabelled == 60
    (kept,) = [text for text in built.notes if "images without a label are learnt from" in text]
    assert kept.split(" of ")[1].startswith("60 images")
    assert (found.images - found.labelled, found.images - found.learnt) == (60, 60 - int(kept.split()[0]))
    assert found.logits is not None and found.logits.confidence_unlabelled is not None

    subjects = {stage.subject for stage in loop.done(built.path) if stage.stage == "signals"}
    assert subjects == {"timm:resnet10t", "timm:resnet10t, features"}
    trained = [stage for stage in loop.done(built.path) if stage.stage == "train"]
    assert trained
    for stage in trained:
        folder = loop.cache / "train" / stage.key
        weights = load_file(folder / "student.safetensors")
        spec = StudentSpec.model_validate(json.loads((folder / "student.json").read_text())["spec"])
        labels = tuple(map(str, range(10)))
        contract = Contract(resolution=spec.resolution, mean=(0, 0, 0), std=(1, 1, 1), labels=labels)
        fresh = {name: tuple(tensor.shape) for name, tensor in build_student(spec, contract).state_dict().items()}
        assert fresh == {name: weight.shape for name, weight in weights.items()}


def command(*arguments: object) -> int:
    return run(list(map(str, arguments)))


def test_views_without_a_build(loop: Any, met: Any, capsys: pytest.CaptureFixture[str]) -> None:
    path = loop.write("views", "50%", ("views = 2", "views = 3"))
    assert command("views", "info", path) == 2
    err = capsys.readouterr().err
    assert "the views are not labelled yet" in err and "edgedistill views build BUILD.toml" in err
    assert command("views", "build", path, "--json") == 0
    info = json.loads(capsys.readouterr().out)
    assert (info["views"], info["images"], info["labelled"]) == (3, 320, 320)
    assert [one["tap"] for one in info["signals"]] == ["logits"]
    assert command("views", "info", path) == 0
    shown = capsys.readouterr().out
    assert "3 views of 320 images" in shown and "the teacher's class is the label in" in shown
    assert 'recipe = "default" takes srd here, unless a pilot shows that kd or labels does better' in " ".join(
        shown.split()
    )
    assert command("views", "check", path, "--images", "40", "--json") == 0
    check = json.loads(capsys.readouterr().out)
    (logits,) = check["signals"]
    assert (check["images"], check["views"], logits["rows"]) == (40, 3, 120)
    # Half a step of a 16-bit float below the largest, which is 0.
    assert logits["error_largest"] <= logits["value_largest"] * 2**-10 and logits["top_differs"] == 0


def test_a_check_finds_what_is_not_the_teachers(loop: Any, met: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from edgedistill.distill.stored.signals import StoredSignal

    real = StoredSignal.at
    monkeypatch.setattr(
        StoredSignal, "at", lambda self, view, positions: np.roll(real(self, view, positions), 1, axis=1)
    )
    (logits,) = api.check_views(met.path, images=50).signals
    assert logits.top_differs is not None and logits.top_differs > 40 and logits.error_mean > 0.1


def test_nothing_is_made_for_those_who_want_what_is_there() -> None:
    with pytest.raises(InputError, match="not labelled yet"):
        next(iter(Finds().run([])))


def test_a_recipe_that_asks_no_teacher_stores_none(loop: Any, met: Any) -> None:
    path = loop.write("labels", "50%", ('recipe = "kd"', 'recipe = "labels"'))
    heard: list[Any] = []
    info = api.build_views(path, listener=heard.append)
    assert info.signals == () and info.logits is None and "asks no teacher" in info.advice[0]
    assert not [event for event in heard if isinstance(event, Note) and event.warning]
    with pytest.raises(InputError, match="nothing is stored of one"):
        api.check_views(path)
