"""The teacher's views labelled by worker processes, by two processes on one cache, with a worker killed: always the same."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

import dying
import pytest
import torch

from edgedistill.base.errors import EdgedistillError, InputError
from edgedistill.base.progress import Event, Note, StageAdvanced, StageFinished, silent
from edgedistill.base.store import Store
from edgedistill.devices.turns import measuring
from edgedistill.distill.stored.split_store import SplitStore
from edgedistill.distill.stored.views import stored_views
from edgedistill.distill.teachers.labelling import Labeller
from edgedistill.distill.teachers.making import Labelling
from edgedistill.documents.build_file import load_config
from edgedistill.documents.targets import load_target
from edgedistill.pipeline import workers
from edgedistill.pipeline.choice import use_recipe
from edgedistill.pipeline.prepare import open_bench, open_store
from edgedistill.pipeline.teacher import open_teacher
from edgedistill.pipeline.views import check_of
from edgedistill.pipeline.work import LabelItem
from edgedistill.pipeline.workbench import Place, Workbench

NULL_TARGET = Path(__file__).with_name("null.toml")
VIEWS = 4


@pytest.fixture(scope="session")
def path(loop: Any, met: Any) -> Path:
    """A build file of which the loop's cache has the teacher and no views."""
    built: Path = loop.write("labelling", "50%", ("views = 2", f"views = {VIEWS}"))
    return built


@pytest.fixture
def root(loop: Any, met: Any, tmp_path: Path) -> Path:
    """A cache that holds the fitted teacher alone."""
    shutil.copytree(loop.cache / "teacher", tmp_path / "cache" / "teacher")
    return tmp_path / "cache"


def bench_of(path: Path, root: Path, heard: list[Event] | None = None) -> Workbench:
    store = Store(root, silent if heard is None else heard.append)
    target = load_target(str(NULL_TARGET))
    bench = open_bench(load_config(path), target, store, base=path.parent, require_measured=False)
    use_recipe([bench], "kd")
    return bench


def content(stored: SplitStore) -> dict[str, bytes]:
    folders = (*(signal.folder for signal in stored.signals), stored.stored_views.folder)
    return {f.name: f.read_bytes() for folder in folders for f in folder.iterdir() if f.name != "manifest.json"}


def plain(bench: Workbench, root: Path, **options: Any) -> dict[str, bytes]:
    """What one process makes with a simple loop, in a cache of its own."""
    store = Store(root)
    views = stored_views(store, bench.dataset, bench.config.augmentation)
    labeller = Labeller(open_teacher(bench), bench.dataset, views, device="cpu", **options)
    return content(SplitStore(views, Labelling(store, labeller, silent).build()))


def done(events: list[Event]) -> Counter[tuple[str, str]]:
    return Counter((e.stage, e.key) for e in events if isinstance(e, StageFinished) and e.key and not e.reused)


@pytest.mark.parametrize("jobs", [pytest.param(1, marks=pytest.mark.slow), 2])
def test_it_is_the_same_to_the_bit_whoever_labels(path: Path, root: Path, tmp_path: Path, jobs: int) -> None:
    heard: list[Event] = []
    bench = bench_of(path, root, heard)
    with workers.Processes(jobs, heard.append) as bench.executor:
        views = open_store(bench)
    assert content(views) == plain(bench, tmp_path / "plain")
    assert Counter(stage for stage, _ in done(heard).elements()) == {"signal": VIEWS, "signals": 1, "views": 1}
    told = [event for event in heard if isinstance(event, StageAdvanced) and event.stage == "signals"]
    assert [event.done for event in told] == sorted(event.done for event in told)
    assert told[-1].done == told[-1].total == VIEWS * views.stored_views.images
    assert list(bench.store.usage()) == ["signals", "teacher", "views"], "nothing is held twice"
    assert not list((root / "signal").iterdir())


