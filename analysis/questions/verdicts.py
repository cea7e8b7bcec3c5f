"""``python -m analysis shifts`` and ``drops``: null controls first, then what shifts and what is lost."""

from __future__ import annotations

import polars as pl
from rich.console import Console, RenderableType
from rich.table import Table
from rich.text import Text

from analysis.frames.reading import Results
from analysis.frames.settings import (
    BALANCED,
    BEST_EPOCH,
    BREVITAS,
    CLEAN,
    FP32,
    described,
    noise_label,
    recipe_text,
)
from analysis.presentation.printing import Page, heading, new_table, note
from analysis.statistics.controls import CONTROLS, failure_lines, null_controls
from analysis.statistics.families import LEVEL, VERDICTS, Method, judged_shifts
from analysis.statistics.shifts import CONTRAST_TITLES

SETTINGS = ("hidden", "layers", "training_documents", "checkpoint")  # of the FP32 model
METHODS = {"bh": "Benjamini-Hochberg", "by": "Benjamini-Yekutieli"}
SMALLEST_P = 1e-4  # of 9,999 draws
READ_AS = (
    "Read: D is the largest mean difference of the documents' ECDFs. p, by 9,999 swaps of the documents' "
    "arms, is not shown: q, which counts all tests of a contrast on one model, decides together with the "
    "margin. A shift can be certain and tiny: look at D."
)


def controls_page(results: Results) -> Page:
    """The null controls, a failed one in the first line."""
    found = null_controls(results.tensors, results.cells)
    if found.is_empty():
        return [heading("Null controls"), Text("None was measured: these are results of an older version.")]
    return [*failed_controls(found), *rates_page(found)]


def rates_page(found: pl.DataFrame) -> Page:
    """How often each of the controls `found` was rejected."""
    page: Page = [heading("Null controls: nothing differs, and .05 may be rejected")]
    table = new_table()
    table.add_column("control", overflow="fold")
    for name in ("tests", "rejected", "95 % interval", "largest D"):
        table.add_column(name, justify="right")
    for row in found.iter_rows(named=True):
        tested = row["rate"] is not None
        table.add_row(
            CONTROLS[row["control"]] + (": FAILED" if row["failed"] else ""),
            str(row["tests"]),
            f"{row['rate']:.3f}" if tested else "–",
            f"{row['low']:.3f}–{row['high']:.3f}" if tested else "must be 0",
            f"{row['largest_d']:.2g}",
        )
    return [*page, table]


def failed_controls(found: pl.DataFrame) -> Page:
    """A line for each control that failed; nothing if none did."""
    return [Text(line, "bold red") for line in failure_lines(found)]


def verdicts_page(results: Results, method: Method = "bh") -> Page:
    """q, D, margin and verdict of each tensor: class ratios on clean input, noise at balanced calibration."""
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
        title = CONTRAST_TITLES[str(contrast)]
        where = f"{first['model']}, {first['embedding']}, {first['dataset']}, seed {first['seed']}"
        where += "" if first["checkpoint"] is None else f", {described('checkpoint', first['checkpoint'])}"
        page.append(heading(f"{title[0].upper()}{title[1:]}: {where}"))
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
    """What the number of draws cannot show in a family so large; nothing where it hides nothing."""
    alone = family * SMALLEST_P * (sum(1 / rank for rank in range(1, family + 1)) if method == "by" else 1)
    if alone < LEVEL:
        return ""
    needed = int(alone / LEVEL) + 1
    return (
        f" No p is below {SMALLEST_P:g}, so that a shift alone in this family has a q of {min(alone, 1):.3f} "
        f"at least: q < .05 takes {needed} tests with that p."
    )


def _table(rows: pl.DataFrame) -> Table:
    table = new_table()
    recipes = rows.select("internal_bits", "algorithm", *BREVITAS).drop_nulls().n_unique() > 1
    noisy = rows["contrast"][0] == "clean_vs_noisy"
    table.add_column("tensor", overflow="fold")
    table.add_column("bits", justify="right")
    if recipes:
        table.add_column("recipe")
    table.add_column("noise" if noisy else "class ratio")
    for name in ("q", "D", "margin"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("verdict")
    before = None
    for row in rows.with_columns(noise_label()).iter_rows(named=True):
        cells = [
            "" if row["tensor"] == before else row["tensor"],
            FP32 if row["bits"] is None else str(row["bits"]),
            *([recipe_text(row)] if recipes else []),
            row["input"] if noisy else row["class_ratio"],
            _q(row["q"]),
            f"{row['d']:.4f}",
            "–" if row["margin"] is None else f"{row['margin']:.4f}",
            row["verdict"],
        ]
        table.add_row(*(Text(cell) for cell in cells))
        before = row["tensor"]
    return table


def _q(q: float) -> str:
    return f"{q:.1e}" if q < 0.001 else f"{q:.3f}"


def print_verdicts(results: Results, console: Console, method: Method = "bh") -> None:
    """Print controls and verdicts."""
    parts: list[RenderableType] = [*controls_page(results), *verdicts_page(results, method)]
    for part in parts:
        console.print(part)


def print_drops(drops: pl.DataFrame, console: Console) -> None:
    """Print :func:`analysis.statistics.intervals.accuracy_drops`, a table a dataset, embedding and model."""
    if drops.is_empty():
        console.print("No quantized cell can be held against its FP32 cell yet, document by document.")
        return
    drops = drops.with_columns(pl.col("checkpoint").fill_null(BEST_EPOCH))
    told_apart = [key for key in SETTINGS if drops[key].drop_nulls().n_unique() > 1]
    for _, rows in drops.group_by("model", "embedding", "dataset", *told_apart, maintain_order=True):
        first = rows.row(0, named=True)
        where = ", ".join(first[name] for name in ("model", "embedding", "dataset"))
        where += "".join(f", {described(key, first[key])}" for key in told_apart)
        seeds = rows["seeds"].to_numpy().max()
        console.print(heading(f"Accuracy lost against FP32: {where}, seeds: {seeds}"))
        table = new_table()
        for name in ("bits", "recipe", "class ratio", "noise", "accuracy %", "points lost", "95 % interval"):
            table.add_column(
                name, justify="right" if name in ("bits", "accuracy %", "points lost") else "left"
            )
        for row in rows.with_columns(noise_label()).iter_rows(named=True):
            table.add_row(
                str(row["bits"]), recipe_text(row), row["class_ratio"],
                row["input"], f"{100 * row['accuracy']:.1f}", f"{100 * row['drop']:.1f}",
                f"{100 * row['low']:.1f} to {100 * row['high']:.1f}",
            )  # fmt: skip
        console.print(table)
    console.print(note("recipe: weight correction, bits of the LSTM's internals. Positive: worse than FP32."))
