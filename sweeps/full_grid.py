"""The whole grid as a command: ``python sweeps/full_grid.py --help``."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from rich.console import Console

from lstmptq.runtime.locations import join_location
from lstmptq.spec.axes import MODELS
from lstmptq.spec.grid import Grid
from lstmptq.spec.models import QUANTIZED_MODELS
from sweeps.cluster.detached import DETACHED, find_ray
from sweeps.commands import Sweep, exit_code, program, without
from sweeps.errors import UserError
from sweeps.options import SweepConfig, parse
from sweeps.planning.plan import print_failed, print_plan
from sweeps.planning.samples import count_cells
from sweeps.planning.study import Study
from sweeps.running.estimate import estimate, known_timings
from sweeps.storage.artifacts import ArtifactStorage
from sweeps.storage.opening import open_storage, user_location
from sweeps.store.index import mean_seconds
from sweeps.store.logs import paths_of_logs

SCRIPT = "full_grid.py"


def lstm_study(grid: Grid) -> Study:
    """Return the study of this command: LSTM classifiers and their post-training quantization."""
    quick = tuple(kind for kind in MODELS if kind not in QUANTIZED_MODELS)
    return Study(grid, "lstmptq.trial", (*quick, *QUANTIZED_MODELS))


def main(arguments: Sequence[str] | None = None, make_study: Callable[[Grid], Study] = lstm_study) -> int:
    """Run the command.

    Args:
        arguments: the command line without the program; None takes ``sys.argv``.
        make_study: returns the study that runs the grid of the command line.

    Returns:
        The exit code: 0, or 1 if a cell failed, 2 if the user has to change something, 130 after Ctrl-C.
    """
    given = tuple(sys.argv[1:] if arguments is None else arguments)
    return exit_code(lambda: _run(parse(given), given, make_study))


def _run(config: SweepConfig, given: tuple[str, ...], make_study: Callable[[Grid], Study]) -> int:
    console = Console(soft_wrap=True)
    if config.status is not None:
        from sweeps.status import print_status

        print_status(config.status, console)
        return 0
    grid = config.grid()
    for line in grid.left_out:
        console.print(f"does not apply, left out: {line}", highlight=False, markup=False)
    sweep = _make_sweep(config, given, grid, make_study(grid))
    if sweep.sample is not None and sweep.sample.count > (whole := count_cells(grid, None)):
        console.print(
            f"--samples {sweep.sample.count}: the grid has {whole} cells, all of them are taken",
            highlight=False,
        )
    if config.dry_run:
        _describe(sweep, console)
        return 0
    if config.stop:
        return _stop(config, sweep, console)
    if config.down and not config.cluster:
        return _take_down(config, sweep, console)
    if config.cluster:
        address = find_ray()
        if address is None:
            return _run_from_outside(config, grid, sweep, console)
        console.print(f"running on the Ray cluster at {address}", highlight=False)
    failed = sweep.run(console)
    if DETACHED not in os.environ:
        _conclude(config, sweep, failed, console)
    return 1 if failed else 0


def _make_sweep(config: SweepConfig, given: tuple[str, ...], grid: Grid, study: Study) -> Sweep:
    corpora = "+".join(dict.fromkeys(source.name for source in grid.datasets))
    out = user_location(config.out or str(Path("results", corpora)))
    return Sweep(
        script=SCRIPT,
        given=given,
        study=study,
        out=out,
        artifacts=user_location(config.artifacts or str(join_location(out, "artifacts"))),
        sample=config.sample(),
        fan_out=config.fan_out,
        retry_failed=config.retry_failed,
        predictions=not config.no_predictions,
        cluster=config.cluster,
        workers=config.workers,
        device=config.device,
        kernel=config.kernel,
    )


def _run_from_outside(config: SweepConfig, grid: Grid, sweep: Sweep, console: Console) -> int:
    """Run the sweep on a cluster that this machine is not part of, unless nothing is left to run."""
    from sweeps.cluster.remote import run_from_outside, take_down
    from sweeps.cluster.results import finish_fetch

    if isinstance(sweep.out, Path):
        finish_fetch(sweep.out)
    plan = sweep.look()
    if plan.trials:
        run_from_outside(config, grid, sweep.out, console)
    else:
        console.print(f"{plan.planned} cells: none left to run; results in {sweep.out}", highlight=False)
    failed = sweep.failed(sweep.stored())
    _conclude(config, sweep, failed, console)
    if config.down:
        take_down(config, sweep.out, console)
    return 1 if failed else 0


def _stop(config: SweepConfig, sweep: Sweep, console: Console) -> int:
    """Obey ``--stop``: end the sweep on its cluster."""
    from sweeps.cluster.remote import stop_sweep

    if not config.cluster:
        raise UserError("--stop ends a sweep on a cluster: use it with --cluster; press Ctrl-C for one here")
    stop_sweep(config, sweep.out, console)
    return 0


def _take_down(config: SweepConfig, sweep: Sweep, console: Console) -> int:
    """Obey ``--down`` without ``--cluster``: tear the cluster down."""
    from sweeps.cluster.remote import take_down

    if replace(config, down=False, cluster_config="") != replace(SweepConfig(), cluster_config=""):
        raise UserError("--down needs --cluster, or stands alone (but for --cluster-config)")
    out = sweep.out
    take_down(config, out.parent if isinstance(out, Path) else out, console, alone=True)
    return 0


def _describe(sweep: Sweep, console: Console) -> None:
    """Print the plan; write nothing."""
    storage = open_storage(sweep.out)
    plan = sweep.look()
    trained = plan.trained(ArtifactStorage(sweep.artifacts))
    with storage.explained("read"):
        timings = known_timings(storage, mean_seconds(storage))
    untrained = [model for model in plan.models if model not in trained]
    workers = sweep.trials_at_a_time
    rows = estimate(plan, untrained, timings, workers)
    print_plan(plan, console, len(trained), workers, rows, paths_of_logs(storage))


def _conclude(config: SweepConfig, sweep: Sweep, failed: dict[str, str], console: Console) -> None:
    """Print the answer, where the rows are, and how to go on."""
    from analysis.questions.summary import print_accuracy

    out = sweep.out
    console.print()
    print_accuracy(out)
    print_failed(failed, console, paths_of_logs(open_storage(out)))
    if failed:
        console.print("the same command with --retry-failed runs them again", highlight=False)
    query = (
        f"import polars as pl; print(pl.scan_parquet('{out}/cells/*.parquet')"
        ".group_by('model', 'bits').agg(pl.mean('accuracy')).sort('model', 'bits').collect())"
    )
    command = program(SCRIPT)
    lines = [
        f"\nParquet: {out}/cells/*.parquet (one row per cell), {out}/tensors/*.parquet (one per tensor)",
        f'query it:         {shlex.join(command[:1])} -c "{query}"',
        _grow(config, sweep),
        f"your own corpus:  {shlex.join(command)} --dataset PATH    (Parquet or CSV: text, label)",
    ]
    for line in lines:
        console.print(line, highlight=False, markup=False)


def _grow(config: SweepConfig, sweep: Sweep) -> str:
    """Return the line that says how to add rows: more cells of a sample, or else two more seeds."""
    given: Sequence[str] = sweep.given
    if sweep.sample is not None and sweep.sample.count < count_cells(sweep.study.grid, None):
        title, flag, values = "draw more:", "--samples", [2 * sweep.sample.count]
    else:  # a sample of the grown grid would draw other cells
        seeds = config.seeds
        title, flag, values = "add seeds:", "--seeds", [*seeds, max(seeds) + 1, max(seeds) + 2]
        given = without("--samples", given)
    command = [*program(SCRIPT), *without("--retry-failed", without(flag, given)), flag, *map(str, values)]
    return f"{title}        {shlex.join(command)}"


if __name__ == "__main__":
    sys.exit(main())
