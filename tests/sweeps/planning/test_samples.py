"""A random part of a grid."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from lstmptq.results import FinishedCell
from lstmptq.spec.grid import Grid
from lstmptq.text.sources import Source
from sweeps.full_grid import lstm_study, main
from sweeps.planning.plan import make_plan
from sweeps.planning.samples import Sample, count_cells, wanted_cells
from sweeps.storage.opening import open_storage
from sweeps.store.record import read_record
from sweeps.store.writer import open_store
from tests.sweeps.fake_study import ok_row

GRID = Grid(datasets=(Source("bbc_news"),))  # 600 cells
STUDY = lstm_study(GRID)
LINE = ["--dry-run", "--workers", "2"]


def drawn(count: int, seed: int = 0) -> list[str]:
    return [cell.cell_id for cell in wanted_cells(GRID, Sample(count, seed))]


def test_a_growing_sample_contains_the_smaller_ones_and_ends_with_the_grid() -> None:
    smaller: set[str] = set()
    for count in (1, 7, 50, 599, 600):
        found = drawn(count)
        assert len(found) == len(set(found)) == count_cells(GRID, Sample(count)) == count
        assert smaller < set(found)
        smaller = set(found)
    assert drawn(600) == drawn(5000) == [cell.cell_id for cell in GRID.cells()]
    assert count_cells(GRID, Sample(5000)) == 600


def test_the_same_seed_draws_the_same_cells_and_another_one_others() -> None:
    assert drawn(50) == drawn(50)
    assert set(drawn(50)) != set(drawn(50, seed=1))
    order = {cell.cell_id: place for place, cell in enumerate(GRID.cells())}
    places = [order[cell_id] for cell_id in drawn(50)]
    assert places == sorted(places)  # the order of the grid: cells that share a model stay together
    assert drawn(3) == [
        cell.cell_id
        for cell in GRID.cells()
        if cell.cell_id in sorted(order, key=Sample(3).rank)[:3]
    ]  # fmt: skip


def test_a_sample_is_spread_over_the_grid() -> None:
    cells = list(wanted_cells(GRID, Sample(200)))
    share = sum(cell.model.kind == "generative" for cell in cells) / len(cells)
    assert 0.35 < share < 0.65  # half of the grid, six standard errors wide
    assert {cell.bits for cell in cells} == set(GRID.bits)


def test_a_plan_of_a_sample_subtracts_only_what_was_drawn() -> None:
    ten, fifty = drawn(10), drawn(50)
    plan = make_plan(STUDY, {*ten, "of another grid"}, {}, sample=Sample(50))
    assert (plan.planned, plan.done, plan.left) == (50, 10, 40)
    assert {cell.cell_id for trial in plan.trials for cell in trial} == set(fifty) - set(ten)
    assert all(len({(cell.model, cell.bits) for cell in trial}) == 1 for trial in plan.trials)


def test_dry_run_counts_a_sample(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sample = Sample(10)
    with open_store(tmp_path, GRID, "", sample=sample) as store:
        for cell in wanted_cells(GRID, sample):
            store.extend([FinishedCell(ok_row(cell), [])])
    assert main([*LINE, "--out", str(tmp_path), "--samples", "25"]) == 0
    assert capsys.readouterr().out.splitlines()[0].rstrip() == (
        "cells        25 drawn from the grid: 10 done, 0 failed, 15 left"
    )
    assert main([*LINE, "--out", str(tmp_path)]) == 0
    assert "600 in the grid: 10 done, 0 failed, 590 left" in capsys.readouterr().out


def test_a_sample_larger_than_the_grid_is_the_grid(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*LINE, "--out", str(tmp_path / "none"), "--samples", "601"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "--samples 601: the grid has 600 cells, all of them are taken"
    assert lines[1].rstrip() == "cells        600 drawn from the grid: 0 done, 0 failed, 600 left"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("--samples 0", "samples must be at least 1, got 0"),
        ("--samples 5 --sample-seed -1", "sample-seed must be at least 0, got -1"),
    ],
)
def test_bad_values_are_explained(arguments: str, message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*LINE, *arguments.split()]) == 2
    assert capsys.readouterr().err == f"error: {message}\n"


def test_the_record_says_what_was_drawn_and_grows(tmp_path: Path) -> None:
    def record(sample: Sample | None) -> dict[str, object]:
        with open_store(tmp_path, GRID, "", sample=sample):
            pass
        found = read_record(open_storage(tmp_path))
        assert found is not None
        return found

    first = record(Sample(10, seed=3))
    assert (first["cells"], first["sample"]) == (10, {"of": 600, "seed": 3})
    assert record(Sample(10, seed=3)) == first  # the same command again changes nothing
    grown = record(Sample(20, seed=3))
    assert (grown["cells"], grown["sample"]) == (20, {"of": 600, "seed": 3})
    whole = record(None)
    assert whole["cells"] == 600
    assert "sample" not in whole
    assert [earlier["cells"] for earlier in json.loads(json.dumps(whole["earlier"]))] == [10, 20]
