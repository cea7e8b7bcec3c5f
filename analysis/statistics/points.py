"""Every setting of a sweep with its intervals: what the figures, the tables and the advice are made of."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import polars as pl

from analysis.frames.answers import answers
from analysis.frames.reading import Results
from analysis.frames.settings import BALANCED, KEYS, NOISE, POINT
from analysis.statistics.intervals import Interval, Right, paired_drop
from analysis.statistics.scores import placed_cells, scores

PLACE = (*KEYS, *POINT)  # what tells one point from another; its cells differ in their seeds alone
DROP = ("drop_low", "drop_high")
EFFECT = ("effect", "effect_low", "effect_high")


def right_answers(results: Results, cell_ids: Iterable[str] | None = None) -> dict[str, Right]:
    """Which documents each finished cell classified right.

    Args:
        results: the results of a sweep.
        cell_ids: the cells that matter; None takes all.

    Returns:
        (documents,) by ``cell_id``; cells whose answers were not kept, as up to schema version 1 or with
        --no-predictions, are left out.
    """
    finished = results.cells.filter(pl.col("status") == "ok")
    if cell_ids is not None:
        finished = finished.filter(pl.col("cell_id").is_in(list(cell_ids)))
    known = answers(finished, results.predictions).filter(
        pl.col("labels").list.len() == pl.col("predicted").list.len()
    )
    found = known.join(finished.select("cell_id"), on="cell_id", how="semi").collect()
    if found.is_empty():
        return {}
    lengths = found["labels"].list.len().to_numpy()
    right = (found["predicted"].explode() == found["labels"].explode()).to_numpy()
    parts = np.split(right, np.cumsum(lengths)[:-1])
    return dict(zip(found["cell_id"], parts, strict=True))


def points(results: Results) -> pl.DataFrame:
    """One row a setting: accuracy over seeds, what is lost against FP32 and against the balanced twin.

    Args:
        results: the results of a sweep, any part of it.

    Returns:
        The columns of :func:`analysis.statistics.scores.scores`, FP32 repeated beside each recipe, and
        shares: ``drop_low``, ``drop_high`` (95 % interval of ``accuracy_drop``), ``effect`` (accuracy lost
        against the balanced twins, positive where the class ratio costs), ``effect_low``, ``effect_high``.
        Null where there is nothing to pair, document by document.
    """
    scored = scores(results.cells)
    cells = placed_cells(results.cells).filter(pl.col("status") == "ok")
    right = right_answers(results)
    drops = _paired(beside_fp32(cells), right, ("drop", *DROP)).drop("drop")
    effects = _paired(_beside_twins(cells), right, EFFECT)
    return scored.join(drops, on=PLACE, how="left", nulls_equal=True, maintain_order="left").join(
        effects, on=PLACE, how="left", nulls_equal=True, maintain_order="left"
    )


def beside_fp32(cells: pl.DataFrame) -> pl.DataFrame:
    """Each quantized cell with the ``reference`` cell: its FP32 model under the same noise."""
    fp32 = cells.filter(pl.col("bits").is_null()).select("model_id", *NOISE, reference="cell_id")
    quantized = cells.filter(pl.col("bits").is_not_null())
    return quantized.join(fp32.unique(), on=["model_id", *NOISE])


def _beside_twins(cells: pl.DataFrame) -> pl.DataFrame:
    """Each cell of another class ratio with the ``reference`` cell: its balanced twin."""
    alike = ["model_id", *(key for key in PLACE if key != "class_ratio")]
    twins = cells.filter(class_ratio=BALANCED).select(*alike, reference="cell_id")
    uneven = cells.filter(pl.col("class_ratio") != BALANCED)
    return uneven.join(twins, on=alike, nulls_equal=True)


def _paired(rows: pl.DataFrame, right: Mapping[str, Right], names: tuple[str, str, str]) -> pl.DataFrame:
    """The paired difference of accuracies at each point, as columns `names`: value, low, high."""
    found: list[dict[str, Any]] = []
    for point, part in rows.group_by(PLACE, maintain_order=True):
        pairs = [
            (right[reference], right[cell])
            for reference, cell in part.select("reference", "cell_id").iter_rows()
            if cell in right and reference in right and len(right[cell]) == len(right[reference])
        ]
        if pairs:
            drop = interval_of(pairs)
            values = zip(names, (drop.value, drop.low, drop.high), strict=True)
            found.append(dict(zip(PLACE, point, strict=True)) | dict(values))
    schema = {name: rows.schema[name] for name in PLACE} | dict.fromkeys(names, pl.Float64())
    return pl.DataFrame(found, schema=schema)


def interval_of(pairs: list[tuple[Right, Right]]) -> Interval:
    """The paired difference over seeds; the same on every run."""
    return paired_drop([a for a, _ in pairs], [b for _, b in pairs], np.random.default_rng(0))
