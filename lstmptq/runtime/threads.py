"""One thread, whatever the process has: the order of a sum, so its last digit, depends on their number."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

import torch
from threadpoolctl import ThreadpoolController


@contextmanager
def one_thread() -> Iterator[None]:
    """A context in which torch and NumPy's BLAS add on one thread; afterwards they have as many as before."""
    before = torch.get_num_threads()
    with _libraries().limit(limits=1, user_api="blas"):
        torch.set_num_threads(1)
        try:
            yield
        finally:
            torch.set_num_threads(before)


@cache
def _libraries() -> ThreadpoolController:
    """Those with threads that are loaded; looking for them takes 6 ms."""
    return ThreadpoolController()
