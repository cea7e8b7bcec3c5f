"""``python -m tests.benchmarks``: ours against straightforward code, as a table and ``bench.json``."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import median

from rich.console import Console
from rich.table import Table

from lstmptq.runtime.kernel import choose_kernel
from lstmptq.runtime.provenance import git_sha
from tests.benchmarks import cases, many, scale, whole
from tests.benchmarks.cases import FULL, SMALL, Size
from tests.benchmarks.timing import Comparison

EVALUATORS = ("evaluator_64", "evaluator_256", "evaluator_1024")
JIT = "_jit"  # suffix: an evaluator against Brevitas' compiled modules, in a process of its own
CASES: dict[str, Callable[[Size], Comparison]] = {
    **{name: partial(cases.evaluator, int(name.split("_")[1])) for name in EVALUATORS},
    "evaluator_vs_float": cases.evaluator_vs_float,
    "scoring": cases.scoring,
    **{f"linear_{axis}": partial(cases.linear, axis) for axis in ("labels", "words", "documents")},
    "gpfq": cases.gpfq,
    "training": cases.training,
    "cell": whole.cell,
    "worker_memory": whole.worker_memory,
    "tune_overhead": whole.tune_overhead,
    "cells_20000": many.overhead,  # fewer cells at the small sizes
    "cells_20000_memory": many.memory,
    "cells_20000_files": many.files,
    "cells_20000_scan": many.scan,
    "query": scale.query,
}
NAMES = (*CASES, *(name + JIT for name in EVALUATORS))


def main() -> None:
    """Measure each case; print a table and write ``bench.json``, which grows with every case."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description=__doc__)
    parser.add_argument("--full", action="store_true", help="measure the real sizes: more than an hour")
    parser.add_argument(
        "--only",
        nargs="+",
        metavar="NAME",
        choices=NAMES,
        help=f"of {', '.join(NAMES)}",
    )
    parser.add_argument(
        "--out",
        type=Path,
        default=Path("bench.json"),
        help="default: bench.json",
    )
    options = parser.parse_args()
    warnings.filterwarnings("ignore")
    whole.one_thread()
    size, found, console = FULL if options.full else SMALL, [], Console(width=125, soft_wrap=False)
    for name in options.only or NAMES:
        try:
            found.append(_with_jit(name) if name.endswith(JIT) else CASES[name](size))
        except subprocess.CalledProcessError as problem:
            last = (problem.stderr or "no message").strip().splitlines()[-1]
            console.print(f"{name} was skipped: {last}", markup=False)
            continue
        write_rows(options.out, found)  # a run that is stopped keeps what it has measured
        console.print(f"{name}: {found[-1].ratio:.1f} x", markup=False)
    console.print(_build_table(found))
    sizes = "full" if options.full else "small"
    console.print(f"commit {git_sha()}, kernel {choose_kernel()}, one thread, {sizes} sizes")


def write_rows(path: Path, found: list[Comparison]) -> None:
    """Replace `path` by the rows of all comparisons so far, at once: a reader never sees half a file."""
    partial = path.with_name(f".{path.name}.partial")
    partial.write_text(json.dumps([comparison.row() for comparison in found], indent=1) + "\n")
    partial.replace(path)


def _with_jit(name: str) -> Comparison:
    """Run a case in a process of its own, since Brevitas decides about its JIT when it is imported."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "bench.json"
        command = [
            sys.executable,
            "-m",
            "tests.benchmarks",
            "--only",
            name.removesuffix(JIT),
            "--out",
            str(out),
        ]
        environment = os.environ | {"BREVITAS_JIT": "1"}
        subprocess.run(command, env=environment, check=True, capture_output=True, text=True)
        (row,) = json.loads(out.read_text())
    return Comparison(name, row["unit"], [tuple(run) for run in row["runs"]])


def _build_table(found: list[Comparison]) -> Table:
    table = Table(title="minimum / median / maximum; ratio = baseline / ours")
    for heading in ("name", "unit"):
        table.add_column(heading, no_wrap=True)
    for heading in ("ours", "baseline", "ratio"):
        table.add_column(heading, justify="right", no_wrap=True)
    for comparison in found:
        ours, baseline = zip(*comparison.runs, strict=True)
        ratios = [b / o for o, b in comparison.runs]
        table.add_row(
            comparison.name,
            comparison.unit,
            _format_range(ours),
            _format_range(baseline),
            _format_range(ratios, comparison.ratio),
        )
    return table


def _format_range(values: tuple[float, ...] | list[float], middle: float | None = None) -> str:
    middle = median(values) if middle is None else middle
    return " / ".join(f"{value:.3g}" for value in (min(values), middle, max(values)))


if __name__ == "__main__":
    main()
