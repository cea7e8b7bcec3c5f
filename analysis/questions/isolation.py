"""Which stage loses the accuracy: one stage kept at 8 bits while the rest is low, and the reverse."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import polars as pl
from rich.console import Console
from rich.table import Table
from rich.text import Text

from analysis.frames.answers import answers
from analysis.frames.reading import Frame, Results
from analysis.frames.settings import BREVITAS, MODEL, recipe_text
from analysis.presentation.phrasing import format_percent
from analysis.presentation.printing import heading, new_table, note
from analysis.statistics.intervals import Interval, Right, paired_drop

HIGH = 8  # bits of what is not low
STAGES = {
    "embedding": "word vectors",
    "lstm_weights": "LSTM weights",
    "io": "LSTM input and hidden state",
    "gates": "gate sums",
    "sigmoids": "sigmoids",
    "tanhs": "tanhs",
    "cell_state": "cell state",
    "head": "last linear layer",
}
RECIPE = ("algorithm", "class_ratio", *BREVITAS)
SCHEMA = {
    "stage": pl.String, "seeds": pl.Int64, "high": pl.Float64, "low": pl.Float64, "kept": pl.Float64,
    "won_back": pl.Float64, "won_back_low": pl.Float64, "won_back_high": pl.Float64, "lowered": pl.Float64,
    "cost": pl.Float64, "cost_low": pl.Float64, "cost_high": pl.Float64,
}  # fmt: skip

Point = tuple[Any, ...]


def isolated_stages(cells: Frame, predictions: Frame | None = None) -> pl.DataFrame:
    """What keeping each stage at 8 bits wins back, and what lowering it alone costs, on clean input.

    Args:
        cells: the table `cells`.
        predictions: the table `predictions`; without answers by document there is nothing to compare.

    Returns:
        The columns of the model and recipe, ``bits`` (the low width), ``stage``, ``seeds``, accuracies (mean
        over seeds) with everything at 8 bits (``high``), at b (``low``), the stage alone ``kept`` at 8 bits
        and alone ``lowered``; ``won_back`` = kept - low and ``cost`` = high - lowered with their 95 %
        intervals (see :func:`analysis.statistics.intervals.paired_drop`). A side that was not run is null.
    """
    keys = (*MODEL, *RECIPE)
    columns = ("cell_id", "model_id", "bits", "isolated_stage", "isolated_how", *keys)
    rows = (
        cells.lazy()
        .filter(
            pl.col("status") == "ok",
            pl.col("noise") == "clean",
            pl.col("internal_bits") == pl.col("bits"),
        )
        .select(columns)
        .join(answers(cells, predictions), on="cell_id", maintain_order="left")
    )
    kinds: dict[str, Any] = {name: rows.collect_schema()[name] for name in (*keys, "bits")}
    # (model and recipe, bits, stage, how): right answers by model_id, that is by seed
    right: dict[Point, dict[str, Right]] = {}
    for row in rows.collect().iter_rows(named=True):
        place = (tuple(row[key] for key in keys), row["bits"], row["isolated_stage"], row["isolated_how"])
        right.setdefault(place, {})[row["model_id"]] = np.asarray(row["predicted"]) == row["labels"]
    found = []
    isolated = dict.fromkeys((point, bits, stage) for point, bits, stage, _ in right if stage is not None)
    for point, bits, stage in isolated:
        high, low = (right.get((point, width, None, None), {}) for width in (HIGH, bits))
        kept, lowered = (right.get((point, bits, stage, how), {}) for how in ("kept", "lowered"))
        won, cost = _gain(low, kept), _gain(lowered, high)
        found.append(
            dict(zip(keys, point, strict=True))
            | {"bits": bits, "stage": stage, "seeds": max(len(kept), len(lowered))}
            | {"high": _mean(high), "low": _mean(low), "kept": _mean(kept), "lowered": _mean(lowered)}
            | _columns("won_back", won)
            | _columns("cost", cost)
        )
    order = pl.Enum(list(STAGES))
    return pl.DataFrame(found, schema=kinds | SCHEMA).sort(
        *keys, pl.col("bits").neg(), pl.col("stage").cast(order), nulls_last=False
    )


def _gain(worse: Mapping[str, Right], better: Mapping[str, Right]) -> Interval | None:
    """How much more often `better` is right, over the seeds that both have."""
    seeds = [seed for seed in better if seed in worse]
    if not seeds:
        return None
    rng = np.random.default_rng(0)
    return paired_drop([better[seed] for seed in seeds], [worse[seed] for seed in seeds], rng)


def _mean(right: Mapping[str, Right]) -> float | None:
    return float(np.mean([one.mean() for one in right.values()])) if right else None


def _columns(name: str, interval: Interval | None) -> dict[str, float | None]:
    if interval is None:
        return dict.fromkeys((name, f"{name}_low", f"{name}_high"))
    return {name: interval.value, f"{name}_low": interval.low, f"{name}_high": interval.high}


def print_isolated(results: Results, console: Console) -> None:
    """Print :func:`isolated_stages`, a table a model, recipe and width."""
    found = isolated_stages(results.cells, results.predictions)
    if found.is_empty():
        console.print("No stage was isolated: run the sweep with --isolate, and without --no-predictions.")
        return
    for _, rows in found.group_by(*MODEL, *RECIPE, "bits", maintain_order=True):
        first = rows.row(0, named=True)
        where = ", ".join(first[name] for name in ("model", "embedding", "dataset"))
        recipe = recipe_text(first | {"internal_bits": "same"})
        console.print(heading(f"{where}: {recipe}, {first['class_ratio']}, {first['bits']} bits"))
        high, low = format_percent(first["high"]), format_percent(first["low"])
        sides = f"all at {HIGH} bits {high}, all at {first['bits']} {low}"
        console.print(note(f"{sides}; seeds: {rows['seeds'].to_numpy().max()}"))
        table = new_table()
        table.add_column("stage")
        for name in ("kept at 8", "won back", "95 % interval", "lowered alone", "cost", "95 % interval"):
            table.add_column(name, justify="right")
        for row in rows.iter_rows(named=True):
            _add_row(table, row)
        console.print(table)
    console.print(note("Accuracy in %. won back: points above all at b; cost: points below all at 8 bits."))
    console.print(note("The last linear layer comes with its input and, generative, the label vectors."))


def _add_row(table: Table, row: Mapping[str, Any]) -> None:
    texts = [STAGES[row["stage"]]]
    for accuracy, gain in (("kept", "won_back"), ("lowered", "cost")):
        texts += [format_percent(row[accuracy]), format_percent(row[gain])]
        low, high = format_percent(row[f"{gain}_low"]), format_percent(row[f"{gain}_high"])
        texts.append("–" if row[gain] is None else f"{low} to {high}")
    table.add_row(*map(Text, texts))
