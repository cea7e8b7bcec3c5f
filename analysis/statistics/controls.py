"""Null controls: contrasts in which nothing differs, and how often the tests rejected them."""

from __future__ import annotations

import polars as pl
from scipy import stats

from analysis.frames.reading import Frame

LEVEL = 0.05
ALARM = 1e-3  # a control fails if its rejections, or more, have at most this probability
LARGEST_FLOAT_D = 1e-3  # rounding moves single values across a threshold; a larger D means another graph
CONTROLS = {
    "null_halves": "random halves of the documents through one model",
    "null_swapped": "the arms of a paired contrast swapped at random, document by document",
    "null_float": "the float model against its graph with the quantizers off",
}
SCHEMA = {
    "control": pl.String, "tests": pl.Int64, "rejected": pl.Int64, "rate": pl.Float64, "low": pl.Float64,
    "high": pl.Float64, "largest_d": pl.Float64, "failed": pl.Boolean,
}  # fmt: skip


def null_controls(tensors: Frame, cells: Frame) -> pl.DataFrame:
    """Count how often the null controls of a sweep were rejected.

    Args:
        tensors: the table `tensors`.
        cells: the table `cells`; tensors of failed or missing cells are left out.

    Returns:
        One row per control that was measured: ``control`` (the contrast), ``tests``, ``rejected`` (p at most
        .05), ``rate`` with its exact 95 % interval ``low``..``high`` (Clopper & Pearson 1934),
        ``largest_d``, and ``failed``: chance explains that many rejections in at most one sweep of a
        thousand. `null_float` is not tested: it fails if D is above `LARGEST_FLOAT_D`. A rate below .05 is
        no failure: a constant stage can never be rejected.
    """
    finished = cells.lazy().filter(pl.col("status") == "ok").select("cell_id")
    counted = (
        tensors.lazy()
        .filter(pl.col("contrast").is_in(list(CONTROLS)))
        .join(finished, on="cell_id")
        .group_by(control="contrast")
        .agg(
            pl.len().alias("tests"),
            (pl.col("p_permutation") <= LEVEL).sum().alias("rejected"),
            pl.col("document_d").max().alias("largest_d"),
        )
        .collect()
    )
    rows = []
    for row in counted.iter_rows(named=True):
        if row["control"] == "null_float":
            rows.append(row | {"rejected": None, "failed": row["largest_d"] > LARGEST_FLOAT_D})
            continue
        interval = stats.binomtest(row["rejected"], row["tests"]).proportion_ci(0.95, "exact")
        chance = float(stats.binom.sf(row["rejected"] - 1, row["tests"], LEVEL))
        rate = {"rate": row["rejected"] / row["tests"], "low": interval.low, "high": interval.high}
        rows.append(row | rate | {"failed": chance <= ALARM})
    return pl.DataFrame(rows, schema=SCHEMA).sort(pl.col("control").cast(pl.Enum(list(CONTROLS))))


def failure_lines(found: pl.DataFrame) -> list[str]:
    """Write a sentence for each of the controls `found` that failed."""
    lines = []
    for row in found.filter("failed").iter_rows(named=True):
        if row["rate"] is None:
            fact = f"D is {row['largest_d']:.2g}, at most {LARGEST_FLOAT_D:g} is rounding"
        else:
            fact = (
                f"rejected {row['rejected']} of {row['tests']}, which .05 explains once in "
                f"{1 / ALARM:.0f} sweeps at most"
            )
        lines.append(f"A null control FAILED, trust no shift below: {CONTROLS[row['control']]}: {fact}")
    return lines
