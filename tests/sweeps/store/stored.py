"""Cells of the fake study in a store, and what lies on the disk of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from lstmptq.results import FinishedCell
from lstmptq.spec.cells import Cell
from lstmptq.spec.grid import Grid
from sweeps.errors import StoreError
from sweeps.storage.directory import Directory
from sweeps.store.writer import ResultStore, open_store
from tests.sweeps.fake_study import GRID, identity_columns, ok_row, prediction_row, tensor_rows

CELLS = list(GRID.cells())


def failed(cell: Cell, reason: str = "boo") -> dict[str, Any]:
    return identity_columns(cell) | {"status": "failed", "error": reason}


def fill(store: ResultStore, cells: list[Cell]) -> None:
    for cell in cells:
        store.extend([finished(cell)])


def finished(cell: Cell) -> FinishedCell:
    return FinishedCell(ok_row(cell), tensor_rows(cell), prediction_row(cell))


def write_without_sync(storage: Directory, name: str, content: bytes) -> None:
    """As Directory.write, without waiting for the disk."""
    path = storage.directory / name
    partial = path.with_name(f".{path.name}.partial")
    partial.write_bytes(content)
    partial.replace(path)


def rows(out: Path, table: str = "cells") -> pl.DataFrame:
    return pl.scan_parquet(out / table / "*.parquet").collect()


def files(out: Path) -> set[str]:
    return {str(path.relative_to(out)) for path in out.rglob("*") if path.is_file()}


class Cut(BaseException):
    """The process dies here."""


def open_and_close(out: Path, grid: Grid = GRID) -> dict[str, Any]:
    with open_store(out, grid, "python sweeps/full_grid.py"):
        pass
    record: dict[str, Any] = json.loads((out / "sweep.json").read_bytes())
    return record


def refusal(out: Path, grid: Grid = GRID) -> str:
    with pytest.raises(StoreError) as problem, open_store(out, grid, ""):
        pass
    return str(problem.value).replace(str(out), "OUT")
