"""Reads which cells are stored, and names the segments that hold them, even while a sweep writes."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from lstmptq.runtime.locations import Location
from sweeps.errors import StoreError
from sweeps.storage.base import Storage
from sweeps.storage.opening import open_storage

SECONDS = ("observe_seconds", "correct_seconds", "evaluate_seconds")
_INDEXED = ("cell_id", "status", "error")
_NAME = re.compile(r"segment-(\d+)(?:-\d+)?\.parquet")


@dataclass(frozen=True, slots=True)
class StoredCell:
    """What the driver keeps of a row; cells of one segment with the same status and error share it."""

    status: str  # ok or failed
    error: str | None  # the reason if it failed
    segment: str  # file name of the segment that holds the row

    @property
    def ok(self) -> bool:
        """Whether the cell is finished."""
        return self.status == "ok"


def read_index(place: Location | Storage) -> dict[str, StoredCell]:
    """Read every stored cell, by cell_id; empty where there are no results yet.

    Raises:
        StoreError: if a file cannot be read, or a cell is there twice.
    """
    out = open_storage(place)
    waiting: dict[str, StoredCell] = {}
    for name in segments(out, "open/cells"):  # read first, because a chunk may be published meanwhile
        with suppress(FileNotFoundError):
            waiting |= dict(_stored_cells(out, name))
    index: dict[str, StoredCell] = {}
    for name in segments(out, "cells"):
        for cell_id, stored in _stored_cells(out, name):
            if (twin := index.get(cell_id)) is not None:
                raise StoreError(
                    f"cell {cell_id[:12]} is both in {twin.segment} and {stored.segment} of "
                    f"{out.path('cells')}: remove the file that was copied there"
                )
            index[cell_id] = stored
    return waiting | index


def read_columns(out: Storage, columns: Sequence[str]) -> Iterator[tuple[Any, ...]]:
    """Yield some columns of every row of `cells`; a row that is published meanwhile may come twice."""
    for folder in ("open/cells", "cells"):
        for name in segments(out, folder):
            with suppress(FileNotFoundError):
                table = read_segment(out, name, list(columns))
                yield from zip(*(table[column].to_pylist() for column in columns), strict=True)


def _stored_cells(out: Storage, name: str) -> Iterator[tuple[str, StoredCell]]:
    for row in read_segment(out, name, columns=list(_INDEXED)).to_pylist():
        yield row["cell_id"], stored_cell(row, name.rpartition("/")[2])


def segments(out: Storage, folder: str) -> list[str]:
    """List the files of a table, for instance ``cells`` or ``open/cells``, oldest first."""
    return out.names(folder, ".parquet")


def stored_cell(row: Mapping[str, Any], segment: str) -> StoredCell:
    """Return the part of a row of `cells` that the driver keeps."""
    return _shared(row["status"], row.get("error"), segment)


@lru_cache
def _shared(status: str, error: str | None, segment: str) -> StoredCell:
    """Share one object between equal cells."""
    return StoredCell(status, error, segment)


def read_segment(out: Storage, name: str, columns: list[str] | None = None) -> pa.Table:
    """Read the rows of one file.

    Raises:
        StoreError: if it is not a Parquet file; the text says what to do.
        FileNotFoundError: if it does not exist (any more).
    """
    try:
        # as one file, since a data set would take names of parent directories for columns
        with out.open(name) as file:
            return pq.ParquetFile(file).read(columns=columns)
    except pa.ArrowInvalid as problem:
        raise StoreError(
            f"{out.path(name)} cannot be read as Parquet ({problem}): move it away, and the same "
            "command computes its cells again"
        ) from problem


def finished_cells(index: Mapping[str, StoredCell]) -> set[str]:
    """Return the cell_ids with status ok."""
    return {cell_id for cell_id, stored in index.items() if stored.ok}


def failed_cells(index: Mapping[str, StoredCell]) -> dict[str, str]:
    """Return the cell_ids with status failed, and why they failed."""
    return {cell_id: stored.error or "unknown" for cell_id, stored in index.items() if not stored.ok}


def mean_seconds(out: Storage) -> dict[tuple[str, bool], float]:
    """Average the measured seconds of finished cells, by kind: (model, whether it is quantized)."""
    found = defaultdict(list)
    for status, model, bits, *seconds in read_columns(out, ("status", "model", "bits", *SECONDS)):
        if status == "ok":
            found[model, bits is not None].append(sum(part or 0.0 for part in seconds))
    return {kind: sum(seconds) / len(seconds) for kind, seconds in found.items()}


def segment_name(number: int) -> str:
    """Name the file of a published segment."""
    return f"segment-{number:05d}.parquet"


def chunk_name(number: int, chunk: int) -> str:
    """Name the file of a chunk, a part of a segment that waits to be published."""
    return f"segment-{number:05d}-{chunk:03d}.parquet"


def segment_number(name: str) -> int:
    """Return the number in the file name of a segment or chunk; 0 for any other file."""
    found = _NAME.fullmatch(name.rpartition("/")[2])
    return int(found[1]) if found else 0
