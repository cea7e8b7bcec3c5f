"""The points of a sweep with their intervals: the source of the figures, the tables and the advice."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import polars as pl

from analysis.frames.answers import Right, right_answers
from analysis.frames.axes import BALANCED, KEYS, POINT
from analysis.frames.reading import Results
from analysis.statistics.intervals import pair_answers, pair_drop, pair_with_fp32
from analysis.statistics.scores import placed_cells, scores

PLACE = (*KEYS, *POINT)  # the columns of a point, whose cells differ in their seeds alone
DROP = ("drop_low", "drop_high")
EFFECT = ("effect", "effect_low", "effect_high")


def points(results: Results) -> pl.DataFrame:
    """Return one row per point: accuracy over seeds, losses against FP32 and against the balanced twin.

    Returns:
        The columns of :func:`analysis.statistics.scores.scores`, FP32 repeated beside each recipe, and
        shares: ``drop_low``, ``drop_high`` (95 % interval of ``accuracy_drop``), ``effect`` (accuracy lost
        against the balanced twins, positive where the class ratio costs), ``effect_low``, ``effect_high``.
        Null where there is nothing to pair, document by document.
    """
    scored = scores(results.cells)
    cells = placed_cells(results.cells).filter(pl.col("status") == "ok")
    right = right_answers(results.cells, results.predictions)
    drops = _estimate_drops(pair_with_fp32(cells), right, ("drop", *DROP)).drop("drop")
    effects = _estimate_drops(_pair_with_twins(cells), right, EFFECT)
    for found in (drops, effects):
        scored = scored.join(found, on=PLACE, how="left", nulls_equal=True, maintain_order="left")
    return scored


def _pair_with_twins(cells: pl.DataFrame) -> pl.DataFrame:
    """Add to each cell of another class ratio its ``reference`` cell: its balanced twin."""
    alike = ["model_id", *(key for key in PLACE if key != "class_ratio")]
    twins = cells.filter(class_ratio=BALANCED).select(*alike, reference="cell_id")
    uneven = cells.filter(pl.col("class_ratio") != BALANCED)
    return uneven.join(twins, on=alike, nulls_equal=True, maintain_order="left")


def _estimate_drops(
    rows: pl.DataFrame, right: Mapping[str, Right], names: tuple[str, str, str]
) -> pl.DataFrame:
    """Estimate the paired difference of accuracies at each point, as columns `names`: value, low, high."""
    found: list[dict[str, Any]] = []
    for point, part in rows.group_by(PLACE, maintain_order=True):
        if pairs := pair_answers(part, right):
            drop = pair_drop(pairs)
            values = (*point, drop.value, drop.low, drop.high)
            found.append(dict(zip((*PLACE, *names), values, strict=True)))
    schema = {name: rows.schema[name] for name in PLACE} | dict.fromkeys(names, pl.Float64())
    return pl.DataFrame(found, schema=schema)
