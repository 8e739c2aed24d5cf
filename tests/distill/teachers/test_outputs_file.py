"""Outputs of a teacher from a file: rows by name, classes by name, and everything that may be wrong with them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edgedistill.base.errors import InputError
from edgedistill.data.folder import FolderImages
from edgedistill.data.names import image_names
from edgedistill.data.sources import GreyImages, Joined
from edgedistill.data.views import UNMIXED, identity_views
from edgedistill.distill.teachers.outputs_file import mixed_outputs, read_outputs

NAMES = ("cat/1.png", "cat/2.png", "dog/1.png", "dog/2.png")
CLASSES = ("cat", "dog")
LOGITS = np.array([[2.0, -1.0], [0.5, 0.25], [-3.0, 1.0], [0.0, 4.0]], np.float32)


def softmax(rows: np.ndarray) -> np.ndarray:
    powers = np.exp(rows - rows.max(1, keepdims=True))
    return powers / powers.sum(1, keepdims=True)


def write(path: Path, header: str, *lines: str) -> Path:
    path.write_text("\n".join([header, *lines]) + "\n", encoding="utf-8")
    return path


def lines(rows: np.ndarray, order: tuple[int, ...] = (0, 1)) -> list[str]:
    return [f"{name},{','.join(str(row[i]) for i in order)}" for name, row in zip(NAMES, rows, strict=True)]


def test_an_array_is_a_row_for_each_image(tmp_path: Path) -> None:
    np.save(tmp_path / "o.npy", LOGITS)
    np.testing.assert_array_equal(read_outputs(tmp_path / "o.npy", NAMES, CLASSES), LOGITS)
    np.save(tmp_path / "o.npy", LOGITS[:3])
    with pytest.raises(InputError, match=r"has shape \[3, 2\], and the data has 4 images of 2 classes"):
        read_outputs(tmp_path / "o.npy", NAMES, CLASSES)


def test_a_table_names_images_and_classes_in_any_order(tmp_path: Path) -> None:
    path = write(tmp_path / "o.csv", "file,dog,cat", *lines(LOGITS, (1, 0))[::-1], "other/9.png,1,2")
    np.testing.assert_allclose(read_outputs(path, NAMES, CLASSES), LOGITS)
    of_windows = (f"x,.\\{line.replace('/', chr(92))}" for line in lines(LOGITS, (1, 0)))
    path = write(tmp_path / "o.csv", "note,file,dog,cat", *of_windows)
    np.testing.assert_allclose(read_outputs(path, NAMES, CLASSES), LOGITS)
    numbered = [f"{number},{row[0]},{row[1]}" for number, row in enumerate(LOGITS)]
    path = write(tmp_path / "o.csv", "index,cat,dog", *numbered)
    np.testing.assert_allclose(read_outputs(path, ("0", "1", "2", "3"), CLASSES), LOGITS)


def test_parquet_is_a_table_too(tmp_path: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    columns = {"dog": LOGITS[:, 1], "file": list(NAMES), "cat": LOGITS[:, 0]}
    parquet.write_table(pyarrow.table(columns), tmp_path / "o.parquet")
    np.testing.assert_allclose(read_outputs(tmp_path / "o.parquet", NAMES, CLASSES), LOGITS)


def test_probabilities_become_logarithms(tmp_path: Path) -> None:
    path = write(tmp_path / "o.csv", "file,cat,dog", *lines(softmax(LOGITS)))
    found = read_outputs(path, NAMES, CLASSES)
    np.testing.assert_allclose(softmax(found), softmax(LOGITS), atol=1e-6)
    np.save(tmp_path / "o.npy", np.eye(2, dtype=np.float32)[[0, 1, 0, 1]])
    assert np.isfinite(read_outputs(tmp_path / "o.npy", NAMES, CLASSES)).all()


def test_images_without_a_line_have_none(tmp_path: Path) -> None:
    found = read_outputs(write(tmp_path / "o.csv", "file,cat,dog", *lines(LOGITS)[:2]), NAMES, CLASSES)
    assert np.isnan(found[2:]).all() and np.isfinite(found[:2]).all()


TWICE = "file,cat,dog\ncat/1.png,1,2\ncat/1.png,1,2\ncat/2.png,x,2\n"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("file,cat\na,1\n", ["has no column dog"]),
        ("name,cat,dog\na,1,2\n", ["has no column file or index"]),
        ("name,bird\na,1\n", ["has no column file or index", "has no column cat", "has no column dog"]),
        (TWICE, ["names cat/1.png again", "no number for each class"]),
        ("file,cat,dog\ncat/1.png,1\n", ["no number for each class"]),
        ("file,cat,dog\ncat/1.png,inf,2\n", ["not finite, for cat/1.png"]),
        ("", ["has no column file or index"]),
    ],
)
def test_what_is_wrong_is_told_at_once(tmp_path: Path, text: str, told: list[str]) -> None:
    (tmp_path / "o.csv").write_text(text)
    with pytest.raises(InputError) as caught:
        read_outputs(tmp_path / "o.csv", NAMES, CLASSES)
    assert all(part in str(caught.value) for part in told), str(caught.value)


@pytest.mark.parametrize("name", ["o.npy", "o.csv", "o.parquet"])
def test_a_file_that_cannot_be_read_is_an_input_error(tmp_path: Path, name: str) -> None:
    if name.endswith("parquet"):
        pytest.importorskip("pyarrow")
    (tmp_path / name).write_bytes(b"\xff\xfe no such thing")
    with pytest.raises(InputError, match="cannot be read"):
        read_outputs(tmp_path / name, NAMES, CLASSES)


def test_blended_views_get_the_mean_of_both_images() -> None:
    views = identity_views(4)
    views["mix_weight"][1], views["mix_partner"][1] = 51, 3
    found = mixed_outputs(LOGITS, views)
    np.testing.assert_array_equal(found[[0, 2, 3]], LOGITS[[0, 2, 3]])
    share, alone = 51 / UNMIXED, softmax(LOGITS)
    np.testing.assert_allclose(softmax(found)[1], share * alone[1] + (1 - share) * alone[3], atol=1e-6)
    assert mixed_outputs(LOGITS, identity_views(4)) is LOGITS


def test_images_are_called_by_their_path_or_their_index(tmp_path: Path) -> None:
    white = (255, 255, 255)
    files = FolderImages((str(tmp_path / "a" / "x.png"), str(tmp_path / "b.png")), white)
    more = FolderImages((str(tmp_path / "more" / "y.png"),), white)
    folders = (tmp_path / "more", tmp_path)
    assert image_names(Joined((files, more)), folders) == ["a/x.png", "b.png", "y.png"]
    assert image_names(Joined((GreyImages(np.zeros((2, 1, 1), np.uint8)), more)), folders) == ["0", "1", "y.png"]
