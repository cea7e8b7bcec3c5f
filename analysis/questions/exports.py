"""``report``, ``table`` and ``figure``: the results on a page and in a paper."""

from __future__ import annotations

import sys
from dataclasses import dataclass, replace
from pathlib import Path

import tyro

from analysis.frames.reading import load
from analysis.page.report import write_report
from analysis.presentation.exhibits import filter_rows, format_command
from analysis.presentation.exports import Format, build_exhibit, format_table, write_figure
from analysis.questions.question import Folder, Question, Where


@dataclass(frozen=True, slots=True, kw_only=True)
class Report(Question):
    """Write one self-contained page, which opens offline.

    It holds the figures, their tables, the cells to sort and filter, and where the results come from.
    """

    results: Folder
    where: Where = ()
    out: Path = Path("report.html")  # the file to write

    def answer(self) -> None:
        """Write the page."""
        write_report(self.results, self.out, self.where)
        print(f"wrote {self.out}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Table(Question):
    """Print a table for a paper, with its units, its n and the command that makes it.

    Tables: accuracy, ratios (balanced against uneven), noise, shifts, distributions, cells, controls,
    failures.
    """

    results: Folder
    name: tyro.conf.Positional[str]  # which table
    where: Where = ()
    format: Format = "markdown"  # latex needs the package booktabs

    def answer(self) -> None:
        """Print the table."""
        found = build_exhibit(load(self.results), self.name)
        rows = filter_rows(found.rows, self.where)
        kept = f"; {len(rows)} rows shown" if self.where else ""
        found = replace(found, rows=rows, n=found.n + kept)
        made_by = format_command(["table", self.results, self.name, "--format", self.format], self.where)
        sys.stdout.write(format_table(found, self.format, made_by))


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure(Question):
    """Draw a figure of one setting: accuracy, ratios (balanced or uneven), noise, shifts, distributions.

    An axis of the sweep that no --where fixes takes its first value.
    """

    results: Folder
    name: tyro.conf.Positional[str]  # which figure
    where: Where = ()
    out: Path  # the file to write, .svg or .png

    def answer(self) -> None:
        """Draw the figure, and say what it holds fixed."""
        print(f"wrote {self.out}: {write_figure(load(self.results), self.name, self.where, self.out)}")
