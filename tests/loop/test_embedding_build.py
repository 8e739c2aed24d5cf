"""A build whose students give vectors: from a small tower, through every command that takes its package."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

from edgedistill.base.errors import InputError
from edgedistill.cli.app import run
from edgedistill.commands.build import plan
from edgedistill.commands.explain import explain
from edgedistill.commands.views import _opened
from edgedistill.data.datasets import Dataset, load_dataset
from edgedistill.documents.build_file import DataConfig, load_config
from edgedistill.networks.tasks import class_vectors, cosines

TEACHER = """model = "timm:resnet10t"
resolution = 16
arguments = { channels = [32, 64, 96, 128] }
fit = { epochs = 2, batch_size = 64 }
"""
TOWER = """from torch import nn


class Tower(nn.Module):
    def __init__(self):
        super().__init__()
        self.projection = nn.Linear(64, 9)

    def forward(self, image):
        return self.projection(image.mean(1).flatten(1))


def build():
    return Tower()
"""
OURS = 'model = "tower:build"\nresolution = 8\ncheckpoint = "tower.safetensors"\n'
OF_TASK = ("\n[teacher]", '\ntask = "embedding"\n\n[teacher]')


def write_tower(build: Path, dataset: Dataset | None = None) -> None:
    """A linear map that draws the classes of the training images apart, and leaves the mean of images at 0."""
    dataset = dataset or load_dataset(load_config(build).data)
    train = dataset.splits.train
    pixels = np.stack([dataset.images[i][..., 0].ravel() for i in train.tolist()]).astype(np.float64)
    mean, deviation = pixels.mean(), pixels.std()
    rows = (pixels - mean) / deviation
    found = LinearDiscriminantAnalysis(solver="eigen", shrinkage=0.3).fit(rows, dataset.labels[train])
    weight = torch.from_numpy(found.scalings_[:, :9].T).float()
    bias = -weight @ torch.from_numpy(rows.mean(0)).float()
    (build.parent / "tower.py").write_text(TOWER)
    save_file({"projection.weight": weight.contiguous(), "projection.bias": bias}, build.parent / "tower.safetensors")


def written(loop: Any, name: str, *edits: tuple[str, str], data: bool = True) -> Path:
    path: Path = loop.write(
        name,
        "1000ms",
        (TEACHER, OURS),
        OF_TASK,
        ('recipe = "kd"\n', ""),
        ("resolutions = [8, 16]", "resolutions = [8]"),
        *loop.few,
        *edits,
    )
    if data:
        write_tower(path)
    return path


@pytest.fixture(scope="session")
def built(loop: Any) -> Any:
    return loop.build(written(loop, "embedding", ("rungs = [1, 2]", "rungs = [8]")))


def test_it_ships_vectors_that_find_their_like(built: Any) -> None:
    result = built.result
    assert result.status == "met", result.verdict
    assert result.metric == "recall@1" and "recall@1 of" in result.verdict
    assert result.recipe.recipe == "clip_kd"
    assert result.teacher.quality > 0.8
    (artifact, *_) = result.artifacts
    assert artifact.quality > 0.3, "a guess finds a tenth"
    assert artifact.parity.top1_agreement is None and artifact.parity.cosine_least > 0.99
    assert result.predictions_on_test is None


def test_the_contract_says_what_a_vector_is_and_golden_vectors_keep_it(built: Any) -> None:
    package = built.out / "package"
    contract = json.loads((package / "contract.json").read_text())
    assert (contract["task"], contract["output"]["name"], contract["labels"]) == ("embedding", "embedding", [])
    assert contract["vector"] == {
        "dimension": 9, "normalisation": "l2", "score": "retrieval", "class_vectors": ""
    }  # fmt: skip
    assert not (package / "labels.txt").exists()
    document = json.loads((package / "golden" / "golden.json").read_text())
    golden = np.array(next(iter(document["files"].values()))["outputs"])
    assert golden.shape == (9, 9)
    np.testing.assert_allclose(np.linalg.norm(golden, axis=1), 1, atol=1e-5)


def test_report_and_card_speak_of_vectors(built: Any) -> None:
    card, report = (built.out / "package" / "MODEL_CARD.md").read_text(), (built.out / "report.html").read_text()
    assert "vectors of 9" in card and "Recall@1" in card and "image embedding" in card
    assert "least cosine" in card and "least cosine" in report
    for text in (card, report.partition("<script")[0]):
        assert "classes, for" not in text and "logit" not in text and "accuracy" not in text.lower(), text
    assert 'id="mistakes"' not in report


def test_every_command_takes_it(built: Any, capsys: pytest.CaptureFixture[str]) -> None:
    path = str(built.path)
    assert explain(built.out).winner is not None
    for command in (
        ["explain", str(built.out)],
        ["views", "info", path],
        ["views", "check", path],
        ["build", path, "--dry-run"],
    ):
        assert run(command) == 0
        said = capsys.readouterr().out
        assert "accuracy" not in said and "logits" not in said, said


def test_students_learn_the_teachers_vectors(built: Any) -> None:
    bench, stored = _opened(built.path, None, lambda event: None)
    (signal,) = stored.signals
    assert (signal.tap, signal.width) == ("embedding", 9)
    said = signal.at(0, np.arange(signal.images, dtype=np.int64)).astype(np.float32)
    np.testing.assert_allclose(np.linalg.norm(said, axis=1), 1, atol=0.02)
    assert bench.vector is not None and bench.vector.dimension == 9


def test_a_file_of_vectors_is_a_teacher_and_classes_have_vectors_too(loop: Any) -> None:
    """Of zero-shot the file carries the class vectors, and students are told by them."""
    asked = '[embedding]\nscore = "zero_shot"\nclass_vectors = "classes.npy"\n\n[train]\nrecipe = "mobile_clip"'
    path = written(
        loop,
        "vectors",
        (OURS, 'model = "outputs:vectors.npy"\n'),
        ("[train]", asked),
        ("rungs = [1, 2]", "rungs = [1]"),
    )
    dataset = load_dataset(load_config(path).data)
    vectors = np.eye(10, dtype=np.float32)[dataset.labels] + 0.1
    np.save(path.parent / "vectors.npy", 3 * vectors)
    np.save(path.parent / "classes.npy", 2 * np.eye(10, dtype=np.float32))
    result = loop.build(path).result
    assert result.status == "met" and result.metric == "zero-shot accuracy"
    assert (result.teacher.quality, result.teacher.latency.kind) == (1, "unknown")
    bench, _ = _opened(path, None, lambda event: None)
    read = class_vectors(bench.contract(8))
    assert read is not None and cosines(read, np.eye(10)) == pytest.approx(1, abs=1e-3)
    assert bench.contract(8).labels == dataset.classes
    assert (path.parent / "out" / "package" / "labels.txt").read_text().split() == list(dataset.classes)


TOGETHER = '\n[[teachers]]\nmodel = "outputs:more.npy"\n\n[data]\n'


def test_two_teachers_are_their_mean_where_their_vectors_are_as_long(loop: Any) -> None:
    path = written(loop, "two-towers", ("\n[data]\n", TOGETHER), ("rungs = [1, 2]", "rungs = [1]"))
    dataset = load_dataset(load_config(path).data)
    rows = np.random.default_rng(0).standard_normal((len(dataset.labels), 9)).astype(np.float32)
    np.save(path.parent / "more.npy", rows)
    result = loop.build(path).result
    assert len(result.teacher.ensemble) == 2 and result.status == "met"
    _, stored = _opened(path, None, lambda event: None)
    (mixed,) = stored.signals
    positions = np.arange(5, dtype=np.int64)
    one, two = (part.at(0, positions).astype(np.float64) for part in mixed.parts)
    found = mixed.at(0, positions).astype(np.float64)
    expected = one / np.linalg.norm(one, axis=1, keepdims=True) + two / np.linalg.norm(two, axis=1, keepdims=True)
    assert cosines(found, expected) == pytest.approx(1, abs=1e-4)
    np.save(path.parent / "more.npy", rows[:, :8])
    with pytest.raises(InputError, match=r"tower:build 9, outputs:more\.npy 8"):
        loop.build(path)


@pytest.mark.parametrize(
    ("edit", "words"),
    [
        (("resolution = 8\n", "resolution = 8\nfit = { epochs = 1 }\n"), "fit trains a classifier"),
        (("[train]\n", '[train]\nrecipe = "kd"\n'), "recipe kd is for classification"),
        (("[train]\n", '[train]\nmin_confidence = "50%"\n'), "min_confidence"),
        (("[train]\n", '[[train.terms]]\nloss = "kl"\ntap = "logits"\n\n[train]\n'), "kl of logits"),
        (("[train]\n", '[embedding]\nscore = "zero_shot"\n\n[train]\n'), "zero_shot needs a vector for each class"),
        (
            (OURS, 'model = "open_clip:ViT-B-32/openai"\npretrained = true\ntext_vectors = "t.npy"\n'),
            "text_vectors are",
        ),
        (("[search]\n", '[embedding]\nscore = "neighbours"\n\n[search]\nfolds = 3\n'), "leave folds out"),
        (('task = "embedding"', 'task = "classification"\n\n[embedding]\nscore = "knn"'), "is for task"),
    ],
)
def test_what_has_no_meaning_for_vectors_is_named(loop: Any, edit: tuple[str, str], words: str) -> None:
    with pytest.raises(InputError) as caught:
        plan(loop.write("refused", "1000ms", (TEACHER, OURS), OF_TASK, ('recipe = "kd"\n', ""), edit))
    assert words in str([caught.value.message, caught.value.problems])


@pytest.fixture(scope="session")
def bare(loop: Any) -> Any:
    """A build on digits as pictures in one folder: none has a label."""
    path = written(
        loop,
        "without-labels",
        ('source = "digits"\nlimit = 320', 'source = "folder"\npath = "pictures"'),
        ("rungs = [1, 2]", "rungs = [4]"),
        data=False,
    )
    pictures = path.parent / "pictures"
    pictures.mkdir()
    digits = load_dataset(DataConfig())
    for number in range(300):
        Image.fromarray(digits.images[number]).save(pictures / f"{number:03}.png")
    write_tower(path, digits)
    return loop.build(path)


def test_images_without_a_label_are_judged_by_the_neighbours_of_the_teacher(bare: Any) -> None:
    result = bare.result
    assert result.status == "met", result.verdict
    assert result.metric == "neighbour recall@10" and "neighbour recall@10 of" in result.verdict
    assert result.teacher.quality == result.teacher.quality_validation == 1
    (artifact, *_) = result.artifacts
    assert artifact.quality > 2 * 10 / (result.data.test - 1), "vectors drawn at random get half of that"
    assert (result.data.classes, result.data.labels) == (0, "no labels")
    assert any("no image has a label" in note for note in bare.notes)
    assert not any("folds" in note for note in bare.notes)
    card, report = (bare.out / "package" / "MODEL_CARD.md").read_text(), (bare.out / "report.html").read_text()
    assert "Neighbour recall@10" in card and "no labels" in card and "no labels" in report
    assert "0 classes" not in card + report


def test_every_command_takes_a_build_without_labels(bare: Any, capsys: pytest.CaptureFixture[str]) -> None:
    path = str(bare.path)
    for command in (["explain", str(bare.out)], ["views", "info", path], ["views", "check", path]):
        assert run(command) == 0
    capsys.readouterr()
    assert run(["build", path, "--dry-run"]) == 0
    assert "no labels" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("edit", "words"),
    [
        (("[train]\n", '[embedding]\nscore = "knn"\n\n[train]\n'), 'score = "knn" needs labels'),
        (("rungs = [4]", "rungs = [4]\nfolds = 3"), "[search] folds needs labels"),
    ],
)
def test_what_needs_labels_is_named(bare: Any, loop: Any, edit: tuple[str, str], words: str) -> None:
    text = bare.path.read_text()
    assert edit[0] in text
    path = bare.path.with_name("needs-labels.toml")
    path.write_text(text.replace(*edit))
    with pytest.raises(InputError) as caught:
        plan(path)
    assert words in str([caught.value.message, caught.value.problems])
