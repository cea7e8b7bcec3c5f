"""``shifts``: the null controls, and then which activations the class ratio or noise shifts."""

from __future__ import annotations

from dataclasses import dataclass

import polars as pl
from rich.console import Console
from rich.table import Table
from rich.text import Text

from analysis.frames.axes import (
    BALANCED,
    CLEAN,
    QUANTIZATION_KEYS,
    describe_recipe,
    describe_value,
    noise_label,
)
from analysis.frames.reading import Results
from analysis.presentation.phrasing import capitalize, format_bits, format_number
from analysis.presentation.printing import Page, heading, note, text_table
from analysis.questions.question import TableQuestion
from analysis.statistics.controls import CONTROLS, failure_lines, null_controls
from analysis.statistics.families import LEVEL, VERDICTS, Method, judged_shifts
from analysis.statistics.shifts import CONTRAST_TITLES

METHODS = {"bh": "Benjamini-Hochberg", "by": "Benjamini-Yekutieli"}
SMALLEST_P = 1e-4  # of 9,999 draws
READ_AS = (
    "Read: D is the largest mean difference of the documents' ECDFs. p, by 9,999 swaps of the documents' "
    "arms, is not shown: q, which counts all tests of a contrast on one model, decides together with the "
    "margin. A shift can be certain and tiny: look at D."
)


def controls_page(results: Results) -> Page:
    """List the null controls, a failed one in the first line."""
    found = null_controls(results.tensors, results.cells)
    if found.is_empty():
        return [heading("Null controls"), Text("None was measured: these are results of an older version.")]
    return [*failed_controls(found), *rates_page(found)]


def rates_page(found: pl.DataFrame) -> Page:
    """List how often each of the null controls `found` was rejected."""
    lines = [
        [
            CONTROLS[row["control"]] + (": FAILED" if row["failed"] else ""),
            str(row["tests"]),
            format_number(row["rate"], 3),
            "must be 0" if row["rate"] is None else f"{row['low']:.3f}–{row['high']:.3f}",
            f"{row['largest_d']:.2g}",
        ]
        for row in found.iter_rows(named=True)
    ]
    table = text_table(("control", "tests", "rejected", "95 % interval", "largest D"), lines, ("control",))
    return [heading("Null controls: nothing differs, and .05 may be rejected"), table]


def failed_controls(found: pl.DataFrame) -> Page:
    """Write a line for each control that failed; none if all hold."""
    return [Text(line, "bold red") for line in failure_lines(found)]


def verdicts_page(results: Results, method: Method = "bh") -> Page:
    """List q, D, margin and verdict of each tensor.

    Class ratios are compared on clean input, noise at balanced calibration.
    """
    judged = judged_shifts(results.tensors, results.cells, method)
    if judged.is_empty():
        return [
            heading("Tested shifts"),
            Text("No shift was tested: there is no class ratio or noise to compare."),
        ]
    shown = judged.filter(
        pl.when(pl.col("contrast") == "balanced_vs_ratio")
        .then(pl.col("noise") == CLEAN)
        .otherwise(pl.col("class_ratio").is_null() | (pl.col("class_ratio") == BALANCED))
    )
    page: Page = []
    for (contrast, _), rows in shown.group_by("contrast", "model_id", maintain_order=True):
        first = rows.row(0, named=True)
        where = f"{first['model']}, {first['embedding']}, {first['dataset']}, seed {first['seed']}"
        where += (
            "" if first["checkpoint"] is None else f", {describe_value('checkpoint', first['checkpoint'])}"
        )
        page.append(heading(f"{capitalize(CONTRAST_TITLES[str(contrast)])}: {where}"))
        counts = rows["verdict"].value_counts(sort=True, name="n")
        tally = "; ".join(f"{row['n']} {row['verdict']}" for row in counts.iter_rows(named=True))
        over = f"{tally}. {METHODS[method]} over a family of {first['family']} tests."
        page += [note(over + _smallest_q(first["family"], method)), _table(rows)]
    page += [Text(), note(READ_AS)]
    used = set(shown["verdict"])
    page += [note(f"{verdict}: {meaning}") for verdict, meaning in VERDICTS.items() if verdict in used]
    hidden = len(judged) - len(shown)
    if hidden:
        page.append(note(f"{hidden} more, other combinations of class ratio and noise: see --csv"))
    return page


def _smallest_q(family: int, method: Method) -> str:
    """Say that the number of draws is too small for a family of this size; empty if it is not."""
    alone = family * SMALLEST_P * (sum(1 / rank for rank in range(1, family + 1)) if method == "by" else 1)
    if alone < LEVEL:
        return ""
    needed = int(alone / LEVEL) + 1
    return (
        f" No p is below {SMALLEST_P:g}, so that a shift alone in this family has a q of {min(alone, 1):.3f} "
        f"at least: q < .05 takes {needed} tests with that p."
    )


def _table(rows: pl.DataFrame) -> Table:
    recipes = rows.select(QUANTIZATION_KEYS).drop_nulls().n_unique() > 1
    noisy = rows["contrast"][0] == "clean_vs_noisy"
    varied = "noise" if noisy else "class ratio"
    headings = ["tensor", "bits", *(["recipe"] if recipes else []), varied, "q", "D", "margin", "verdict"]
    lines = []
    before = None
    for row in rows.with_columns(noise_label()).iter_rows(named=True):
        lines.append(
            [
                "" if row["tensor"] == before else row["tensor"],
                format_bits(row["bits"]),
                *([describe_recipe(row)] if recipes else []),
                row["input"] if noisy else row["class_ratio"],
                f"{row['q']:.1e}" if row["q"] < 0.001 else f"{row['q']:.3f}",
                f"{row['d']:.4f}",
                format_number(row["margin"], 4),
                row["verdict"],
            ]
        )
        before = row["tensor"]
    return text_table(headings, lines, left=("tensor", "recipe", varied, "verdict"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Shifts(TableQuestion):
    """Say which activations a class ratio or noise shifts: q, D, margin and verdict of each tensor.

    Null controls come first. No p-value alone decides: a shift needs q < .05 in its family of tests, and a D
    above the one that redrawing the calibration set causes.
    """

    method: Method = "bh"  # control of false discoveries: Benjamini-Hochberg or Benjamini-Yekutieli

    def table(self, results: Results) -> pl.DataFrame:
        """Return every tested shift."""
        return judged_shifts(results.tensors, results.cells, self.method)

    def print(self, results: Results, console: Console) -> None:
        """Print the null controls and the verdicts."""
        for part in (*controls_page(results), *verdicts_page(results, self.method)):
            console.print(part)
