"""The answers of each model, document by document: from the table `predictions`, or from older `cells`."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import polars as pl

from analysis.frames.reading import Frame

ANSWERS = ("labels", "predicted")
Right = npt.NDArray[np.bool_]  # (documents,) whether the answer is right


def answers(cells: Frame, predictions: Frame | None = None) -> pl.LazyFrame:
    """Return the answers of every cell that has any, one row per cell.

    Args:
        cells: the table `cells`, which held the answers up to schema version 2.
        predictions: the table `predictions`, which has held them since.

    Returns:
        ``cell_id``, ``labels`` and ``predicted`` (lists, the evaluated documents in order).
    """
    old = cells.lazy().filter(pl.col("labels").is_not_null()).select("cell_id", *ANSWERS)
    return old if predictions is None else pl.concat([old, predictions.lazy().select("cell_id", *ANSWERS)])


def right_answers(cells: Frame, predictions: Frame | None = None) -> dict[str, Right]:
    """Return by ``cell_id`` which documents each finished cell classified right.

    Returns:
        (documents,) arrays; cells without answers, as up to schema version 1 or with --no-predictions, are
        left out.
    """
    finished = cells.lazy().filter(pl.col("status") == "ok")
    found = (
        answers(finished, predictions)
        .filter(pl.col("labels").list.len() == pl.col("predicted").list.len())
        .join(finished.select("cell_id"), on="cell_id", how="semi")
        .collect()
    )
    right = (found["predicted"].explode() == found["labels"].explode()).to_numpy()
    ends = found["labels"].list.len().cum_sum().to_list()
    return dict(zip(found["cell_id"], np.split(right, ends[:-1]), strict=True)) if ends else {}


def by_document(predictions: Frame) -> pl.LazyFrame:
    """Spread the table `predictions` to one row per cell and document.

    Returns:
        ``cell_id``, ``document`` (its position among the evaluated ones, from 0), ``label``, ``predicted``,
        ``margin``.
    """
    return (
        predictions.lazy()
        .with_columns(pl.int_ranges(pl.col("labels").list.len()).alias("document"))
        .explode("labels", "predicted", "margin", "document")
        .select("cell_id", "document", pl.col("labels").alias("label"), "predicted", "margin")
    )
