from __future__ import annotations

import gzip
import struct
from pathlib import Path

import numpy as np
import pytest

from edgedistill.base.errors import InputError
from edgedistill.data.datasets import load_dataset
from edgedistill.data.idx import load_idx, read_idx
from edgedistill.documents.build_file import DataConfig

RNG = np.random.default_rng(0)


def idx_bytes(array: np.ndarray) -> bytes:
    return bytes((0, 0, 8, array.ndim)) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()


@pytest.fixture
def arrays() -> dict[str, np.ndarray]:
    return {
        "train-images-idx3": RNG.integers(0, 256, (40, 6, 5), dtype=np.uint8),
        "train-labels-idx1": np.arange(40, dtype=np.uint8) % 4,
        "t10k-images-idx3": RNG.integers(0, 256, (8, 6, 5), dtype=np.uint8),
        "t10k-labels-idx1": np.arange(8, dtype=np.uint8) % 4,
    }


def write(folder: Path, arrays: dict[str, np.ndarray], gzipped: bool = False) -> Path:
    folder.mkdir(exist_ok=True)
    for name, array in arrays.items():
        content = idx_bytes(array)
        (folder / f"{name}-ubyte{'.gz' if gzipped else ''}").write_bytes(gzip.compress(content) if gzipped else content)
    return folder


@pytest.mark.parametrize("gzipped", [False, True])
def test_four_files_with_the_test_split_given(tmp_path: Path, arrays: dict[str, np.ndarray], gzipped: bool) -> None:
    loaded = load_idx(write(tmp_path / "mnist", arrays, gzipped))
    assert loaded.classes == ("0", "1", "2", "3")
    assert loaded.validation is None
    assert loaded.test is not None
    np.testing.assert_array_equal(loaded.test, np.arange(40, 48))
    np.testing.assert_array_equal(loaded.labels, np.arange(48) % 4)
    for index, expected in ((0, arrays["train-images-idx3"][0]), (47, arrays["t10k-images-idx3"][7])):
        np.testing.assert_array_equal(loaded.images[index], np.stack([expected] * 3, axis=-1))


def test_without_a_test_pair_all_three_splits_are_drawn(tmp_path: Path, arrays: dict[str, np.ndarray]) -> None:
    write(tmp_path, {name: array for name, array in arrays.items() if name.startswith("train")})
    dataset = load_dataset(DataConfig(source="idx", path=tmp_path))
    assert len(dataset.splits.train) + len(dataset.splits.validation) + len(dataset.splits.test) == 40


def test_names_from_classes_txt(tmp_path: Path, arrays: dict[str, np.ndarray]) -> None:
    write(tmp_path, arrays)
    (tmp_path / "classes.txt").write_text("shirt\nsocks\nhat\nbelt\n")
    assert load_idx(tmp_path).classes == ("shirt", "socks", "hat", "belt")
    (tmp_path / "classes.txt").write_text("shirt\nshirt\n")
    with pytest.raises(InputError) as caught:
        load_idx(tmp_path)
    text = str(caught.value)
    assert "2 names and the labels go up to 3" in text
    assert "names shirt more than once" in text


def test_everything_wrong_is_listed_at_once(tmp_path: Path, arrays: dict[str, np.ndarray]) -> None:
    write(tmp_path, arrays)
    images = tmp_path / "train-images-idx3-ubyte"
    images.write_bytes(images.read_bytes()[:-1])
    (tmp_path / "train-labels-idx1-ubyte").write_bytes(idx_bytes(arrays["train-images-idx3"]))
    (tmp_path / "t10k-images-idx3-ubyte").write_bytes(b"")
    (tmp_path / "t10k-labels-idx1-ubyte").unlink()
    with pytest.raises(InputError) as caught:
        load_idx(tmp_path)
    found = {Path(problem.where).name: problem.what for problem in caught.value.problems}
    assert set(found) == {f"{name}-ubyte" for name in arrays}
    assert "1199 bytes of data where its header says 1200" in found["train-images-idx3-ubyte"]
    assert "does not begin as an IDX file" in found["train-labels-idx1-ubyte"]
    assert "empty" in found["t10k-images-idx3-ubyte"]
    assert "does not exist" in found["t10k-labels-idx1-ubyte"]


@pytest.mark.parametrize("gzipped", [False, True])
@pytest.mark.parametrize("change", [-1, 1])
def test_a_length_that_is_not_the_headers_is_found(tmp_path: Path, gzipped: bool, change: int) -> None:
    content = idx_bytes(np.ones((3, 4, 4), np.uint8))
    content = content[:-1] if change < 0 else content + b"x"
    path = tmp_path / f"a{'.gz' if gzipped else ''}"
    path.write_bytes(gzip.compress(content) if gzipped else content)
    with pytest.raises(InputError, match="where its header says 48"):
        read_idx(path, dimensions=3)


def test_a_truncated_gzip_file_says_so(tmp_path: Path) -> None:
    path = tmp_path / "a.gz"
    path.write_bytes(gzip.compress(idx_bytes(RNG.integers(0, 256, (30, 8, 8), dtype=np.uint8)))[:-200])
    with pytest.raises(InputError, match="not a whole gzip file"):
        read_idx(path, dimensions=3)
    path.write_bytes(b"plain text")
    with pytest.raises(InputError, match="not a whole gzip file"):
        read_idx(path, dimensions=3)


def test_a_header_that_asks_for_too_much_takes_no_memory(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(bytes((0, 0, 8, 3)) + struct.pack(">3I", 2**32 - 1, 20_000, 4_000) + b"few")
    with pytest.raises(InputError, match="3 bytes of data"):
        read_idx(path, dimensions=3)
    path.write_bytes(bytes((0, 0, 8, 3)) + struct.pack(">3I", 2, 0, 30_000))
    with pytest.raises(InputError, match="has none, by its header"):
        read_idx(path, dimensions=3)


def test_more_labels_than_images_and_absent_classes(tmp_path: Path, arrays: dict[str, np.ndarray]) -> None:
    write(tmp_path, arrays | {"train-labels-idx1": np.arange(41, dtype=np.uint8) % 4})
    with pytest.raises(InputError, match="41 labels for 40 images"):
        load_idx(tmp_path)
    write(tmp_path, arrays | {"t10k-labels-idx1": np.full(8, 5, np.uint8)})
    with pytest.raises(InputError) as caught:
        load_dataset(DataConfig(source="idx", path=tmp_path))
    assert [problem.what for problem in caught.value.problems] == [
        "class 4 has no training image",
        "class 5 has no training image",
    ]
