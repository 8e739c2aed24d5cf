"""Work items done on a Ray cluster."""

from __future__ import annotations

import atexit
import importlib.util
import os
import socket
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Self

from edgedistill.base.errors import (
    EdgedistillError,
    InputError,
    MissingDependencyError,
    TrialFailure,
    UnreachableError,
    first_line,
)
from edgedistill.base.processes import Worker, WorkerDied
from edgedistill.base.progress import Event, Listener
from edgedistill.pipeline.workbench import Made, Result, WorkItem
from edgedistill.pipeline.workers import MOST_DEATHS, do_apart

_CONNECT_S: Final = 5.0
_LEAVE_S: Final = 30.0


@dataclass(eq=False)
class OnRay:
    """Work items on a Ray cluster: that which `RAY_ADDRESS` names, else one of this machine, which ends with the batch. All
    nodes see the cache, the data and the teacher's files under the same paths. An item whose worker is lost is done again
    elsewhere.

    Ray's client lives in a process of its own, begun for the batch: it has threads, and beside threads no child can safely
    be forked, as converters are (edgedistill/base/isolation.py). In one process a build would hang now and then."""

    listener: Listener

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *raised: object) -> None:
        """Nothing outlives a batch."""

    def run(self, items: Sequence[WorkItem[Made]]) -> Iterator[tuple[int, Result[Made]]]:
        client = Worker()
        try:
            client.call(begin, items)
            for _ in items:
                number, result, told = client.call(next_done)
                for event in told:
                    self.listener(event)
                yield number, result
        except WorkerDied:
            raise UnreachableError(
                "the client of Ray died",
                fix="see what ended it, most often memory; the same command goes on from there",
            ) from None
        except KeyboardInterrupt:
            client.interrupt()
            raise
        finally:
            client.end(_LEAVE_S)


def check_ray(processes: int) -> None:
    """Raises InputError where one student is to be trained by several `processes`, MissingDependencyError where Ray is not
    installed, UnreachableError where nothing listens at `RAY_ADDRESS`: Ray itself would try for minutes, and a build for as
    long as its teacher takes before that."""
    if processes > 1:
        # An item asks for one processor of the cluster, which knows nothing of the processes that it begins.
        raise InputError(
            f"[train] processes = {processes} and --executor ray are both there",
            fix="leave one of both out: Ray trains a student in each of its processes",
        )
    if importlib.util.find_spec("ray") is None:
        raise MissingDependencyError(
            "Ray is not installed", fix="pip install 'edgedistill[ray]', or leave --executor out"
        )
    address = os.environ.get("RAY_ADDRESS", "")
    host, colon, port = address.removeprefix("ray://").rpartition(":")
    if not colon or not port.isdecimal():
        return  # "auto" and "local", which Ray understands, or nothing
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=_CONNECT_S).close()
    except (OSError, OverflowError) as error:
        raise UnreachableError(
            f"the Ray cluster {address} does not answer: {error}", fix="check RAY_ADDRESS, or leave --executor out"
        ) from None


# -- in the process of Ray's client --------------------------------------------------------------------------------

_waiting: dict[Any, tuple[int, str]] = {}
"""The items under way: Ray's references to their results, with number and label."""


def begin(items: Sequence[WorkItem[Any]], tell: Listener) -> None:
    """Hand the items to the cluster, for one CPU each. Raises UnreachableError where it does not take them."""
    import ray

    # Ray's native code writes what it notices to whatever stdout is; that belongs to the build's result.
    with Path(os.devnull).open("wb") as nowhere:
        os.dup2(nowhere.fileno(), 1)
        os.dup2(nowhere.fileno(), 2)
    try:
        ray.init(log_to_driver=False, include_dashboard=False, configure_logging=False)
    except (ConnectionError, RuntimeError, ValueError) as error:
        raise UnreachableError(
            f"Ray could not be used: {first_line(error)}", fix="check RAY_ADDRESS, or leave --executor out"
        ) from None
    remote: Callable[..., Any] = ray.remote(num_cpus=1, max_retries=MOST_DEATHS)(_on_a_node).remote
    atexit.register(_leave)
    _waiting.update({remote(item): (number, item.label) for number, item in enumerate(items)})


def _on_a_node(item: WorkItem[Any]) -> tuple[Result[Any], list[Event]]:
    told: list[Event] = []
    return do_apart(item, 1, False, told.append), told


def next_done(tell: Listener) -> tuple[int, Result[Any], list[Event]]:
    """The next item that ends, by its number, with what became of it and what there is to tell."""
    import ray

    (ready, *_), _ = ray.wait(list(_waiting), num_returns=1)
    number, label = _waiting.pop(ready)
    try:
        result, told = ray.get(ready)
    except (ray.exceptions.WorkerCrashedError, ray.exceptions.NodeDiedError, ray.exceptions.OutOfMemoryError):
        return number, TrialFailure(f"{MOST_DEATHS + 1} workers were lost at {label}"), []
    except ray.exceptions.RayTaskError as error:
        if isinstance(error.cause, EdgedistillError):
            raise error.cause from None
        # Ray makes a class of its own for each, which cannot be handed to the build's process.
        raise RuntimeError(f"{label} failed on Ray:\n{error}") from None
    return number, result, told


def _leave() -> None:
    """Begin no further item, and leave the cluster."""
    import ray

    for unwanted in _waiting:
        ray.cancel(unwanted)
    ray.shutdown()
