"""Output in a terminal: the console, headings, small print, tables and exhibits."""

from __future__ import annotations

import os
from collections.abc import Container, Iterable

from rich import box
from rich.console import Console, RenderableType
from rich.table import Table
from rich.text import Text

from analysis.presentation.exhibits import Exhibit
from analysis.presentation.phrasing import MISSING

Page = list[RenderableType]

PLAIN_WIDTH = 100  # if the output is not a terminal and COLUMNS is not set


def new_console() -> Console:
    """Return a console as wide as the terminal, or `PLAIN_WIDTH` for a pipe or a file."""
    console = Console(highlight=False)
    if not console.is_terminal and "COLUMNS" not in os.environ:
        console.width = PLAIN_WIDTH
    return console


def heading(text: str) -> Text:
    """Return a heading with an empty line before it."""
    return Text(f"\n{text}", style="bold")


def note(text: str) -> Text:
    """Return small print."""
    return Text(text, style="dim")


def new_table() -> Table:
    """Return an empty table in the style of all printed tables: no frame, plain headings."""
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
    """Render an exhibit as a table; its caption names the texts that are the same in every row."""
    lines = list(exhibit.lines())
    table = new_table()
    same, kept = [], []
    for place, column in enumerate(exhibit.columns):
        number = exhibit.is_number(column)
        if not number and len(lines) > 1 and len({line[place] for line in lines}) == 1:
            if lines[0][place] not in ("", MISSING):
                same.append(f"{column.heading()}: {lines[0][place]}")
            continue
        kept.append(place)
        table.add_column(column.heading(), justify="right" if number else "left", overflow="fold")
    table.caption, table.caption_justify = "; ".join(same) or None, "left"
    for line in lines:
        table.add_row(*(Text(line[place]) for place in kept))
    return table
