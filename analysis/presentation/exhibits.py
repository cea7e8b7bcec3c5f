"""Exhibits: tables with their units and their n, and the figures drawn from them."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from analysis.frames.axes import label_of
from analysis.frames.reading import ResultsError
from analysis.presentation.phrasing import MISSING, format_number


@dataclass(frozen=True, slots=True)
class Column:
    """One column of a table.

    Attributes:
        key: the name of the column in the rows.
        label: the heading; empty takes the label of `key`.
        unit: the unit of the numbers; empty for text and counts.
        digits: the digits after the decimal point; None for text and whole numbers.
    """

    key: str
    label: str = ""
    unit: str = ""
    digits: int | None = None

    def heading(self) -> str:
        """Return the label with the unit."""
        label = self.label or label_of(self.key)
        return f"{label}, {self.unit}" if self.unit else label


@dataclass(frozen=True, slots=True)
class Exhibit:
    """A table, ready to be printed.

    Attributes:
        name: the name on the command line.
        title: a title of one line.
        columns: the columns to show, in order; each is a column of `rows`.
        rows: the values, in the units given by `columns`.
        n: the number of rows, seeds or tests behind the table, in words.
        notes: sentences that a reader needs to understand the table.
    """

    name: str
    title: str
    columns: tuple[Column, ...]
    rows: pl.DataFrame
    n: str
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        missing = [column.key for column in self.columns if column.key not in self.rows.columns]
        if missing:
            raise ValueError(f"the rows of {self.name} lack {missing}: they have {self.rows.columns}")

    def lines(self) -> Iterator[list[str]]:
        """Yield each row as text, with the digits given by `columns` and a dash for an unknown value."""
        for row in self.rows.select(column.key for column in self.columns).iter_rows():
            yield [_format_value(value, one.digits) for value, one in zip(row, self.columns, strict=True)]

    def is_number(self, column: Column) -> bool:
        """Return whether a column holds numbers, which are aligned to the right."""
        return self.rows.schema[column.key].is_numeric()


def _format_value(value: Any, digits: int | None) -> str:
    if isinstance(value, float) and digits is not None:
        return format_number(value, digits)
    return MISSING if value is None else str(value)


@dataclass(frozen=True, slots=True)
class Figure:
    """A figure of an exhibit, with a panel per value of `panel` and all `controls` held fixed.

    Attributes:
        exhibit: the data, which is also the table behind the figure.
        panel: the column with one value per panel.
        controls: the columns of which a figure shows one value at a time.
        kind: a key of `analysis.presentation.charts.CHARTS`.
    """

    exhibit: Exhibit
    panel: str
    controls: tuple[str, ...]
    kind: str

    @property
    def panels(self) -> list[str]:
        """The values that have a panel each, in the order of the rows."""
        return list(map(str, self.exhibit.rows[self.panel].unique(maintain_order=True)))


def format_command(words: Sequence[str | Path], where: Sequence[str] = ()) -> str:
    """Format a shell command ``python -m analysis ...`` with the conditions of its ``--where``, if any."""
    conditions = ["--where", *where] if where else []
    return shlex.join(["python", "-m", "analysis", *map(str, words), *conditions])


def filter_rows(rows: pl.DataFrame, conditions: Sequence[str]) -> pl.DataFrame:
    """Return the rows that meet all conditions.

    Args:
        rows: the rows of an exhibit.
        conditions: conditions ``column=value``, with the value as the exhibit prints it.

    Raises:
        ResultsError: if a condition has no ``=``, there is no such column, or no row has the value.
    """
    for condition in conditions:
        name, mark, value = condition.partition("=")
        if not mark or name not in rows.columns:
            raise ResultsError(
                f"--where {condition} cannot be met: write column=value, the columns are "
                f"{', '.join(rows.columns)}"
            )
        kept = rows.filter(pl.col(name).cast(pl.String) == value)
        if kept.is_empty():
            values = ", ".join(str(v) for v in rows[name].unique(maintain_order=True)[:20])
            raise ResultsError(f"--where {condition} leaves no row: {name} is one of {values}")
        rows = kept
    return rows
