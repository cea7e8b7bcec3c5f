"""SQL over the result tables."""

from __future__ import annotations

import json

import polars as pl

from analysis.frames.answers import by_document
from analysis.frames.reading import Results


class QueryError(ValueError):
    """A query that cannot be run; the text says why and what there is to ask for."""


def run_query(results: Results, sql: str) -> pl.DataFrame:
    """The answer to a SELECT over the tables `cells`, `tensors` and `predictions` (one row a document).

    Args:
        results: what to ask.
        sql: Polars' SQL.

    Returns:
        The rows.

    Raises:
        QueryError: if the query is not SQL, or asks for a table or column that is not there.
    """
    tables = {
        "cells": results.cells,
        "tensors": results.tensors,
        "predictions": by_document(results.predictions),
    }
    try:
        return pl.SQLContext(tables).execute(sql, eager=True)
    except pl.exceptions.PolarsError as problem:
        reason = str(problem).strip().splitlines()[0].split("; valid columns")[0]
        allowed = "the tables are cells, tensors and predictions, the language is Polars' SQL"
        if isinstance(problem, pl.exceptions.ColumnNotFoundError):
            columns = (f"{name} has {', '.join(table.collect_schema())}" for name, table in tables.items())
            allowed = "; ".join(columns)
        raise QueryError(f"the query cannot be run, {reason}: {allowed}") from problem


def as_csv(answer: pl.DataFrame) -> str:
    """`answer` as CSV; lists, which CSV does not know, are written as JSON."""
    nested = [name for name, kind in answer.schema.items() if kind.is_nested()]
    as_json = {
        name: [None if v is None else json.dumps(v, default=str) for v in answer[name].to_list()]
        for name in nested
    }
    flat = answer.with_columns(pl.Series(name, texts, dtype=pl.String) for name, texts in as_json.items())
    return flat.write_csv()


def as_text(answer: pl.DataFrame, width: int, rows: int) -> str:
    """`answer` as a table of at most `rows` rows and `width` characters a line."""
    with pl.Config(
        tbl_rows=rows, tbl_width_chars=width, tbl_hide_dataframe_shape=True, tbl_hide_column_data_types=True,
        tbl_formatting="UTF8_FULL_CONDENSED", fmt_str_lengths=40, float_precision=4,
    ):  # fmt: skip
        text = str(answer.head(rows))
    more = len(answer) - rows
    return text if more <= 0 else f"{text}\n… and {more} more rows: see --rows and --csv"
