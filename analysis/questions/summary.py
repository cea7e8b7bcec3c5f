"""The answer of a sweep in a terminal, as far as it has come: parts, each a list of things rich can print."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import polars as pl
from rich.console import Console, RenderableType
from rich.table import Table
from rich.text import Text

from analysis.frames.failures import failures
from analysis.frames.provenance import progress_line
from analysis.frames.reading import Results, load
from analysis.frames.settings import BALANCED, CLEAN, FP32, described, noise_label, varying_keys
from analysis.presentation.grids import LEGEND, lay_out_grid, render_grid
from analysis.presentation.printing import Page, heading, new_console, new_table, note
from analysis.questions.verdicts import failed_controls, rates_page
from analysis.statistics.controls import null_controls
from analysis.statistics.scores import scores
from analysis.statistics.shifts import CONTRAST_TITLES, NOTES, largest_shifts
from lstmptq.runtime.locations import Location

REASONS = 10  # failed cells: so many reasons are printed
FACTS = ("embedding_dim", "hidden", "layers", "training_documents", "internal_bits", "algorithm")
READ_AS = "Read: accuracy in %, then the points lost against FP32 under the same noise (negative: gained)."


def print_accuracy(results_path: Location, console: Console | None = None) -> None:
    """Print the accuracy tables alone, as far as the sweep has come.

    Args:
        results_path: the sweep's ``--out``.
        console: where to print; None is the standard output.

    Raises:
        ResultsError: if there are no results at `results_path`.
    """
    console = console or new_console()
    results = load(results_path)
    _print(accuracy_page(results.cells, console.width), console)


def print_summary(path: Location, console: Console | None = None, shifts: int = 5) -> None:
    """Print everything: what was run, accuracy, noise, the largest shifts, failed cells.

    Args:
        path: the sweep's ``--out``.
        console: where to print; None is the standard output.
        shifts: tensors listed per contrast and kind, at least 1.

    Raises:
        ResultsError: if there are no results at `path`.
        ValueError: if `shifts` is below 1.
    """
    console = console or new_console()
    results = load(path)
    cells = results.cells
    _print(header_page(results, str(path)), console)
    controls = null_controls(results.tensors, results.cells)
    _print(failed_controls(controls), console)
    _print(accuracy_page(cells, console.width), console)
    _print(noise_page(cells, console.width), console)
    _print(shifts_page(results, shifts), console)
    if not controls.is_empty():
        _print(rates_page(controls), console)
    _print(failures_page(cells), console)


def _print(page: list[RenderableType], console: Console) -> None:
    for part in page:
        console.print(part)


def accuracy_page(cells: pl.LazyFrame, width: int) -> Page:
    """Accuracy on clean input: bits by class ratio, one grid a dataset, embedding and other setting."""
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
    """Accuracy under noise: bits by noise level, at balanced calibration if there is any."""
    scored = scores(cells)
    noisy = scored.filter((pl.col("noise") != CLEAN) & (pl.col("seeds") > 0))
    if noisy.is_empty():
        return [heading("Noise"), Text("No cell with noisy input is finished: there is nothing to compare.")]
    ratios = noisy["class_ratio"].drop_nulls().unique(maintain_order=True).to_list()
    ratio = BALANCED if BALANCED in ratios or not ratios else ratios[0]
    chosen = scored.filter((pl.col("class_ratio") == ratio) | pl.col("class_ratio").is_null())
    title = f"Noise, calibration set {ratio}" if ratios else "Noise"
    return _grids(title, chosen.with_columns(noise_label()), "input", width)


def _grids(title: str, scored: pl.DataFrame, across: str, width: int) -> Page:
    keys = varying_keys(scored)
    page: Page = []
    used: set[str] = set()
    for panel in scored.partition_by(keys, maintain_order=True):
        grid = lay_out_grid(panel, across)
        used |= grid.used
        settings = panel.select(keys).row(0, named=True)
        page.append(heading(f"{title}: " + ", ".join(described(key, settings[key]) for key in keys)))
        page.append(note(_facts(panel, keys)))
        page += [Text(), render_grid(grid, width)]
    page += [Text(), note(READ_AS)]
    page += [note(f"{mark}: {text}") for mark, text in LEGEND.items() if mark in used]
    return page


def _facts(panel: pl.DataFrame, keys: Sequence[str]) -> str:
    """What all of a panel has in common, and what its numbers have to be held against."""
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
            facts.append(described(key, values[0]))
    return "; ".join(facts)


def shifts_page(results: Results, n: int) -> Page:
    """The largest shifts per contrast and kind, and how to read them."""
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
        page += [Text(), Text(f"{name[0].upper()}{name[1:]}: {plural}", style="bold")]
        page.append(_shift_table(rows, told_apart))
    page.append(
        note("bits: of the weights / of the tensor's own quantizer. W1: Wasserstein distance, tensor's unit.")
    )
    return page


def _shift_table(rows: pl.DataFrame, told_apart: Sequence[str]) -> Table:
    table = new_table()
    numbers = {
        "ks_d": ("D", "{:.3f}"),
        "atom_floor": ("floor", "{:.3f}"),
        "ks_d_dithered": ("dithered", "{:.3f}"),
        "wasserstein": ("W1", "{:.2g}"),
        "sqnr_db": ("SQNR dB", "{:.1f}"),
        "clip_fraction": ("clipped", "{:.1%}"),
    }
    shown = {key: style for key, style in numbers.items() if rows[key].null_count() < len(rows)}
    table.add_column("tensor", overflow="fold")
    table.add_column("bits", justify="right", no_wrap=True)
    table.add_column("class ratio")
    table.add_column("noise")
    for name, _ in shown.values():
        table.add_column(name, justify="right", no_wrap=True)
    for row in rows.with_columns(noise_label()).iter_rows(named=True):
        tensor = Text(row["tensor"])
        tensor.append(
            "\n" + _listed(_short(key, row[key]) for key in told_apart if row[key] is not None), style="dim"
        )
        values = (
            Text("" if row[key] is None else style.format(row[key])) for key, (_, style) in shown.items()
        )
        table.add_row(
            tensor, _widths(row["bits"], row["tensor_bits"]), Text(row["class_ratio"] or "–"),
            Text(row["input"]), *values,
        )  # fmt: skip
    return table


def _short(key: str, value: Any) -> str:
    return f"{key.replace('_', ' ')} {value}" if key in ("seed", "internal_bits") else str(value)


def _widths(bits: int | None, tensor_bits: int | None) -> str:
    return FP32 if bits is None else f"{bits}/{'–' if tensor_bits is None else tensor_bits}"


def failures_page(cells: pl.LazyFrame) -> Page:
    """Failed cells by reason; empty if none failed."""
    found = failures(cells)
    if found.is_empty():
        return []
    page: Page = [heading(f"Failed cells: {found['cells'].sum()}, running the sweep again tries them again")]
    table = new_table()
    table.add_column("cells", justify="right")
    table.add_column("reason", ratio=1, overflow="fold")
    table.add_column("bits", overflow="fold")
    table.add_column("example", no_wrap=True)
    for row in found.head(REASONS).iter_rows(named=True):
        bits = _listed(FP32 if width is None else width for width in row["bits"])
        reason = Text(f"{row['error']} ({_listed(row['models'])})")
        table.add_row(str(row["cells"]), reason, bits, str(row["example"])[:12])
    page += [Text(), table]
    if len(found) > REASONS:
        page.append(note(f"and {len(found) - REASONS} more reasons: see the column error"))
    return page


def header_page(results: Results, path: str) -> Page:
    """What the results are of, and how far the sweep has come."""
    columns = ("dataset", "model", "embedding", "embedding_source", "embedding_dim", "seed", "status", "bits")
    rows = results.cells.select(*columns, "git_sha").collect()
    page: Page = [Text(f"Results in {path}", style="bold"), Text(progress_line(results))]
    if rows.is_empty():
        return page
    facts = {
        "datasets": _listed(rows["dataset"].unique().sort()),
        "models": _listed(rows["model"].unique().sort()),
        "vectors": _listed(_vectors(rows)),
        "seeds": _listed(rows["seed"].unique().sort()),
        "bits": _listed(
            FP32 if width is None else width
            for width in rows["bits"].unique().sort(descending=True, nulls_last=False)
        ),
        "code": _listed(str(sha)[:12] for sha in rows["git_sha"].drop_nulls().unique().sort()),
    }
    table = Table.grid(padding=(0, 2, 0, 0))
    for name, fact in facts.items():
        if fact:
            table.add_row(Text(name, style="dim"), Text(fact))
    return [*page, table]


def _vectors(rows: pl.DataFrame) -> list[str]:
    """Each source of vectors with its width; failed cells do not know theirs."""
    found = rows.group_by("embedding").agg(
        pl.col("embedding_source").drop_nulls().unique().sort(),
        pl.col("embedding_dim").drop_nulls().unique().sort(),
    )
    texts = []
    for row in found.sort("embedding").iter_rows(named=True):
        details = [*row["embedding_source"], *(f"{width}-d" for width in row["embedding_dim"])]
        texts.append(f"{row['embedding']} ({', '.join(details)})" if details else str(row["embedding"]))
    return texts


def _listed(values: Iterable[Any]) -> str:
    return ", ".join(str(value) for value in values)
