"""Export tables as Markdown, LaTeX and CSV and figures as SVG and PNG: with units, n and the command."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import polars as pl
import vl_convert

from analysis.frames.reading import Results, ResultsError
from analysis.presentation.charts import PAPER, draw_panels, to_vega_lite
from analysis.presentation.exhibits import Exhibit, Figure, filter_rows
from analysis.presentation.figures import build_figures
from analysis.presentation.records import cells_exhibit, controls_exhibit, failures_exhibit
from analysis.statistics.points import points

Format = Literal["markdown", "latex", "csv"]
FIGURES = ("accuracy", "ratios", "noise", "shifts", "distributions")
TABLES = (*FIGURES, "cells", "controls", "failures")
SCALE = 2  # pixels of a PNG per pixel of the chart
ESCAPES = {sign: "\\" + sign for sign in "&%$#_{}"}
ESCAPES |= {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}
LATEX = str.maketrans(ESCAPES)
MARKDOWN = str.maketrans({"|": r"\|"})


def build_exhibit(results: Results, name: str) -> Exhibit:
    """Build the table called `name`.

    Raises:
        ResultsError: if there is no table of that name.
    """
    if name not in TABLES:
        raise ResultsError(f"there is no table {name}: use one of {', '.join(TABLES)}")
    if name == "controls":
        return controls_exhibit(results)
    if name == "failures":
        return failures_exhibit(results)
    found = points(results)
    return cells_exhibit(results, found) if name == "cells" else build_figures(results, found)[name].exhibit


def format_table(table: Exhibit, form: Format, made_by: str) -> str:
    """Format a table as text, with its units, its n and the command that makes it.

    Args:
        table: the table.
        form: the format; `csv` has unrounded numbers, units in the headings, n and command as comments.
        made_by: the command.
    """
    heads = [column.heading() for column in table.columns]
    numbers = [table.is_number(column) for column in table.columns]
    if form == "csv":
        keys = zip(table.columns, heads, strict=True)
        rows = table.rows.select(pl.col(column.key).alias(head) for column, head in keys)
        return f"# {table.title}\n# {table.n}\n# {made_by}\n{rows.write_csv()}"
    n = table.n.removesuffix(".")
    if form == "latex":
        first, *body = (
            " & ".join(text.translate(LATEX) for text in line) + r" \\" for line in (heads, *table.lines())
        )
        return "\n".join([
            f"% {made_by}", r"\begin{table}", rf"\caption{{{f'{table.title}. {n}.'.translate(LATEX)}}}",
            rf"\begin{{tabular}}{{{''.join('r' if number else 'l' for number in numbers)}}}", r"\toprule",
            first, r"\midrule", *body, r"\bottomrule", r"\end{tabular}", r"\end{table}", "",
        ])  # fmt: skip
    first, *body = (
        f"| {' | '.join(text.translate(MARKDOWN) for text in line)} |" for line in (heads, *table.lines())
    )
    rule = f"| {' | '.join('---:' if number else '---' for number in numbers)} |"
    return "\n".join(
        [f"**{table.title}**", "", first, rule, *body, "", f"{n}. `{made_by}`", "", *table.notes, ""]
    )


def select_figure(results: Results, name: str, conditions: Sequence[str]) -> tuple[Figure, pl.DataFrame]:
    """Select the figure called `name` and the rows of the one setting that it draws.

    Args:
        results: the results of a sweep.
        name: one of `FIGURES`.
        conditions: conditions ``column=value``; a control that no condition names takes its first value.

    Raises:
        ResultsError: if there is no such figure, or nothing to draw.
    """
    if name not in FIGURES:
        raise ResultsError(f"there is no figure {name}: use one of {', '.join(FIGURES)}")
    figure = build_figures(results, points(results))[name]
    rows = filter_rows(figure.exhibit.rows, conditions)
    if rows.is_empty():
        raise ResultsError(f"there is nothing to draw in {name}: no finished cell has what it compares")
    for control in figure.controls:
        rows = rows.filter(pl.col(control) == rows[control][0])
    return figure, rows


def write_figure(results: Results, name: str, conditions: Sequence[str], out: Path) -> str:
    """Draw one setting of a figure into `out`, in the format of its suffix.

    Returns:
        The title, the fixed controls and the number of rows, in words.

    Raises:
        ResultsError: if the suffix is neither ``.svg`` nor ``.png``, or there is nothing to draw.
    """
    if out.suffix not in (".svg", ".png"):
        raise ResultsError(f"{out} ends in {out.suffix or 'nothing'}: a figure is a .svg or a .png")
    figure, rows = select_figure(results, name, conditions)
    spec = to_vega_lite(draw_panels(figure.kind, rows, figure.panel), PAPER)
    out.parent.mkdir(parents=True, exist_ok=True)
    svg = out.suffix == ".svg"
    out.write_bytes(
        vl_convert.vegalite_to_svg(spec).encode() if svg else vl_convert.vegalite_to_png(spec, scale=SCALE)
    )
    fixed = ", ".join(f"{control} = {rows[control][0]}" for control in figure.controls)
    return f"{figure.exhibit.title}; {fixed}; {len(rows)} rows of {figure.exhibit.n.removeprefix('n: ')}"
