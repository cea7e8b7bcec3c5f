"""Which cells a place holds, and what its segments are called: what may be read while a sweep writes."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from sweeps.errors import StoreError
from sweeps.storage.base import Storage
from sweeps.storage.opening import open_storage

SECONDS = ("observe_seconds", "correct_seconds", "evaluate_seconds")
Location = str | Path | Storage  # a directory or a URI
_INDEXED = ("cell_id", "status", "error")
_NAME = re.compile(r"segment-(\d+)(?:-\d+)?\.parquet")


@dataclass(frozen=True, slots=True)
class StoredCell:
    """What the driver has to know of a row; the cells of a segment that went alike share one."""

    status: str  # ok or failed
    error: str | None  # why it failed
    segment: str  # file name of the segment that holds it

    @property
    def ok(self) -> bool:
        """Whether the cell is finished."""
        return self.status == "ok"


def read_index(place: Location) -> dict[str, StoredCell]:
    """Every cell that `out` holds, by cell_id; empty where there are no results yet.

    Raises:
        StoreError: if a file cannot be read, or a cell is there twice.
    """
    out = open_storage(place)
    waiting: dict[str, StoredCell] = {}
    for name in segments(out, "open/cells"):  # first: it may be published while this reads
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
    """Some columns of every row of `cells`; one that is published meanwhile may come twice."""
    for folder in ("open/cells", "cells"):
        for name in segments(out, folder):
            with suppress(FileNotFoundError):
                table = read_segment(out, name, list(columns))
                yield from zip(*(table[column].to_pylist() for column in columns), strict=True)


def _stored_cells(out: Storage, name: str) -> Iterator[tuple[str, StoredCell]]:
    for row in read_segment(out, name, columns=list(_INDEXED)).to_pylist():
        yield row["cell_id"], stored_cell(row, name.rpartition("/")[2])


def segments(out: Storage, folder: str) -> list[str]:
    """Names of the files of a table, ``cells`` or ``open/cells`` for instance, oldest first."""
    return out.names(folder, ".parquet")


def stored_cell(row: Mapping[str, Any], segment: str) -> StoredCell:
    """What the driver keeps of a row of `cells`."""
    return _shared(row["status"], row.get("error"), segment)


@lru_cache
def _shared(status: str, error: str | None, segment: str) -> StoredCell:
    """One object for the many cells that do not differ in it."""
    return StoredCell(status, error, segment)


def read_segment(out: Storage, name: str, columns: list[str] | None = None) -> pa.Table:
    """The rows of one file.

    Raises:
        StoreError: if it is no Parquet, with what to do.
        FileNotFoundError: if it is not there (any more).
    """
    try:
        # one file, not a data set: the name of a parent directory is no column
        with out.open(name) as file:
            return pq.ParquetFile(file).read(columns=columns)
    except pa.ArrowInvalid as problem:
        raise StoreError(
            f"{out.path(name)} cannot be read as Parquet ({problem}): move it away, and the same "
            "command computes its cells again"
        ) from problem


def finished_cells(index: Mapping[str, StoredCell]) -> set[str]:
    """The cell_ids with status ok."""
    return {cell_id for cell_id, stored in index.items() if stored.ok}


def failed_cells(index: Mapping[str, StoredCell]) -> dict[str, str]:
    """The cell_ids with status failed, and why."""
    return {cell_id: stored.error or "unknown" for cell_id, stored in index.items() if not stored.ok}


def mean_seconds(out: Storage) -> dict[tuple[str, bool], float]:
    """Mean measured seconds of a finished cell, by kind: (model, whether it is quantized)."""
    found = defaultdict(list)
    for status, model, bits, *seconds in read_columns(out, ("status", "model", "bits", *SECONDS)):
        if status == "ok":
            found[model, bits is not None].append(sum(part or 0.0 for part in seconds))
    return {kind: sum(seconds) / len(seconds) for kind, seconds in found.items()}


def segment_name(number: int) -> str:
    """The file of a published segment."""
    return f"segment-{number:05d}.parquet"


def chunk_name(number: int, chunk: int) -> str:
    """The file of a part of a segment that waits to be published."""
    return f"segment-{number:05d}-{chunk:03d}.parquet"


def segment_number(name: str) -> int:
    """The number of a segment by its file name or that of a chunk; 0 for a file that is neither."""
    found = _NAME.fullmatch(name.rpartition("/")[2])
    return int(found[1]) if found else 0
