from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from edgedistill.base.errors import InputError, MissingDependencyError
from edgedistill.data.datasets import load_dataset
from edgedistill.documents.build_file import DataConfig

hub = pytest.importorskip("datasets", reason="needs the package datasets: pip install 'edgedistill[huggingface]'")

RNG = np.random.default_rng(0)


def rows(count: int, labels: list[Any] | None = None, label_feature: Any = None) -> Any:
    images = [Image.fromarray(RNG.integers(0, 256, (7, 9, 3), dtype=np.uint8)) for _ in range(count)]
    features = hub.Features(
        {"image": hub.Image(), "label": label_feature or hub.ClassLabel(names=["cat", "dog"])},
    )
    return hub.Dataset.from_dict({"image": images, "label": labels or [i % 2 for i in range(count)]}, features)


def saved(found: Any, tmp_path: Path) -> DataConfig:
    found.save_to_disk(str(tmp_path / "pets"))
    return DataConfig(source="huggingface", path=tmp_path / "pets")


def test_a_dict_with_splits_in_any_spelling(tmp_path: Path) -> None:
    parts = hub.DatasetDict({"test": rows(4), "train": rows(20), "valid": rows(6)})
    dataset = load_dataset(saved(parts, tmp_path))
    assert dataset.name == "pets"
    assert dataset.classes == ("cat", "dog")
    assert [len(part) for part in (dataset.splits.train, dataset.splits.validation, dataset.splits.test)] == [20, 6, 4]
    assert dataset.splits.seed is None
    for index, expected in ((0, parts["train"][0]), (20, parts["valid"][0]), (29, parts["test"][3])):
        np.testing.assert_array_equal(dataset.images[index], np.asarray(expected["image"]))
        assert dataset.labels[index] == expected["label"]


def test_a_single_set_is_split(tmp_path: Path) -> None:
    dataset = load_dataset(saved(rows(40), tmp_path))
    assert len(dataset.splits.train) == 28
    assert dataset.splits.seed == 0


def test_text_and_number_labels_make_their_own_classes(tmp_path: Path) -> None:
    texts = load_dataset(saved(rows(40, ["b", "a"] * 20, hub.Value("string")), tmp_path))
    assert texts.classes == ("a", "b")
    assert texts.labels[:2].tolist() == [1, 0]
    numbers = load_dataset(saved(rows(40, [7, 3] * 20, hub.Value("int32")), tmp_path / "n"))
    assert numbers.classes == ("3", "7")
    assert numbers.labels[:2].tolist() == [1, 0]


def test_every_unlabelled_row_is_listed(tmp_path: Path) -> None:
    labels = [0, 1] * 20
    labels[5] = labels[9] = -1
    with pytest.raises(InputError) as caught:
        load_dataset(saved(rows(40, labels), tmp_path))
    assert [problem.where.split()[-1] for problem in caught.value.problems] == ["5", "9"]


def test_wrong_columns_name_those_that_exist(tmp_path: Path) -> None:
    config = saved(rows(10), tmp_path)
    with pytest.raises(InputError) as caught:
        load_dataset(config.model_copy(update={"image_column": "picture", "label_column": "image"}))
    text = str(caught.value)
    assert "no column picture" in text
    assert "image, label" in text
    assert "column image holds no labels" in text
    with pytest.raises(InputError, match="column label holds no images"):
        load_dataset(config.model_copy(update={"image_column": "label"}))


def broken_rows(count: int, *broken: int) -> Any:
    found = rows(count).cast_column("image", hub.Image(decode=False))
    changed = found.map(
        lambda row, index: {"image": {"bytes": b"x", "path": None}} if index in broken else row, with_indices=True
    )
    return changed.cast_column("image", hub.Image())


def test_a_row_that_cannot_be_decoded_is_named(tmp_path: Path) -> None:
    dataset = load_dataset(saved(broken_rows(40, 3), tmp_path))
    with pytest.raises(InputError, match="row 3 of") as caught:
        dataset.images[3]
    assert "--skip-broken" in caught.value.fix


def test_rows_that_cannot_be_decoded_are_left_out_where_that_is_asked_for(tmp_path: Path) -> None:
    config = saved(broken_rows(40, 3, 7), tmp_path).model_copy(update={"skip_broken": True})
    heard: list[Any] = []
    dataset = load_dataset(config, heard.append)
    assert len(dataset.images) == 38
    assert dataset.labels[:4].tolist() == [0, 1, 0, 0], "row 3, a dog, is gone"
    assert heard[0].warning and heard[0].text.endswith("cannot be decoded and are left out: 3, 7")
    for index in range(38):
        assert dataset.images[index].shape == (7, 9, 3)
    everything = saved(broken_rows(2, 0, 1), tmp_path / "all").model_copy(update={"skip_broken": True})
    with pytest.raises(InputError, match="no image of"):
        load_dataset(everything)


def test_transparent_images_are_put_on_the_background(tmp_path: Path) -> None:
    clear = [Image.new("RGBA", (3, 2), (9, 9, 9, 0)) for _ in range(40)]
    features = hub.Features({"image": hub.Image(), "label": hub.ClassLabel(names=["cat", "dog"])})
    found = hub.Dataset.from_dict({"image": clear, "label": [i % 2 for i in range(40)]}, features)
    dataset = load_dataset(saved(found, tmp_path).model_copy(update={"background": (1, 2, 3)}))
    assert dataset.images[0][0, 0].tolist() == [1, 2, 3]


def test_a_folder_that_holds_something_else(tmp_path: Path) -> None:
    (tmp_path / "x").mkdir()
    with pytest.raises(InputError, match="is not a saved data set"):
        load_dataset(DataConfig(source="huggingface", path=tmp_path / "x"))


def test_without_the_package_the_error_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(MissingDependencyError) as caught:
        load_dataset(DataConfig(source="huggingface", name="beans"))
    assert caught.value.fix == "pip install 'edgedistill[huggingface]'"
