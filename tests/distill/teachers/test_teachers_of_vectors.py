"""Teachers for embeddings: what goes into a classifier, at length 1, and files of vectors."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from library_models import MEAN, STD, saved, saved_clip
from safetensors.torch import save_file
from torch.nn import functional as F

from edgedistill.base.errors import InputError
from edgedistill.data.datasets import Dataset, load_dataset
from edgedistill.data.views import UNMIXED, identity_views
from edgedistill.distill.stored.views import StoredViews
from edgedistill.distill.teachers.load import dimension_of, load_teacher
from edgedistill.distill.teachers.making import signal_key
from edgedistill.distill.teachers.open_clip_models import read_class_vectors
from edgedistill.distill.teachers.outputs_file import dimension_in, mixed_outputs, read_outputs, read_vectors
from edgedistill.distill.teachers.teacher import Teacher
from edgedistill.documents.build_file import DataConfig
from edgedistill.documents.specs import VectorContract
from edgedistill.documents.teachers import TeacherConfig

Load = Callable[..., Teacher]
NAMES = ("cat/1.png", "cat/2.png", "dog/1.png")
ROWS = np.array([[3.0, 4.0, 0.0], [0.0, -2.0, 0.0], [1.0, 1.0, 1.0]], np.float32)
UNIT = ROWS / np.linalg.norm(ROWS, axis=1, keepdims=True)
SMALL = {"channels": [16, 16, 32, 40], "stem_type": ""}


@pytest.fixture(scope="module")
def digits() -> Dataset:
    return load_dataset(DataConfig())


@pytest.fixture
def load(digits: Dataset, tmp_path: Path) -> Load:
    def found(**settings: Any) -> Teacher:
        config = TeacherConfig(**settings)
        vector = VectorContract(dimension=dimension_of(config, tmp_path))
        return load_teacher(config, digits, DataConfig(), tmp_path, vector=vector)

    return found


def images(side: int) -> torch.Tensor:
    return 255 * torch.rand(3, 3, side, side, generator=torch.Generator().manual_seed(1))


def normalised(pixels: torch.Tensor) -> torch.Tensor:
    return (pixels / 255 - torch.tensor(MEAN).view(1, 3, 1, 1)) / torch.tensor(STD).view(1, 3, 1, 1)


def expect(teacher: Teacher, pixels: torch.Tensor, expected: torch.Tensor) -> None:
    contract = teacher.contract
    assert (contract.task, contract.labels, contract.width) == ("embedding", (), expected.shape[1])
    with torch.no_grad():
        torch.testing.assert_close(teacher.module(pixels), F.normalize(expected, dim=1), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("classes", [0, 7])
def test_the_classifier_of_a_checkpoint_is_left_out(load: Load, tmp_path: Path, classes: int) -> None:
    torch.manual_seed(0)
    network = timm.create_model("resnet10t", num_classes=classes, **SMALL).eval()
    save_file(network.state_dict(), tmp_path / "own.safetensors")
    teacher = load(
        model="timm:resnet10t", checkpoint=tmp_path / "own.safetensors", resolution=32, arguments=SMALL, mean=MEAN, std=STD
    )  # fmt: skip
    with torch.no_grad():
        expected = network.forward_head(network.forward_features(normalised(images(32))), pre_logits=True)
    expect(teacher, images(32), expected)


def test_other_weights_than_the_classifiers_are_still_missed(load: Load, tmp_path: Path) -> None:
    network = timm.create_model("resnet10t", num_classes=7, **SMALL)
    state = {name: value for name, value in network.state_dict().items() if name != "bn1.weight"}
    save_file({**state, "extra.weight": torch.zeros(3)}, tmp_path / "own.safetensors")
    with pytest.raises(InputError, match="2 of") as caught:
        load(model="timm:resnet10t", checkpoint=tmp_path / "own.safetensors", resolution=32, arguments=SMALL)
    assert {problem.where for problem in caught.value.problems} == {"bn1.weight", "extra.weight"}


def test_a_tower_of_open_clip_needs_no_texts(load: Load, tmp_path: Path) -> None:
    pytest.importorskip("open_clip")
    clip = saved_clip(tmp_path / "clip")
    teacher = load(model="open_clip:./clip", pretrained=True)
    with torch.no_grad():
        expect(teacher, images(32), clip.encode_image(normalised(images(32))))


@pytest.mark.parametrize("kind", ["vit", "convnext"])
def test_a_model_of_transformers_gives_what_goes_into_its_classifier(load: Load, tmp_path: Path, kind: str) -> None:
    pytest.importorskip("transformers")
    model = saved(tmp_path / "model", kind)
    given: list[torch.Tensor] = []
    model.classifier.register_forward_pre_hook(lambda module, inputs: given.append(inputs[0]))
    with torch.no_grad():
        model(pixel_values=normalised(images(32)))
    expect(load(model="transformers:./model", pretrained=True), images(32), given[0])


def test_a_function_gives_vectors_of_any_length_and_nothing_else(load: Load, tmp_path: Path) -> None:
    code = "from torch import nn\ndef build(flat=True):\n    return nn.Sequential(nn.AvgPool2d(4), *[nn.Flatten()] * flat)\n"
    (tmp_path / "own.py").write_text(code)
    teacher = load(model="own:build", pretrained=True, resolution=8, mean=MEAN, std=STD)
    expect(teacher, images(8), F.avg_pool2d(normalised(images(8)), 4).flatten(1))
    with pytest.raises(InputError, match=r"gives \[1, 3, 2, 2\] for an image, not a vector"):
        load(model="own:build", pretrained=True, resolution=8, arguments={"flat": False})


def test_how_vectors_are_judged_changes_nothing_of_what_a_teacher_gives(digits: Dataset, tmp_path: Path) -> None:
    """So that another score finds its labelled views again."""
    (tmp_path / "own.py").write_text("from torch import nn\ndef build():\n    return nn.Flatten()\n")
    config = TeacherConfig(model="own:build", pretrained=True, resolution=8, mean=MEAN, std=STD)
    contracts = [VectorContract(dimension=192, score=score) for score in ("retrieval", "knn", "neighbours")]
    first, *others = [load_teacher(config, digits, DataConfig(), tmp_path, vector=vector) for vector in contracts]
    views = StoredViews(tmp_path / "views", 1, 1)
    for other in others:
        assert other.key == first.key and other.contract != first.contract
        assert signal_key(other, views, "embedding") == signal_key(first, views, "embedding")
    shown = DataConfig(crop="center")
    assert load_teacher(config, digits, shown, tmp_path, vector=contracts[0]).key != first.key


# -- files of vectors -----------------------------------------------------------------------------------------------


def test_an_array_and_a_table_hold_vectors(tmp_path: Path) -> None:
    np.save(tmp_path / "o.npy", ROWS)
    text = "\n".join(["a,file,b,c", *(f"{r[0]},{name},{r[1]},{r[2]}" for name, r in zip(NAMES, ROWS, strict=True))])
    (tmp_path / "o.csv").write_text(text)
    for path in (tmp_path / "o.npy", tmp_path / "o.csv"):
        assert dimension_in(path) == 3
        np.testing.assert_allclose(read_vectors(path, NAMES), UNIT, rtol=1e-6)
    (tmp_path / "o.csv").write_text("\n".join(text.splitlines()[:3]))
    assert np.isnan(read_vectors(tmp_path / "o.csv", NAMES)).all(axis=1).tolist() == [False, False, True]


def test_parquet_may_have_a_list_for_each_image(tmp_path: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    parquet.write_table(pyarrow.table({"file": list(NAMES), "vector": ROWS.tolist()}), tmp_path / "o.parquet")
    assert dimension_in(tmp_path / "o.parquet") == 3
    np.testing.assert_allclose(read_vectors(tmp_path / "o.parquet", NAMES), UNIT, rtol=1e-6)
    columns = {"index": ["0", "1", "2"], **{f"v{i}": ROWS[:, i] for i in range(3)}}
    parquet.write_table(pyarrow.table(columns), tmp_path / "o.parquet")
    np.testing.assert_allclose(read_vectors(tmp_path / "o.parquet", ("0", "1", "2")), UNIT, rtol=1e-6)


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        (["a,b,c", "1,2,3"], "no column file or index"),
        (["file,a,b", "cat/1.png,1,x"], "has no 2 numbers"),
        (["file,a,b", "cat/1.png,1,inf"], "not finite"),
        (["file,a,b", "cat/1.png,0,0"], "zeros alone"),
    ],
)
def test_what_is_wrong_with_a_table_is_told(tmp_path: Path, lines: list[str], words: str) -> None:
    (tmp_path / "o.csv").write_text("\n".join(lines))
    with pytest.raises(InputError) as caught:
        read_vectors(tmp_path / "o.csv", NAMES)
    assert words in f"{caught.value.message} {caught.value.problems}"


def damaged(path: Path) -> None:
    np.savez_compressed(path, one=np.random.default_rng(0).random(400))
    whole = path.with_name(f"{path.name}.npz").read_bytes()
    path.write_bytes(whole[:300] + bytes(2) + whole[302:])


def cut_off(path: Path) -> None:
    damaged(path)
    path.write_bytes(path.read_bytes()[:500])


def several(path: Path) -> None:
    np.savez(path, one=ROWS, two=ROWS)
    path.with_name(f"{path.name}.npz").rename(path)


def complex_numbers(path: Path) -> None:
    np.save(path, ROWS.astype(np.complex64))


@pytest.mark.parametrize("write", [damaged, cut_off, several, complex_numbers])
def test_what_is_no_array_of_numbers_is_told(tmp_path: Path, write: Callable[[Path], None]) -> None:
    """Also an archive that has the name of an array."""
    path = tmp_path / "o.npy"
    write(path)
    for read in (
        dimension_in,
        partial(read_vectors, names=NAMES),
        partial(read_outputs, names=NAMES, classes=("a", "b")),
    ):
        with pytest.raises(InputError, match=r"o\.npy cannot be read"):
            read(path)
    if write in (damaged, cut_off):
        with pytest.raises(InputError, match=r"class_vectors: .*o\.npy cannot be read"):
            read_class_vectors(path, ("one",), 400)


def test_an_array_of_other_images_is_refused(tmp_path: Path) -> None:
    np.save(tmp_path / "o.npy", ROWS[:2])
    with pytest.raises(InputError, match="the data has 3 images"):
        read_vectors(tmp_path / "o.npy", NAMES)


def test_a_blended_view_has_the_mean_of_two_vectors() -> None:
    views = identity_views(3)
    views["mix_weight"][0], views["mix_partner"][0] = UNMIXED // 2, 2
    share = (UNMIXED // 2) / UNMIXED
    found = mixed_outputs(UNIT, views, vectors=True)
    np.testing.assert_allclose(found[0], share * UNIT[0] + (1 - share) * UNIT[2], rtol=1e-5)
    np.testing.assert_array_equal(found[1:], UNIT[1:])
