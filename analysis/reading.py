"""The results of a sweep as lazy frames: half-written, of an older schema, or without tensors.

The module is not called ``load`` because ``analysis.load`` is the function.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from lstmptq.results import SCHEMA_VERSION, TABLES

SWEEP = "python sweeps/full_grid.py --out"

Frame = pl.LazyFrame | pl.DataFrame


class ResultsError(ValueError):
    """There are no results to read where they were looked for; the text says why and what to do."""


@dataclass(frozen=True, slots=True)
class Results:
    """The result tables of one sweep; its first two unpack as ``cells, tensors = load(path)``.

    Attributes:
        cells: one row a cell, the columns of `lstmptq.results.CELLS`.
        tensors: many rows a cell, the columns of `lstmptq.results.TENSORS`.
        predictions: one row a cell, the columns of `lstmptq.results.PREDICTIONS`; none with --no-predictions
            and up to schema version 2, whose cells hold them.
        planned: cells of the sweep's latest grid; None where ``sweep.json`` does not say.
    """

    cells: pl.LazyFrame
    tensors: pl.LazyFrame
    predictions: pl.LazyFrame
    planned: int | None = None

    def __iter__(self) -> Iterator[pl.LazyFrame]:
        return iter((self.cells, self.tensors))


def load(path: str | Path) -> Results:
    """The results in directory `path`, as far as they are written; load again to see what came later.

    Columns that an older sweep did not write are null. Names that do not end in ``.parquet``, and hidden
    ones, are not touched.

    Args:
        path: the directory that was the sweep's ``--out``.

    Returns:
        Lazy frames with exactly the columns of the current schema; of no rows where nothing is written yet.

    Raises:
        ResultsError: if there are no results at `path`, a file is not whole or was written by a newer
            version, or a cell is there twice.
    """
    path = Path(path)
    files = {name: _files(path / name) for name in TABLES}
    if not files["cells"]:
        raise ResultsError(_why_nothing(path))
    for name, found in files.items():
        for file in found:
            _check_file(file, TABLES[name])
    frames = {name: _scan(files[name], TABLES[name]) for name in TABLES}
    _check_unique(path, frames["cells"])
    return Results(**frames, planned=_planned_cells(path))


def whole_models(cells: Frame) -> pl.LazyFrame:
    """The rows of `cells` of whole LSTMs, PTQ or float: what every table but those of their own is about.

    Left out: an isolated stage, and the companion study's other models and methods.
    """
    main = pl.col("method").is_null() | pl.col("method").is_in(["fp32", "static_ptq"])
    return cells.lazy().filter(pl.col("isolated_stage").is_null(), main, pl.col("model") != "bert")


def _files(folder: Path) -> list[Path]:
    return sorted(file for file in folder.glob("*.parquet") if not file.name.startswith("."))


def _why_nothing(path: Path) -> str:
    expected = f"expected the results of a sweep, {path / 'cells' / '*.parquet'}"
    if path.is_file():
        return f"{path} is a file: {expected}: give the directory that was the sweep's --out"
    if not path.exists():
        return f"there is no directory {path}: {expected}: make them with `{SWEEP} {path}`"
    if _files(path):
        return f"{path} is one table of the results: {expected}: give the directory above, {path.parent}"
    if (path / "sweep.json").exists():
        return f"the sweep in {path} has no rows yet: {expected}: go on with it by `{SWEEP} {path}`"
    return f"{path} holds no results: {expected}: make them with `{SWEEP} {path}`"


def _check_file(file: Path, expected: pa.Schema) -> None:
    """Look into `file`: raise ResultsError unless it is whole and has `expected`, or an older version."""
    try:
        with pq.ParquetFile(file) as parquet:
            schema = parquet.schema_arrow
            written = int((schema.metadata or {}).get(b"schema_version", 0))
            if "schema_version" in schema.names:  # what rewrote the file may have lost the metadata
                rows = parquet.read(columns=["schema_version"])["schema_version"].to_pylist()
                written = max([written, *(version for version in rows if version is not None)])
    except (pa.ArrowInvalid, OSError) as problem:
        raise ResultsError(
            f"{file} cannot be read as Parquet ({problem}): copy it again, or move it away and run "
            f"`{SWEEP} {file.parents[1]}`, which computes its cells again"
        ) from problem
    if written > SCHEMA_VERSION:
        raise ResultsError(
            f"{file} was written with schema version {written}, this program reads versions up to "
            f"{SCHEMA_VERSION}: upgrade it to the version that ran the sweep"
        )
    known = _polars_schema(expected)
    for column, kind in _polars_schema(schema).items():
        if known.get(column, kind) != kind:
            raise ResultsError(
                f"column {column} of {file} has the type {kind}, expected {known[column]}: "
                "the file was not written by a sweep, move it away"
            )


def _scan(files: list[Path], schema: pa.Schema) -> pl.LazyFrame:
    if not files:
        return pl.LazyFrame(schema=_polars_schema(schema))
    return pl.scan_parquet(
        files,
        schema=_polars_schema(schema),
        missing_columns="insert",
        extra_columns="ignore",
        hive_partitioning=False,  # a parent directory named a=b is no column
        glob=False,  # a path may hold brackets
    )


def _polars_schema(schema: pa.Schema) -> pl.Schema:
    return pl.DataFrame(schema.empty_table()).schema


def _check_unique(path: Path, cells: pl.LazyFrame) -> None:
    ids = cells.select("cell_id").drop_nulls()
    twice = ids.group_by("cell_id").len().filter(pl.col("len") > 1).collect()
    if len(twice):
        raise ResultsError(
            f"{path / 'cells'} holds {len(twice)} of its cells more than once, for instance "
            f"{min(twice['cell_id'].to_list())}: remove the file that was copied there"
        )


def _planned_cells(path: Path) -> int | None:
    """How many cells the sweep has, if its record tells: a convenience, so that nothing here is an error."""
    try:
        planned = json.loads((path / "sweep.json").read_bytes())["cells"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return planned if isinstance(planned, int) and not isinstance(planned, bool) else None
