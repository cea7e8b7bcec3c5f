"""Sums on one thread: the order of a sum, and so its last digit, depends on the number of threads."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

import torch
from threadpoolctl import ThreadpoolController


@contextmanager
def one_thread() -> Iterator[None]:
    """Limit torch and NumPy's BLAS to one thread within this context, then restore their threads."""
    before = torch.get_num_threads()
    with _libraries().limit(limits=1, user_api="blas"):
        torch.set_num_threads(1)
        try:
            yield
        finally:
            torch.set_num_threads(before)


@cache
def _libraries() -> ThreadpoolController:
    """Find the loaded libraries that use threads, once, since that takes 6 ms."""
    return ThreadpoolController()
