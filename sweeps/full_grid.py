"""The whole grid as a command: ``python sweeps/full_grid.py --help``."""

from __future__ import annotations

import os
import shlex
import shutil
import sys
import warnings
from collections.abc import Sequence
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from lstmptq.cells import Grid
from lstmptq.kernel import VARIABLE
from lstmptq.places import Place, below, is_uri
from sweeps import record, store
from sweeps.detached import DETACHED, answers_here
from sweeps.estimate import estimate, known_timings
from sweeps.files import UserError
from sweeps.heartbeat import Heartbeat
from sweeps.logs import paths_of_logs
from sweeps.options import SweepConfig, parse
from sweeps.plan import Plan, describe, make_plan, print_failed
from sweeps.samples import Sample, count_cells, wanted_cells
from sweeps.shelves import Shelf
from sweeps.storage import open_storage, user_place
from sweeps.tokens import use_token

if TYPE_CHECKING:
    from sweeps.workers import Work

INTERRUPTED = 130  # the shell's exit code after Ctrl-C


def main(arguments: Sequence[str] | None = None, work: Work | None = None) -> int:
    """Run the command.

    Args:
        arguments: the command line without the program; None takes ``sys.argv``.
        work: the functions that do the work; None takes the study's.

    Returns:
        The exit code: 0, or 1 if a cell failed, 2 if the user has to change something, 130 after Ctrl-C.
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    try:
        return sweep(parse(given), given, work)
    except UserError as problem:
        print(f"error: {problem}", file=sys.stderr)
        return 2


def sweep(config: SweepConfig, given: Sequence[str], work: Work | None = None) -> int:
    """Plan and run what `config` asks for; see :func:`main` for the exit code."""
    if config.status is not None:
        from sweeps.status import print_status

        print_status(config.status, Console(soft_wrap=True))
        return 0
    grid, sample = config.grid(), config.sample()
    corpora = "+".join(dict.fromkeys(source.name for source in grid.datasets))
    out = user_place(config.out or str(Path("results", corpora)))
    artifacts = user_place(config.artifacts or str(below(out, "artifacts")))
    workers = config.workers or len(os.sched_getaffinity(0))
    console = Console(soft_wrap=True)
    if sample is not None and sample.count > (whole := count_cells(grid, None)):
        console.print(
            f"--samples {sample.count}: the grid has {whole} cells, all of them are taken", highlight=False
        )
    if config.dry_run:
        _describe(config, grid, out, artifacts, workers, console, work)
        return 0
    if config.down and not config.cluster:
        return _take_down(config, out, console)
    if config.cluster and not answers_here():
        return _run_from_outside(config, given, grid, out, console)
    command = shlex.join(["python", "sweeps/full_grid.py", *given])
    with store.open_store(out, grid, command, not config.no_predictions, sample) as results:
        plan = _plan(config, grid, results.index)
        results.discard(plan.retried)
        others = (len(results.finished()) - plan.done, len(results.failed()) - len(plan.failed))
        state = f"{plan.planned} cells: {plan.done} done, {len(plan.failed)} failed, {plan.left} left"
        console.print(f"{state}; results in {out}", highlight=False)
        try:
            with Heartbeat(results.out, plan, others, command) as heartbeat:
                _run(plan, results, config, artifacts, workers, console, work, heartbeat)
        except KeyboardInterrupt:
            results.publish()
            stored = len(results.finished())
            go_on = shlex.join([*program(), *given])
            console.print(
                f"\nstopped; {stored} finished cells are stored. To go on: {go_on}", highlight=False
            )
            return INTERRUPTED
        failed = _failed(grid, sample, results.index)
    if DETACHED not in os.environ:
        _conclude(out, _grow(config, grid, given), failed, console)
    return 1 if failed else 0


def _run_from_outside(
    config: SweepConfig, given: Sequence[str], grid: Grid, out: Place, console: Console
) -> int:
    """Run on a cluster that this machine is not part of, unless nothing is left to run."""
    from sweeps.remote import run_from_outside, take_down

    plan = _plan(config, grid, store.read_index(out))
    try:
        if plan.trials:
            run_from_outside(config, grid, out, console)
        else:
            console.print(f"{plan.planned} cells: none left to run; results in {out}", highlight=False)
        failed = _failed(grid, config.sample(), store.read_index(out))
        _conclude(out, _grow(config, grid, given), failed, console)
        if config.down:
            take_down(config, out, console)
    except KeyboardInterrupt:
        return INTERRUPTED
    return 1 if failed else 0


def _take_down(config: SweepConfig, out: Place, console: Console) -> int:
    """``--down`` alone."""
    from sweeps.remote import take_down

    if replace(config, down=False, cluster_config="") != replace(SweepConfig(), cluster_config=""):
        raise UserError("--down needs --cluster, or stands alone (but for --cluster-config)")
    return take_down(config, out.parent if isinstance(out, Path) else out, console, alone=True)


def _failed(grid: Grid, sample: Sample | None, index: dict[str, store.StoredCell]) -> dict[str, str]:
    """The failed cells of what is asked for, and why; others may be of an earlier, larger grid."""
    failed = store.failed_cells(index)
    if not failed:
        return {}
    planned = {cell.cell_id for cell in wanted_cells(grid, sample)}
    return {cell_id: why for cell_id, why in failed.items() if cell_id in planned}


def _plan(config: SweepConfig, grid: Grid, index: dict[str, store.StoredCell]) -> Plan:
    return make_plan(
        grid,
        store.finished_cells(index),
        store.failed_cells(index),
        config.retry_failed,
        config.fan_out,
        config.sample(),
    )


def _describe(
    config: SweepConfig,
    grid: Grid,
    out: Place,
    artifacts: Place,
    workers: int,
    console: Console,
    work: Work | None,
) -> None:
    """Print the plan; nothing is written."""
    storage = open_storage(out)
    with storage.explained("read"):
        found = record.read_record(storage)
        if found is not None:
            record.check_record(storage, found, grid)
        index = store.read_index(out)
    plan = _plan(config, grid, index)
    trained = plan.trained(Shelf(artifacts))
    if config.probe is not None:
        console.print(f"probing: cells run for at most {config.probe} s, nothing is kept", highlight=False)
        from sweeps.probe import run_probe  # which takes torch

        timings = run_probe(plan, config.probe, config.device, config.kernel, work)
    else:
        timings = known_timings(storage, store.mean_seconds(index))
    rows = estimate(
        plan, [spec for spec in plan.models if spec not in trained], timings, workers, config.price_per_hour
    )
    describe(plan, console, len(trained), workers, rows, paths_of_logs(storage))


def _run(
    plan: Plan,
    results: store.ResultStore,
    config: SweepConfig,
    artifacts: Place,
    workers: int,
    console: Console,
    work: Work | None,
    heartbeat: Heartbeat,
) -> None:
    if not plan.trials:
        return
    if "eager" not in (config.kernel, os.environ.get(VARIABLE)) and find_spec("numba") is None:
        console.print(
            "numba is not installed: plain torch runs, equal and slower; pip install 'lstmptq[native]'",
            highlight=False, markup=False,
        )  # fmt: skip
    console.print("starting Ray", highlight=False)
    if config.cluster:
        use_token()
    with warnings.catch_warnings():  # of libraries, about themselves
        warnings.simplefilter("ignore")
        # imported here: they take seconds, and --help and --dry-run need neither Ray nor torch
        from sweeps.cluster import ray_session
        from sweeps.progress import SweepProgress
        from sweeps.runner import RunOptions, run_plan
        from sweeps.workers import Work

        with ray_session(workers, config.cluster) as slots:
            running = min(slots, config.workers or slots)
            apart = config.cluster or is_uri(artifacts)
            options = RunOptions(artifacts, running, config.device, config.kernel, work or Work(), apart)
            run_plan(plan, results, options, SweepProgress(console, heartbeat))


def _conclude(out: Place, grow: str, failed: dict[str, str], console: Console) -> None:
    """Print the answer, where the rows are, and how to go on."""
    from analysis.summary import print_accuracy

    console.print()
    print_accuracy(out)
    print_failed(failed, console, paths_of_logs(open_storage(out)))
    if failed:
        console.print("the same command with --retry-failed runs them again", highlight=False)
    query = (
        f"import polars as pl; print(pl.scan_parquet('{out}/cells/*.parquet')"
        ".group_by('model', 'bits').agg(pl.mean('accuracy')).sort('model', 'bits').collect())"
    )
    lines = [
        f"\nParquet: {out}/cells/*.parquet (a row a cell), {out}/tensors/*.parquet (a row a tensor)",
        f'query it:         {shlex.join(program()[:1])} -c "{query}"',
        grow,
        f"your own corpus:  {shlex.join(program())} --dataset PATH    (Parquet or CSV: text, label)",
    ]
    for line in lines:
        console.print(line, highlight=False, markup=False)


def program() -> list[str]:
    """How to call this command from where it was called: interpreter and script."""
    python = Path(sys.executable)
    if shutil.which("python") == sys.executable:
        python = Path("python")
    elif python.is_relative_to(Path.cwd()):
        python = python.relative_to(Path.cwd())
    script = Path("sweeps", "full_grid.py")
    return [str(python), *([str(script)] if script.is_file() else ["-m", "sweeps.full_grid"])]


def _grow(config: SweepConfig, grid: Grid, given: Sequence[str]) -> str:
    """How to get more rows into the same place: more cells of a sample, else two seeds more."""
    if config.samples is not None and config.samples < count_cells(grid, None):
        title, flag, values = "draw more:", "--samples", [2 * config.samples]
    else:  # of a part of a larger grid the first cells would be others
        title, flag, values = "add seeds:", "--seeds", [*grid.seeds, max(grid.seeds) + 1, max(grid.seeds) + 2]
        given = _without("--samples", given)
    command = [*program(), *_without("--retry-failed", _without(flag, given)), flag, *map(str, values)]
    return f"{title}        {shlex.join(command)}"


def _without(flag: str, given: Sequence[str]) -> list[str]:
    """The arguments without a flag and its values."""
    kept: list[str] = []
    inside = False
    for argument in given:
        if argument.startswith("--"):
            inside = argument.split("=")[0] == flag
        if not inside:
            kept.append(argument)
    return kept


if __name__ == "__main__":
    sys.exit(main())
