"""SQL over the result tables."""

from __future__ import annotations

import json

import polars as pl

from analysis.frames.answers import by_document
from analysis.frames.reading import Results


class QueryError(ValueError):
    """A query that cannot be run; the text says why and what there is to ask for."""


def run_query(results: Results, sql: str) -> pl.DataFrame:
    """Run a SELECT over the tables `cells`, `tensors` and `predictions` (one row per document).

    Raises:
        QueryError: if the query is not Polars' SQL, or names a table or column that does not exist.
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


def format_csv(answer: pl.DataFrame) -> str:
    """Format a table as CSV; lists, which CSV does not know, become JSON."""
    as_json = [
        pl.Series(
            name,
            [None if value is None else json.dumps(value, default=str) for value in answer[name].to_list()],
            dtype=pl.String,
        )
        for name, kind in answer.schema.items()
        if kind.is_nested()
    ]
    return answer.with_columns(as_json).write_csv()


def format_text(answer: pl.DataFrame, width: int, rows: int) -> str:
    """Format the first `rows` rows of a table for a terminal of `width` characters."""
    with pl.Config(
        tbl_rows=rows, tbl_width_chars=width, tbl_hide_dataframe_shape=True, tbl_hide_column_data_types=True,
        tbl_formatting="UTF8_FULL_CONDENSED", fmt_str_lengths=40, float_precision=4,
    ):  # fmt: skip
        text = str(answer.head(rows))
    more = len(answer) - rows
    return text if more <= 0 else f"{text}\n… and {more} more rows: see --rows and --csv"
