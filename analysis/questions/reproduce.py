"""``reproduce``: our numbers beside the published ones, cell by cell."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
from rich.console import Console

from analysis.frames.answers import right_answers
from analysis.frames.reading import Frame, Results, ResultsError, whole_models
from analysis.presentation.phrasing import MISSING, format_bits, format_number
from analysis.presentation.printing import heading, note, text_table
from analysis.questions.question import TableQuestion
from analysis.statistics.bounds import loss_bounds
from analysis.statistics.intervals import pair_answers

PUBLISHED = Path(__file__).parents[1] / "published" / "lstm.csv"
TAIL = 0.025  # on each side of a 95 % interval
WITHIN, LESS, MORE, LOWER, HIGHER = "within ours", "less lost", "more lost", "lower", "higher"
READ_AS = (
    "In %, and points lost against FP32. The interval covers our loss (FP32: our accuracy) over documents "
    "and seeds. It does not include the published numbers' own error: a mark says that the two differ by "
    "more than our sampling explains, not by more than the sampling of both."
)
HEADINGS = ("model", "bits", "internal", "algorithm", "ours %", "lost", "95 % interval", "theirs %", "lost",
            "theirs is", "seeds")  # fmt: skip
KEYS = ("model", "bits", "internal_bits", "algorithm", "class_ratio")


def published() -> pl.DataFrame:
    """Read the published accuracies (%) with their sources; null bits are FP32."""
    return pl.read_csv(PUBLISHED, schema_overrides={"bits": pl.Int32, "internal_bits": pl.Int32})


def beside_published(cells: Frame) -> pl.DataFrame:
    """Put each published number beside our finished cells of the same configuration, on clean input.

    Returns:
        The keys of a cell, ``seeds`` averaged, ``ours`` and ``drop`` (%, points below FP32), ``published``
        and ``published_drop``, ``source``; FP32 first.

    Raises:
        ResultsError: if nothing can be compared.
    """
    reference = published()
    fp32 = reference.filter(pl.col("bits").is_null()).select("model", "source", fp32="accuracy")
    reference = reference.join(fp32, on=["model", "source"]).with_columns(
        published="accuracy", published_drop=(pl.col("fp32") - pl.col("accuracy")).round(2)
    )
    ours = (
        _finished(cells)
        .group_by("dataset", *KEYS)
        .agg(
            seeds=pl.col("seed").n_unique(),
            ours=(pl.col("accuracy").mean() * 100).round(2),
            drop=(pl.col("accuracy_drop").mean() * 100).round(2),
        )
        .collect()
    )
    joined = ours.join(reference, on=["dataset", *KEYS], how="inner", nulls_equal=True)
    if joined.is_empty():
        sets = ", ".join(sorted(reference["dataset"].unique()))
        raise ResultsError(
            f"no finished cell has a published counterpart: they are on {sets}, clean, balanced, with gpfq "
            "or none (see analysis/published/lstm.csv)"
        )
    order = [pl.col("source"), pl.col("algorithm").fill_null(""), "model", pl.col("bits").fill_null(99).neg()]
    columns = [*KEYS, "seeds", "ours", "drop", "published", "published_drop", "source"]
    return joined.sort(order).select(columns)


def mark_published(results: Results) -> pl.DataFrame:
    """Add our 95 % intervals to :func:`beside_published`, and where the published number lies.

    Returns:
        Its columns, and ``low``, ``high`` (points lost against FP32; at FP32 the accuracy in %) and
        ``theirs``: `WITHIN` our interval, or on which side of it. Null where there are no answers by
        document. The published numbers' own sampling error is not included.

    Raises:
        ResultsError: if nothing can be compared.
    """
    rows = beside_published(results.cells)
    compared = pl.col("dataset").is_in(published()["dataset"].unique().implode())
    cells = _finished(results.cells).filter(compared)
    right = right_answers(cells, results.predictions)
    sides = cells.select("cell_id", "model_id", *KEYS).collect()
    fp32 = sides.filter(pl.col("bits").is_null()).select("model_id", reference="cell_id")
    paired = sides.join(fp32, on="model_id", maintain_order="left")
    bounds = []
    for row in rows.iter_rows(named=True):
        pairs = pair_answers(paired.filter(pl.col(key).eq_missing(row[key]) for key in KEYS), right)
        if row["bits"] is None:  # held against a model that is never right, FP32 loses its whole accuracy
            pairs = [(answers, np.zeros_like(answers)) for answers, _ in pairs]
        found = loss_bounds(pairs, TAIL) if pairs else None
        bounds.append((None, None) if found is None else (100 * found.low, 100 * found.high))
    low, high = pl.col("low"), pl.col("high")
    is_fp32 = pl.col("bits").is_null()
    theirs = pl.when(is_fp32).then("published").otherwise("published_drop")
    below = pl.when(is_fp32).then(pl.lit(LOWER)).otherwise(pl.lit(LESS))
    above = pl.when(is_fp32).then(pl.lit(HIGHER)).otherwise(pl.lit(MORE))
    within = pl.when(low.is_not_null()).then(pl.lit(WITHIN))
    side = pl.when(theirs < low).then(below).when(theirs > high).then(above).otherwise(within)
    intervals = pl.DataFrame(bounds, schema={"low": pl.Float64, "high": pl.Float64}, orient="row")
    return rows.hstack(intervals).with_columns(theirs=side)


def _finished(cells: Frame) -> pl.LazyFrame:
    return whole_models(cells).filter(pl.col("status") == "ok", pl.col("noise") == "clean")


@dataclass(frozen=True, slots=True, kw_only=True)
class Reproduce(TableQuestion):
    """Print our numbers beside those of the paper and of its first author's replication, on ag_news.

    Differences are marked against our intervals.
    """

    def table(self, results: Results) -> pl.DataFrame:
        """Return :func:`mark_published`."""
        return mark_published(results)

    def print(self, results: Results, console: Console) -> None:
        """Print one table per source."""
        for (source,), rows in self.table(results).group_by("source", maintain_order=True):
            lines = (
                [
                    row["model"], format_bits(row["bits"]), str(row["internal_bits"] or ""),
                    row["algorithm"] or "", format_number(row["ours"], 2), format_number(row["drop"], 2),
                    MISSING if row["low"] is None else f"{row['low']:.2f} to {row['high']:.2f}",
                    format_number(row["published"], 2), format_number(row["published_drop"], 2),
                    row["theirs"] or MISSING, str(row["seeds"]),
                ]
                for row in rows.iter_rows(named=True)
            )  # fmt: skip
            console.print(heading(str(source)))
            console.print(text_table(HEADINGS, lines, left=("model", "algorithm", "theirs is")))
        console.print(note(READ_AS))
