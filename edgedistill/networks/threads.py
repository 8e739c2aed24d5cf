"""torch's threads on the CPU for a while."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def own_threads(count: int | None = None) -> Iterator[None]:
    """A context with `count` threads of torch, or as many as before; after it there are as many as before, whatever was
    done in it."""
    before = torch.get_num_threads()
    try:
        if count is not None:
            torch.set_num_threads(count)
        yield
    finally:
        torch.set_num_threads(before)
