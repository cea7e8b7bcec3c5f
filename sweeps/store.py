"""The results of a sweep on disk: Parquet that may be read at any moment, written by one process.

``OUT/cells``, ``OUT/tensors`` and ``OUT/predictions`` hold published segments, which are never touched again:
Polars notes the sizes of the files of a scan and opens them later, so that a file replaced in between is
misread (seen with Polars 2.1: one read in ten failed). Cells finished since the last publication are in
``OUT/open``, where every finished cell rewrites three small files; publishing renames these into place. So a
finished cell is on disk at once and shows in a scan some seconds later, no row shows twice, and there are few
files to read.

A cell's row is its commit point: its tensors and predictions are written before it, and those without a row
are what a crash left.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from lstmptq.results import TABLES, to_table
from sweeps import record
from sweeps.files import StoreError
from sweeps.plan import PlannedGrid
from sweeps.storage import Storage, open_storage

SEGMENT_CELLS = 64  # a segment is published when it has so many cells ...
PUBLISH_SECONDS = 5.0  # ... or when its first cell has waited so long,
PUBLISH_SHARE = 0.02  # or this share of the time since the store was opened: few files also in a long run
SECONDS = ("observe_seconds", "correct_seconds", "evaluate_seconds")
ORDER = ("tensors", "predictions", "cells")  # the row last: with it the cell counts as done
Place = str | Path | Storage  # a directory or a URI
_INDEXED = ("cell_id", "status", "error", "model", "bits", *SECONDS)


@dataclass(frozen=True, slots=True)
class StoredCell:
    """What the driver has to know of a row."""

    status: str  # ok or failed
    error: str | None  # why it failed
    kind: tuple[str, bool]  # cells that take about the same time: (model, whether it is quantized)
    seconds: float  # measured parts of the cell's time
    segment: str  # file name of the segment that holds it

    @property
    def ok(self) -> bool:
        """Whether the cell is finished."""
        return self.status == "ok"


def read_index(place: Place) -> dict[str, StoredCell]:
    """Every cell that `out` holds, by cell_id; empty where there are no results yet.

    Raises:
        StoreError: if a file cannot be read, or a cell is there twice.
    """
    out = open_storage(place)
    waiting: dict[str, StoredCell] = {}
    for name in _segments(out, "open/cells"):  # first: it may be published while this reads
        with suppress(FileNotFoundError):
            waiting |= dict(_stored_cells(out, name))
    index: dict[str, StoredCell] = {}
    for name in _segments(out, "cells"):
        for cell_id, stored in _stored_cells(out, name):
            if (twin := index.setdefault(cell_id, stored)) is not stored:
                raise StoreError(
                    f"cell {cell_id[:12]} is both in {twin.segment} and {stored.segment} of "
                    f"{out.path('cells')}: remove the file that was copied there"
                )
    return waiting | index


def _stored_cells(out: Storage, name: str) -> Iterator[tuple[str, StoredCell]]:
    for row in _read(out, name, columns=list(_INDEXED)).to_pylist():
        yield row["cell_id"], _stored(row, name.rpartition("/")[2])


def _segments(out: Storage, folder: str) -> list[str]:
    return out.names(folder, ".parquet")


def _stored(row: Mapping[str, Any], segment: str) -> StoredCell:
    seconds = sum(row.get(name) or 0.0 for name in SECONDS)
    kind = (row["model"], row.get("bits") is not None)
    return StoredCell(row["status"], row.get("error"), kind, seconds, segment)


def _read(out: Storage, name: str, columns: list[str] | None = None) -> pa.Table:
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


def mean_seconds(index: Mapping[str, StoredCell]) -> dict[tuple[str, bool], float]:
    """Mean measured seconds of a finished cell, by kind: (model, whether it is quantized)."""
    found = defaultdict(list)
    for stored in index.values():
        if stored.ok:
            found[stored.kind].append(stored.seconds)
    return {kind: sum(seconds) / len(seconds) for kind, seconds in found.items()}


class ResultStore:
    """The result tables in one place, and the only writer of them.

    Args:
        place: the directory or URI; see :func:`open_store` for what is checked before.
        predictions: keep each document's prediction.
    """

    def __init__(self, place: Place, predictions: bool = True) -> None:
        self.out = out = open_storage(place)
        self.predictions = predictions
        self.index: dict[str, StoredCell] = {}
        self._rows: dict[str, list[pa.Table]] = {name: [] for name in TABLES}  # of the open segment
        self._opened = time.monotonic()
        self._waiting_since: float | None = None  # when the open segment got its first cell
        with out.explained():
            for name, schema in TABLES.items():
                out.prepare([name, f"open/{name}"])
                if not _segments(out, name):  # no rows, but a scan of *.parquet finds the columns
                    self._write(f"{name}/{_segment(0)}", schema.empty_table())
            self.index = read_index(out)
            self._remove_orphans()
            self._publish_what_is_left()
        self._number = 1 + max(_number(path) for name in TABLES for path in _segments(out, name))

    def finished(self) -> set[str]:
        """The cell_ids with status ok."""
        return finished_cells(self.index)

    def failed(self) -> dict[str, str]:
        """The cell_ids with status failed, and why."""
        return failed_cells(self.index)

    def append(
        self,
        row: Mapping[str, Any],
        tensors: list[dict[str, Any]],
        predictions: Mapping[str, Any] | None = None,
    ) -> None:
        """Put one finished or failed cell on disk.

        A cell that is stored with status ok is left alone (a trial that is run again yields its cells
        again); one that is stored as failed is replaced.

        Args:
            row: the row of `cells`.
            tensors: its rows of `tensors`.
            predictions: its row of `predictions`; None if the cell failed.

        Raises:
            StoreError: if the disk is full or read-only; what was stored before stays.
            ValueError: if a column is not in the schema.
        """
        stored = self.index.get(row["cell_id"])
        if stored is not None:
            if stored.ok:
                return
            self.discard([row["cell_id"]])
        kept = [dict(predictions)] if predictions and self.predictions else []
        rows = {"cells": [dict(row)], "tensors": tensors, "predictions": kept}
        segment = _segment(self._number)
        with self.out.explained():
            for name in ORDER:
                grown = [*self._rows[name], to_table(rows[name], TABLES[name])]
                self._write(f"open/{name}/{segment}", pa.concat_tables(grown))
                self._rows[name] = grown
        self.index[row["cell_id"]] = _stored(row, segment)
        self._waiting_since = self._waiting_since or time.monotonic()
        self.publish_if_due()

    def publish_if_due(self) -> None:
        """Publish the open segment if it is full or has waited long enough; call this now and then."""
        if self._waiting_since is None:
            return
        now = time.monotonic()
        patience = max(PUBLISH_SECONDS, PUBLISH_SHARE * (now - self._opened))
        if len(self._rows["cells"]) >= SEGMENT_CELLS or now - self._waiting_since >= patience:
            self.publish()

    def publish(self) -> None:
        """Let readers see every cell that is stored.

        Raises:
            StoreError: if the disk is read-only.
        """
        if self._waiting_since is None:
            return
        segment = _segment(self._number)
        with self.out.explained():
            for name in ORDER:
                self.out.move(f"open/{name}/{segment}", f"{name}/{segment}")
        self._rows = {name: [] for name in TABLES}
        self._waiting_since = None
        self._number += 1

    def discard(self, cell_ids: Collection[str]) -> None:
        """Remove cells and their tensors, for instance failed ones that are to be run again.

        This is the one time that published segments are replaced.

        Raises:
            StoreError: if the disk is full or read-only.
        """
        self.publish()
        gone = {cell_id for cell_id in cell_ids if cell_id in self.index}
        with self.out.explained():
            for segment in sorted({self.index[cell_id].segment for cell_id in gone}):
                for name in ORDER:
                    path = f"{name}/{segment}"
                    if self.out.exists(path):
                        # one that loses all its rows stays: a reader may be about to open it
                        self._write(path, _without(_read(self.out, path), gone))
        for cell_id in gone:
            del self.index[cell_id]

    def _publish_what_is_left(self) -> None:
        """Publish the open segment of a run that was killed."""
        for name in ORDER:
            for path in _segments(self.out, f"open/{name}"):
                self.out.move(path, path.removeprefix("open/"))

    def _remove_orphans(self) -> None:
        """Remove tensors and predictions whose cell has no row: a crash came between the two."""
        folders = [f"{place}{name}" for name in ORDER[:-1] for place in ("", "open/")]
        for path in (path for folder in folders for path in _segments(self.out, folder)):
            owners = set(pc.unique(_read(self.out, path, columns=["cell_id"])["cell_id"]).to_pylist())
            if orphans := owners - self.index.keys():
                self._write(path, _without(_read(self.out, path), orphans))

    def _write(self, path: str, table: pa.Table) -> None:
        sink = pa.BufferOutputStream()
        pq.write_table(table.combine_chunks(), sink, compression="zstd")
        self.out.write(path, sink.getvalue().to_pybytes())


def _segment(number: int) -> str:
    return f"segment-{number:05d}.parquet"


def _number(name: str) -> int:
    """The number of a segment by its file name; 0 for a file that is none."""
    digits = Path(name).stem.removeprefix("segment-")
    return int(digits) if digits.isdigit() else 0


def _without(table: pa.Table, cell_ids: Collection[str]) -> pa.Table:
    kept = [cell_id not in cell_ids for cell_id in table["cell_id"].to_pylist()]
    return table.filter(pa.array(kept, pa.bool_()))


@contextmanager
def open_store(
    place: Place, grid: PlannedGrid, command: str, predictions: bool = True
) -> Iterator[ResultStore]:
    """Open or make the results of `grid` in a place, for this process alone.

    Args:
        place: a directory, made if it does not exist, or a URI of an object store.
        grid: what is going to be run; its axes may differ from those of earlier runs.
        command: the command line, for the record.
        predictions: keep each document's prediction.

    Raises:
        StoreError: if the place belongs to another sweep, is being written by another process, or cannot be
            written.
    """
    out = open_storage(place)
    with out.explained():
        record.read_record(out)  # before anything is made: a directory of something else stays as it is
        out.prepare([""])
    with out.lock():
        with out.explained():
            found = record.read_record(out)
            if found is not None:
                record.check_record(out, found, grid)
            record.update_record(out, found, grid, command)
        store = ResultStore(out, predictions)
        try:
            yield store
        finally:
            store.publish()
