"""Our numbers beside the published ones, cell by cell."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from rich import box
from rich.console import Console
from rich.table import Table

from analysis.frames.reading import Frame, Results, ResultsError, whole_models
from analysis.presentation.printing import note
from analysis.statistics.bounds import loss_bounds
from analysis.statistics.intervals import Right
from analysis.statistics.points import right_answers

PUBLISHED = Path(__file__).parents[1] / "published" / "lstm.csv"
TAIL = 0.025  # on each side of a 95 % interval
WITHIN, LESS, MORE, LOWER, HIGHER = "within ours", "less lost", "more lost", "lower", "higher"
READ_AS = (
    "In %, and points lost against FP32. The interval is of what we lose (FP32: of our accuracy), over "
    "documents and seeds; the published numbers' own error is not in it, so that a mark says that the two "
    "differ by more than our sampling explains, not by more than both do."
)
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
            "or none (see analysis/published/lstm.csv)"
        )
    order = [pl.col("source"), pl.col("algorithm").fill_null(""), "model", pl.col("bits").fill_null(99).neg()]
    columns = [*KEYS, "seeds", "ours", "drop", "published", "published_drop", "source"]
    return joined.sort(order).select(columns)


def marked(results: Results) -> pl.DataFrame:
    """:func:`beside_published` with our 95 % intervals, and where the published number lies.

    Args:
        results: of a sweep.

    Returns:
        Its columns, and ``low``, ``high`` (points: of what we lose against FP32, at FP32 %: of our accuracy)
        and ``theirs``: `WITHIN` our interval, or on which side of it. Null where no answer by document was
        kept. The published numbers' own sampling error is not in it.

    Raises:
        ResultsError: if nothing can be compared.
    """
    rows = beside_published(results.cells)
    clean = whole_models(results.cells).filter(pl.col("status") == "ok", pl.col("noise") == "clean")
    compared = clean.filter(pl.col("dataset").is_in(published()["dataset"].unique().implode()))
    cells = compared.select("cell_id", "model_id", *KEYS).collect()
    right = right_answers(results, cells["cell_id"])
    fp32 = dict(cells.filter(pl.col("bits").is_null()).select("model_id", "cell_id").iter_rows())
    by_place: dict[tuple[Any, ...], list[tuple[str, str]]] = {}
    for cell in cells.iter_rows(named=True):
        place = tuple(cell[key] for key in KEYS)
        by_place.setdefault(place, []).append((fp32.get(cell["model_id"], ""), cell["cell_id"]))
    found = []
    for row in rows.iter_rows(named=True):
        pairs = [
            (right[reference], right[cell])
            for reference, cell in by_place[tuple(row[key] for key in KEYS)]
            if reference in right and cell in right and len(right[reference]) == len(right[cell])
        ]
        found.append(_interval(pairs, row["bits"] is None))
    low, high = (pl.Series([one[place] for one in found], dtype=pl.Float64) * 100 for place in (0, 1))
    theirs = pl.when(pl.col("bits").is_null()).then("published").otherwise("published_drop")
    worse, better = (
        pl.when(pl.col("bits").is_null()).then(pl.lit(a)).otherwise(pl.lit(b))
        for a, b in ((LOWER, LESS), (HIGHER, MORE))
    )
    return rows.with_columns(low.alias("low"), high.alias("high")).with_columns(
        pl.when(pl.col("low").is_null())
        .then(None)
        .when(theirs < pl.col("low"))
        .then(worse)
        .when(theirs > pl.col("high"))
        .then(better)
        .otherwise(pl.lit(WITHIN))
        .alias("theirs")
    )


def _interval(pairs: list[tuple[Right, Right]], is_fp32: bool) -> tuple[float | None, float | None]:
    """95 % interval of what is lost, or of the accuracy itself."""
    if not pairs:
        return None, None
    if not is_fp32:
        bounds = loss_bounds(pairs, TAIL)
        return bounds.low, bounds.high
    # beside a model that is never right, what is lost is the accuracy
    bounds = loss_bounds([(right, np.zeros_like(right)) for right, _ in pairs], TAIL)
    return bounds.low, bounds.high


def print_beside_published(results: Results, console: Console) -> None:
    """Print :func:`marked` as one table a source."""
    for (source,), rows in marked(results).group_by("source", maintain_order=True):
        table = Table(title=str(source), box=box.SIMPLE_HEAD, title_justify="left")
        for name in ("model", "bits", "internal", "algorithm", "ours %", "lost", "95 % interval", "theirs %",
                     "lost", "theirs is", "seeds"):  # fmt: skip
            left = name in ("model", "algorithm", "95 % interval", "theirs is")
            table.add_column(name, justify="left" if left else "right")
        for row in rows.iter_rows(named=True):
            interval = "–" if row["low"] is None else f"{row['low']:.2f} to {row['high']:.2f}"
            table.add_row(
                row["model"], _text(row["bits"], "FP32"), _text(row["internal_bits"], ""),
                row["algorithm"] or "", f"{row['ours']:.2f}", f"{row['drop']:.2f}", interval,
                f"{row['published']:.2f}", f"{row['published_drop']:.2f}", row["theirs"] or "–",
                str(row["seeds"]),
            )  # fmt: skip
        console.print(table)
    console.print(note(READ_AS))


def _text(value: int | None, missing: str) -> str:
    return missing if value is None else str(value)
