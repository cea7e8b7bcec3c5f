"""Plans: what is left of a grid."""

from __future__ import annotations

import dataclasses
import io
import itertools

from rich.console import Console

from lstmptq.cells import Grid
from lstmptq.text.sources import Source
from sweeps.plan import Plan, clock, describe, make_plan, print_failed

GRID = Grid(datasets=(Source("bbc_news"),))
CELLS = {cell.cell_id: cell for cell in GRID.cells()}


def shown(plan: Plan, trained: int = 0) -> str:
    screen = io.StringIO()
    describe(plan, Console(file=screen, width=150), trained, workers=2)
    return "\n".join(line.rstrip() for line in screen.getvalue().splitlines())


def test_the_default_grid_is_600_cells_in_42_trials_on_6_models() -> None:
    plan = make_plan(GRID, set(), {})
    assert (plan.planned, plan.left, len(plan.trials), len(plan.models)) == (600, 600, 42, 6)
    assert {cell.cell_id for trial in plan.trials for cell in trial} == set(CELLS)


def test_a_trial_shares_model_and_bits_and_a_models_trials_are_adjacent() -> None:
    plan = make_plan(GRID, set(), {})
    assert all(len({(cell.model, cell.bits) for cell in trial}) == 1 for trial in plan.trials)
    runs = [model for model, _ in itertools.groupby(trial[0].model for trial in plan.trials)]
    assert runs == list(plan.models)
    assert [model.model for model in runs] == ["generative"] * 3 + ["discriminative"] * 3


def test_fan_out_cell_makes_every_cell_a_trial() -> None:
    plan = make_plan(GRID, set(), {}, fan_out="cell")
    assert [len(trial) for trial in plan.trials] == [1] * 600
    order = [cell for trial in make_plan(GRID, set(), {}).trials for cell in trial]
    assert [trial[0] for trial in plan.trials] == order


def test_finished_and_failed_cells_are_left_out() -> None:
    discriminative = {cell_id for cell_id, cell in CELLS.items() if cell.model.model == "discriminative"}
    failed = {next(iter(set(CELLS) - discriminative)): "boo", "of another grid": "boo"}
    plan = make_plan(GRID, discriminative | {"of another grid too"}, failed)
    assert (plan.done, len(plan.failed), plan.left, plan.retried) == (300, 1, 299, ())
    assert {model.model for model in plan.models} == {"generative"}
    retrying = make_plan(GRID, discriminative, failed, retry_failed=True)
    assert (retrying.left, len(retrying.failed), len(retrying.retried)) == (300, 0, 1)


def test_the_estimate_takes_each_kind_by_its_own_time() -> None:
    grid = dataclasses.replace(GRID, embeddings=(Source("glove"),), bits=(None, 8))  # 2 x (4 + 16) cells
    assert make_plan(grid, set(), {}).seconds is None
    assert make_plan(grid, {cell.cell_id for cell in grid.cells()}, {}).seconds == 0
    seconds = {("generative", True): 3.0, ("generative", False): 1.0, ("discriminative", True): 0.5}
    mean = 1.5  # of the three, for FP32 discriminative cells
    assert make_plan(grid, set(), {}, seconds=seconds).seconds == 16 * 3 + 4 * 1 + 16 * 0.5 + 4 * mean


def test_dry_run_says_what_would_be_run() -> None:
    ids = list(CELLS)
    failed = {ids[0]: "ValueError: [b]too[/b] few", ids[1]: "ValueError: [b]too[/b] few", ids[2]: "boo"}
    seconds = {("discriminative", True): 2.0}
    plan = make_plan(GRID, set(ids[300:]), failed, seconds=seconds)
    assert shown(plan, trained=1) == (
        "cells        600 in the grid: 300 done, 3 failed, 297 left\n"
        "trials       21, 2 at a time\n"
        "FP32 models  3: 1 trained already, 2 to train\n"
        "estimate     at least 4:57, and the training of 2 FP32 models (from the cells that are finished)\n"
        "3 cells failed:\n"
        f"  2 x ValueError: [b]too[/b] few (e.g. cell {ids[1][:12]})\n"
        f"  1 x boo (e.g. cell {ids[2][:12]})\n"
        "--retry-failed runs them again"
    )


def test_dry_run_of_a_finished_and_of_a_new_grid() -> None:
    assert "estimate     nothing to do" in shown(make_plan(GRID, set(CELLS), {}))
    assert "estimate     unknown until some cells are finished, and the training of 6 FP32 models" in shown(
        make_plan(GRID, set(), {})
    )
    retrying = make_plan(GRID, set(), {next(iter(CELLS)): "boo"}, retry_failed=True)
    assert "retried      1 cells that failed before" in shown(retrying)


def test_many_reasons_are_cut() -> None:
    screen = io.StringIO()
    print_failed({str(number): f"reason {number}" for number in range(13)}, Console(file=screen, width=100))
    lines = screen.getvalue().splitlines()
    assert len(lines) == 12
    assert lines[-1] == "  and 3 other reasons: they are in the column error"


def test_clock() -> None:
    shown_as = {0: "0:00", 59.4: "0:59", 61: "1:01", 3599.6: "1:00:00", 7325: "2:02:05"}
    assert {seconds: clock(seconds) for seconds in shown_as} == shown_as
