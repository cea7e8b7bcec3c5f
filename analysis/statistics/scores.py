"""The scores of each point: the rows of `cells` averaged over seeds, FP32 beside every class ratio."""

from __future__ import annotations

import polars as pl

from analysis.frames.axes import GROUP, KEYS, MODEL_KEYS, POINT, QUANTIZATION_KEYS, order_of
from analysis.frames.reading import Frame, whole_models
from lstmptq.spec.axes import BEST_EPOCH
from lstmptq.spec.parsing import SAME

_NUMBERS = ("accuracy", "accuracy_drop", "chance", "most_predicted")


def scores(cells: Frame) -> pl.DataFrame:
    """Average the cells over seeds, one row per point.

    FP32 has no class ratio, algorithm or internal bits: its row is repeated beside each of them. A row whose
    LSTM internals and weights have the same width belongs to the recipe of that fixed width and to the recipe
    `same`, if both were run. Cells with an isolated stage are left out.

    Returns:
        The columns `KEYS` and `POINT`, and: ``accuracy``, ``accuracy_drop`` (shares, 0..1), ``seeds``
        (of finished cells), ``failed`` (number of cells), ``documents`` (evaluated, the
        maximum over seeds), ``chance`` (share of the largest true class), ``most_predicted`` (share of the
        class predicted most), ``collapsed`` and ``dead`` (in at least one seed), ``cell_ids`` (of the
        finished cells). ``internal_bits`` is text: a width, or `same`; ``checkpoint`` is 0 for the best epoch
        on validation.
    """
    over_seeds = (
        placed_cells(cells)
        .group_by(*KEYS, *POINT)
        .agg(
            *(pl.col(name).mean() for name in _NUMBERS),
            pl.col("seed").filter(status="ok").n_unique().alias("seeds"),
            (pl.col("status") == "failed").sum().alias("failed"),
            pl.col("documents").max(),
            collapsed().any().alias("collapsed"),
            pl.col("dead_signal").is_not_null().any().alias("dead"),
            pl.col("cell_id").filter(status="ok").unique().sort().alias("cell_ids"),
        )
    )
    quantized = over_seeds.filter(pl.col("bits").is_not_null())
    fp32 = over_seeds.filter(pl.col("bits").is_null()).drop(*QUANTIZATION_KEYS, "class_ratio")
    beside = quantized.select(*KEYS, "class_ratio").unique()
    fp32 = fp32.join(beside, on=MODEL_KEYS, how="left", nulls_equal=True).select(quantized.columns)
    both = pl.concat([fp32, quantized])
    return both.sort(*KEYS, "model", *order_of("class_ratio", "noise", "bits"), nulls_last=False)


def collapsed() -> pl.Expr:
    """Build the test whether one class takes more than half of the documents of the others."""
    return pl.col("most_predicted") > (1 + pl.col("chance")) / 2


def placed_cells(cells: Frame) -> pl.DataFrame:
    """Place each cell at the point and the recipe that it belongs to, for :func:`scores` to average.

    Returns:
        ``cell_id``, ``model_id``, ``seed``, ``status``, `KEYS` and `POINT` as in :func:`scores`, and the
        numbers of a cell. A quantized cell that belongs to two recipes occurs twice, one with an isolated
        stage not at all.
    """
    whole = _with_shares(whole_models(cells))
    rows = whole.with_columns(_fill_known(key) for key in KEYS if key != "internal_bits")
    return _with_recipes(rows)


def _with_shares(cells: pl.LazyFrame) -> pl.DataFrame:
    """Select the columns of finished and failed cells, with the shares computed from `confusion`."""
    columns = (
        "cell_id",
        "model_id",
        "seed",
        "status",
        "accuracy",
        "accuracy_drop",
        "documents",
        "dead_signal",
    )
    rows = cells.select(*KEYS, *POINT, *columns, "confusion").with_row_index("row").collect()
    by_class = rows.select("row", "confusion").explode("confusion").drop_nulls("confusion")
    true = by_class.group_by("row").agg(pl.col("confusion").list.sum().max().alias("largest"))
    predicted = (
        by_class.with_columns(column=pl.int_ranges(pl.col("confusion").list.len()))
        .explode("confusion", "column")
        .group_by("row", "column")
        .agg(pl.col("confusion").sum())
        .group_by("row")
        .agg(pl.col("confusion").max().alias("most"), pl.col("confusion").sum().alias("all"))
    )
    shares = true.join(predicted, on="row").select(
        "row",
        (pl.col("largest") / pl.col("all")).alias("chance"),
        (pl.col("most") / pl.col("all")).alias("most_predicted"),
    )
    return rows.drop("confusion").join(shares, on="row", how="left")


def _with_recipes(rows: pl.DataFrame) -> pl.DataFrame:
    """Name the recipe of internal bits; a row that belongs to two recipes is repeated."""
    others = [key for key in KEYS if key != "internal_bits"]
    follows = pl.col("internal_bits") == pl.col("bits")
    at_fixed = (~follows).any().over(*others, "internal_bits")
    # among rows of equal widths, only a width that no fixed recipe has shows that `same` was run
    same_was_run = (follows & ~at_fixed).any().over(others)
    name = pl.col("internal_bits").cast(pl.String)
    recipes = (
        pl.when(pl.col("internal_bits").is_null())
        .then(pl.concat_list(pl.lit(None, pl.String)))
        .when(follows & ~at_fixed)
        .then(pl.concat_list(pl.lit(SAME)))
        .when(follows & same_was_run)
        .then(pl.concat_list(name, pl.lit(SAME)))
        .otherwise(pl.concat_list(name))
    )
    return rows.with_columns(internal_bits=recipes).explode("internal_bits")


def _fill_known(key: str) -> pl.Expr:
    """Fill the gaps of the column `key` where only one value is possible.

    A failed cell lacks the facts of the trained model, and FP32 those of its quantization: both take the
    single value of their dataset and embedding, or else that of other cells of the same model.
    """
    if key in GROUP:
        return pl.col(key)
    if key == "checkpoint":  # always known
        return pl.col(key).fill_null(BEST_EPOCH)
    known = pl.col(key).drop_nulls()
    value = pl.when(known.n_unique().over(GROUP) == 1).then(known.first().over(GROUP)).otherwise(pl.col(key))
    return value.fill_null(known.first().over("model_id")) if key in MODEL_KEYS else value
