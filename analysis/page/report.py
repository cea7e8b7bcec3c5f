"""One self-contained page: opens offline, asks nothing of any network."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import polars as pl
import vl_convert
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from analysis.frames.provenance import progress_line, provenance
from analysis.frames.reading import Results, load
from analysis.frames.settings import label_of, shown_keys
from analysis.page.narrowing import select_part
from analysis.page.sentences import sentences
from analysis.presentation.charts import EXTENTS, PAGE, chart, themed
from analysis.presentation.exhibits import Column, Exhibit, Figure, format_command
from analysis.presentation.figures import figures
from analysis.presentation.records import cells_exhibit, confusion_rows, controls_exhibit, failures_exhibit
from analysis.statistics.controls import failure_lines, null_controls
from analysis.statistics.families import judged_shifts
from analysis.statistics.points import points
from lstmptq.runtime.locations import Location

PAGE_FILES = Path(__file__).parent
VEGA = "window.vegaEmbed = vegaEmbed;"
MATRIX_ENTRIES = 1_000_000  # of all confusion matrices in a page: more would make it slow to open
TABLE_ROWS = 5_000  # of the table of cells in a page
NOTHING = "No finished cell has what this compares."
EMPTY = {
    "distributions": "No quantiles were kept: no clean cell is quantized yet, or the results are of schema "
    "version 3 or older."
}


def write_report(path: Location, out: Path, where: Sequence[str] = ()) -> None:
    """Write the page of the results in `path` to `out`.

    Args:
        path: the sweep's ``--out``.
        out: the file; its directory is made.
        where: ``column=value`` of the table `cells`, any number: only that part.

    Raises:
        ResultsError: if there are no results at `path`, or `where` leaves none.
    """
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(report_html(load(path), path, out, where), encoding="utf-8")


def report_html(whole: Results, path: Location, out: Path, where: Sequence[str] = ()) -> str:
    """The page as text.

    Args:
        whole: what is in `path`.
        path: the sweep's ``--out``, for the commands that the page quotes.
        out: where the page will be, for the command that makes it.
        where: conditions that narrow it.
    """
    part = select_part(whole, where)
    results = part.results
    found = points(results)
    judged = judged_shifts(results.tensors, results.cells)
    drawn = figures(results, found)
    controls = controls_exhibit(results)
    environment = Environment(
        loader=FileSystemLoader(PAGE_FILES), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    table = environment.get_template("table.html")

    def static(exhibit: Exhibit, heading: bool = True) -> Markup:
        return Markup(table.render(exhibit=_printed(exhibit, path), heading=heading))

    datasets = results.cells.select(pl.col("dataset").unique().sort()).collect()["dataset"].to_list()
    title = "What survives quantization" + (f": {', '.join(map(str, datasets))}" if datasets else "")
    sections = [("summary", "In short")]
    sections += [(name, figure.exhibit.title) for name, figure in drawn.items()]
    sections += [("confusion", "Confusion matrices"), ("cells", "Cells"), ("failed", "Failed cells")]
    sections += [("controls", "Null controls"), ("provenance", "Where this comes from")]
    return environment.get_template("report.html").render(
        title=title,
        alarms=failure_lines(null_controls(results.tensors, results.cells)),
        progress=progress_line(whole),
        narrowed=part.sentence,
        sections=sections,
        sentences=sentences(found, judged),
        figures=[_figure(figure, path) for figure in drawn.values()],
        confusion=_confusion(results, found),
        cells=_cells(cells_exhibit(results, found), shown_keys(found), path),
        failed=failures_exhibit(whole),
        controls=controls,
        provenance=provenance(whole, path, format_command(["report", path, "--out", out], where)),
        static=static,
        css=Markup((PAGE_FILES / "report.css").read_text()),
        script=Markup((PAGE_FILES / "report.js").read_text()),
        vega=_script(vl_convert.javascript_bundle(VEGA)),
    )


def _figure(figure: Figure, path: Location) -> dict[str, Any]:
    """What the template needs of a figure."""
    exhibit, rows = figure.exhibit, figure.exhibit.rows
    known: dict[str, Any] = {"name": exhibit.name, "title": exhibit.title}
    if rows.is_empty():
        return known | {"empty": EMPTY.get(exhibit.name, NOTHING)}
    spec = themed(chart(figure.kind, rows, PAGE), PAGE)
    used = {column.key for column in exhibit.columns} | set(_fields(spec)) | {figure.panel, *figure.controls}
    payload = {
        "columns": _columns(rows.select(name for name in rows.columns if name in used)),
        "length": len(rows),
        "headings": _headings(exhibit),
        "panel": figure.panel,
        "extent": EXTENTS.get(figure.kind, ()),
        "specs": {
            panel: themed(chart(figure.kind, rows.filter(pl.col(figure.panel) == panel), PAGE), PAGE)
            for panel in figure.panels()
        },
    }
    return known | {
        "empty": "",
        "controls": _controls(figure),
        "panels": figure.panels(),
        "n": exhibit.n,
        "notes": exhibit.notes,
        "command": format_command(["table", path, exhibit.name]),
        "payload": _json(payload),
    }


def _controls(figure: Figure) -> list[dict[str, Any]]:
    defaults = figure.defaults()
    return [
        {"key": key, "label": label_of(key), "options": figure.options(key), "default": defaults[key]}
        for key in figure.controls
    ]


def _confusion(results: Results, found: pl.DataFrame) -> dict[str, Any]:
    rows = confusion_rows(results, found)
    if rows.is_empty():
        return {"empty": NOTHING}
    entries = int(rows["matrix"].list.len().sum())
    note = "Documents, and their share of the true class. Summed over seeds."
    if entries > MATRIX_ENTRIES:
        rows = rows.filter(pl.col("noise") == "clean")
        note += " Clean input alone: there are too many for one page."
    controls = ("model", *shown_keys(found), "class_ratio", "width", "input")
    quantized = rows.filter(pl.col("bits").is_not_null())
    first = (quantized if len(quantized) else rows).row(0, named=True)
    classes = rows.group_by("dataset", maintain_order=True).agg(pl.col("classes").first())
    kept = rows.select(*dict.fromkeys(("dataset", *controls, "accuracy")))
    columns = _columns(kept) | {"matrix": rows["matrix"].to_list()}
    payload = {"columns": columns, "length": len(rows), "classes": dict(classes.iter_rows())}
    listed = [
        {
            "key": key,
            "label": label_of(key),
            "options": rows[key].unique(maintain_order=True).to_list(),
            "default": first[key],
        }
        for key in controls
    ]
    return {"empty": "", "controls": listed, "note": note, "payload": _json(payload)}


def _cells(exhibit: Exhibit, keys: Sequence[str], path: Location) -> dict[str, Any]:
    rows = exhibit.rows
    if rows.is_empty():
        return {"empty": "No cell is written yet."}
    filters = [
        key
        for key in ("model", *keys, "seed", "width", "internal_bits", "class_ratio", "input", "state")
        if rows[key].n_unique() > 1
    ]
    options = {key: [str(value) for value in rows[key].unique(maintain_order=True)] for key in filters}
    everything = format_command(["table", path, exhibit.name, "--format", "csv"])
    cut = ""
    if len(rows) > TABLE_ROWS:
        cut = (
            f"The first {TABLE_ROWS:,} of {len(rows):,} cells: those that failed, then those that lost most. "
            "All of them: the command below."
        )
        first = rows.with_row_index("place").sort(
            pl.col("status") != "failed", pl.col("accuracy_drop").neg(), "place", nulls_last=True
        )
        rows = first.head(TABLE_ROWS).sort("place").drop("place")
    payload = {
        "columns": _columns(rows.select(column.key for column in exhibit.columns)),
        "length": len(rows),
        "headings": _headings(exhibit),
    }
    return {
        "empty": "",
        "controls": [{"key": key, "label": label_of(key), "options": options[key]} for key in filters],
        "command": everything,
        "cut": cut,
        "payload": _json(payload),
    }


def _printed(exhibit: Exhibit, path: Location) -> dict[str, Any]:
    """An exhibit as text for the template of a table."""
    return {
        "title": exhibit.title,
        "columns": [{"text": one.heading(), "number": _is_number(exhibit, one)} for one in exhibit.columns],
        "lines": list(exhibit.lines()),
        "n": exhibit.n,
        "notes": exhibit.notes,
        "command": format_command(["table", path, exhibit.name]),
    }


def _is_number(exhibit: Exhibit, column: Column) -> bool:
    return bool(exhibit.rows.schema[column.key].is_numeric())


def _headings(exhibit: Exhibit) -> list[dict[str, Any]]:
    return [
        {"key": one.key, "heading": one.heading(), "digits": one.digits, "number": _is_number(exhibit, one)}
        for one in exhibit.columns
    ]


def _columns(rows: pl.DataFrame) -> dict[str, Any]:
    """Columns for the page: numbers in six digits, text as codes into its values."""
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
    return made


def _fields(spec: Any) -> Iterable[str]:
    """The columns that a specification reads."""
    if isinstance(spec, dict):
        for key, value in spec.items():
            if key == "field" and isinstance(value, str):
                yield value
            yield from _fields(value)
    elif isinstance(spec, list):
        for value in spec:
            yield from _fields(value)


def _json(value: Any) -> Markup:
    """JSON that cannot end the script element it stands in."""
    text = json.dumps(value, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return Markup(text.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029"))


def _script(source: str) -> Markup:
    """A library's code that cannot end the script element it stands in."""
    return Markup(source.replace("</script", "<\\/script").replace("<!--", "<\\!--"))
