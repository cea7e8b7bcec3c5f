"""Tables as Markdown, LaTeX and CSV, figures as SVG and PNG: for a paper, with units, n and the command."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import polars as pl
import vl_convert

from analysis.frames.reading import Results, ResultsError
from analysis.presentation.charts import PAPER, panels, themed
from analysis.presentation.exhibits import Exhibit, Figure, filter_rows
from analysis.presentation.figures import figures
from analysis.presentation.records import cells_exhibit, controls_exhibit, failures_exhibit
from analysis.statistics.points import points

Format = Literal["markdown", "latex", "csv"]
FIGURES = ("accuracy", "ratios", "noise", "shifts", "distributions")
TABLES = (*FIGURES, "cells", "controls", "failures")
SCALE = 2  # pixels of a PNG per point
LATEX = {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"} | {
    sign: "\\" + sign for sign in "&%$#_{}"
}


def build_exhibit(results: Results, name: str) -> Exhibit:
    """The table called `name`.

    Raises:
        ResultsError: if there is none of that name.
    """
    if name not in TABLES:
        raise ResultsError(f"there is no table {name}: use one of {', '.join(TABLES)}")
    if name == "controls":
        return controls_exhibit(results)
    if name == "failures":
        return failures_exhibit(results)
    found = points(results)
    return cells_exhibit(results, found) if name == "cells" else figures(results, found)[name].exhibit


def format_table(table: Exhibit, form: Format, made_by: str) -> str:
    """A table as text, with its units, its n and the command that makes it.

    Args:
        table: what to write.
        form: `csv` has the numbers in full, its units in the headings, and n and command as comments.
        made_by: the command.
    """
    heads = [column.heading() for column in table.columns]
    if form == "csv":
        rows = table.rows.select(
            pl.col(column.key).alias(head) for column, head in zip(table.columns, heads, strict=True)
        )
        return f"# {table.title}\n# {table.n}\n# {made_by}\n{rows.write_csv()}"
    kinds = [table.rows.schema[column.key].is_numeric() for column in table.columns]
    if form == "latex":
        return _latex(table, heads, kinds, made_by)
    lines = [_markdown_line(heads), _markdown_line(["---:" if kind else "---" for kind in kinds], False)]
    lines += [_markdown_line(line) for line in table.lines()]
    return "\n".join([f"**{table.title}**", "", *lines, "", f"{table.n}. `{made_by}`", "", *table.notes, ""])


def _markdown_line(values: Sequence[str], escape: bool = True) -> str:
    return "| " + " | ".join(v.replace("|", "\\|") if escape else v for v in values) + " |"


def _latex(table: Exhibit, heads: Sequence[str], kinds: Sequence[bool], made_by: str) -> str:
    body = [" & ".join(map(_escaped, line)) + r" \\" for line in table.lines()]
    return "\n".join(
        [
            f"% {made_by}",
            r"\begin{table}",
            rf"\caption{{{_escaped(table.title)}. {_escaped(table.n)}.}}",
            r"\begin{tabular}{" + "".join("r" if kind else "l" for kind in kinds) + "}",
            r"\toprule",
            " & ".join(map(_escaped, heads)) + r" \\",
            r"\midrule",
            *body,
            r"\bottomrule",
            r"\end{tabular}",
            r"\end{table}",
            "",
        ]
    )


def _escaped(text: str) -> str:
    return "".join(LATEX.get(sign, sign) for sign in text)


def select_figure(results: Results, name: str, conditions: Sequence[str]) -> tuple[Figure, pl.DataFrame]:
    """The figure called `name`, and the rows of the one setting that is drawn.

    Args:
        results: of a sweep.
        name: one of `FIGURES`.
        conditions: ``column=value``; a control that none names takes its first value.

    Raises:
        ResultsError: if there is no such figure, or nothing to draw.
    """
    if name not in FIGURES:
        raise ResultsError(f"there is no figure {name}: use one of {', '.join(FIGURES)}")
    figure = figures(results, points(results))[name]
    rows = filter_rows(figure.exhibit.rows, conditions)
    if rows.is_empty():
        raise ResultsError(f"there is nothing to draw in {name}: no finished cell has what it compares")
    for control in figure.controls:
        rows = rows.filter(pl.col(control) == rows[control][0])
    return figure, rows


def write_figure(results: Results, name: str, conditions: Sequence[str], out: Path) -> str:
    """Draw one setting of a figure into `out`, as its suffix says.

    Returns:
        What is held fixed, in words: nothing but seeds is averaged over.

    Raises:
        ResultsError: if the suffix is neither ``.svg`` nor ``.png``, or there is nothing to draw.
    """
    if out.suffix not in (".svg", ".png"):
        raise ResultsError(f"{out} ends in {out.suffix or 'nothing'}: a figure is a .svg or a .png")
    figure, rows = select_figure(results, name, conditions)
    spec = themed(panels(figure.kind, rows, figure.panel), PAPER)
    out.parent.mkdir(parents=True, exist_ok=True)
    if out.suffix == ".svg":
        out.write_text(vl_convert.vegalite_to_svg(spec))
    else:
        out.write_bytes(vl_convert.vegalite_to_png(spec, scale=SCALE))
    fixed = ", ".join(f"{control} = {rows[control][0]}" for control in figure.controls)
    return f"{figure.exhibit.title}; {fixed}; {len(rows)} rows of {figure.exhibit.n.removeprefix('n: ')}"
