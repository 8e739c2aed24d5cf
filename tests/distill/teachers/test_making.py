from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import toy_teacher
from torch import Tensor, nn
from torch.nn import functional
from toy_teacher import (
    AUGMENTATION,
    BATCH,
    CLASSES,
    TRAIN,
    VIEWS,
    Network,
    assert_same,
    build,
    logits_of,
    make_dataset,
    make_teacher,
    views_in,
)

from edgedistill.base.errors import InputError, UnsupportedError
from edgedistill.base.progress import Event, StageAdvanced, StageFinished, silent
from edgedistill.base.store import BusyError, Store
from edgedistill.data.datasets import Dataset
from edgedistill.data.views import draw_views, render_batch
from edgedistill.distill.stored.encoding import LOWEST, shifted
from edgedistill.distill.stored.signals import StoredSignal
from edgedistill.distill.stored.views import StoredViews, stored_views
from edgedistill.distill.teachers.labelling import Labeller, live_rows
from edgedistill.distill.teachers.making import Labelling, signal_key
from edgedistill.distill.teachers.teacher import Crossfit, Teacher, folds_of
from edgedistill.documents.build_file import AugmentationConfig


def test_it_holds_the_teachers_logits_on_each_view(tmp_path: Path) -> None:
    dataset, teacher = make_dataset(), make_teacher()
    found, stored = build(tmp_path), views_in(tmp_path)
    assert (stored.count, stored.images, found.images, found.encoding.width) == (VIEWS, TRAIN, TRAIN, CLASSES)
    for view in range(VIEWS):
        views, logits = stored.at(view), logits_of(found, view)
        assert isinstance(views, np.memmap)
        np.testing.assert_array_equal(found.at(view, np.array([3, 1])), logits[[3, 1]])
        assert logits.shape == (TRAIN, CLASSES)
        assert logits.dtype == np.float16
        np.testing.assert_array_equal(views, draw_views(TRAIN, AUGMENTATION, view))
        batch = render_batch(dataset.images, dataset.splits.train, views, np.arange(TRAIN), teacher.contract)
        with torch.inference_mode():
            live = teacher.module(torch.from_numpy(batch).float())
        live = live - live.max(dim=1, keepdim=True).values
        np.testing.assert_allclose(logits.astype(np.float32), live.numpy(), atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_a_loss_from_stored_views_equals_the_live_teachers(tmp_path: Path, temperature: float) -> None:
    """RECIPES: within the storage precision, here 2^-11 of logits up to about 10."""
    dataset, teacher = make_dataset(), make_teacher()
    found = build(tmp_path)
    views, positions = views_in(tmp_path).at(1), np.arange(TRAIN)
    batch = render_batch(dataset.images, dataset.splits.train, views, positions, teacher.contract)
    with torch.inference_mode():
        live = teacher.module(torch.from_numpy(batch).float())
    student = torch.randn(TRAIN, CLASSES, generator=torch.Generator().manual_seed(1))

    def loss(teacher_logits: Tensor) -> float:
        return float(
            functional.kl_div(
                functional.log_softmax(student / temperature, 1),
                functional.log_softmax(teacher_logits / temperature, 1),
                reduction="batchmean",
                log_target=True,
            )
        )

    stored = torch.from_numpy(logits_of(found, 1).astype(np.float32))
    assert loss(stored) == pytest.approx(loss(live), rel=1e-3)


def beside(stored: StoredSignal, root: Path, teacher: Teacher) -> tuple[float, int]:
    """What is stored beside the live teacher: the largest difference of any logit that is not clipped, and of how many
    pairs of view and image the top class differs."""
    dataset, positions = make_dataset(), np.arange(TRAIN)
    largest, mismatches = 0.0, 0
    for view in range(VIEWS):
        views, logits = views_in(root).at(view), logits_of(stored, view).astype(np.float32)
        batch = render_batch(dataset.images, dataset.splits.train, views, positions, teacher.contract)
        live = shifted(live_rows(teacher, ("logits",), CLASSES, batch, torch.device("cpu"))["logits"])
        largest = max(largest, float(np.abs(live - logits)[live > LOWEST].max(initial=0)))
        mismatches += int((live.argmax(axis=1) != logits.argmax(axis=1)).sum())
    return largest, mismatches


def test_a_store_is_its_own_teachers_and_no_others(tmp_path: Path) -> None:
    found = build(tmp_path)
    largest, mismatches = beside(found, tmp_path, make_teacher())
    assert mismatches == 0 and largest < 0.01
    largest, mismatches = beside(found, tmp_path, make_teacher(Network(scale=-5.0)))
    assert mismatches > VIEWS * TRAIN / 2 and largest > 1


def test_progress_goes_from_nothing_to_all(tmp_path: Path) -> None:
    events: list[Event] = []
    build(tmp_path, events.append)
    done = [event.done for event in events if isinstance(event, StageAdvanced)]
    assert done == sorted(done)
    assert done[0] == 0
    assert done[-1] == VIEWS * TRAIN
    assert {event.total for event in events if isinstance(event, StageAdvanced)} == {VIEWS * TRAIN}


def test_the_next_build_finds_it_without_the_teacher(tmp_path: Path) -> None:
    first = build(tmp_path)
    network, events = Network(), list[Event]()
    second = build(tmp_path, events.append, make_teacher(network))
    assert second == first
    assert network.calls == 0
    assert [event.reused for event in events if isinstance(event, StageFinished)] == [True]


@pytest.mark.parametrize("stop_at", [8, 40, 50, 58, 74, 149, 150])
def test_interrupted_and_resumed_equals_uninterrupted(tmp_path: Path, stop_at: int) -> None:
    def interrupt(event: Event) -> None:
        if isinstance(event, StageAdvanced) and event.done >= stop_at:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build(tmp_path / "a", interrupt)
    network, events = Network(), list[Event]()
    resumed = build(tmp_path / "a", events.append, make_teacher(network))
    assert_same(resumed, build(tmp_path / "b"))
    first_done = next(event.done for event in events if isinstance(event, StageAdvanced))
    finished_views = stop_at // TRAIN if stop_at < VIEWS * TRAIN else VIEWS - 1
    assert first_done >= finished_views * TRAIN
    batches_per_view = -(-TRAIN // BATCH)
    assert network.calls <= (VIEWS - finished_views) * batches_per_view


KILLED = """
import os, signal, sys
from pathlib import Path
sys.path.insert(0, sys.argv[3])
from toy_teacher import build
from edgedistill.base.progress import StageAdvanced

def kill(event):
    if isinstance(event, StageAdvanced) and event.done >= int(sys.argv[2]):
        os.kill(os.getpid(), signal.SIGKILL)

build(Path(sys.argv[1]), kill)
"""


def test_killed_and_resumed_equals_uninterrupted_and_redoes_no_finished_chunk(tmp_path: Path) -> None:
    stop_at = TRAIN + 3 * BATCH
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    arguments = [
        sys.executable,
        "-c",
        KILLED,
        str(tmp_path / "a"),
        str(stop_at),
        str(Path(toy_teacher.__file__).parent),
    ]
    done = subprocess.run(arguments, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr

    names = sorted(path.name for path in (tmp_path / "a" / "signal").glob("*/*.records"))
    assert names == ["0-signal-0000.records", "0-signal-0001.records"]
    (growing,) = (tmp_path / "a" / "signal").glob("*.part/*.records")
    with growing.open("ab") as stream:
        stream.write(b"half a record")  # what a crash may leave behind the marker

    network = Network()
    resumed = build(tmp_path / "a", teacher=make_teacher(network))
    assert network.calls == 4 + 7  # the rest of the second view, the third
    assert_same(resumed, build(tmp_path / "b"))


def test_a_marker_ahead_of_its_file_is_not_believed(tmp_path: Path) -> None:
    def interrupt(event: Event) -> None:
        if isinstance(event, StageAdvanced) and event.done >= 24:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build(tmp_path / "a", interrupt)
    (growing,) = (tmp_path / "a" / "signal").glob("*.part/*.records")
    growing.write_bytes(growing.read_bytes()[:30])
    assert_same(build(tmp_path / "a"), build(tmp_path / "b"))


def make_labelling(root: Path) -> Labelling:
    return Labelling(
        Store(root), Labeller(make_teacher(), make_dataset(), views_in(root), batch_size=BATCH, device="cpu"), silent
    )


def test_the_disk_holds_it_once(tmp_path: Path) -> None:
    found = build(tmp_path)
    usage = Store(tmp_path).usage()
    assert usage["signals"] == (1, sum(file.stat().st_size for file in found.folder.iterdir()))
    assert list(usage) == ["signals", "views"]
    assert not list((tmp_path / "signal").iterdir())


def test_a_file_system_without_links(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: Path, target: Path) -> None:
        raise PermissionError(1, "Operation not permitted")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "hardlink_to", refuse)
        copied = build(tmp_path / "a")
    assert_same(copied, build(tmp_path / "b"))


def test_views_done_ahead_are_not_done_again_and_what_was_cleared_is(tmp_path: Path) -> None:
    labelling, network = make_labelling(tmp_path / "a"), Network()

    def ahead(everything: bool) -> None:
        assert everything
        for view in labelling.views:
            labelling.view(view)
        second = next((tmp_path / "a" / "signal").glob("*/*-signal-0001.records"))
        Store(tmp_path / "a").drop("signal", second.parent.name)

    own = replace(labelling.labeller, teacher=make_teacher(network))
    (made,) = replace(labelling, labeller=own).build(ahead)
    assert network.calls == -(-TRAIN // BATCH), "the view that was cleared"
    assert_same(made, build(tmp_path / "b"))


def test_a_process_that_finds_another_at_it_helps_and_then_waits(tmp_path: Path) -> None:
    labelling, helper = make_labelling(tmp_path / "a"), make_labelling(tmp_path / "a")
    asked: list[bool] = []
    helped, found = threading.Event(), list[StoredSignal]()

    def help_out(everything: bool) -> None:
        asked.append(everything)
        helper.view(2, wait=False)
        with pytest.raises(BusyError):
            helper.view(0, wait=False)
        helped.set()

    other = threading.Thread(target=lambda: found.extend(helper.build(help_out)))

    def on_progress(event: Event) -> None:
        if isinstance(event, StageAdvanced) and not other.ident:  # within view 0
            other.start()
            assert helped.wait(60)

    (first,) = replace(labelling, listener=on_progress).build()
    other.join(60)
    assert asked == [False]
    assert found == [first]
    assert_same(first, build(tmp_path / "b"))


def test_a_view_that_comes_after_the_store_is_whole_is_taken_from_there(tmp_path: Path) -> None:
    """Between its look for the store and its lock on the view."""
    whole = build(tmp_path)
    network = Network()
    late = replace(
        make_labelling(tmp_path), labeller=Labeller(make_teacher(network), make_dataset(), views_in(tmp_path))
    )
    find, asked = late.store.find, list[str]()

    def misses_once(stage: str, key: str) -> Path | None:
        asked.append(stage)
        return None if len(asked) == 1 else find(stage, key)

    late.store.find = misses_once  # type: ignore[method-assign]
    late.view(1)
    (part,) = (tmp_path / "signal").glob("*/0-signal-0001.records")
    assert asked[0] == "signals" and part.samefile(whole.folder / "signal-0001.records")
    assert network.calls == 0


def test_everything_that_changes_the_content_changes_the_key(tmp_path: Path) -> None:
    teacher, dataset, store = make_teacher(), make_dataset(), Store(tmp_path)

    def views(dataset: Dataset = dataset, augmentation: AugmentationConfig = AUGMENTATION) -> StoredViews:
        return stored_views(store, dataset, augmentation)

    key = signal_key(teacher, views(), "logits")
    assert key == signal_key(make_teacher(), views(make_dataset()), "logits")
    shorter = replace(dataset.splits, train=dataset.splits.train[1:])
    larger = teacher.contract.model_copy(update={"resolution": 16})
    others = [
        signal_key(make_teacher(key="other weights"), views(), "logits"),
        signal_key(replace(teacher, contract=larger), views(), "logits"),
        signal_key(teacher, views(replace(dataset, fingerprint="other")), "logits"),
        signal_key(teacher, views(replace(dataset, splits=shorter)), "logits"),
        signal_key(teacher, views(augmentation=AUGMENTATION.model_copy(update={"seed": 1})), "logits"),
        signal_key(teacher, stored_views(store, dataset, AUGMENTATION, 96), "logits"),
        signal_key(teacher, stored_views(store, dataset, AUGMENTATION, 128), "logits"),
        signal_key(teacher, views(), "logits", autocast=torch.float16),
    ]
    assert len({key, *others}) == 9
    held_out = replace(dataset.splits, validation=dataset.splits.validation[1:])
    assert signal_key(teacher, views(replace(dataset, splits=held_out)), "logits") == key


def test_16_bits_are_near_32_and_have_a_key_of_their_own(tmp_path: Path) -> None:
    """On the CPU bfloat16, which has fewer bits than the float16 of GPUs."""
    positions, cpu = np.arange(BATCH), torch.device("cpu")
    plain = Labeller(make_teacher(), make_dataset(), views_in(tmp_path), batch_size=BATCH, device="cpu")
    half = replace(plain, autocast=torch.bfloat16)
    exact, rows = (labeller.live(1, positions, cpu)["logits"] for labeller in (plain, half))
    assert rows.dtype == np.float32 and np.isfinite(rows).all()
    scale = float(np.abs(exact).max())
    assert 0 < float(np.abs(rows - exact).max()) < 0.02 * scale
    stored = [Labelling(Store(tmp_path), labeller, silent).build()[0] for labeller in (plain, half)]
    assert stored[0].key != stored[1].key
    np.testing.assert_array_equal(stored[1].at(1, positions), shifted(rows).astype(np.float16))


class Threads(Network):
    """It notes how many threads torch has when it is asked."""

    def forward(self, images: Tensor) -> Tensor:
        self.seen = [*getattr(self, "seen", []), torch.get_num_threads()]
        return super().forward(images)


def test_a_teacher_labels_with_the_threads_that_were_asked_for(tmp_path: Path) -> None:
    before, network = torch.get_num_threads(), Threads()
    labeller = Labeller(
        make_teacher(network), make_dataset(), views_in(tmp_path), batch_size=BATCH, device="cpu", threads=3
    )
    Labelling(Store(tmp_path), labeller, silent).build()
    assert set(network.seen) == {3}
    assert torch.get_num_threads() == before


def test_16_bits_that_do_not_hold_the_logits_say_how_to_have_32(tmp_path: Path) -> None:
    labeller = Labeller(
        make_teacher(Broken(np.inf)), make_dataset(), views_in(tmp_path), batch_size=BATCH, device="cpu"
    )
    for autocast, told in ((None, False), (torch.bfloat16, True)):
        with pytest.raises(InputError, match="not finite") as caught:
            Labelling(Store(tmp_path), replace(labeller, autocast=autocast), silent).build()
        assert ('mixed_precision = "off"' in caught.value.fix) is told


def test_each_fold_is_labelled_by_the_teacher_that_did_not_see_it(tmp_path: Path) -> None:
    dataset = make_dataset()
    folds = folds_of(dataset, 2, seed=0)
    labels = dataset.labels[dataset.splits.train]
    counts = [np.bincount(labels[folds == fold], minlength=CLASSES) for fold in (0, 1)]
    assert np.abs(counts[0] - counts[1]).max() <= 1 and sorted(np.unique(folds)) == [0, 1]
    folds[:3] = -1
    main, others = make_teacher(), [make_teacher(Network(scale=scale), key=f"{scale}") for scale in (2.0, 3.0)]
    plain = Labeller(main, dataset, views_in(tmp_path), batch_size=BATCH, device="cpu")
    crossed = replace(plain, crossfit=Crossfit(tuple(others), folds))
    (found,) = Labelling(Store(tmp_path), crossed, silent).build()
    for fold, teacher in ((-1, main), (0, others[0]), (1, others[1])):
        (own,) = Labelling(Store(tmp_path / teacher.key), replace(plain, teacher=teacher), silent).build()
        members = np.flatnonzero(folds == fold)
        np.testing.assert_array_equal(found.at(1, members), own.at(1, members))
    assert Labelling(Store(tmp_path), plain, silent).keys != {"logits": found.key}
    shifted_folds = Crossfit(tuple(others), np.roll(folds, 1))
    assert Labelling(Store(tmp_path), replace(plain, crossfit=shifted_folds), silent).keys != {"logits": found.key}


def test_another_teacher_finds_the_views_that_are_there(tmp_path: Path) -> None:
    build(tmp_path)
    build(tmp_path, teacher=make_teacher(Network(scale=2.0), key="other weights"))
    assert {stage: count for stage, (count, _) in Store(tmp_path).usage().items()} == {"signals": 2, "views": 1}


class Broken(nn.Module):
    def __init__(self, bad: float) -> None:
        super().__init__()
        self.bad = bad

    def forward(self, images: Tensor) -> Tensor:
        logits = torch.zeros(len(images), CLASSES)
        if len(images) == BATCH:  # the last batch of a view is smaller
            logits[2, 1] = self.bad
        return logits


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_logits_that_are_not_finite_name_the_images(tmp_path: Path, bad: float) -> None:
    with pytest.raises(InputError, match="not finite") as caught:
        build(tmp_path, teacher=make_teacher(Broken(bad)))
    assert [problem.where for problem in caught.value.problems] == ["training image 67, view 0"]
    assert not list(tmp_path.glob("signal*/*/manifest.json"))


@pytest.mark.parametrize("huge", [1e6, -1e6, 3e38])
def test_logits_beyond_float16_keep_their_probabilities(tmp_path: Path, huge: float) -> None:
    found = build(tmp_path, teacher=make_teacher(Broken(huge)))
    row = torch.from_numpy(logits_of(found, 0)[2].astype(np.float32))
    expected = torch.zeros(CLASSES)
    expected[1] = huge
    assert torch.isfinite(row).all()
    torch.testing.assert_close(row.softmax(0), expected.softmax(0))


def test_a_head_for_other_classes_is_refused(tmp_path: Path) -> None:
    head = nn.Sequential(nn.Flatten(), nn.Linear(3 * 12 * 12, 7))
    with pytest.raises(InputError, match=r"shape \[8, 7\] for 8 images, not \[8, 5\]"):
        build(tmp_path, teacher=make_teacher(head))


def test_a_device_that_is_not_here_is_refused(tmp_path: Path) -> None:
    if torch.cuda.is_available():
        pytest.skip("this machine has CUDA")
    with pytest.raises(UnsupportedError, match="cuda"):
        labeller = Labeller(make_teacher(), make_dataset(), views_in(tmp_path), device="cuda")
        Labelling(Store(tmp_path), labeller, silent).build()


def test_the_header_says_what_is_inside(tmp_path: Path) -> None:
    found = build(tmp_path)
    header = json.loads((found.folder / "signal.json").read_text())
    assert header["record_bytes"] == 2 * CLASSES
    assert header["teacher_key"] == "weights"
    assert header["views"] == views_in(tmp_path).key
    assert (found.folder / "signal-0002.records").stat().st_size == TRAIN * header["record_bytes"]
    with pytest.raises(IndexError):
        views_in(tmp_path).at(VIEWS)
