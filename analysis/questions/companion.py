"""``companion``: each model and method of the companion study, beside the published numbers."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import polars as pl
import tyro
from rich.console import Console
from rich.table import Table

from analysis.frames.reading import Frame, Results, ResultsError
from analysis.presentation.phrasing import format_number
from analysis.presentation.printing import heading, text_table
from analysis.questions.question import Switch, TableQuestion
from lstmptq.runtime.locations import Location

PUBLISHED = Path(__file__).parents[1] / "published" / "bert.csv"
ORDER = ("fp32", "dynamic_ptq", "static_ptq", "qat", "qlora")
MODELS = ("bert", "discriminative", "generative")
MEGABYTE = 1e6
NAMES = ("model", "method", "by")

Row = dict[str, Any]


def companion_table(cells: Frame) -> pl.DataFrame:
    """Return one row per model, method, library and width, averaged over seeds.

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
    order = [_rank("model", MODELS), _rank("method", ORDER), pl.col("library"), pl.col("bits").neg()]
    joined = found.join(published(), on=["dataset", "model", "method"], how="left")
    return joined.sort("dataset", *order)


def published() -> pl.DataFrame:
    """Read the published table of bert-base-uncased on the emotion corpus, with our names of the methods."""
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


def _rank(column: str, order: tuple[str, ...]) -> pl.Expr:
    return pl.col(column).replace_strict({name: at for at, name in enumerate(order)}, default=len(order))


@dataclass(frozen=True, slots=True, kw_only=True)
class Companion(TableQuestion):
    """Print the companion study: quality, speed and size of models and methods.

    The published numbers stand beside ours.
    """

    confusion: Annotated[Switch, tyro.conf.arg(help="print the confusion matrices too")] = False

    def table(self, results: Results) -> pl.DataFrame:
        """Return :func:`companion_table`."""
        return companion_table(results.cells)

    def print(self, results: Results, console: Console) -> None:
        """Print four tables per dataset: how good, how fast, how large, and what multiplied."""
        for (dataset,), part in self.table(results).group_by("dataset", maintain_order=True):
            rows = part.to_dicts()
            for title, headings, lines in _format_tables(rows):
                console.print(heading(f"{dataset}: {title}"))
                console.print(text_table((*NAMES, *headings), lines, left=(*NAMES, "operators")))
            for row in rows if self.confusion else ():
                console.print(heading(" ".join(_name(row))))
                console.print(_confusion_table(row))


def print_companion(path: Location) -> None:
    """Print the answer to `Companion` for the results in `path`, at the end of a sweep.

    Raises:
        ResultsError: if no cell is of the companion study.
    """
    Companion(results=str(path)).answer()


def _format_tables(rows: list[Row]) -> Iterator[tuple[str, tuple[str, ...], list[list[str]]]]:
    """Yield the title, the headings and the lines of each table."""
    quality = ("accuracy", "macro_f1", "kept", "published_accuracy", "published_macro_f1")
    lines = [[*_name(row), *(_format(row[name]) for name in quality), str(row["seeds"])] for row in rows]
    yield "how good", ("acc. %", "macro-F1", "kept %", "theirs", "F1", "seeds"), lines
    for size in (1, 64):
        lines = []
        for row in rows:
            median, low, high = (
                _format_short(row[f"latency_{size}_{part}ms"]) for part in ("", "low_", "high_")
            )
            numbers = (row[f"speedup_{size}"], row["total_seconds"], row["published_total_seconds"])
            lines.append([*_name(row), median, f"{low}-{high}", *map(_format, numbers)])
        documents = "one document" if size == 1 else f"{size} documents"
        title = f"how fast, {documents} at a time (x FP32: times faster)"
        yield title, ("ms", "quartiles", "x FP32", "all, s", "published, s"), lines
    lines = [
        [*_name(row), *(_format(row[name]) for name in ("stored_mb", "peak_mb", "trainable"))] for row in rows
    ]
    yield "how large", ("stored, MB", "peak, MB", "trained %"), lines
    lines = []
    for row in rows:
        share = "" if row["integer_share"] is None else f"{100 * row['integer_share']:.0f} %"
        lines.append([*_name(row), share, row["kernel"] or ""])
    yield "what multiplied", ("integer", "operators"), lines


def _name(row: Row) -> tuple[str, str, str]:
    width = "" if row["bits"] is None else f" {row['bits']}"
    return str(row["model"]), f"{row['method']}{width}", str(row["library"] or "")


def _confusion_table(row: Row) -> Table:
    classes = row["classes"] or [str(number) for number in range(len(row["confusion"]))]
    lines = ([name, *map(str, counts)] for name, counts in zip(classes, row["confusion"], strict=True))
    return text_table(("true class", *classes), lines, left=("true class",))


def _format(value: float | None) -> str:
    return format_number(value, 2, missing="")


def _format_short(value: float | None) -> str:
    return format_number(value, 2 if value is None or value < 10 else 1 if value < 100 else 0)
