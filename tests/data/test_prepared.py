from __future__ import annotations

import pickle
import tracemalloc
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from counted_images import Counting
from PIL import Image

from edgedistill.base.errors import InputError
from edgedistill.base.progress import Event, Note, StageAdvanced, StageFinished, silent
from edgedistill.base.store import Store
from edgedistill.data import prepared as module
from edgedistill.data.datasets import Dataset, Keeping, load_dataset
from edgedistill.data.folder import FolderImages
from edgedistill.data.prepared import STAGE, prepared
from edgedistill.data.preprocessing import prepare
from edgedistill.data.sources import ImageSource
from edgedistill.data.splits import Splits
from edgedistill.data.working import WorkingImages
from edgedistill.documents.build_file import DataConfig
from edgedistill.documents.specs import Contract

SIZES = ((40, 90), (70, 50), (20, 30), (33, 33), (200, 45))
CHOSEN = np.array([9, 2, 7, 0, 5, 3, 8])
CONTRACT = Contract(resolution=16, mean=(0, 0, 0), std=(1, 1, 1), labels=("a", "b"))


@pytest.fixture
def files(tmp_path: Path) -> FolderImages:
    """Twelve images of five sizes."""
    rng = np.random.default_rng(0)
    paths = []
    for number in range(12):
        height, width = SIZES[number % len(SIZES)]
        paths.append(str(tmp_path / f"{number:02}.png"))
        Image.fromarray(rng.integers(0, 256, (height, width, 3), dtype=np.uint8)).save(paths[-1])
    return FolderImages(tuple(paths), (255, 255, 255))


def of(
    images: ImageSource, root: Path, listener: Callable[[Event], None] = silent, limit_bytes: int = 10**9
) -> Dataset:
    splits = Splits(np.arange(6), np.arange(6, 9), np.arange(9, 12), None)
    keeping = Keeping(Store(root, listener), limit_bytes)
    return Dataset("files", ("a", "b"), np.arange(12) % 2, images, splits, "content", keeping)


@pytest.mark.parametrize("resolution", [1, 16, 64])
@pytest.mark.parametrize("crop", ["stretch", "center"])
@pytest.mark.parametrize("resize_filter", ["bilinear", "bicubic"])
def test_what_is_kept_is_what_is_prepared_each_time(
    files: FolderImages, tmp_path: Path, resolution: int, crop: str, resize_filter: str
) -> None:
    contract = CONTRACT.model_copy(update={"resolution": resolution, "crop": crop, "resize_filter": resize_filter})
    expected, kept = prepare(files, CHOSEN, contract), prepared(of(files, tmp_path), CHOSEN, contract)
    assert kept.kept is not None and len(kept) == len(CHOSEN)
    for rows in (slice(None), slice(0, 3), slice(3, 256), slice(5, 6), slice(7, 9)):
        found = kept[rows]
        assert (found.dtype, found.flags.writeable) == (np.uint8, True)
        np.testing.assert_array_equal(found, expected[rows])
        np.testing.assert_array_equal(replace(kept, kept=None)[rows], expected[rows])


def test_each_is_decoded_once_whoever_asks(files: FolderImages, tmp_path: Path) -> None:
    images = Counting(files)
    first = prepared(of(images, tmp_path), CHOSEN, CONTRACT)
    again = prepared(
        of(images, tmp_path), CHOSEN, CONTRACT.model_copy(update={"labels": ("x", "y"), "mean": (9, 9, 9)})
    )
    assert again.kept == first.kept and first[:].shape == again[:].shape
    assert sorted(images.asked) == sorted(CHOSEN), "what the network does with the pixels is not asked"


@pytest.mark.parametrize(
    "change",
    [
        {"resolution": 17},
        {"crop": "center"},
        {"resize_filter": "bicubic"},
        {"background": (0, 0, 0)},
    ],
)
def test_other_pixels_are_kept_apart(files: FolderImages, tmp_path: Path, change: dict[str, Any]) -> None:
    dataset = of(files, tmp_path)
    first, other = (prepared(dataset, CHOSEN, one).kept for one in (CONTRACT, CONTRACT.model_copy(update=change)))
    assert first != other


def test_so_are_other_images_and_other_data(files: FolderImages, tmp_path: Path) -> None:
    dataset = of(files, tmp_path)
    found = {
        prepared(one, indices, CONTRACT).kept
        for one, indices in (
            (dataset, CHOSEN),
            (dataset, CHOSEN[:-1]),
            (dataset, CHOSEN[::-1]),
            (replace(dataset, fingerprint="another"), CHOSEN),
        )
    }
    assert len(found) == 4


