"""The results of a sweep as lazy frames, even if half-written, of an older schema, or without tensors.

The module is not called ``load`` because ``analysis.load`` is the function.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow import fs

from analysis.frames.axes import USUAL
from lstmptq.results import SCHEMA_VERSION, TABLES
from lstmptq.runtime.locations import Location, is_uri, open_location

SWEEP = "python sweeps/full_grid.py --out"

Frame = pl.LazyFrame | pl.DataFrame


class ResultsError(ValueError):
    """The results cannot be read, or hold no answer; the text says why and what to do."""


@dataclass(frozen=True, slots=True)
class Results:
    """The result tables of one sweep; its first two unpack as ``cells, tensors = load(path)``.

    Attributes:
        cells: one row per cell, with the columns of `lstmptq.results.CELLS`.
        tensors: many rows per cell, with the columns of `lstmptq.results.TENSORS`.
        predictions: one row per cell, with the columns of `lstmptq.results.PREDICTIONS`; empty with
            --no-predictions, and up to schema version 2, whose cells hold them.
        planned: number of cells of the sweep's latest grid; None if ``sweep.json`` does not say.
    """

    cells: pl.LazyFrame
    tensors: pl.LazyFrame
    predictions: pl.LazyFrame
    planned: int | None = None

    def __iter__(self) -> Iterator[pl.LazyFrame]:
        return iter((self.cells, self.tensors))


@dataclass(frozen=True, slots=True)
class _Folder:
    """The sweep's ``--out``: a directory, or a prefix of an object store."""

    name: str  # as the user gives it
    files: fs.FileSystem
    root: str  # its path in `files`

    @classmethod
    def at(cls, location: Location) -> _Folder:
        try:
            name = str(location).rstrip("/") if is_uri(location) else str(Path(location))
            return cls(name, *open_location(location))
        except ValueError as problem:
            raise ResultsError(str(problem)) from problem

    def __str__(self) -> str:
        return self.name

    def name_file(self, name: str) -> str:
        """Name a file as a user, and Polars, would."""
        return f"{self.name}/{name}"

    def open(self, name: str) -> pa.NativeFile:
        return self.files.open_input_file(f"{self.root}/{name}")

    def kind(self, name: str = "") -> Any:
        return self.files.get_file_info(f"{self.root}/{name}".rstrip("/")).type

    def tables(self, folder: str = "") -> list[str]:
        """List the Parquet files in `folder`, without hidden ones."""
        selector = fs.FileSelector(f"{self.root}/{folder}".rstrip("/"), allow_not_found=True)
        found = [info.base_name for info in self.files.get_file_info(selector)]
        names = (name for name in sorted(found) if name.endswith(".parquet") and not name.startswith("."))
        return [f"{folder}/{name}".lstrip("/") for name in names]


def load(path: Location) -> Results:
    """Load the results in `path`, as far as they are written; load again to see later rows.

    Columns that an older sweep did not write are null. Files that are hidden, or do not end in ``.parquet``,
    are ignored.

    Args:
        path: the --out of the sweep: a directory, or a URI of an object store such as ``s3://bucket/folder``.

    Returns:
        Lazy frames with exactly the columns of the current schema, empty if nothing is written yet.

    Raises:
        ResultsError: if `path` holds no results or cannot be reached, a file is not whole or was written by
            a newer version, or a cell occurs twice.
    """
    folder = _Folder.at(path)
    try:
        names = {table: folder.tables(table) for table in TABLES}
        if not names["cells"]:
            raise ResultsError(_explain_absence(folder))
    except OSError as problem:
        raise ResultsError(f"{folder} cannot be read: {' '.join(str(problem).split())}") from problem
    for table, found in names.items():
        for name in found:
            _check_file(folder, name, TABLES[table])
    frames = {
        table: _scan([folder.name_file(name) for name in names[table]], TABLES[table]) for table in TABLES
    }
    _check_unique(folder, frames["cells"])
    planned = read_record(path).get("cells")
    counted = isinstance(planned, int) and not isinstance(planned, bool)
    return Results(**frames, planned=planned if counted else None)


def read_record(path: Location) -> dict[str, Any]:
    """Read the sweep's own record, ``sweep.json``; it is empty if it is missing or cannot be read."""
    try:
        with _Folder.at(path).open("sweep.json") as file:
            record = json.loads(file.read())
    except (OSError, ValueError):
        return {}
    return record if isinstance(record, dict) else {}


def whole_models(cells: Frame) -> pl.LazyFrame:
    """Keep the rows of whole LSTMs, PTQ or float, which nearly every table is about.

    Isolated stages, and the companion study's other models and methods, have tables of their own. Quantized
    rows that are older than the column of an axis get the axis' usual value, which they had.
    """
    main = pl.col("method").is_null() | pl.col("method").is_in(["fp32", "static_ptq"])
    whole = cells.lazy().filter(pl.col("isolated_stage").is_null(), main, pl.col("model") != "bert")
    known = whole.collect_schema().names()
    is_quantized = pl.col("bits").is_not_null()
    return whole.with_columns(
        pl.when(is_quantized).then(pl.col(name).fill_null(value)).otherwise(pl.col(name)).alias(name)
        for name, value in USUAL.items()
        if name in known
    )


def _explain_absence(folder: _Folder) -> str:
    expected = f"expected the results of a sweep, {folder.name_file('cells/*.parquet')}"
    if folder.kind() == fs.FileType.File:
        return f"{folder} is a file: {expected}: give the directory that was the sweep's --out"
    if folder.kind() == fs.FileType.NotFound:
        return f"there is no directory {folder}: {expected}: make them with `{SWEEP} {folder}`"
    if folder.tables():
        above = folder.name.rpartition("/")[0]
        return f"{folder} is one table of the results: {expected}: give the directory above, {above}"
    if folder.kind("sweep.json") != fs.FileType.NotFound:
        return f"the sweep in {folder} has no rows yet: {expected}: go on with it by `{SWEEP} {folder}`"
    return f"{folder} holds no results: {expected}: make them with `{SWEEP} {folder}`"


def _check_file(folder: _Folder, name: str, expected: pa.Schema) -> None:
    """Raise ResultsError unless a file is whole and has the `expected` schema, or an older one."""
    file = folder.name_file(name)
    try:
        with folder.open(name) as opened, pq.ParquetFile(opened) as parquet:
            schema = parquet.schema_arrow
            written = int((schema.metadata or {}).get(b"schema_version", 0))
            if "schema_version" in schema.names:  # a program that rewrote the file may have lost the metadata
                rows = parquet.read(columns=["schema_version"])["schema_version"].to_pylist()
                written = max([written, *(version for version in rows if version is not None)])
    except (pa.ArrowInvalid, OSError) as problem:
        raise ResultsError(
            f"{file} cannot be read as Parquet ({problem}): copy it again, or move it away and run "
            f"`{SWEEP} {folder}`, which computes its cells again"
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


def _scan(files: list[str], schema: pa.Schema) -> pl.LazyFrame:
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


def _check_unique(folder: _Folder, cells: pl.LazyFrame) -> None:
    ids = cells.select("cell_id").drop_nulls()
    twice = ids.group_by("cell_id").len().filter(pl.col("len") > 1).collect()
    if len(twice):
        raise ResultsError(
            f"{folder.name_file('cells')} holds {len(twice)} of its cells more than once, for instance "
            f"{min(twice['cell_id'].to_list())}: remove the file that was copied there"
        )
