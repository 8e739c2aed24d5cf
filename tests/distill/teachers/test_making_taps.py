from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from toy_teacher import (
    BATCH,
    TRAIN,
    VIEWS,
    assert_same,
    build,
    deep,
    make_dataset,
    make_teacher,
    views_in,
)

from edgedistill.base.errors import InputError
from edgedistill.base.progress import Event, StageAdvanced, silent
from edgedistill.base.store import Store
from edgedistill.data.views import render_batch
from edgedistill.distill.stored.signals import StoredSignal
from edgedistill.distill.teachers.labelling import Labeller
from edgedistill.distill.teachers.making import Labelling


def test_another_tap_is_a_signal_of_its_own_beside_the_same_views(tmp_path: Path) -> None:
    build(tmp_path)
    labeller = Labeller(make_teacher(deep()), make_dataset(), views_in(tmp_path), ("features",), BATCH, "cpu")
    (found,) = Labelling(Store(tmp_path), labeller, silent).build()
    assert {stage: count for stage, (count, _) in Store(tmp_path).usage().items()} == {"signals": 2, "views": 1}
    opened = StoredSignal.open(found.folder)
    assert opened == found and (opened.tap, opened.encoding.width) == ("features", 7)
    dataset, teacher = make_dataset(), make_teacher(deep())
    views, positions = views_in(tmp_path).at(1), np.arange(TRAIN)
    batch = render_batch(dataset.images, dataset.splits.train, views, positions, teacher.contract)
    with torch.inference_mode():
        live = deep()[:3](torch.from_numpy(batch).float()).numpy()
    np.testing.assert_allclose(found.at(1, positions), live, atol=0.006 * float(np.abs(live).max()))


def both_taps(root: Path, network: nn.Module, listener: Callable[[Event], None] = silent) -> tuple[StoredSignal, ...]:
    labeller = Labeller(
        make_teacher(network),
        make_dataset(),
        views_in(root),
        ("logits", "features"),
        batch_size=BATCH,
        device="cpu",
        commit_seconds=0,
    )
    return Labelling(Store(root, listener), labeller, listener).build()


def counted(network: nn.Module) -> list[int]:
    calls: list[int] = []
    network.register_forward_hook(lambda module, given, output: calls.append(len(output)))
    return calls


def test_one_pass_of_the_teacher_fills_all_taps_as_passes_of_their_own_do(tmp_path: Path) -> None:
    network = deep()
    calls = counted(network)
    made = both_taps(tmp_path / "a", network)
    assert [signal.tap for signal in made] == ["logits", "features"]
    assert sum(calls) == VIEWS * TRAIN + 1, "and one look at the width"
    (apart,) = Labelling(
        Store(tmp_path / "b"),
        Labeller(make_teacher(deep()), make_dataset(), views_in(tmp_path / "b"), ("features",), BATCH, "cpu"),
        silent,
    ).build()
    assert_same(made[0], build(tmp_path / "b", teacher=make_teacher(deep())))
    assert_same(made[1], apart)
    assert not list((tmp_path / "a" / "signal").iterdir())


def test_only_the_taps_that_are_missing_are_made(tmp_path: Path) -> None:
    first = build(tmp_path, teacher=make_teacher(deep()))
    written = (first.folder / "signal-0000.records").stat()
    made = both_taps(tmp_path, deep())
    assert made[0] == first
    assert (first.folder / "signal-0000.records").stat() == written
    assert_same(made[1], both_taps(tmp_path / "b", deep())[1])


@pytest.mark.parametrize("shorter", [0, 1])
def test_what_a_kill_leaves_of_several_taps_goes_on_for_all_of_them(tmp_path: Path, shorter: int) -> None:
    def interrupt(event: Event) -> None:
        if isinstance(event, StageAdvanced) and event.done >= TRAIN + 3 * BATCH:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        both_taps(tmp_path / "a", deep(), interrupt)
    growing = sorted((tmp_path / "a" / "signal").glob("*.part/*.records"))
    assert [path.name for path in growing] == ["0-signal-0001.records", "1-signal-0001.records"]
    for number, path in enumerate(growing):
        if number == shorter:
            path.write_bytes(path.read_bytes()[:30])
        else:
            path.write_bytes(path.read_bytes() + b"half a record")
    for one, other in zip(both_taps(tmp_path / "a", deep()), both_taps(tmp_path / "b", deep()), strict=True):
        assert_same(one, other)


def test_a_tap_that_the_teacher_does_not_have_is_told_before_it_is_asked(tmp_path: Path) -> None:
    teacher = make_teacher(deep())
    labeller = Labeller(teacher, make_dataset(), views_in(tmp_path), ("blocks.3",), BATCH, "cpu")
    with pytest.raises(InputError, match=r"no module 'blocks\.3'"):
        Labelling(Store(tmp_path), labeller, silent).build()
