"""The processes that train one network together: fresh ones, which stay for the next call and end with this process.

`accelerate` gives each its GPU and sums tensors over all of them. They meet by a file and speak over the loopback interface.
"""

from __future__ import annotations

import atexit
import os
import pickle
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache, partial
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any, Final

import torch

from edgedistill.base.errors import InputError, TrialFailure, UnsupportedError, first_line
from edgedistill.base.isolation import ChildBug
from edgedistill.base.processes import Worker, WorkerDied
from edgedistill.base.progress import Listener, silent
from edgedistill.distill.ranks import Rank

_PEER_S: Final = 5.0
"""After a process raised something unforeseen: so long may pass until another one, whose death is the cause, is found."""


def require_parts(images: int, count: int) -> None:
    """Raises InputError where a batch of so many images has not one for each of `count` processes."""
    if images < count:
        raise InputError(
            f"a batch of {images} images has none for some of {count} processes",
            fix="lower [train] processes, or raise batch_size",
        )


def on_ranks(
    count: int, device: torch.device, function: Callable[..., None], arguments: tuple[Any, ...], listener: Listener
) -> None:
    """Call `function(rank, *arguments, tell)` in `count` processes, each with its Rank, on GPUs where `device` is one.
    `listener` hears what the first of them tells. The processes are fresh ones, stay for the next call, and end with this
    one. They share this process' number of threads.

    Raises TrialFailure where one of them dies, UnsupportedError for arguments that cannot be pickled, and what one of them
    raises; the others are ended then.
    """
    started = _started(count, device.type)
    threads = max(1, torch.get_num_threads() // count)
    with _sendable():
        # As bytes: a connection would share the memory of tensors, which only processes of multiprocessing's own can.
        content = pickle.dumps(arguments)
    try:
        for number, worker in enumerate(started.workers):
            worker.begin(_work, _Seat(number, count, started.file, device.type), threads, function, content)
        _listen(started.workers, listener)
    except BaseException:
        _end()
        raise


@contextmanager
def _sendable() -> Iterator[None]:
    """Raises UnsupportedError for what cannot be pickled: a network may be made of anything."""
    try:
        yield
    except Exception as error:  # pickling runs code of whatever it is given
        raise UnsupportedError(
            f"the network cannot be handed to several processes: {first_line(error)}", fix="set [train] processes = 1"
        ) from error


@dataclass(frozen=True)
class _Seat:
    """Which of `count` processes one is, and the `file` by which they meet."""

    number: int
    count: int
    file: Path
    device: str


@dataclass(frozen=True, eq=False)
class _Started:
    workers: list[Worker]
    device: str
    folder: tempfile.TemporaryDirectory[str] = field(default_factory=tempfile.TemporaryDirectory)

    @property
    def file(self) -> Path:
        return Path(self.folder.name) / "meeting"


_kept: list[_Started] = []


def _started(count: int, device: str) -> _Started:
    """Those of the last call, where they are as many and meet over the backend of that device."""
    if not _kept or (len(_kept[0].workers), _kept[0].device) != (count, device):
        _end()
        _kept.append(_Started([Worker() for _ in range(count)], device))
        # All at once: of two that a group joins, the one that outlives the other complains.
        atexit.register(_end)
    return _kept[0]


def _end() -> None:
    atexit.unregister(_end)
    for started in _kept:
        for worker in started.workers:
            worker.end(0.0)
        started.folder.cleanup()
    _kept.clear()


def _listen(workers: Iterable[Worker], listener: Listener) -> None:
    """Until all have answered."""
    waiting, bug = {worker.connection: worker for worker in workers}, None
    count = len(waiting)
    while waiting:
        ready = wait(list(waiting), None if bug is None else _PEER_S)
        if not ready:
            break
        for connection in ready:
            assert isinstance(connection, Connection)
            try:
                event, _ = waiting[connection].heard()
            except WorkerDied as death:
                raise TrialFailure(
                    f"of {count} processes that train together, one was lost: {death}",
                    fix="see what ended it, most often memory: lower [train] batch_size or processes",
                ) from None
            except ChildBug as error:
                event, bug = None, bug or error
            if event is None:
                del waiting[connection]
            else:
                listener(event)
    if bug is not None:
        raise bug


# -- one of the processes -------------------------------------------------------------------------------------------


def _work(seat: _Seat, threads: int, function: Callable[..., None], content: bytes, tell: Listener) -> None:
    os.environ["OMP_NUM_THREADS"] = str(threads)  # else accelerate sets a number of its own
    torch.set_num_threads(threads)
    with _sendable():
        arguments = pickle.loads(content)
    rank = _joined(seat)
    try:
        function(rank, *arguments, tell if rank.first else silent)
    finally:
        torch.cuda.empty_cache()  # until the next call others label, convert and measure on these GPUs


@cache
def _joined(seat: _Seat) -> Rank:
    """This process' Rank, once all have met. Raises UnsupportedError where they cannot speak to one another."""
    from accelerate import Accelerator
    from accelerate.utils import check_cuda_p2p_ib_support

    for name in [name for name in os.environ if name.startswith("ACCELERATE_")]:
        del os.environ[name]  # how the user's other programs are launched
    loopback = "lo0" if sys.platform == "darwin" else "lo"
    number, count = str(seat.number), str(seat.count)
    os.environ |= {"RANK": number, "LOCAL_RANK": number, "WORLD_SIZE": count, "LOCAL_WORLD_SIZE": count}
    os.environ |= {"GLOO_SOCKET_IFNAME": loopback, "NCCL_SOCKET_IFNAME": f"={loopback}", "MASTER_ADDR": "127.0.0.1"}
    cpu = seat.device == "cpu"
    backend, meeting = "gloo" if cpu else "nccl", f"file://{seat.file}"
    # Accelerator refuses such GPUs unless this is set, as its own launcher does.
    if not cpu and not check_cuda_p2p_ib_support():
        os.environ |= {"NCCL_P2P_DISABLE": "1", "NCCL_IB_DISABLE": "1"}
    try:
        torch.distributed.init_process_group(backend, init_method=meeting, rank=seat.number, world_size=seat.count)
        accelerator = Accelerator(cpu=cpu, mixed_precision="no")
        # NCCL connects at the first sum: here, where what keeps it from that is told apart from a training's own errors.
        accelerator.reduce(torch.zeros(1, device=accelerator.device))
    except RuntimeError as error:
        raise UnsupportedError(
            f"[train] processes = {seat.count}: they cannot speak to one another over {backend}: {first_line(error)}",
            fix="set processes = 1"
            + ("" if cpu else ", or see what hinders them with NCCL_DEBUG=INFO in the environment"),
        ) from error
    return Rank(seat.number, seat.count, partial(accelerator.reduce, reduction="sum"))
