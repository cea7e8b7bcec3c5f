"""Sweeps of very many cells that compute nothing: the cost of the driver, Tune and the store per cell.

``python -m tests.benchmarks.many CELLS OUT`` runs one sweep through the ``main`` of ``full_grid.py`` and
prints JSON.
"""

from __future__ import annotations

import json
import math
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.benchmarks.timing import Comparison

if TYPE_CHECKING:  # the module imports torch, and the driver of a sweep does not
    from tests.benchmarks.cases import Size

ROOT = Path(__file__).resolve().parents[2]
FIRST = 1_000  # cells of the sweep that is compared with
CELLS_A_SEED = 200
WORKERS = 2


@dataclass(frozen=True, slots=True)
class Many:
    """The measurements of one sweep."""

    seconds: float  # from the first stored cells to the last
    stored: int  # cells stored in that time
    first_mib: float  # memory of the driver when FIRST cells were stored
    last_mib: float  # highest memory of the driver after that
    files: int  # files of the table that has most
    scan_seconds: float  # time to read all of `cells` with Polars


def overhead(size: Size) -> Comparison:
    """Measure the milliseconds per cell of the long sweep, against 1,000 cells; Ray's start is left out."""
    long, short = measure(size.many_cells), measure(FIRST)
    both = (1e3 * long.seconds / long.stored, 1e3 * short.seconds / short.stored)
    return Comparison(f"cells_{size.many_cells}", "ms/cell", [both])


def memory(size: Size) -> Comparison:
    """Measure the driver's highest resident memory, against its memory after the first 1,000 cells."""
    long = measure(size.many_cells)
    return Comparison(f"cells_{size.many_cells}_memory", "MiB", [(long.last_mib, long.first_mib)])


def files(size: Size) -> Comparison:
    """Count the files per table, against one for every 64 cells."""
    count = measure(size.many_cells).files
    return Comparison(f"cells_{size.many_cells}_files", "files", [(count, math.ceil(size.many_cells / 64))])


def scan(size: Size) -> Comparison:
    """Measure the seconds to read all rows with `pl.scan_parquet`, against the one second that is allowed."""
    return Comparison(f"cells_{size.many_cells}_scan", "s", [(measure(size.many_cells).scan_seconds, 1.0)])


@cache
def measure(cells: int) -> Many:
    """Run a sweep of `cells` cells in a process of its own."""
    with tempfile.TemporaryDirectory() as name:
        command = [sys.executable, "-m", "tests.benchmarks.many", str(cells), str(Path(name, "out"))]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    return Many(**json.loads(done.stdout.splitlines()[-1]))


def main(cells: int, out: Path) -> None:
    """Run one sweep in this process and print its measurements."""
    from ray import cloudpickle

    from lstmptq.results import FinishedCell
    from sweeps import full_grid
    from sweeps.options import parse
    from sweeps.store.writer import ResultStore
    from tests.sweeps import fake_study

    seen: list[tuple[float, int, float]] = []  # time, cells stored, memory
    extend = ResultStore.extend

    def watched(store: ResultStore, cells: Iterable[FinishedCell]) -> None:
        extend(store, cells)
        seen.append((time.monotonic(), len(store.index), _resident_mib()))

    ResultStore.extend = watched  # type: ignore[method-assign]
    cloudpickle.register_pickle_by_value(fake_study)  # the workers cannot import the tests
    seeds = [str(seed) for seed in range(-(-cells // CELLS_A_SEED))]
    line = ["--embeddings", "glove", "--seeds", *seeds, "--samples", str(cells), "--workers", str(WORKERS)]
    line += ["--out", str(out)]
    fake_study.find_trained(out / "artifacts", parse(line).grid())
    code = full_grid.main(line, fake_study.FakeStudy)
    print(json.dumps(_summary(code, cells, seen, out)))


def _summary(code: int, cells: int, seen: list[tuple[float, int, float]], out: Path) -> dict[str, Any]:
    import polars as pl

    started = time.perf_counter()
    rows = pl.scan_parquet(out / "cells" / "*.parquet").collect()
    scan_seconds = time.perf_counter() - started
    if code or len(rows) != cells or rows["cell_id"].n_unique() != cells:
        raise AssertionError(f"exit code {code}, {len(rows)} rows of {cells} cells")
    first = next((mib for _, stored, mib in seen if stored >= FIRST), seen[-1][2])
    for now, stored, mib in seen[:: max(1, len(seen) // 20)]:
        print(f"{stored} cells after {now - seen[0][0]:.1f} s: {mib:.0f} MiB")
    return {
        "seconds": seen[-1][0] - seen[0][0],
        "stored": seen[-1][1] - seen[0][1],
        "first_mib": first,
        "last_mib": max(mib for _, stored, mib in seen if stored >= min(FIRST, cells)),
        "files": max(len(list((out / name).iterdir())) for name in ("cells", "tensors", "predictions")),
        "scan_seconds": scan_seconds,
    }


def _resident_mib() -> float:
    status = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in status if line.startswith("VmRSS:")).split()[1]) / 1024


if __name__ == "__main__":
    main(int(sys.argv[1]), Path(sys.argv[2]))
