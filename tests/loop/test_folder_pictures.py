"""Builds on files that are larger than any model needs: their working copies are made once, and change nothing but time."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import dying
import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_digits

import edgedistill as api
from edgedistill.base.progress import Event, Note, silent
from edgedistill.base.store import Store
from edgedistill.data.folder import FolderImages
from edgedistill.data.working import STAGE
from edgedistill.distill.evaluate import split_quality
from edgedistill.distill.stored.split_store import SplitStore
from edgedistill.distill.stored.views import stored_views
from edgedistill.distill.train import load_student, read_trained
from edgedistill.documents.build_file import load_config
from edgedistill.documents.specs import StudentSpec
from edgedistill.documents.targets import load_target
from edgedistill.pipeline.choice import use_recipe
from edgedistill.pipeline.prepare import open_bench, open_store
from edgedistill.pipeline.teacher import missing_fits, open_teacher
from edgedistill.pipeline.train import lessons_of, train
from edgedistill.pipeline.workbench import Workbench
from edgedistill.pipeline.working import keep_copies

NULL_TARGET = Path(__file__).with_name("null.toml")
COUNT = 240
FOLDER = ('source = "digits"\nlimit = 320\n', 'source = "folder"\npath = "../pictures"\n')
ONE_THREAD = ("[train]", "[train]\nthreads = 1")
"""Sums are taken in another order by another number of threads, and threads are chosen by how busy the machine is."""
OFF = ("split = {", 'decoded_cache = "off"\nsplit = {')


@pytest.fixture(scope="session")
def pictures(loop: Any) -> Path:
    """Digits at 60 x 48 pixels: models of 16 see views of copies of 40 x 32."""
    digits = load_digits()
    for number in range(COUNT):
        picture = Image.fromarray(np.rint(digits.images[number] * 255 / 16).astype(np.uint8))
        path = loop.root / "pictures" / str(digits.target[number]) / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        picture.resize((60, 48), Image.Resampling.BICUBIC).save(path)
    return Path(loop.root / "pictures")


def bench_of(path: Path, root: Path, listener: Callable[[Event], None] = silent) -> Workbench:
    target = load_target(str(NULL_TARGET))
    bench = open_bench(load_config(path), target, Store(root, listener), base=path.parent, require_measured=False)
    use_recipe([bench], "kd")
    return bench


def made(cache: Path) -> dict[str, bytes]:
    """The trained weights and what the teacher gave, by stage, key and name."""
    stages = ("train/*/*.safetensors", "teacher/*/*.safetensors", "signals/*/*.records", "views/*/*.records")
    return {str(file.relative_to(cache)): file.read_bytes() for stage in stages for file in cache.glob(stage)}


@pytest.fixture(scope="session")
def kept(loop: Any, pictures: Path) -> Any:
    """A build with copies that are kept, its training in a process of its own."""
    own = replace(loop, cache=loop.root / "kept")
    return own.build(own.write("pictures-kept", "1000ms", FOLDER, ONE_THREAD, *own.few), apart=True)


def test_copies_are_made_once_and_change_no_weight_and_no_key(loop: Any, kept: Any, tmp_path: Path) -> None:
    own = replace(loop, cache=loop.root / "kept")
    done = [stage.stage for stage in own.done(kept.path)]
    assert done.count(STAGE) == 1 and done.index(STAGE) < done.index("teacher") < done.index("train")
    assert Store(own.cache).usage()[STAGE][0] == 1

    bench = bench_of(loop.write("pictures-off", "50%", FOLDER, ONE_THREAD, OFF), tmp_path)
    bench.executor = dying.Here(bench)
    keep_copies(bench)
    stored = open_store(bench)
    trained = [read_trained(record.parent) for record in sorted((own.cache / "train").glob("*/student.json"))]
    first = next(student for student in trained if student.epochs == 1)
    train(bench, first.spec, stored, epochs=1, total_epochs=first.total_epochs, previous=None)
    expected, found = made(own.cache), made(tmp_path)
    assert {name.split("/")[0] for name in found} == {"teacher", "views", "signals", "train"}
    assert found == {name: expected[name] for name in found}
    assert not (tmp_path / STAGE).exists()


def test_views_are_told_and_checked_on_the_same_pixels(loop: Any, kept: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGEDISTILL_CACHE", str(loop.root / "kept"))
    (logits,) = api.check_views(kept.path, images=40).signals
    assert logits.error_largest < 0.01 * logits.value_largest
    # Views of the pictures as they are would be others.
    with monkeypatch.context() as patch:
        patch.setattr("edgedistill.pipeline.teacher.viewed", lambda bench, dataset, side: dataset)
        (others,) = api.check_views(kept.path, images=40).signals
    assert others.error_mean > 3 * logits.error_mean


def test_models_that_need_larger_copies_share_nothing(loop: Any, kept: Any) -> None:
    root = loop.root / "kept"
    same, larger = (
        bench_of(loop.write(f"pictures-{top}", "50%", FOLDER, ("[8, 16]", f"[8, {top}]")), root) for top in (20, 40)
    )
    first = bench_of(kept.path, root)
    assert [bench.working_side for bench in (first, same, larger)] == [32, 32, 64]
    assert [missing_fits(bench) for bench in (first, same, larger)] == [(), (), (None,)]
    views = [
        stored_views(bench.store, bench.taught, bench.config.view_augmentation, bench.working_side)
        for bench in (first, same, larger)
    ]
    assert views[0].key == views[1].key != views[2].key


def test_students_see_copies_and_are_judged_by_the_pictures(loop: Any, kept: Any) -> None:
    bench = bench_of(kept.path, loop.root / "kept")
    views = stored_views(bench.store, bench.taught, bench.config.view_augmentation, bench.working_side)
    student = StudentSpec(family="resnet", width=0.25, depth=0.5, resolution=16)
    images = lessons_of(bench, student, SplitStore(views)).dataset.images
    assert images.decoded and not bench.dataset.images.decoded
    train, validation = (int(split[0]) for split in (bench.dataset.splits.train, bench.dataset.splits.validation))
    assert (images[train].shape, images[validation].shape) == ((32, 40, 3), (48, 60, 3))
    assert bench.dataset.images[train].shape == (48, 60, 3), "what is calibrated on and shipped as golden"


def test_a_limit_that_is_too_low_is_told(loop: Any, pictures: Path, tmp_path: Path) -> None:
    heard: list[Event] = []
    limit = ("split = {", 'decoded_cache = "100kB"\nsplit = {')
    bench = bench_of(loop.write("pictures-limit", "50%", FOLDER, limit), tmp_path, heard.append)
    keep_copies(bench)
    (note,) = [event.text for event in heard if isinstance(event, Note) and "decoded" in event.text]
    assert note.startswith(f"{len(bench.dataset.splits.train) * 40 * 32 * 3 / 1024:.1f} KiB of decoded training images")
    assert not (tmp_path / STAGE).exists()


def test_pictures_that_are_judged_are_decoded_once(loop: Any, pictures: Path, tmp_path: Path) -> None:
    """After each epoch of the teacher's fit, at each rung of a student, and by another process after them."""
    decoded: Counter[int] = Counter()
    real = FolderImages.__getitem__

    def counted(self: FolderImages, index: int, /) -> Any:
        decoded[index] += 1
        return real(self, index)

    path = loop.write("pictures-judged", "50%", FOLDER, ONE_THREAD, ("epochs = 2,", "epochs = 3,"))
    student = StudentSpec(family="resnet", width=0.25, depth=0.5, resolution=16)
    bench = bench_of(path, tmp_path)
    bench.executor = dying.Here(bench)
    validation = bench.dataset.splits.validation
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(FolderImages, "__getitem__", counted)
        open_teacher(bench)
        stored, rung = open_store(bench), None
        for epochs in (1, 2):
            rung = train(bench, student, stored, epochs=epochs, total_epochs=2, previous=rung)
        assert {decoded[index] for index in validation.tolist()} == {1}, "the teacher's images are as large as these"
        again = bench_of(path, tmp_path)
        split_quality(load_student(rung, again.contract_of(student)), again.dataset, validation, again.contract(16))
        assert {decoded[index] for index in validation.tolist()} == {1}
