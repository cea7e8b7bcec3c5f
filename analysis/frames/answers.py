"""What each model answered, document by document: from the table `predictions`, or from older `cells`."""

from __future__ import annotations

import polars as pl

from analysis.frames.reading import Frame

ANSWERS = ("labels", "predicted")


def answers(cells: Frame, predictions: Frame | None = None) -> pl.LazyFrame:
    """One row a cell whose answers are known.

    Args:
        cells: the table `cells`; up to schema version 2 it held the answers.
        predictions: the table `predictions`, which holds them since.

    Returns:
        ``cell_id``, ``labels`` and ``predicted`` (lists, the evaluated documents in order).
    """
    old = cells.lazy().filter(pl.col("labels").is_not_null()).select("cell_id", *ANSWERS)
    return old if predictions is None else pl.concat([old, predictions.lazy().select("cell_id", *ANSWERS)])


def by_document(predictions: Frame) -> pl.LazyFrame:
    """The table `predictions` with one row a cell and document.

    Returns:
        ``cell_id``, ``document`` (its place among the evaluated ones, from 0), ``label``, ``predicted``,
        ``margin``.
    """
    return (
        predictions.lazy()
        .with_columns(pl.int_ranges(pl.col("labels").list.len()).alias("document"))
        .explode("labels", "predicted", "margin", "document")
        .select("cell_id", "document", pl.col("labels").alias("label"), "predicted", "margin")
    )
