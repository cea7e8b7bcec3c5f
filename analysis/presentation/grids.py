"""Accuracy grids for a terminal: a row per bit width and a block of columns per model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import polars as pl
from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from analysis.frames.axes import FP32
from analysis.presentation.phrasing import format_percent

Row = Mapping[str, Any]

GAP = 2  # characters between columns
COLLAPSED, DEAD, BOTH = "*", "†", "‡"
FAILED, ABSENT = "failed", "·"
NOTHING = "–"  # the heading of a column that has only FP32

LEGEND = {
    COLLAPSED: "collapsed, in at least one seed: one class took over half of the documents of the others",
    DEAD: "dead signal, in at least one seed: a stage gives the same value for every input",
    BOTH: "collapsed (one class took over half of the documents of the others) and dead signal (a stage "
    "gives the same value for every input), in at least one seed",
    FAILED: "all of its cells failed; the summary lists the reasons",
    ABSENT: "no finished cell yet",
    NOTHING: "nothing is quantized yet, so there is no class ratio",
}


@dataclass(frozen=True, slots=True)
class GridText:
    """The entries of one grid as text.

    Attributes:
        places: the text by model, column and bits.
        columns: the columns of each model, in order.
        bits: the rows, FP32 (None) first.
        used: the marks that occur.
    """

    places: Mapping[tuple[str, str, int | None], str]
    columns: Mapping[str, Sequence[str]]
    bits: Sequence[int | None]
    used: frozenset[str]

    def width(self, model: str, column: str) -> int:
        """Return the characters that a column needs; a list of shares is broken at its commas."""
        texts = (self.places[model, column, bits] for bits in self.bits)
        needed = max(len(text) for text in (*texts, *_break_at_commas(column).split(", ")))
        return max(needed, len(model)) if len(self.columns[model]) == 1 else needed


def lay_out_grid(scored: pl.DataFrame, across: str) -> GridText:
    """Lay out one panel: accuracy in %, loss in points, mark, and the seeds where some are missing.

    Args:
        scored: rows of `analysis.statistics.scores.scores` with equal settings.
        across: the column whose values are the grid's columns.
    """
    # A model without quantized cells has FP32 under no class ratio.
    rows = scored.with_columns(pl.col(across).fill_null(NOTHING)).to_dicts()
    seeds = max((row["seeds"] for row in rows), default=0)
    columns = {
        model: list(dict.fromkeys(row[across] for row in rows if row["model"] == model))
        for model in dict.fromkeys(row["model"] for row in rows)
    }
    accuracy, drop = (
        max((len(format_percent(row[key], missing="")) for row in rows), default=0)
        for key in ("accuracy", "accuracy_drop")
    )
    places, used = {}, {row[across] for row in rows} & {NOTHING}
    for row in rows:
        text, marks = _format_entry(row, accuracy, drop, seeds)
        places[row["model"], row[across], row["bits"]] = text
        used |= marks
    bits = [None, *sorted({row["bits"] for row in rows} - {None}, reverse=True)]
    for model, column, width in ((m, c, w) for m in columns for c in columns[m] for w in bits):
        if (model, column, width) not in places:
            places[model, column, width] = ABSENT
            used.add(ABSENT)
    return GridText(places, columns, bits, frozenset(used))


def _format_entry(row: Row, accuracy: int, drop: int, seeds: int) -> tuple[str, set[str]]:
    if row["accuracy"] is None:
        mark = FAILED if row["failed"] else ABSENT
        return mark, {mark}
    mark = {(True, True): BOTH, (True, False): COLLAPSED, (False, True): DEAD}.get(
        (row["collapsed"], row["dead"]), ""
    )
    points = "" if row["bits"] is None else format_percent(row["accuracy_drop"], missing="")
    fewer = f"×{row['seeds']}" if row["seeds"] < seeds else ""
    text = f"{format_percent(row['accuracy']):>{accuracy}} {points:>{drop}}{mark or ' '}{fewer}"
    return text, {mark} if mark else set()


def render_grid(grid: GridText, width: int) -> RenderableType:
    """Render the grid as tables: the models side by side if they fit into `width`, else below each other."""
    blocks = list(grid.columns.items())
    side_by_side = len(FP32) + sum(GAP + _block_width(grid, model, columns) for model, columns in blocks)
    if side_by_side <= width:
        outer = Table.grid(padding=(0, GAP, 0, 0))
        first, *others = blocks
        outer.add_row(_block(grid, *first, True), *(_block(grid, *block, False) for block in others))
        return outer
    parts: list[RenderableType] = []
    for model, columns in blocks:
        for part in _split(grid, model, columns, width):
            parts += [_block(grid, model, part, True), Text()]
    return Group(*parts[:-1])


def _split(grid: GridText, model: str, columns: Sequence[str], width: int) -> list[list[str]]:
    """Split `columns` into runs of at least one column that fit into `width`."""
    runs: list[list[str]] = [[]]
    for column in columns:
        if runs[-1] and len(FP32) + GAP + _block_width(grid, model, [*runs[-1], column]) > width:
            runs.append([])
        runs[-1].append(column)
    return runs


def _block_width(grid: GridText, model: str, columns: Sequence[str]) -> int:
    return sum(grid.width(model, column) for column in columns) + GAP * (len(columns) - 1)


def _block(grid: GridText, model: str, columns: Sequence[str], with_bits: bool) -> Table:
    table = Table(
        title=model, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, show_edge=False,
        pad_edge=False, padding=(0, GAP - 1, 0, 0), header_style="",
    )  # fmt: skip
    if with_bits:
        table.add_column("bits", justify="right", width=len(FP32))
    for column in columns:
        table.add_column(
            Text(_break_at_commas(column)), justify="left", width=grid.width(model, column), no_wrap=False
        )
    for bits in grid.bits:
        label = [Text(FP32 if bits is None else str(bits))] if with_bits else []
        table.add_row(*label, *(_style(grid.places[model, column, bits]) for column in columns))
    return table


def _style(text: str) -> Text:
    style = "red" if any(mark in text for mark in (COLLAPSED, DEAD, BOTH, FAILED)) else ""
    return Text(text, style=style, no_wrap=True)


def _break_at_commas(column: str) -> str:
    """Allow line breaks after the commas of a list of shares."""
    return column.replace(",", ", ")
