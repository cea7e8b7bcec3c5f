"""The analysis at a million cells: ``python -m tests.benchmarks.scale --out DIR`` (some 5 GB on disk).

Writes the directory if it does not exist, runs each command in a process of its own, and prints its seconds
and its peak memory beside the limits.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow.parquet as pq
from rich.console import Console
from rich.table import Table

from analysis.frames.query import run_query
from analysis.frames.reading import load
from tests.benchmarks.synthetic import CELLS_A_FILE, write_synthetic
from tests.benchmarks.timing import Comparison, alternate

if TYPE_CHECKING:
    from tests.benchmarks.cases import Size

ROOT = Path(__file__).resolve().parents[2]
MEMORY = 2048  # MiB
LOADED = """
import sys, time
from analysis.frames.query import run_query
from analysis.frames.reading import load
started = time.perf_counter()
results = load(sys.argv[1])
loaded = time.perf_counter()
answer = run_query(results, sys.argv[2])
print(f"{loaded - started:.3f} {time.perf_counter() - loaded:.3f}")
"""
REPORT = """
import sys, time
from pathlib import Path
from analysis.page.report import write_report
started = time.perf_counter()
write_report(Path(sys.argv[1]), Path(sys.argv[2]))
print(f"0 {time.perf_counter() - started:.3f}")
"""
PEAK = """
from pathlib import Path
status = Path("/proc/self/status").read_text().splitlines()
print(int(next(line for line in status if line.startswith("VmHWM:")).split()[1]) / 1024)
"""
CELLS_SQL = (
    "SELECT model, bits, class_ratio, AVG(accuracy) AS accuracy, COUNT(*) AS n FROM cells "
    "GROUP BY model, bits, class_ratio"
)
TENSORS_SQL = (
    "SELECT tensor, contrast, AVG(ks_d_dithered) AS d, COUNT(*) AS n FROM tensors GROUP BY tensor, contrast"
)


def main() -> None:
    """Write the results, measure each command and print the table."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.scale", description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="directory of the made-up results")
    parser.add_argument("--cells", type=int, default=1_000_000)
    parser.add_argument("--tensors", type=int, default=50, help="rows of tensors per cell")
    parser.add_argument("--cells-a-file", type=int, default=CELLS_A_FILE)
    options = parser.parse_args()
    console = Console(width=110)
    if not (options.out / "sweep.json").exists():
        started = time.perf_counter()
        write_synthetic(options.out, options.cells, options.tensors, options.cells_a_file)
        console.print(f"written in {time.perf_counter() - started:.0f} s")
    table = Table(title=f"{options.cells:,} cells, {options.tensors} rows of tensors each")
    for heading in ("command", "load, s", "answer, s", "limit, s", "peak, MiB", "limit, MiB"):
        table.add_column(heading, justify="left" if heading == "command" else "right")
    page = options.out / "report.html"
    for name, code, argument, bar in (
        ("grouped query over cells", LOADED, CELLS_SQL, 2),
        ("grouped query over tensors", LOADED, TENSORS_SQL, 10),
        ("report", REPORT, str(page), 120),
    ):
        loaded, then, peak = _run(code, options.out, argument)
        table.add_row(name, f"{loaded:.2f}", f"{then:.2f}", str(bar), f"{peak:.0f}", str(MEMORY))
    console.print(table)
    console.print(f"the page has {page.stat().st_size / 1e6:.1f} MB")


def query(size: Size) -> Comparison:
    """Measure a grouped query over `tensors`, ours against reading the whole table and grouping it."""
    with tempfile.TemporaryDirectory() as name:
        out = Path(name)
        write_synthetic(out, size.query_cells)

        def ours() -> None:
            run_query(load(out), TENSORS_SQL)

        def whole_table() -> None:
            table = pq.read_table(out / "tensors")
            table.group_by(["tensor", "contrast"]).aggregate(
                [("ks_d_dithered", "mean"), ("cell_id", "count")]
            )

        return alternate("query", ours, whole_table, min(size.runs, 3))


def _run(code: str, out: Path, argument: str) -> tuple[float, float, float]:
    command = [sys.executable, "-c", code + PEAK, str(out), argument]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    times, peak = done.stdout.strip().splitlines()[-2:]
    loaded, then = map(float, times.split())
    return loaded, then, float(peak)


if __name__ == "__main__":
    main()
