from __future__ import annotations

import pickle
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from counted_images import Counting
from PIL import Image

from edgedistill.base.errors import InputError
from edgedistill.base.progress import Event, Note, StageAdvanced, silent
from edgedistill.base.store import Store
from edgedistill.data import working
from edgedistill.data.datasets import load_dataset
from edgedistill.data.folder import FolderImages
from edgedistill.data.sources import GreyImages, ImageSource
from edgedistill.data.views import FULL, draw_views, render_batch
from edgedistill.data.working import STAGE, CopyMaker, WorkingImages, shrunk, working_side
from edgedistill.documents.build_file import AugmentationConfig, DataConfig
from edgedistill.documents.specs import Contract

SIDE, KEY = 32, "0" * 64
SIZES = ((40, 90), (70, 50), (20, 30), (32, 33), (200, 45))
TRAIN = np.array([9, 2, 7, 0, 5, 3, 8])


@pytest.fixture
def files(tmp_path: Path) -> FolderImages:
    """Twelve images of five sizes, two of them smaller than SIDE."""
    rng = np.random.default_rng(0)
    paths = []
    for number in range(12):
        height, width = SIZES[number % len(SIZES)]
        paths.append(str(tmp_path / f"{number:02}.png"))
        Image.fromarray(rng.integers(0, 256, (height, width, 3), dtype=np.uint8)).save(paths[-1])
    return FolderImages(tuple(paths), (255, 255, 255))


def plain(images: ImageSource) -> WorkingImages:
    return WorkingImages(images, TRAIN, SIDE, None)


def keep(
    images: ImageSource, root: Path, listener: Callable[[Event], None] = silent, limit_bytes: int = 10**9
) -> WorkingImages | None:
    """What `images` are once their copies were made, None where none were."""
    store, unkept = Store(root, listener), plain(images)
    CopyMaker(store, KEY, unkept, "files").make(limit_bytes)
    folder = store.find(STAGE, KEY)
    return None if folder is None else replace(unkept, folder=folder)


@pytest.mark.parametrize("resolution", [8, 64, 224])
@pytest.mark.parametrize(
    ("scale", "ratio"), [((0.7, 1.0), (0.8, 1.25)), ((0.08, 1.0), (0.75, 1.4)), ((0.9, 0.9), (3.0, 4.0))]
)
def test_every_crop_has_the_pixels_of_the_model(
    resolution: int, scale: tuple[float, float], ratio: tuple[float, float]
) -> None:
    augmentation = AugmentationConfig(scale=scale, ratio=ratio)
    side = working_side(resolution, augmentation)
    boxes = draw_views(5000, augmentation, 0)["box"].astype(np.int64)
    shortest = int((boxes[:, 2:] - boxes[:, :2]).min()) * side / FULL
    assert resolution <= shortest + 0.01
    assert side % 32 == 0


def test_the_side_is_no_larger_than_it_has_to_be() -> None:
    quarters = AugmentationConfig(scale=(0.25, 0.5), ratio=(1.0, 1.0))
    assert [working_side(resolution, quarters) for resolution in (64, 65)] == [128, 160]


def test_a_copy_keeps_the_aspect_and_an_image_that_is_small_is_itself() -> None:
    image = np.random.default_rng(0).integers(0, 256, (90, 40, 3), dtype=np.uint8)
    assert shrunk(image, 32).shape == (72, 32, 3)
    assert shrunk(image.transpose(1, 0, 2), 32).shape == (32, 72, 3)
    assert shrunk(image, 40) is image


def test_a_view_of_a_copy_is_nearly_that_of_the_image() -> None:
    """A smooth picture, which has nothing that shrinking loses."""
    colours = np.random.default_rng(0).integers(0, 256, (6, 9, 3), dtype=np.uint8)
    image = np.asarray(Image.fromarray(colours).resize((900, 600), Image.Resampling.BICUBIC))
    augmentation = AugmentationConfig(operations=0)
    contract = Contract(resolution=48, mean=(0, 0, 0), std=(1, 1, 1), labels=("a", "b"))
    copy = shrunk(image, working_side(48, augmentation))
    views, every = draw_views(20, augmentation, 0), np.arange(20)
    whole, small = (render_batch([one] * 20, every, views, every, contract) for one in (image, copy))  # type: ignore[arg-type]
    assert np.abs(whole.astype(int) - small).max() <= 3


