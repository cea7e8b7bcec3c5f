"""The companion study as a table: each model and method, with the published numbers beside."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import polars as pl
from rich import box
from rich.console import Console
from rich.table import Table

from analysis.frames.reading import Frame, ResultsError, load
from analysis.presentation.printing import new_console
from lstmptq.runtime.locations import Location

PUBLISHED = Path(__file__).parents[1] / "published" / "bert.csv"
ORDER = ("fp32", "dynamic_ptq", "static_ptq", "qat", "qlora")
MODELS = ("bert", "discriminative", "generative")
MEGABYTE = 1e6


def companion_table(cells: Frame) -> pl.DataFrame:
    """One row a model, method, library and width, averaged over seeds.

    Args:
        cells: the table `cells`.

    Returns:
        ``dataset``, ``model``, ``pretrained``, ``method``, ``library``, ``bits``, ``seeds``, ``accuracy``,
        ``macro_f1`` (%), ``kept`` (accuracy over FP32's, %), ``total_seconds`` and ``ms_per_document`` (of
        scoring the evaluated documents), ``latency_1_ms``, ``latency_64_ms`` with their quartiles,
        ``speedup_1``, ``speedup_64``, ``stored_mb``, ``peak_mb``, ``trainable`` (share of the parameters, %),
        ``confusion`` (documents by true class and prediction) and ``classes`` of the first seed, ``kernel``,
        ``integer_share``, and the published ``accuracy``, ``macro_f1`` (%), ``total_seconds`` and
        ``ms_per_document`` with the prefix ``published_``.

    Raises:
        ResultsError: if no cell is of the companion study.
    """
    ours = cells.lazy().filter(pl.col("stored_bytes").is_not_null(), pl.col("status") == "ok")
    keys = ["dataset", "model", "pretrained", "method", "library", "bits"]
    latencies = [f"latency_{size}_{part}ms" for size in (1, 64) for part in ("", "low_", "high_")]
    found = (
        ours.group_by(keys)
        .agg(
            seeds=pl.col("seed").n_unique(),
            accuracy=100 * pl.col("accuracy").mean(),
            macro_f1=100 * pl.col("macro_f1").mean(),
            kept=100 * (pl.col("accuracy") / pl.col("fp32_accuracy")).mean(),
            total_seconds=pl.col("evaluate_seconds").mean(),
            ms_per_document=1e3 * (pl.col("evaluate_seconds") / pl.col("documents")).mean(),
            **{name: pl.col(name).mean() for name in (*latencies, "speedup_1", "speedup_64")},
            stored_mb=pl.col("stored_bytes").mean() / MEGABYTE,
            peak_mb=pl.col("peak_memory_bytes").mean() / MEGABYTE,
            trainable=100 * (pl.col("trainable_parameters") / pl.col("parameters")).mean(),
            confusion=pl.col("confusion").first(),
            classes=pl.col("classes").first(),
            kernel=pl.col("kernel").first(),
            integer_share=pl.col("integer_share").mean(),
        )
        .collect()
    )
    if found.is_empty():
        raise ResultsError(
            "no finished cell of the companion study is here: make them with `python sweeps/emotion.py`"
        )
    order = [_place("model", MODELS), _place("method", ORDER), pl.col("library"), pl.col("bits").neg()]
    joined = found.join(published(), on=["dataset", "model", "method"], how="left")
    return joined.sort("dataset", *order)


def published() -> pl.DataFrame:
    """The published table, of bert-base-uncased on the emotion corpus, by our names of the methods."""
    read = pl.read_csv(PUBLISHED)
    return read.select(
        "dataset",
        pl.lit("bert").alias("model"),
        pl.col("method").str.replace("_int8", ""),
        published_accuracy=100 * pl.col("accuracy"),
        published_macro_f1=100 * pl.col("macro_f1"),
        published_total_seconds="total_seconds",
        published_ms_per_document=1e3 * pl.col("seconds_per_sample"),
    )


def _place(column: str, order: tuple[str, ...]) -> pl.Expr:
    return pl.col(column).replace_strict({name: at for at, name in enumerate(order)}, default=len(order))


def print_companion(path: Location, console: Console | None = None, confusion: bool = False) -> None:
    """Print :func:`companion_table`: how good, how fast and large, what multiplied.

    Args:
        path: the sweep's ``--out``.
        console: where to print; None is the standard output.
        confusion: print each row's confusion matrix too.

    Raises:
        ResultsError: if there is nothing to print.
    """
    console = console or new_console()
    rows = companion_table(load(path).cells)
    for (dataset,), part in rows.group_by("dataset", maintain_order=True):
        console.print(_quality(str(dataset), part))
        for size in (1, 64):
            console.print(_speed(str(dataset), part, size))
        console.print(_sizes(str(dataset), part))
        console.print(_kernels(str(dataset), part))
        for row in part.iter_rows(named=True) if confusion else ():
            console.print(_confusion(row))


def _table(title: str, *columns: str) -> Table:
    table = Table(title=title, box=box.SIMPLE_HEAD, title_justify="left")
    for number, name in enumerate(columns):
        table.add_column(
            name,
            justify="left" if number < 3 else "right",
            no_wrap=number != 2,
            min_width=10 if number == 2 else None,
        )
    return table


def _name(row: dict[str, Any]) -> tuple[str, str, str]:
    width = "" if row["bits"] is None else f" {row['bits']}"
    return str(row["model"]), f"{row['method']}{width}", str(row["library"] or "")


def _quality(dataset: str, rows: pl.DataFrame) -> Table:
    names = ("model", "method", "by", "acc. %", "macro-F1", "kept %", "seeds", "theirs", "F1")
    table = _table(f"{dataset}: how good", *names)
    for row in rows.iter_rows(named=True):
        numbers = (row["accuracy"], row["macro_f1"], row["kept"])
        theirs = (row["published_accuracy"], row["published_macro_f1"])
        table.add_row(
            *_name(row), *(_number(value) for value in numbers), str(row["seeds"]),
            *(_number(value) for value in theirs),
        )  # fmt: skip
    return table


def _speed(dataset: str, rows: pl.DataFrame, size: int) -> Table:
    names = ("model", "method", "by", "ms", "quartiles", "x FP32", "all, s", "published, s")
    of = "one document" if size == 1 else f"{size} documents"
    table = _table(f"{dataset}: how fast, {of} at a time (x FP32: times faster)", *names)
    for row in rows.iter_rows(named=True):
        median, low, high = (_short(row[f"latency_{size}_{part}ms"]) for part in ("", "low_", "high_"))
        table.add_row(
            *_name(row), median, f"{low}-{high}", _number(row[f"speedup_{size}"]),
            _number(row["total_seconds"]), _number(row["published_total_seconds"]),
        )  # fmt: skip
    return table


def _short(value: float) -> str:
    return f"{value:.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def _sizes(dataset: str, rows: pl.DataFrame) -> Table:
    names = ("model", "method", "by", "stored, MB", "peak, MB", "trained %")
    table = _table(f"{dataset}: how large", *names)
    for row in rows.iter_rows(named=True):
        table.add_row(*_name(row), *(_number(row[name]) for name in ("stored_mb", "peak_mb", "trainable")))
    return table


def _kernels(dataset: str, rows: pl.DataFrame) -> Table:
    table = _table(f"{dataset}: what multiplied", "model", "method", "by", "integer", "operators")
    table.columns[-1].justify, table.columns[-1].no_wrap = "left", False
    for row in rows.iter_rows(named=True):
        share = "" if row["integer_share"] is None else f"{100 * row['integer_share']:.0f} %"
        table.add_row(*_name(row), share, row["kernel"])
    return table


def _confusion(row: dict[str, Any]) -> Table:
    classes = row["classes"] or [str(number) for number in range(len(row["confusion"]))]
    table = Table(title=" ".join(_name(row)), box=box.SIMPLE_HEAD, title_justify="left")
    for name in ("true class", *classes):
        table.add_column(name, justify="right" if name in classes else "left")
    for name, counts in zip(classes, row["confusion"], strict=True):
        table.add_row(name, *map(str, counts))
    return table


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"
