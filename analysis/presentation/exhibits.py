"""What a report shows: a table with its units, its n and the command that makes it, and a figure of one."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from analysis.frames.reading import ResultsError
from analysis.frames.settings import label_of


@dataclass(frozen=True, slots=True)
class Column:
    """One column of a table.

    Attributes:
        key: its name in the rows.
        label: its heading.
        unit: of its numbers; empty for text and counts.
        digits: after the point; None for text and whole numbers.
    """

    key: str
    label: str = ""
    unit: str = ""
    digits: int | None = None

    def heading(self) -> str:
        """The label with its unit."""
        label = self.label or label_of(self.key)
        return f"{label}, {self.unit}" if self.unit else label


@dataclass(frozen=True, slots=True)
class Exhibit:
    """A table, ready to be printed.

    Attributes:
        name: what the command line calls it.
        title: one line.
        columns: in their order; each is a column of `rows`.
        rows: the values, in the units that `columns` say.
        n: how much it rests on, in words.
        notes: what has to be known to read it.
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
        """The rows as text, number by number as `columns` say; a dash where nothing is known."""
        keys = [column.key for column in self.columns]
        for row in self.rows.select(keys).iter_rows():
            yield [_text(value, column.digits) for value, column in zip(row, self.columns, strict=True)]


def _text(value: Any, digits: int | None) -> str:
    if value is None:
        return "–"
    if digits is None or not isinstance(value, float):
        return str(value)
    text = f"{value:.{digits}f}"
    return f"{0:.{digits}f}" if float(text) == 0 else text  # no -0.0, which would read as a gain


@dataclass(frozen=True, slots=True)
class Figure:
    """A figure of an exhibit: one panel a value of `panel`, everything in `controls` held fixed.

    Attributes:
        exhibit: its data, which is also the table behind it.
        panel: the column that tells its panels apart.
        controls: columns of which a figure shows one value at a time.
        kind: which chart of `analysis.presentation.charts` draws it.
    """

    exhibit: Exhibit
    panel: str
    controls: tuple[str, ...]
    kind: str

    def options(self, control: str) -> list[str]:
        """The values of a control, in the order of the rows."""
        return [str(value) for value in self.exhibit.rows[control].unique(maintain_order=True)]

    def panels(self) -> list[str]:
        """The values that have a panel each."""
        return [str(value) for value in self.exhibit.rows[self.panel].unique(maintain_order=True)]

    def defaults(self) -> dict[str, str]:
        """The first row's value of every control: a setting that is there for certain."""
        if self.exhibit.rows.is_empty():
            return {}
        return {name: str(self.exhibit.rows[name][0]) for name in self.controls}


def format_command(words: Sequence[str | Path], where: Sequence[str] = ()) -> str:
    """``python -m analysis ...`` as one can paste it, with the conditions of its ``--where``, if any."""
    conditions = ["--where", *where] if where else []
    return shlex.join(["python", "-m", "analysis", *map(str, words), *conditions])


def filter_rows(rows: pl.DataFrame, conditions: Sequence[str]) -> pl.DataFrame:
    """The rows that meet all conditions.

    Args:
        rows: of an exhibit.
        conditions: each reads ``column=value``; the value as the exhibit prints it.

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