def test_copies_that_are_kept_are_those_made_each_time(files: FolderImages, tmp_path: Path) -> None:
    kept, each = keep(files, tmp_path / "cache"), plain(files)
    assert kept is not None and (kept.decoded, each.decoded, len(kept)) == (True, False, 12)
    for index in range(12):
        expected = shrunk(files[index], SIDE) if index in TRAIN else files[index]
        np.testing.assert_array_equal(kept[index], expected)
        np.testing.assert_array_equal(each[index], expected)
    assert [kept[index].shape[:2] for index in (7, 5, 9, 1)] == [(20, 30), (32, 72), (142, 32), (70, 50)]
    views, contract = draw_views(len(TRAIN), AugmentationConfig(mix=0.5, operations=2), 0), contract_of(16)
    batches = [render_batch(one, TRAIN, views, np.arange(len(TRAIN)), contract) for one in (kept, each)]
    np.testing.assert_array_equal(*batches)


def contract_of(resolution: int) -> Contract:
    return Contract(resolution=resolution, mean=(0, 0, 0), std=(1, 1, 1), labels=("a", "b"))


def test_they_are_made_once_and_of_training_images_alone(files: FolderImages, tmp_path: Path) -> None:
    kept = keep(files, tmp_path / "cache")
    assert kept is not None and kept.folder is not None
    assert (kept.folder / working.PIXELS).stat().st_size == sum(kept[index].nbytes for index in TRAIN)
    for path in files.paths:
        Path(path).unlink()
    again = keep(files, tmp_path / "cache")
    assert again is not None and again.folder == kept.folder
    np.testing.assert_array_equal(again[2], kept[2])
    with pytest.raises(InputError, match="can no longer be read"):
        again[1]


def test_an_open_map_does_not_travel_to_other_processes(files: FolderImages, tmp_path: Path) -> None:
    kept = keep(files, tmp_path / "cache")
    assert kept is not None
    first = kept[9]
    sent = pickle.dumps(kept)
    assert first.tobytes() not in sent
    np.testing.assert_array_equal(pickle.loads(sent)[9], first)


def interrupt_at(done: int) -> Callable[[Event], None]:
    def hear(event: Event) -> None:
        if isinstance(event, StageAdvanced) and event.done >= done:
            raise KeyboardInterrupt

    return hear


@pytest.fixture
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(working, "_CHUNK", 2)
    monkeypatch.setattr(working, "COMMIT_SECONDS", 0.0)
    monkeypatch.setattr(CopyMaker, "expected_bytes", lambda self: 0)


@pytest.mark.usefixtures("small_chunks")
@pytest.mark.parametrize("damage", ["none", "more pixels", "fewer pixels", "no sizes"])
def test_a_killed_run_is_gone_on_with(files: FolderImages, tmp_path: Path, damage: str) -> None:
    with pytest.raises(KeyboardInterrupt):
        keep(files, tmp_path, interrupt_at(4))
    (pixels,) = tmp_path.glob(f"{STAGE}/*.part/{working.PIXELS}")
    whole = pixels.read_bytes()
    match damage:
        case "more pixels":
            pixels.write_bytes(whole + b"half a picture")
        case "fewer pixels":
            pixels.write_bytes(whole[:-1])
        case "no sizes":
            pixels.with_name(working.SIZES).unlink()
    images = Counting(files)
    kept = keep(images, tmp_path)
    assert sorted(images.asked) == sorted(TRAIN)[4 if damage in ("none", "more pixels") else 0 :]
    assert kept is not None
    for index in TRAIN.tolist():
        np.testing.assert_array_equal(kept[index], shrunk(files[index], SIDE))