def test_the_check_asks_the_teacher_in_the_precision_of_the_labels(
    path: Path, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def label_in(autocast: torch.dtype | None) -> None:
        for module in ("prepare", "views"):
            monkeypatch.setattr(f"edgedistill.pipeline.{module}.labelling_autocast", lambda _: autocast)

    label_in(torch.bfloat16)
    bench = bench_of(path, root)
    bench.executor = dying.Here(bench)
    stored = open_store(bench)
    (same,) = check_of(bench, stored, 64).signals
    label_in(None)
    (other,) = check_of(bench, stored, 64).signals
    assert same.error_mean < other.error_mean / 3
    assert open_store(bench).key != stored.key


@pytest.mark.slow
def test_a_killed_workers_view_goes_on_elsewhere(
    path: Path, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    heard: list[Event] = []
    bench = bench_of(path, root, heard)
    heard.clear()  # what is said of the data set
    monkeypatch.setattr(workers, "do_apart", dying.label_and_die_once)
    with workers.Processes(1, heard.append) as bench.executor:
        views = open_store(bench)
    assert content(views) == plain(bench, tmp_path / "plain", batch_size=dying.BATCH)
    assert [event.text for event in heard if isinstance(event, Note) and event.warning] == [
        "the labelling of view 1: its process was ended by SIGKILL, most often out of memory; another goes on from there"
    ]
    assert views.stored_views.images == 5 * dying.BATCH
    killed, went_on, *_ = (root / "progress").read_text().split("\n0 128\n0 128\n")
    assert (killed, went_on.splitlines()[:4]) == ("0 0\n0 64", ["0 192", "0 256", "0 320", "1 0"])


@pytest.mark.slow
def test_a_view_at_which_every_worker_dies_stops_the_build(
    path: Path, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench = bench_of(path, root)
    monkeypatch.setattr(workers, "do_apart", dying.die)
    told = "the views cannot be labelled: its process was ended by SIGKILL, most often out of memory, 3 times"
    with pytest.raises(EdgedistillError, match=told) as caught, workers.Processes(2, silent) as bench.executor:
        open_store(bench)
    assert "--jobs" in caught.value.fix


@pytest.mark.slow
def test_a_worker_that_sees_another_teacher_is_refused(path: Path, root: Path) -> None:
    bench = bench_of(path, root)
    views = stored_views(bench.store, bench.dataset, bench.config.augmentation)
    item = LabelItem(
        place=Place.of(bench),
        views=views,
        view=0,
        signal_keys={"logits": "0" * 64},
    )
    with pytest.raises(InputError, match="another teacher"), workers.Processes(1, silent) as executor:
        list(executor.run([item]))


# Labels when the other process is ready to, a second a view.
BESIDE = """
import json, sys, time
from pathlib import Path
sys.path[:0] = [sys.argv[4]]
import dying
from test_shared_labelling import bench_of, done
from edgedistill.pipeline.prepare import open_store
from edgedistill.distill.stored.split_store import SplitStore
from edgedistill.distill.stored.views import stored_views
from edgedistill.distill.teachers.labelling import Labeller
path, root, own = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]
real = Labeller.label
def label(self, *arguments):
    time.sleep(1)
    real(self, *arguments)
Labeller.label = label
heard = []
bench = bench_of(path, root, heard)
(root / f"{own}.ready").touch()
while len(list(root.glob("*.ready"))) < 2:
    time.sleep(0.02)
bench.executor = dying.Here(bench)
open_store(bench)
print(json.dumps(list(done(heard).elements())))
"""


def test_two_processes_on_one_cache_share_the_views(path: Path, root: Path, tmp_path: Path) -> None:
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1"}
    here = str(Path(__file__).parent)
    running = [
        subprocess.Popen(
            [sys.executable, "-c", BESIDE, str(path), str(root), own, here],
            env=environment,
            stdout=subprocess.PIPE,
            text=True,
        )
        for own in ("one", "other")
    ]
    did = [json.loads(process.communicate(timeout=200)[0]) for process in running]
    assert all(any(stage == "signal" for stage, _ in own) for own in did), "each labelled some"
    both = Counter((stage, key) for own in did for stage, key in own)
    assert Counter(stage for stage, _ in both) == {"signal": VIEWS, "signals": 1, "views": 1}
    assert set(both.values()) == {1}, "nothing was done twice"
    bench = bench_of(path, root)
    bench.executor = dying.Here(bench)
    assert content(open_store(bench)) == plain(bench, tmp_path / "plain")


@pytest.mark.slow
def test_no_worker_labels_while_something_is_measured(
    path: Path, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    bench = bench_of(path, root)
    open_teacher(bench)
    bench.executor = workers.Processes(1, silent)
    labelling = threading.Thread(target=open_store, args=(bench,))
    with measuring(silent):
        labelling.start()
        while not list(root.glob("signal/*.part")):
            assert labelling.is_alive()
            time.sleep(0.05)
        time.sleep(1)
        assert not [file for part in root.glob("signal/*.part") for file in part.iterdir()]
    labelling.join(timeout=200)
    assert len(list(root.glob("signals/*/*.records"))) == VIEWS
    bench.executor.__exit__()
