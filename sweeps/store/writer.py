"""Writes the results of a sweep as Parquet that may be read at any moment. One process writes.

``OUT/cells``, ``OUT/tensors`` and ``OUT/predictions`` hold published segments, which are never changed.
Polars notes the sizes of the files of a scan and opens them later, so it would misread a file that was
replaced in between (seen with Polars 2.1: one read in ten failed). Cells that finished since the last
publication wait in ``OUT/open``, in chunks. A finished cell rewrites only the last chunk, three small
files, so its cost does not grow with the sweep. Publishing merges the waiting chunks into one segment per
table. A finished cell is thus on disk at once and visible to a scan later, and no row is visible twice.
Segments grow with the number of stored cells, so the number of files grows with its logarithm.

The row of a cell is its commit point: its tensors and predictions are written before it, and a crash leaves
at most tensors and predictions without a row. The commit point of a segment is its file in ``cells``,
written after the files of the other tables. Its chunks bear its number and are removed after that, so the
next run can complete an interrupted publication from them, table by table, with the same cells.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from lstmptq.results import TABLES, FinishedCell, to_table
from lstmptq.runtime.locations import Location
from sweeps.planning.samples import Sample
from sweeps.planning.study import PlannedGrid
from sweeps.storage.base import Storage
from sweeps.storage.opening import open_storage
from sweeps.store import record
from sweeps.store.index import (
    chunk_name,
    failed_cells,
    finished_cells,
    read_index,
    read_segment,
    segment_name,
    segment_number,
    segments,
    stored_cell,
)  # fmt: skip
from sweeps.store.logs import Logs
from sweeps.store.status_file import read_status

CHUNK_CELLS = 64  # the most cells that a finished cell rewrites
# A segment is published when it has SEGMENT_CELLS cells and PUBLISH_SHARE of the stored ones, or when its
# first cell has waited for PUBLISH_SECONDS and for PUBLISH_SHARE of the time that the sweep has run.
SEGMENT_CELLS = 64
PUBLISH_SECONDS = 5.0
PUBLISH_SHARE = 0.05
LARGEST_SEGMENT = 4096  # cells; a segment is held in memory once, compressed
ROW_GROUP_BYTES = 32 * 2**20  # uncompressed; a row group is held in memory when chunks are merged
WRITE_ORDER = (
    "tensors",
    "predictions",
    "cells",
)  # with its row a cell counts as done


class ResultStore:
    """The only writer of the result tables of a sweep.

    Args:
        place: the directory or URI, after the checks of :func:`open_store`.
        predictions: store the prediction for each document.
        ran_before: seconds that earlier runs took; a long sweep publishes less often.
    """

    def __init__(self, place: Location | Storage, predictions: bool = True, ran_before: float = 0.0) -> None:
        self.out = out = open_storage(place)
        self.predictions = predictions
        self.logs = Logs(out)
        self._began = time.monotonic() - ran_before
        with out.explained():
            for name, schema in TABLES.items():
                out.prepare([name, f"open/{name}"])
                if not segments(out, name):  # so that a scan finds the columns before there are rows
                    self._write(f"{name}/{segment_name(0)}", schema.empty_table())
            for number in self._waiting_numbers():
                self._publish(number)
            self.index = read_index(out)
            self._remove_orphans()
        self._number = 1 + max(segment_number(path) for name in TABLES for path in segments(out, name))
        self._forget_chunks()

    def _forget_chunks(self) -> None:
        """Start a new segment, for which no cells wait yet."""
        self._waiting = 0  # number of cells that are not published
        self._waiting_since: float | None = None  # when the first of them came
        self._publishing = False  # whether publication has begun; the segment takes no more cells then
        self._chunk = 0
        self._seal()

    def _seal(self) -> None:
        """Start a new chunk with the next cell."""
        self._chunk += 1
        self._rows: dict[str, list[pa.Table]] = {name: [] for name in TABLES}  # rows of the last chunk
        self._chunk_cells = 0

    def finished(self) -> set[str]:
        """The cell_ids with status ok."""
        return finished_cells(self.index)

    def failed(self) -> dict[str, str]:
        """The cell_ids with status failed, and why."""
        return failed_cells(self.index)

    def extend(self, cells: Iterable[FinishedCell]) -> None:
        """Put finished or failed cells on disk, one chunk at a time.

        A cell that is stored with status ok stays, because a trial that is run again yields its cells again.
        A cell that is stored as failed is replaced.

        Args:
            cells: the finished or failed cells.

        Raises:
            StoreError: if the disk is full or read-only; what was stored before stays.
            ValueError: if a column is not in the schema.
        """
        new = {cell.cell_id: cell for cell in cells if not self._is_finished(cell.cell_id)}
        self.discard([cell_id for cell_id in new if cell_id in self.index])
        left = list(new.values())
        while left:
            if self._publishing:  # the disk refused a publication
                self.publish()
            if self._chunk_cells >= CHUNK_CELLS:
                self._seal()
            room = CHUNK_CELLS - self._chunk_cells
            self._store(left[:room])
            left = left[room:]
            self.publish_if_due()

    def _is_finished(self, cell_id: str) -> bool:
        stored = self.index.get(cell_id)
        return stored is not None and stored.ok

    def _store(self, cells: Sequence[FinishedCell]) -> None:
        """Rewrite the last chunk with more cells."""
        rows = {
            "tensors": [row for cell in cells for row in cell.tensors],
            "predictions": [cell.predictions for cell in cells if cell.predictions and self.predictions],
            "cells": [cell.row for cell in cells],
        }
        grown = {name: [*self._rows[name], to_table(rows[name], TABLES[name])] for name in WRITE_ORDER}
        with self.out.explained():
            for cell in cells:
                if cell.log:
                    self.logs.keep(cell.cell_id, cell.log)
            for name in WRITE_ORDER:
                self._write(
                    f"open/{name}/{chunk_name(self._number, self._chunk)}", pa.concat_tables(grown[name])
                )
        self._rows = grown
        self._chunk_cells += len(cells)
        self._waiting += len(cells)
        self._waiting_since = self._waiting_since or time.monotonic()
        for cell in cells:
            self.index[cell.cell_id] = stored_cell(cell.row, segment_name(self._number))

    def publish_if_due(self) -> None:
        """Publish the waiting cells if they are many or have waited long enough; call this often."""
        if self._waiting_since is None:
            return
        now = time.monotonic()
        patience = max(PUBLISH_SECONDS, PUBLISH_SHARE * (now - self._began))
        enough = max(SEGMENT_CELLS, PUBLISH_SHARE * (len(self.index) - self._waiting))
        if self._waiting >= min(enough, LARGEST_SEGMENT) or now - self._waiting_since >= patience:
            self.publish()

    def publish(self) -> None:
        """Make every stored cell visible to readers.

        Raises:
            StoreError: if the disk is full or read-only; the next call completes what this one began.
        """
        if self._waiting_since is None:
            return
        self._publishing = True
        with self.out.explained():
            self._publish(self._number)
        self._number += 1
        self._forget_chunks()

    def discard(self, cell_ids: Collection[str]) -> None:
        """Remove cells and their tensors, for instance failed cells that are run again.

        Only this replaces published segments.

        Raises:
            StoreError: if the disk is full or read-only.
        """
        gone = {cell_id for cell_id in cell_ids if cell_id in self.index}
        if not gone:
            return
        self.publish()
        with self.out.explained():
            for segment in sorted({self.index[cell_id].segment for cell_id in gone}):
                for name in reversed(
                    WRITE_ORDER
                ):  # the row first: what has none is removed at the next start
                    path = f"{name}/{segment}"
                    if self.out.exists(path):
                        # a segment that loses all its rows stays, because a reader may be about to open it
                        self._write(path, _without(read_segment(self.out, path), gone))
            self.logs.forget(gone)
        for cell_id in gone:
            del self.index[cell_id]

    def _waiting_numbers(self) -> list[int]:
        """List the segments that a killed run left as chunks."""
        return sorted(
            {segment_number(path) for name in WRITE_ORDER for path in segments(self.out, f"open/{name}")}
        )

    def _publish(self, number: int) -> None:
        """Merge the chunks of a segment, unless that was done before, and remove them."""
        chunks = {
            name: [path for path in segments(self.out, f"open/{name}") if segment_number(path) == number]
            for name in WRITE_ORDER
        }
        segment = segment_name(number)
        if chunks["cells"] and not self.out.exists(f"cells/{segment}"):
            owners = set[str]()
            for path in chunks["cells"]:
                owners |= set(read_segment(self.out, path, columns=["cell_id"])["cell_id"].to_pylist())
            for name in WRITE_ORDER:
                if not self.out.exists(f"{name}/{segment}"):
                    self._merge(chunks[name], f"{name}/{segment}", TABLES[name], owners)
        for name in reversed(WRITE_ORDER):
            for path in chunks[name]:
                self.out.delete(path)

    def _merge(self, paths: Sequence[str], to: str, schema: pa.Schema, owners: Collection[str]) -> None:
        """Write the rows of `owners` as one file, without rows of other cells that a crash has left."""
        sink = pa.BufferOutputStream()
        with pq.ParquetWriter(sink, schema, compression="zstd") as writer:
            group: list[pa.Table] = [schema.empty_table()]
            for path in paths:
                group.append(_only(read_segment(self.out, path), owners))
                if sum(table.nbytes for table in group) >= ROW_GROUP_BYTES:
                    writer.write_table(pa.concat_tables(group).combine_chunks())
                    group = [schema.empty_table()]
            if any(len(table) for table in group):
                writer.write_table(pa.concat_tables(group).combine_chunks())
        self.out.write(to, sink.getvalue().to_pybytes())

    def _remove_orphans(self) -> None:
        """Remove tensors and predictions of cells without a row, whose broken file was moved away."""
        for path in (path for folder in WRITE_ORDER[:-1] for path in segments(self.out, folder)):
            owners = set(pc.unique(read_segment(self.out, path, columns=["cell_id"])["cell_id"]).to_pylist())
            if orphans := owners - self.index.keys():
                self._write(path, _without(read_segment(self.out, path), orphans))

    def _write(self, path: str, table: pa.Table) -> None:
        sink = pa.BufferOutputStream()
        pq.write_table(table.combine_chunks(), sink, compression="zstd")
        self.out.write(path, sink.getvalue().to_pybytes())


def _without(table: pa.Table, cell_ids: Collection[str]) -> pa.Table:
    return table.filter(pc.invert(_is_of(table, cell_ids)))


def _only(table: pa.Table, cell_ids: Collection[str]) -> pa.Table:
    return table.filter(_is_of(table, cell_ids))


def _is_of(table: pa.Table, cell_ids: Collection[str]) -> pa.ChunkedArray:
    return pc.is_in(table["cell_id"], value_set=pa.array(cell_ids, pa.string()))


@contextmanager
def open_store(
    place: Location | Storage,
    grid: PlannedGrid,
    command: str,
    predictions: bool = True,
    sample: Sample | None = None,
) -> Iterator[ResultStore]:
    """Open the results of `grid` for this process alone; create them if there are none.

    Args:
        place: a directory, created if it does not exist, or a URI of an object store.
        grid: the grid that is going to be run; its axes may differ from those of earlier runs.
        command: the command line, for the record.
        predictions: store the prediction for each document.
        sample: the part of the grid that is going to be run; None: all of it.

    Raises:
        StoreError: if the place belongs to another sweep, is being written by another process, or cannot be
            written.
    """
    out = open_storage(place)
    with out.explained():
        record.read_record(out)  # refuse a directory with other content before writing to it
    with out.lock():
        with out.explained():
            out.prepare([""])
            found = record.read_record(out)
            if found is not None:
                record.check_record(out, found, grid)
            record.update_record(out, found, grid, command, sample)
            ran_before = (read_status(out) or {}).get("ran_seconds", 0.0)
        store = ResultStore(out, predictions, ran_before)
        try:
            yield store
        finally:
            store.publish()
