"""One self-contained page that opens offline and sends no request to any network."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import polars as pl
import vl_convert
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from analysis.frames.axes import label_of, shown_keys
from analysis.frames.provenance import progress_line, provenance
from analysis.frames.reading import Results, load
from analysis.page.narrowing import select_part
from analysis.page.sentences import summarize
from analysis.presentation.charts import EXTENTS, PAGE, draw_chart, to_vega_lite
from analysis.presentation.exhibits import Exhibit, Figure, format_command
from analysis.presentation.figures import build_figures
from analysis.presentation.records import cells_exhibit, controls_exhibit, failures_exhibit, sum_confusions
from analysis.statistics.controls import failure_lines, null_controls
from analysis.statistics.families import judged_shifts
from analysis.statistics.points import points
from lstmptq.runtime.locations import Location

PAGE_FILES = Path(__file__).parent
VEGA = "window.vegaEmbed = vegaEmbed;"
MATRIX_ENTRIES = 1_000_000  # in all confusion matrices of a page: more would make it slow to open
TABLE_ROWS = 5_000  # in the table of cells of a page
NOTHING = "No finished cell has the settings that this compares."
NO_QUANTILES = (
    "No quantiles were kept: no clean cell is quantized yet, or the results are of schema version 3 or older."
)


def write_report(path: Location, out: Path, where: Sequence[str] = ()) -> None:
    """Write the page of the results in `path` to `out`.

    Args:
        path: the ``--out`` of the sweep.
        out: the file; its directory is created.
        where: conditions ``column=value`` on the table `cells`: the page shows only that part.

    Raises:
        ResultsError: if there are no results at `path`, or `where` leaves none.
    """
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(render_report(load(path), path, out, where), encoding="utf-8")


def render_report(whole: Results, path: Location, out: Path, where: Sequence[str] = ()) -> str:
    """Render the page as HTML.

    Args:
        whole: the results in `path`.
        path: the ``--out`` of the sweep, for the commands that the page quotes.
        out: the file of the page, for the command that writes it.
        where: conditions that narrow the page.
    """
    part = select_part(whole, where)
    results = part.results
    found = points(results)
    drawn = build_figures(results, found)
    environment = Environment(
        loader=FileSystemLoader(PAGE_FILES), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    datasets = results.cells.select(pl.col("dataset").unique().sort()).collect()["dataset"].to_list()
    sections = {"summary": "In short", **{name: figure.exhibit.title for name, figure in drawn.items()}}
    sections |= {"confusion": "Confusion matrices", "cells": "Cells", "failed": "Failed cells"}
    sections |= {"controls": "Null controls", "provenance": "Where this comes from"}
    return environment.get_template("report.html").render(
        title="What survives quantization" + (f": {', '.join(map(str, datasets))}" if datasets else ""),
        alarms=failure_lines(null_controls(results.tensors, results.cells)),
        progress=progress_line(whole),
        narrowed=part.sentence,
        sections=sections.items(),
        sentences=summarize(found, judged_shifts(results.tensors, results.cells)),
        figures=[_prepare_figure(figure, path) for figure in drawn.values()],
        confusion=_prepare_confusion(results, found),
        cells=_prepare_cells(cells_exhibit(results, found), shown_keys(found), path),
        failed=failures_exhibit(whole),
        failed_command=format_command(["table", path, "failures"]),
        controls=controls_exhibit(results),
        controls_command=format_command(["table", path, "controls"]),
        provenance=provenance(whole, path, format_command(["report", path, "--out", out], where)),
        css=Markup((PAGE_FILES / "report.css").read_text()),
        script=Markup((PAGE_FILES / "report.js").read_text()),
        vega=_bundle_vega(),
    )


def _prepare_figure(figure: Figure, path: Location) -> dict[str, Any]:
    """Prepare a figure for the template."""
    exhibit, rows = figure.exhibit, figure.exhibit.rows
    known: dict[str, Any] = {"name": exhibit.name, "title": exhibit.title}
    if rows.is_empty():
        return known | {"empty": NO_QUANTILES if exhibit.name == "distributions" else NOTHING}
    specs = {
        panel: to_vega_lite(draw_chart(figure.kind, rows.filter(pl.col(figure.panel) == panel), PAGE), PAGE)
        for panel in figure.panels
    }
    used = {column.key for column in exhibit.columns} | set(_find_fields(list(specs.values())))
    payload = _to_payload(rows.select(name for name in rows.columns if name in used)) | {
        "headings": _describe_columns(exhibit),
        "panel": figure.panel,
        "extent": EXTENTS.get(figure.kind, ()),
        "specs": specs,
    }
    return known | {
        "empty": "",
        "controls": _prepare_controls(rows, figure.controls),
        "panels": figure.panels,
        "n": exhibit.n,
        "notes": exhibit.notes,
        "command": format_command(["table", path, exhibit.name]),
        "payload": _to_json(payload),
    }


def _prepare_controls(rows: pl.DataFrame, keys: Iterable[str], first: int = 0) -> list[dict[str, Any]]:
    """Describe a control per key: its values in the order of the rows, by default that of row `first`."""
    return [
        {
            "key": key,
            "label": label_of(key),
            "options": list(map(str, rows[key].unique(maintain_order=True))),
            "default": str(rows[key][first]),
        }
        for key in keys
    ]


def _prepare_confusion(results: Results, found: pl.DataFrame) -> dict[str, Any]:
    rows = sum_confusions(results, found)
    if rows.is_empty():
        return {"empty": NOTHING}
    note = "Documents, and their share of the true class. Summed over seeds."
    if rows["matrix"].list.len().sum() > MATRIX_ENTRIES:
        rows = rows.filter(pl.col("noise") == "clean")
        note += " Only clean input: all matrices would be too many for one page."
    controls = ("model", *shown_keys(found), "class_ratio", "width", "input")
    first = rows["bits"].is_not_null().arg_max()  # the first quantized row, or row 0
    classes = rows.group_by("dataset", maintain_order=True).agg(pl.col("classes").first())
    payload = _to_payload(rows.select(*dict.fromkeys(("dataset", *controls, "accuracy", "matrix"))))
    payload["classes"] = dict(classes.iter_rows())
    listed = _prepare_controls(rows, controls, first or 0)
    return {"empty": "", "controls": listed, "note": note, "payload": _to_json(payload)}


def _prepare_cells(exhibit: Exhibit, keys: Sequence[str], path: Location) -> dict[str, Any]:
    rows = exhibit.rows
    if rows.is_empty():
        return {"empty": "No cell is written yet."}
    filters = ("model", *keys, "seed", "width", "internal_bits", "class_ratio", "input", "state")
    controls = _prepare_controls(rows, [key for key in filters if rows[key].n_unique() > 1])
    cut = ""
    if len(rows) > TABLE_ROWS:
        cut = (
            f"The first {TABLE_ROWS:,} of {len(rows):,} cells: those that failed, then those that lost most. "
            "The command below lists all of them."
        )
        first = rows.with_row_index("place").sort(
            pl.col("status") != "failed", pl.col("accuracy_drop").neg(), "place", nulls_last=True
        )
        rows = first.head(TABLE_ROWS).sort("place").drop("place")
    payload = _to_payload(rows.select(column.key for column in exhibit.columns))
    payload["headings"] = _describe_columns(exhibit)
    return {
        "empty": "",
        "controls": controls,
        "command": format_command(["table", path, exhibit.name, "--format", "csv"]),
        "cut": cut,
        "payload": _to_json(payload),
    }


def _describe_columns(exhibit: Exhibit) -> list[dict[str, Any]]:
    return [
        {"key": one.key, "heading": one.heading(), "digits": one.digits, "number": exhibit.is_number(one)}
        for one in exhibit.columns
    ]


def _to_payload(rows: pl.DataFrame) -> dict[str, Any]:
    """Convert rows to columns for the page: numbers with six digits, text as codes into its values."""
    made: dict[str, Any] = {}
    for name in rows.columns:
        column = rows[name]
        if column.dtype == pl.String:
            values = column.unique(maintain_order=True)
            codes = dict(zip(values, range(len(values)), strict=True))
            made[name] = {"values": values.to_list(), "codes": [codes[value] for value in column]}
        elif column.dtype.is_float():
            made[name] = column.round_sig_figs(6).fill_nan(None).to_list()
        else:
            made[name] = column.to_list()
    return {"columns": made, "length": len(rows)}


def _find_fields(spec: Any) -> Iterable[str]:
    """Find the columns that a specification reads."""
    if isinstance(spec, dict):
        for key, value in spec.items():
            if key == "field" and isinstance(value, str):
                yield value
            yield from _find_fields(value)
    elif isinstance(spec, list):
        for value in spec:
            yield from _find_fields(value)


def _to_json(value: Any) -> Markup:
    """Encode JSON so that it cannot end the script element around it."""
    text = json.dumps(value, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return Markup(text.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029"))


@cache
def _bundle_vega() -> Markup:
    """Bundle Vega, which takes seconds, and escape it so that it cannot end the script element around it."""
    source = vl_convert.javascript_bundle(VEGA)
    return Markup(source.replace("</script", "<\\/script").replace("<!--", "<\\!--"))
