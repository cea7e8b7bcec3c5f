"""Our numbers beside the published ones, cell by cell."""

from __future__ import annotations

from pathlib import Path

import polars as pl
from rich import box
from rich.console import Console
from rich.table import Table

from analysis.reading import Frame, ResultsError, whole_models

PUBLISHED = Path(__file__).parent / "published.csv"
KEYS = ("model", "bits", "internal_bits", "algorithm", "class_ratio")


def published() -> pl.DataFrame:
    """The published accuracies (%), with their sources; null bits are FP32."""
    return pl.read_csv(PUBLISHED, schema_overrides={"bits": pl.Int32, "internal_bits": pl.Int32})


def beside_published(cells: Frame) -> pl.DataFrame:
    """Every clean, finished cell that a published number speaks of.

    Args:
        cells: the table `cells`.

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
        whole_models(cells)
        .filter(pl.col("status") == "ok", pl.col("noise") == "clean")
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
            "or none (see analysis/published.csv)"
        )
    order = [pl.col("source"), pl.col("algorithm").fill_null(""), "model", pl.col("bits").fill_null(99).neg()]
    columns = [*KEYS, "seeds", "ours", "drop", "published", "published_drop", "source"]
    return joined.sort(order).select(columns)


def print_beside_published(cells: Frame, console: Console) -> None:
    """Print :func:`beside_published` as one table a source."""
    for (source,), rows in beside_published(cells).group_by("source", maintain_order=True):
        table = Table(title=str(source), box=box.SIMPLE_HEAD, title_justify="left")
        for name in ("model", "bits", "internal", "algorithm", "ours %", "drop", "theirs %", "drop", "seeds"):
            table.add_column(name, justify="left" if name in ("model", "algorithm") else "right")
        for row in rows.iter_rows(named=True):
            table.add_row(
                row["model"], _text(row["bits"], "FP32"), _text(row["internal_bits"], ""),
                row["algorithm"] or "", f"{row['ours']:.2f}", f"{row['drop']:.2f}",
                f"{row['published']:.2f}", f"{row['published_drop']:.2f}", str(row["seeds"]),
            )  # fmt: skip
        console.print(table)


def _text(value: int | None, missing: str) -> str:
    return missing if value is None else str(value)
