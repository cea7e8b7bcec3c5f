"""``summary``: the results of a sweep in a terminal, page by page, as far as it has come."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import polars as pl
from rich.console import Console
from rich.table import Table
from rich.text import Text

from analysis.frames.axes import (
    BALANCED,
    CLEAN,
    FP32,
    QUANTIZATION_KEYS,
    describe_value,
    label_of,
    noise_label,
    varying_keys,
)
from analysis.frames.failures import RETRY, failures
from analysis.frames.provenance import progress_line
from analysis.frames.reading import Results, load
from analysis.presentation.grids import LEGEND, lay_out_grid, render_grid
from analysis.presentation.phrasing import MISSING, capitalize, format_bits, join_values
from analysis.presentation.printing import Page, heading, new_console, new_table, note, text_table
from analysis.questions.question import Count, Folder, Question
from analysis.questions.verdicts import failed_controls, rates_page
from analysis.statistics.controls import null_controls
from analysis.statistics.scores import scores
from analysis.statistics.shifts import CONTRAST_TITLES, NOTES, largest_shifts
from lstmptq.runtime.locations import Location

REASONS = 10  # of failed cells that are printed
FACTS = ("embedding_dim", "hidden", "layers", "training_documents", "internal_bits", "algorithm")
READ_AS = "Read: accuracy in %, then the points lost against FP32 under the same noise (negative: gained)."
NUMBERS = {  # column of a shift: its heading and format
    "ks_d": ("D", "{:.3f}"),
    "atom_floor": ("floor", "{:.3f}"),
    "ks_d_dithered": ("dithered", "{:.3f}"),
    "wasserstein": ("W1", "{:.2g}"),
    "sqnr_db": ("SQNR dB", "{:.1f}"),
    "clip_fraction": ("clipped", "{:.1%}"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary(Question):
    """Print the results: accuracy by bits, class ratio and noise, the largest shifts, failed cells.

    Works on a sweep that is still running, as far as it has come.
    """

    results: Folder
    shifts: Count = 5  # list N tensors per contrast and kind

    def answer(self) -> None:
        """Print every page."""
        print_summary(self.results, shifts=self.shifts)


def print_accuracy(results_path: Location, console: Console | None = None) -> None:
    """Print the accuracy tables alone, as far as the sweep has come.

    Args:
        results_path: the --out of the sweep.
        console: where to print; None is the standard output.

    Raises:
        ResultsError: if there are no results at `results_path`.
    """
    console = console or new_console()
    _print(accuracy_page(load(results_path).cells, console.width), console)


def print_summary(path: Location, console: Console | None = None, shifts: int = 5) -> None:
    """Print every page: the sweep, accuracy, noise, the largest shifts, null controls, failed cells.

    Args:
        path: the --out of the sweep.
        console: where to print; None is the standard output.
        shifts: number of tensors to list per contrast and kind, at least 1.

    Raises:
        ResultsError: if there are no results at `path`.
        ValueError: if `shifts` is below 1.
    """
    console = console or new_console()
    results = load(path)
    controls = null_controls(results.tensors, results.cells)
    _print(header_page(results, str(path)), console)
    _print(failed_controls(controls), console)
    _print(accuracy_page(results.cells, console.width), console)
    _print(noise_page(results.cells, console.width), console)
    _print(shifts_page(results, shifts), console)
    _print([] if controls.is_empty() else rates_page(controls), console)
    _print(failures_page(results.cells), console)


def _print(page: Page, console: Console) -> None:
    for part in page:
        console.print(part)


def accuracy_page(cells: pl.LazyFrame, width: int) -> Page:
    """Show the accuracy on clean input: bits by class ratio, one grid per dataset, embedding and axis."""
    scored = scores(cells)
    if scored["seeds"].sum() == 0:
        failed = scored["failed"].sum() > 0
        why = "every cell that was tried has failed" if failed else "there is no accuracy to show"
        return [heading("Accuracy"), Text(f"No cell is finished yet: {why}.")]
    clean = scored.filter(pl.col("noise") == CLEAN)
    if clean["seeds"].sum() == 0:
        return [heading("Accuracy"), Text("No cell with clean input is finished yet: see Noise.")]
    return _grids("Accuracy", clean, "class_ratio", width)


def noise_page(cells: pl.LazyFrame, width: int) -> Page:
    """Show the accuracy under noise: bits by noise level, at balanced calibration if there is any."""
    scored = scores(cells)
    noisy = scored.filter((pl.col("noise") != CLEAN) & (pl.col("seeds") > 0))
    if noisy.is_empty():
        return [heading("Noise"), Text("No cell with noisy input is finished: there is nothing to compare.")]
    ratios = noisy["class_ratio"].drop_nulls().unique(maintain_order=True).to_list()
    ratio = BALANCED if BALANCED in ratios or not ratios else ratios[0]
    at_ratio = scored.filter((pl.col("class_ratio") == ratio) | pl.col("class_ratio").is_null())
    title = f"Noise, calibration set {ratio}" if ratios else "Noise"
    return _grids(title, at_ratio.with_columns(noise_label()), "input", width)


def _grids(title: str, scored: pl.DataFrame, across: str, width: int) -> Page:
    keys = varying_keys(scored)
    page: Page = []
    used: set[str] = set()
    for panel in scored.partition_by(keys, maintain_order=True):
        grid = lay_out_grid(panel, across)
        used |= grid.used
        settings = panel.select(keys).row(0, named=True)
        told = [key for key in keys if settings[key] is not None or key not in QUANTIZATION_KEYS]
        page.append(heading(f"{title}: " + ", ".join(describe_value(key, settings[key]) for key in told)))
        page.append(note(_facts(panel, keys)))
        page += [Text(), render_grid(grid, width)]
    page += [Text(), note(READ_AS)]
    page += [note(f"{mark}: {text}") for mark, text in LEGEND.items() if mark in used]
    return page


def _facts(panel: pl.DataFrame, keys: Sequence[str]) -> str:
    """Say what all cells of a panel have in common, and the chance level of its numbers."""
    facts: list[str] = []
    finished = panel.filter(pl.col("seeds") > 0)
    common = finished.select(pl.col("chance").mean(), pl.col("documents").max(), pl.col("seeds").max())
    chance, documents, seeds = common.row(0)
    if chance is not None:
        facts.append(f"chance {100 * chance:.1f} % (always the largest class)")
    if documents is not None:
        facts.append(f"{documents} test documents")
    if seeds is not None and seeds > 1:
        uneven = finished["seeds"].min() != seeds
        facts.append(f"mean of {seeds} seeds" + (", or of fewer where ×n says so" if uneven else ""))
    for key in FACTS:
        values = panel[key].drop_nulls().unique()
        if key not in keys and len(values) == 1:
            facts.append(describe_value(key, values[0]))
    return "; ".join(facts)


def shifts_page(results: Results, n: int) -> Page:
    """List the largest shifts per contrast and kind, and say how to read them."""
    found = largest_shifts(results.tensors, results.cells, n)
    if found.is_empty():
        return [heading("Largest shifts"), Text("No tensors were measured yet.")]
    page: Page = [heading("Largest shifts, each tensor at the cell where it moved most")]
    page += [note(text) for text in NOTES]
    told_apart = [
        key
        for key in ("model", "embedding", "dataset", "algorithm", "internal_bits", "seed")
        if found[key].drop_nulls().n_unique() > 1 or key == "model"
    ]
    for (contrast, kind), rows in found.group_by("contrast", "kind", maintain_order=True):
        name = CONTRAST_TITLES.get(str(contrast), str(contrast))
        plural = "activations" if kind == "activation" else f"{kind}s"
        page += [Text(), Text(f"{capitalize(name)}: {plural}", style="bold")]
        page.append(_shift_table(rows, told_apart))
    page.append(
        note("bits: of the weights / of the tensor's own quantizer. W1: Wasserstein distance, tensor's unit.")
    )
    return page


def _shift_table(rows: pl.DataFrame, told_apart: Sequence[str]) -> Table:
    numbers = {key: number for key, number in NUMBERS.items() if rows[key].null_count() < len(rows)}
    headings = ("tensor", "bits", "class ratio", "noise", *(name for name, _ in numbers.values()))
    table = text_table(headings, (), left=("tensor", "class ratio", "noise"))
    for row in rows.with_columns(noise_label()).iter_rows(named=True):
        where = join_values(_name_value(key, row[key]) for key in told_apart if row[key] is not None)
        bits = FP32 if row["bits"] is None else f"{row['bits']}/{row['tensor_bits'] or MISSING}"
        values = ("" if row[key] is None else style.format(row[key]) for key, (_, style) in numbers.items())
        texts = (bits, row["class_ratio"] or MISSING, row["input"], *values)
        table.add_row(Text(row["tensor"]).append(f"\n{where}", style="dim"), *map(Text, texts))
    return table


def _name_value(key: str, value: Any) -> str:
    return f"{label_of(key)} {value}" if key in ("seed", "internal_bits") else str(value)


def failures_page(cells: pl.LazyFrame) -> Page:
    """List the failed cells by reason; empty if none failed."""
    found = failures(cells)
    if found.is_empty():
        return []
    table = new_table()
    table.add_column("cells", justify="right")
    table.add_column("reason", ratio=1, overflow="fold")
    table.add_column("bits", overflow="fold")
    table.add_column("example", no_wrap=True)
    for row in found.head(REASONS).iter_rows(named=True):
        reason = Text(f"{row['error']} ({join_values(row['models'])})")
        bits = join_values(map(format_bits, row["bits"]))
        table.add_row(str(row["cells"]), reason, bits, str(row["example"])[:12])
    more = len(found) - REASONS
    rest = [note(f"and {more} more reasons: see the column error")] if more > 0 else []
    return [heading(f"Failed cells: {found['cells'].sum()}; {RETRY}"), Text(), table, *rest]


def header_page(results: Results, path: str) -> Page:
    """Describe the sweep, and how far it has come."""
    columns = ("dataset", "model", "embedding", "embedding_source", "embedding_dim", "seed", "status", "bits")
    rows = results.cells.select(*columns, "git_sha").collect()
    page: Page = [Text(f"Results in {path}", style="bold"), Text(progress_line(results))]
    if rows.is_empty():
        return page
    facts = {
        "datasets": join_values(rows["dataset"].unique().sort()),
        "models": join_values(rows["model"].unique().sort()),
        "vectors": join_values(_vectors(rows)),
        "seeds": join_values(rows["seed"].unique().sort()),
        "bits": join_values(map(format_bits, rows["bits"].unique().sort(descending=True, nulls_last=False))),
        "code": join_values(str(sha)[:12] for sha in rows["git_sha"].drop_nulls().unique().sort()),
    }
    table = Table.grid(padding=(0, 2, 0, 0))
    for name, fact in facts.items():
        if fact:
            table.add_row(Text(name, style="dim"), Text(fact))
    return [*page, table]


def _vectors(rows: pl.DataFrame) -> list[str]:
    """Name each source of vectors with its width, which failed cells do not know."""
    found = rows.group_by("embedding").agg(
        pl.col("embedding_source").drop_nulls().unique().sort(),
        pl.col("embedding_dim").drop_nulls().unique().sort(),
    )
    texts = []
    for row in found.sort("embedding").iter_rows(named=True):
        details = [*row["embedding_source"], *(f"{width}-d" for width in row["embedding_dim"])]
        texts.append(f"{row['embedding']} ({join_values(details)})" if details else str(row["embedding"]))
    return texts
