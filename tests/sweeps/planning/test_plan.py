"""Plans: what is left of a grid."""

from __future__ import annotations

import io
import itertools
from collections.abc import Mapping, Sequence

from rich.console import Console

from lstmptq.spec.grid import Grid
from lstmptq.text.sources import Source
from sweeps.full_grid import lstm_study
from sweeps.planning.plan import Plan, format_duration, make_plan, print_failed, print_plan

GRID = Grid(datasets=(Source("bbc_news"),))
STUDY = lstm_study(GRID)
CELLS = {cell.cell_id: cell for cell in GRID.cells()}


def shown(
    plan: Plan, trained: int = 0, lines: Sequence[tuple[str, str]] = (), logs: Mapping[str, str] | None = None
) -> str:
    screen = io.StringIO()
    print_plan(plan, Console(file=screen, width=150), trained, 2, lines, logs)
    return "\n".join(line.rstrip() for line in screen.getvalue().splitlines())


def test_the_default_grid_is_600_cells_in_42_trials_on_6_models() -> None:
    plan = make_plan(STUDY, set(), {})
    assert (plan.planned, plan.left, len(plan.trials), len(plan.models)) == (600, 600, 42, 6)
    assert {cell.cell_id for trial in plan.trials for cell in trial} == set(CELLS)


def test_a_trial_shares_model_and_bits_and_a_models_trials_are_adjacent() -> None:
    plan = make_plan(STUDY, set(), {})
    assert all(len({(cell.model, cell.bits) for cell in trial}) == 1 for trial in plan.trials)
    runs = [model for model, _ in itertools.groupby(trial[0].model for trial in plan.trials)]
    assert runs == list(plan.models)
    assert [model.kind for model in runs] == ["generative"] * 3 + ["discriminative"] * 3


def test_fan_out_cell_makes_every_cell_a_trial() -> None:
    plan = make_plan(STUDY, set(), {}, fan_out="cell")
    assert [len(trial) for trial in plan.trials] == [1] * 600
    order = [cell for trial in make_plan(STUDY, set(), {}).trials for cell in trial]
    assert [trial[0] for trial in plan.trials] == order


def test_finished_and_failed_cells_are_left_out() -> None:
    discriminative = {cell_id for cell_id, cell in CELLS.items() if cell.model.kind == "discriminative"}
    failed = {next(iter(set(CELLS) - discriminative)): "boo", "of another grid": "boo"}
    plan = make_plan(STUDY, discriminative | {"of another grid too"}, failed)
    assert (plan.done, len(plan.failed), plan.left, plan.retried) == (300, 1, 299, ())
    assert {model.kind for model in plan.models} == {"generative"}
    retrying = make_plan(STUDY, discriminative, failed, retry_failed=True)
    assert (retrying.left, len(retrying.failed), len(retrying.retried)) == (300, 0, 1)


def test_dry_run_says_what_would_be_run() -> None:
    ids = list(CELLS)
    failed = {ids[0]: "ValueError: [b]too[/b] few", ids[1]: "ValueError: [b]too[/b] few", ids[2]: "boo"}
    plan = make_plan(STUDY, set(ids[300:]), failed)
    lines = [("estimate", "long"), ("memory", "much")]
    assert shown(plan, 1, lines, {ids[0]: "OUT/logs/a.txt"}) == (
        "cells        600 in the grid: 300 done, 3 failed, 297 left\n"
        "trials       21, 2 at a time\n"
        "FP32 models  3: 1 trained already, 2 to train\n"
        "estimate     long\n"
        "memory       much\n"
        "3 cells failed:\n"
        f"  2 x ValueError: [b]too[/b] few (e.g. cell {ids[0][:12]}, log OUT/logs/a.txt)\n"
        f"  1 x boo (e.g. cell {ids[2][:12]})\n"
        "--retry-failed runs them again"
    )


def test_dry_run_of_cells_that_are_run_again() -> None:
    retrying = make_plan(STUDY, set(), {next(iter(CELLS)): "boo"}, retry_failed=True)
    assert "retried      1 cells that failed before" in shown(retrying)


def test_many_reasons_are_cut() -> None:
    screen = io.StringIO()
    print_failed({str(number): f"reason {number}" for number in range(13)}, Console(file=screen, width=100))
    lines = screen.getvalue().splitlines()
    assert len(lines) == 12
    assert lines[-1] == "  and 3 other reasons: they are in the column error"


def test_format_duration() -> None:
    shown_as = {0: "0:00", 59.4: "0:59", 61: "1:01", 3599.6: "1:00:00", 7325: "2:02:05"}
    assert {seconds: format_duration(seconds) for seconds in shown_as} == shown_as
