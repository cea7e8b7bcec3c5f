"""What a terminal shows: the console, headings, small print, tables, exhibits."""

from __future__ import annotations

import os
from collections.abc import Container, Iterable

from rich import box
from rich.console import Console, RenderableType
from rich.table import Table
from rich.text import Text

from analysis.presentation.exhibits import Exhibit

Page = list[RenderableType]

PLAIN_WIDTH = 100  # where the output is no terminal and COLUMNS does not say


def new_console() -> Console:
    """A console as wide as the terminal, or `PLAIN_WIDTH` into a pipe or a file."""
    console = Console(highlight=False)
    if not console.is_terminal and "COLUMNS" not in os.environ:
        console.width = PLAIN_WIDTH
    return console


def heading(text: str) -> Text:
    """A heading with an empty line before it."""
    return Text(f"\n{text}", style="bold")


def note(text: str) -> Text:
    """Small print."""
    return Text(text, style="dim")


def new_table() -> Table:
    """A table without a frame, its heads plain: as all that are printed are."""
    return Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0), header_style="")


def text_table(headings: Iterable[str], rows: Iterable[Iterable[str]], left: Container[str] = ()) -> Table:
    """Return a table of texts: the columns named in `left` are text and fold, the others are numbers."""
    table = new_table()
    for name in headings:
        words = name in left
        table.add_column(name, justify="left" if words else "right", overflow="fold", no_wrap=not words)
    for row in rows:
        table.add_row(*map(Text, row))
    return table


def render_exhibit(exhibit: Exhibit) -> Table:
    """An exhibit as a table; what is the same in every row is said once, in its caption."""
    lines = list(exhibit.lines())
    constant = {
        place
        for place, column in enumerate(exhibit.columns)
        if len(lines) > 1
        and len({line[place] for line in lines}) == 1
        and not exhibit.rows.schema[column.key].is_numeric()
    }
    same = [
        f"{exhibit.columns[place].heading()}: {lines[0][place]}"
        for place in sorted(constant)
        if lines[0][place] not in ("", "–")
    ]
    table = new_table()
    table.caption, table.caption_justify = "; ".join(same) or None, "left"
    kept = [place for place in range(len(exhibit.columns)) if place not in constant]
    for place in kept:
        column = exhibit.columns[place]
        number = exhibit.rows.schema[column.key].is_numeric()
        table.add_column(column.heading(), justify="right" if number else "left", overflow="fold")
    for line in lines:
        table.add_row(*(Text(line[place]) for place in kept))
    return table
