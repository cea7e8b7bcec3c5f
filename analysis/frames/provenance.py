"""Where results come from: code, libraries, machines, the command of the sweep and how far it has come."""

from __future__ import annotations

import json
from datetime import datetime

import polars as pl

from analysis.frames.reading import Results, read_record
from lstmptq.runtime.locations import Location

SHOWN = 5  # values of one fact; further ones are counted


def provenance(results: Results, path: Location, made_by: str) -> list[tuple[str, str]]:
    """Collect the facts about the origin of results, by name.

    Args:
        results: the results in `path`.
        path: the --out of the sweep.
        made_by: the command that makes the page with the facts.
    """
    columns = ("git_sha", "host", "embedding_source", "schema_version", "versions")
    cells = {name: results.cells.select(pl.col(name).unique()).collect()[name] for name in columns}
    started = pl.col("started_at")
    span = results.cells.select(low=started.min(), high=started.max()).collect().row(0)
    facts = {
        "results": str(path),
        "sweep": str(read_record(path).get("command", "")),
        "code": _listed(cells["git_sha"]),
        "schema": _listed(cells["schema_version"]),
        "vectors": _listed(cells["embedding_source"]),
        "machines": _listed(cells["host"]),
        "cells started": _span(*span),
        "libraries": "; ".join(
            _libraries(text) for text in cells["versions"].drop_nulls().unique().sort()[:SHOWN]
        ),
        "this page": made_by,
    }
    return [(name, fact) for name, fact in facts.items() if fact]


def progress_line(results: Results) -> str:
    """Say how far the sweep has come."""
    counts = results.cells.select((pl.col("status") == "ok").sum().alias("ok"), pl.len()).collect()
    done, tried = map(int, counts.row(0))
    failed, planned = tried - done, results.planned
    if planned is None:
        return f"cells: {done} done, {failed} failed"
    if done + failed > planned:  # cells of earlier grids stay
        return f"cells: {done} done, {failed} failed; the sweep's latest grid has {planned}"
    return f"cells: {done} of {planned} done, {failed} failed, {planned - done - failed} to come"


def _listed(values: pl.Series) -> str:
    found = [str(value) for value in values.drop_nulls().unique().sort()]
    more = len(found) - SHOWN
    return ", ".join(found[:SHOWN]) + (f" and {more} more" if more > 0 else "")


def _span(first: datetime | None, last: datetime | None) -> str:
    if first is None or last is None:
        return ""
    return f"{first:%Y-%m-%d %H:%M} to {last:%Y-%m-%d %H:%M} UTC"


def _libraries(text: str) -> str:
    try:
        return ", ".join(f"{name} {version}" for name, version in json.loads(text).items())
    except (ValueError, AttributeError):
        return text