@pytest.mark.usefixtures("small_chunks")
def test_how_far_it_is_is_told(files: FolderImages, tmp_path: Path) -> None:
    heard: list[Event] = []
    keep(files, tmp_path, heard.append)
    steps = [(event.done, event.total) for event in heard if isinstance(event, StageAdvanced)]
    assert steps == [(0, 7), (2, 7), (4, 7), (6, 7)]


def test_what_they_will_take_is_told_before(files: FolderImages, tmp_path: Path) -> None:
    kept = keep(files, tmp_path)
    assert kept is not None
    expected = CopyMaker(Store(tmp_path), KEY, plain(files), "files").expected_bytes()
    assert expected == sum(kept[index].nbytes for index in TRAIN), "fewer images than a sample has are all looked at"


@pytest.mark.parametrize(("limit_bytes", "free", "why"), [(9000, 10**9, "decoded_cache"), (10**9, 9000, "free disk")])
def test_more_than_may_be_kept_are_not_and_a_note_says_so(
    files: FolderImages, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit_bytes: int, free: int, why: str
) -> None:
    class Usage:
        def __init__(self) -> None:
            self.free = free

    monkeypatch.setattr("shutil.disk_usage", lambda _: Usage())
    heard: list[Event] = []
    assert keep(files, tmp_path, heard.append, limit_bytes) is None
    (note,) = heard
    assert isinstance(note, Note) and why in note.text and "whenever it is needed" in note.text
    assert not list(tmp_path.glob(f"{STAGE}/*"))


def test_images_of_huggingface_are_kept_too(tmp_path: Path) -> None:
    hub = pytest.importorskip("datasets", reason="needs the package datasets: pip install 'edgedistill[huggingface]'")
    rng = np.random.default_rng(0)
    pictures = [Image.fromarray(rng.integers(0, 256, (50, 40 + n, 3), dtype=np.uint8)) for n in range(20)]
    features = hub.Features({"image": hub.Image(), "label": hub.ClassLabel(names=["cat", "dog"])})
    found = hub.Dataset.from_dict({"image": pictures, "label": [0, 1] * 10}, features)
    found.save_to_disk(str(tmp_path / "pets"))
    images = load_dataset(DataConfig(source="huggingface", path=tmp_path / "pets")).images
    kept = keep(images, tmp_path / "cache")
    assert kept is not None and not images.decoded
    for index in TRAIN.tolist():
        np.testing.assert_array_equal(kept[index], shrunk(np.asarray(pictures[index]), SIDE))


def test_copies_are_made_in_their_turn(files: FolderImages, tmp_path: Path) -> None:
    """Not beside a measurement, which a build that finds them does not wait for."""
    turns: list[str] = []

    @contextmanager
    def turn() -> Iterator[None]:
        turns.append("begun")
        yield

    maker = CopyMaker(Store(tmp_path), KEY, plain(files), "files", turn)
    maker.make(10**9)
    assert len(turns) == 2, "to look at a few, and to make all"
    maker.make(10**9)
    assert len(turns) == 2


def test_an_image_that_vanished_is_named(files: FolderImages, tmp_path: Path) -> None:
    Path(files.paths[5]).unlink()
    with pytest.raises(InputError, match=r"05\.png can no longer be read"):
        keep(files, tmp_path)
    assert Store(tmp_path).find(STAGE, KEY) is None


def test_sources_say_whether_they_are_decoded(folders: Any) -> None:
    folders.add_classes("cat", "dog")
    folders.add("more/a.png")
    assert load_dataset(DataConfig()).images.decoded and GreyImages(np.zeros((2, 8, 8), np.uint8)).decoded
    config = DataConfig(source="folder", path=folders.root)
    assert not load_dataset(config).images.decoded
    joined = load_dataset(DataConfig(unlabelled=folders.root))
    assert type(joined.images).__name__ == "Joined" and not joined.images.decoded
