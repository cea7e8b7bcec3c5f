"""Many cells: what the driver keeps of each, in bytes that Python and Arrow count themselves."""

from __future__ import annotations

import dataclasses
import gc
import io
import tracemalloc
from pathlib import Path

import polars as pl
import pyarrow as pa
import pytest
from rich.console import Console

from sweeps.planning.plan import make_plan
from sweeps.running.phase import Phase
from sweeps.running.progress import SweepProgress
from sweeps.running.watch import CellWatch, Job
from sweeps.storage.directory import Directory
from sweeps.store.writer import open_store
from tests.sweeps.fake_study import GRID, FakeStudy
from tests.sweeps.store.stored import finished, write_without_sync

# The driver holds about 220 MiB; 10 % of that shared by 19,000 cells, the first thousand of 20,000 left out.
BYTES_A_CELL = 1_000
ARROW_BYTES = 2**22  # one chunk of rows, whatever the number of cells


@pytest.mark.slow
def test_the_driver_keeps_little_of_a_cell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From job to job: reports taken, rows stored, segments published; see the benchmarks for 20,000."""
    monkeypatch.setattr(Directory, "write", write_without_sync)
    plan = make_plan(FakeStudy(dataclasses.replace(GRID, seeds=tuple(range(50)))), set(), {})
    kept: list[tuple[int, int]] = []
    with open_store(tmp_path, GRID, "") as store:
        phase = Phase("cells", plan.kinds, 2, plan.planned)
        progress = SweepProgress(Console(file=io.StringIO()))
        watch = CellWatch([Job(trial) for trial in plan.trials], store, phase, progress, FakeStudy())
        arrow = pa.total_allocated_bytes()
        tracemalloc.start()
        for job, trial in enumerate(plan.trials):
            cells = [finished(cell) for cell in trial]
            watch.take(job, {"cells": cells, "done": True, "seconds": 0.1})
            if job % 100 == 99:
                del cells
                gc.collect()
                kept.append((phase.done, tracemalloc.get_traced_memory()[0]))
                assert pa.total_allocated_bytes() - arrow < ARROW_BYTES
        tracemalloc.stop()
    assert phase.done == plan.planned == 1400
    (first, before), (last, after) = kept[0], kept[-1]
    assert last - first > 800
    assert (after - before) / (last - first) < BYTES_A_CELL
    assert len(pl.scan_parquet(tmp_path / "cells" / "*.parquet").collect()) == 1400
    assert len(list((tmp_path / "cells").iterdir())) <= 2 + 1400 // 64
