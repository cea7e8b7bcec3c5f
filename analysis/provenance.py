"""Where results come from: code, libraries, machines, the command of the sweep."""

from __future__ import annotations

import json

import polars as pl

from analysis.reading import Results, read_record
from lstmptq.places import Place

SHOWN = 5  # values of one fact: more are counted


def provenance(results: Results, path: Place, made_by: str) -> list[tuple[str, str]]:
    """Facts by name.

    Args:
        results: what is in `path`.
        path: the sweep's ``--out``.
        made_by: the command that makes what the facts stand on.
    """
    columns = ("git_sha", "host", "embedding_source", "schema_version", "versions", "started_at")
    cells = results.cells.select(*columns).collect()
    facts = {
        "results": str(path),
        "sweep": str(read_record(path).get("command", "")),
        "code": _listed(cells["git_sha"]),
        "schema": _listed(cells["schema_version"]),
        "vectors": _listed(cells["embedding_source"]),
        "machines": _listed(cells["host"]),
        "cells started": _span(cells["started_at"]),
        "libraries": "; ".join(
            _libraries(text) for text in cells["versions"].drop_nulls().unique().sort()[:SHOWN]
        ),
        "this page": made_by,
    }
    return [(name, fact) for name, fact in facts.items() if fact]


def _listed(values: pl.Series) -> str:
    found = [str(value) for value in values.drop_nulls().unique().sort()]
    more = len(found) - SHOWN
    return ", ".join(found[:SHOWN]) + (f" and {more} more" if more > 0 else "")


def _span(started: pl.Series) -> str:
    known = started.drop_nulls().sort()
    return f"{known[0]:%Y-%m-%d %H:%M} to {known[-1]:%Y-%m-%d %H:%M} UTC" if len(known) else ""


def _libraries(text: str) -> str:
    try:
        return ", ".join(f"{name} {version}" for name, version in json.loads(text).items())
    except (ValueError, AttributeError):
        return text
