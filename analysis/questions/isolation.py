"""``isolate``: which stage loses the accuracy, kept at 8 bits while the others are low, or the reverse."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
from rich.console import Console

from analysis.frames.answers import Right, right_answers
from analysis.frames.axes import MODEL, USUAL, describe_recipe
from analysis.frames.reading import Frame, Results
from analysis.presentation.phrasing import format_interval, format_percent, join_values
from analysis.presentation.printing import heading, note, text_table
from analysis.questions.question import TableQuestion
from analysis.statistics.intervals import Interval, pair_drop

HIGH = 8  # bits of the stages that are not low
STAGES = {
    "embedding": "word vectors",
    "lstm_weights": "LSTM weights",
    "io": "LSTM input and hidden state",
    "gates": "gate sums",
    "sigmoids": "sigmoids",
    "tanhs": "tanhs",
    "cell_state": "cell state",
    "head": "output layer",
}
RECIPE = ("algorithm", "class_ratio", *USUAL)
SCHEMA = {
    "stage": pl.String, "seeds": pl.Int64, "high": pl.Float64, "low": pl.Float64, "kept": pl.Float64,
    "won_back": pl.Float64, "won_back_low": pl.Float64, "won_back_high": pl.Float64, "lowered": pl.Float64,
    "cost": pl.Float64, "cost_low": pl.Float64, "cost_high": pl.Float64,
}  # fmt: skip


def isolated_stages(cells: Frame, predictions: Frame | None = None) -> pl.DataFrame:
    """Estimate the gain from keeping each stage at 8 bits, and the cost of lowering it alone, on clean input.

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
    own = cells.lazy().filter(
        pl.col("status") == "ok", pl.col("noise") == "clean", pl.col("internal_bits") == pl.col("bits")
    )
    rows = own.select(columns).collect()
    known = right_answers(own, predictions)
    # (model and recipe, bits, stage, how): right answers by model_id, that is by seed
    right: dict[tuple[Any, ...], dict[str, Right]] = {}
    for row in rows.filter(pl.col("cell_id").is_in(list(known))).iter_rows(named=True):
        point = tuple(row[key] for key in keys)
        side = (point, row["bits"], row["isolated_stage"], row["isolated_how"])
        right.setdefault(side, {})[row["model_id"]] = known[row["cell_id"]]
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
            | _name_bounds("won_back", won)
            | _name_bounds("cost", cost)
        )
    kinds: dict[str, Any] = {name: rows.schema[name] for name in (*keys, "bits")}
    order = pl.Enum(list(STAGES))
    return pl.DataFrame(found, schema=kinds | SCHEMA).sort(
        *keys, pl.col("bits").neg(), pl.col("stage").cast(order), nulls_last=False
    )


def _gain(worse: Mapping[str, Right], better: Mapping[str, Right]) -> Interval | None:
    """Estimate how much more often `better` is right, over the seeds that both have."""
    pairs = [(better[seed], worse[seed]) for seed in better if seed in worse]
    return pair_drop(pairs) if pairs else None


def _mean(right: Mapping[str, Right]) -> float | None:
    return float(np.mean([one.mean() for one in right.values()])) if right else None


def _name_bounds(name: str, interval: Interval | None) -> dict[str, float | None]:
    if interval is None:
        return dict.fromkeys((name, f"{name}_low", f"{name}_high"))
    return {name: interval.value, f"{name}_low": interval.low, f"{name}_high": interval.high}


@dataclass(frozen=True, slots=True, kw_only=True)
class Isolate(TableQuestion):
    """Print which stage loses the accuracy, for a sweep with --isolate.

    For each stage: the gain from keeping it at 8 bits while the others are low, and the cost of lowering it
    alone.
    """

    def table(self, results: Results) -> pl.DataFrame:
        """Return :func:`isolated_stages`."""
        return isolated_stages(results.cells, results.predictions)

    def print(self, results: Results, console: Console) -> None:
        """Print one table per model, recipe and width."""
        found = self.table(results)
        if found.is_empty():
            console.print(
                "No stage was isolated: run the sweep with --isolate, and without --no-predictions."
            )
            return
        headings = (
            "stage",
            "kept at 8",
            "won back",
            "95 % interval",
            "lowered alone",
            "cost",
            "95 % interval",
        )
        for _, rows in found.group_by(*MODEL, *RECIPE, "bits", maintain_order=True):
            first = rows.row(0, named=True)
            where = join_values(first[name] for name in ("model", "embedding", "dataset"))
            recipe = describe_recipe(first | {"internal_bits": "same"})
            console.print(heading(f"{where}: {recipe}, {first['class_ratio']}, {first['bits']} bits"))
            high, low = format_percent(first["high"]), format_percent(first["low"])
            sides = f"all at {HIGH} bits {high}, all at {first['bits']} {low}"
            console.print(note(f"{sides}; seeds: {rows['seeds'].to_numpy().max()}"))
            lines = (_format_row(row) for row in rows.iter_rows(named=True))
            console.print(text_table(headings, lines, left=("stage",)))
        console.print(
            note("Accuracy in %. won back: points above all at b; cost: points below all at 8 bits.")
        )
        console.print(
            note(
                "The output layer is isolated with its input and, in the generative model, the label vectors."
            )
        )


def _format_row(row: Mapping[str, Any]) -> list[str]:
    texts = [STAGES[row["stage"]]]
    for accuracy, gain in (("kept", "won_back"), ("lowered", "cost")):
        texts += [format_percent(row[accuracy]), format_percent(row[gain])]
        texts.append(format_interval(row[f"{gain}_low"], row[f"{gain}_high"]))
    return texts