def test_images_are_judged_as_they_are(files: FolderImages, tmp_path: Path) -> None:
    """Also those that are trained on, which a training sees as working copies."""
    dataset = of(files, tmp_path)
    viewed = replace(dataset, images=WorkingImages(files, CHOSEN, 8, None))
    for one in (viewed, replace(viewed, keeping=None)):
        np.testing.assert_array_equal(prepared(one, CHOSEN, CONTRACT)[:], prepare(files, CHOSEN, CONTRACT))


@pytest.mark.parametrize("asked", ["nothing", "all"])
def test_what_need_not_be_decoded_is_not_kept(tmp_path: Path, asked: str) -> None:
    digits = replace(load_dataset(DataConfig()), keeping=Keeping(Store(tmp_path), 10**9))
    indices = digits.splits.validation[: 0 if asked == "nothing" else None]
    found = prepared(digits, indices, CONTRACT)
    assert found.kept is None and not (tmp_path / STAGE).exists()
    np.testing.assert_array_equal(found[:], prepare(digits.images, indices, CONTRACT))


@pytest.mark.parametrize(("limit_bytes", "notes"), [(0, 0), (7 * 3 * 16 * 16 - 1, 1)])
def test_without_room_they_are_prepared_each_time(
    files: FolderImages, tmp_path: Path, limit_bytes: int, notes: int
) -> None:
    heard: list[Event] = []
    images = Counting(files)
    found = prepared(of(images, tmp_path, heard.append, limit_bytes), CHOSEN, CONTRACT)
    assert not images.asked and not (tmp_path / STAGE).exists()
    np.testing.assert_array_equal(found[2:4], prepare(files, CHOSEN[2:4], CONTRACT))
    assert images.asked == CHOSEN[2:4].tolist(), "and no others"
    told = [event.text for event in heard if isinstance(event, Note)]
    assert len(told) == len(heard) == notes
    assert all("of prepared images are more than [data] decoded_cache" in text for text in told)


def test_the_limit_itself_is_room(files: FolderImages, tmp_path: Path) -> None:
    found = prepared(of(files, tmp_path, limit_bytes=7 * 3 * 16 * 16), CHOSEN, CONTRACT)
    assert found.kept is not None and found.kept.stat().st_size == 7 * 3 * 16 * 16


def test_a_killed_run_leaves_no_half_file(files: FolderImages, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_CHUNK", 2)

    def interrupt(event: Event) -> None:
        if isinstance(event, StageAdvanced) and event.done == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        prepared(of(files, tmp_path, interrupt), CHOSEN, CONTRACT)
    assert list(tmp_path.glob(f"{STAGE}/*.part/*")) and not list(tmp_path.glob(f"{STAGE}/*[0-9a-f]/"))
    heard: list[Event] = []
    found = prepared(of(files, tmp_path, heard.append), CHOSEN, CONTRACT)
    np.testing.assert_array_equal(found[:], prepare(files, CHOSEN, CONTRACT))
    assert [event.done for event in heard if isinstance(event, StageAdvanced)] == [0, 2, 4, 6]
    assert sum(isinstance(event, StageFinished) for event in heard) == 1
    assert not list(tmp_path.glob(f"{STAGE}/*.part"))


def test_an_image_that_vanished_is_named(files: FolderImages, tmp_path: Path) -> None:
    Path(files.paths[5]).unlink()
    with pytest.raises(InputError, match=r"05\.png can no longer be read"):
        prepared(of(files, tmp_path), CHOSEN, CONTRACT)


def test_no_more_than_a_slice_is_in_memory(files: FolderImages, tmp_path: Path) -> None:
    indices = np.repeat(np.arange(12), 20)
    contract = CONTRACT.model_copy(update={"resolution": 64})
    found, one = prepared(of(files, tmp_path), indices, contract), 3 * 64 * 64
    tracemalloc.start()
    for start in range(0, len(found), 10):
        found[start : start + 10]
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 30 * one < len(found) * one


def test_they_travel_to_other_processes_as_a_path(files: FolderImages, tmp_path: Path) -> None:
    dataset = of(files, tmp_path, lambda event: None)
    kept = prepared(dataset, CHOSEN, CONTRACT)
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(kept))[1:3], kept[1:3])
    sent: Dataset = pickle.loads(pickle.dumps(dataset))
    assert sent.keeping is None, "a listener stays where it hears"
    np.testing.assert_array_equal(prepared(sent, CHOSEN, CONTRACT)[:], kept[:])
