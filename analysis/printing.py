"""Exhibits in a terminal."""

from __future__ import annotations

from rich import box
from rich.table import Table
from rich.text import Text

from analysis.exhibits import Exhibit


def exhibit_table(exhibit: Exhibit) -> Table:
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
    table = Table(
        box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0), header_style="",
        caption="; ".join(same) or None, caption_justify="left",
    )  # fmt: skip
    kept = [place for place in range(len(exhibit.columns)) if place not in constant]
    for place in kept:
        column = exhibit.columns[place]
        number = exhibit.rows.schema[column.key].is_numeric()
        table.add_column(column.heading(), justify="right" if number else "left", overflow="fold")
    for line in lines:
        table.add_row(*(Text(line[place]) for place in kept))
    return table
