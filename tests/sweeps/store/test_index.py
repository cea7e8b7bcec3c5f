"""Which cells a place holds, as it is read."""

from __future__ import annotations

from pathlib import Path

import pytest

from lstmptq.results import FinishedCell
from sweeps.errors import StoreError
from sweeps.storage.directory import Directory
from sweeps.store.index import mean_seconds
from sweeps.store.writer import ResultStore
from tests.sweeps.store.stored import (
    CELLS,
    failed,
    fill,
)


def test_mean_seconds_are_of_finished_cells_by_kind(tmp_path: Path) -> None:
    store = ResultStore(tmp_path)
    fill(store, CELLS[:4])
    store.extend([FinishedCell(failed(CELLS[4]), [])])
    assert mean_seconds(Directory(tmp_path)) == {
        ("discriminative", False): 3.0,
        ("discriminative", True): 3.0,
    }


def test_a_file_that_is_no_parquet_is_named(tmp_path: Path) -> None:
    ResultStore(tmp_path)
    bad = tmp_path / "cells" / "segment-00004.parquet"
    bad.write_bytes(b"PAR1 half")
    with pytest.raises(StoreError) as problem:
        ResultStore(tmp_path)
    assert str(problem.value).startswith(f"{bad} cannot be read as Parquet (")
    assert str(problem.value).endswith("move it away, and the same command computes its cells again")


def test_a_segment_that_was_copied_is_refused(tmp_path: Path) -> None:
    store = ResultStore(tmp_path)
    fill(store, CELLS[:1])
    store.publish()
    folder = tmp_path / "cells"
    (folder / "segment-00007.parquet").write_bytes((folder / "segment-00001.parquet").read_bytes())
    with pytest.raises(StoreError) as problem:
        ResultStore(tmp_path)
    assert str(problem.value) == (
        f"cell {CELLS[0].cell_id[:12]} is both in segment-00001.parquet and segment-00007.parquet "
        f"of {folder}: remove the file that was copied there"
    )
