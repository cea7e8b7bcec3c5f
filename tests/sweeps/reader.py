"""Someone who looks at a running sweep, in a process that imports Polars alone and so starts soon."""

from __future__ import annotations

import time
from multiprocessing.queues import Queue
from multiprocessing.sharedctypes import Synchronized
from multiprocessing.synchronize import Event
from pathlib import Path

import polars as pl


def read_over_and_over(out: Path, stop: Event, count: Synchronized[int], problems: Queue[str | None]) -> None:
    """Read until told to stop, counting the reads; puts what went wrong, or None."""
    last = 0
    try:
        while not stop.is_set():
            frame = pl.scan_parquet(out / "cells" / "*.parquet")
            frame.collect_schema()
            time.sleep(0.005)  # a lazy frame may be collected later than it was made
            found = frame.select("cell_id", "accuracy").collect()
            tensors = pl.scan_parquet(out / "tensors" / "*.parquet").collect()
            assert found["cell_id"].is_unique().all(), "a row twice"
            assert len(found) >= last, "rows went away"
            assert (tensors.group_by("cell_id").len()["len"] == 2).all(), "tensors missing or twice"
            predictions = pl.scan_parquet(out / "predictions" / "*.parquet").collect()
            assert set(found["cell_id"]) <= set(predictions["cell_id"]), "a row before its predictions"
            assert set(found["cell_id"]) <= set(tensors["cell_id"]), "a row before its tensors"
            last = len(found)
            count.value += 1
    except BaseException as problem:  # Polars panics are no Exceptions
        problems.put(repr(problem))
    else:
        problems.put(None)
