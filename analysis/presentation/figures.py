"""The figures of a sweep: accuracy by bits, what an uneven calibration set costs, noise, shifts.

The figures average over seeds alone. A column that varies and is neither an axis of the figure nor a colour
is a control: the figure shows one of its values at a time.
"""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl

from analysis.frames.axes import (
    BALANCED,
    CLEAN,
    FP32,
    KEYS,
    dashed,
    noise_label,
    shown_keys,
    width_label,
)
from analysis.frames.reading import Results
from analysis.presentation.exhibits import Column, Exhibit, Figure
from analysis.presentation.phrasing import count_of
from analysis.statistics.shifts import CONTRASTS

BARS = (
    "Bars: the 95 % interval of the difference, by a paired bootstrap over documents, and first over seeds "
    "if there are several."
)
NO_BARS = "No answer by document was kept (schema version 1, or --no-predictions): there are no intervals."
MOVED = 4  # tensors per model and contrast whose distributions are drawn
CURVES = 3_000  # distributions in one figure: more would make a page slow to open
AVERAGED = "Averages are over seeds alone; anything else that varies is a control or has its own row."
PERCENT = "accuracy accuracy_drop chance drop_low drop_high effect effect_low effect_high".split()
# Columns that several figures end with
COUNTS = (Column("seeds"), Column("documents"), Column("remark"))


def _build(
    name: str, title: str, controls: Sequence[Column], columns: Sequence[Column], rows: pl.DataFrame,
    n: str, *notes: str,
) -> Figure:  # fmt: skip
    """Build a figure with a panel per model; its table starts with the model and the controls."""
    exhibit = Exhibit(name, title, (Column("model"), *controls, *columns), rows, n, notes)
    return Figure(exhibit, "model", tuple(column.key for column in controls), name)


def _controls(points: pl.DataFrame, *more: Column) -> list[Column]:
    return [*map(Column, shown_keys(points)), *more]


def _to_display(points: pl.DataFrame) -> pl.DataFrame:
    """Keep the points with a finished cell, and convert them to the units and words of a table."""
    fp32 = pl.col("accuracy") + pl.col("accuracy_drop")
    remarks = (
        pl.when("collapsed", "dead").then(pl.lit("collapsed, dead signal"))
        .when("collapsed").then(pl.lit("collapsed"))
        .when("dead").then(pl.lit("dead signal"))
        .otherwise(pl.lit(""))
    )  # fmt: skip
    return (
        points.filter(pl.col("seeds") > 0)
        .with_columns(pl.col(PERCENT) * 100, noise_label(), width_label(), remarks.alias("remark"))
        .with_columns((fp32 - pl.col("drop_high")).alias("low"), (fp32 - pl.col("drop_low")).alias("high"))
        .with_columns(dashed((*KEYS, "class_ratio")))
    )


def _describe_n(rows: pl.DataFrame) -> str:
    """Say how many settings, seeds and documents a table of points rests on."""
    if rows.is_empty():
        return "n: no finished cell"
    seeds, documents = rows["seeds"].to_numpy(), rows["documents"].drop_nulls().to_numpy()
    low, high = seeds.min(), seeds.max()
    n_seeds = count_of(high, "seed") if low == high else f"{low} to {high} seeds"
    each = f", {documents.max()} test documents each" if len(documents) else ""
    return f"n: {len(rows)} settings of {n_seeds}{each}"


def build_accuracy_figure(points: pl.DataFrame) -> Figure:
    """Build accuracy against bits, one colour per class ratio, with the interval of the loss."""
    rows = _to_display(points)
    columns = (
        Column("class_ratio"), Column("width"), Column("accuracy", "accuracy", "%", 1),
        Column("low", "from", "%", 1), Column("high", "to", "%", 1),
        Column("accuracy_drop", "lost against FP32", "points", 1), Column("chance", "chance", "%", 1),
        *COUNTS,
    )  # fmt: skip
    bars = BARS if rows["low"].count() else NO_BARS
    return _build(
        "accuracy", "Accuracy by bits", _controls(points, Column("input")), columns, rows, _describe_n(rows),
        "Dashed: FP32. Dotted: chance, the share of the largest class.",
        f"The interval is that of the loss against FP32 on the same documents. {bars}",
        AVERAGED,
    )  # fmt: skip


def build_ratios_figure(points: pl.DataFrame) -> Figure:
    """Build the paper's comparison: the loss of uneven calibration against its balanced twin, by bits."""
    uneven = points.filter(pl.col("bits").is_not_null(), pl.col("class_ratio") != BALANCED)
    rows = _to_display(_join_twins(uneven, points))
    columns = (
        Column("class_ratio"), Column("width"), Column("balanced", "balanced", "%", 1),
        Column("accuracy", "this ratio", "%", 1), Column("effect", "lost against balanced", "points", 1),
        Column("effect_low", "from", "points", 1), Column("effect_high", "to", "points", 1), *COUNTS,
    )  # fmt: skip
    return _build(
        "ratios", "Balanced against uneven calibration", _controls(points, Column("input")), columns, rows,
        _describe_n(rows),
        "Above zero: worse than the balanced twin, which differs only in its calibration set.",
        BARS if rows["effect_low"].count() else NO_BARS, AVERAGED,
    )  # fmt: skip


def _join_twins(uneven: pl.DataFrame, points: pl.DataFrame) -> pl.DataFrame:
    """Add ``balanced``, the accuracy of the balanced twins in percent; drop the points without twins."""
    alike = [*KEYS, "model", "noise", "noise_level", "bits"]
    twins = points.filter(class_ratio=BALANCED).select(*alike, balanced=pl.col("accuracy") * 100)
    paired = uneven.join(twins, on=alike, nulls_equal=True, maintain_order="left")
    # Without documents to pair, the difference of the means is still known.
    means = pl.col("balanced") / 100 - pl.col("accuracy")
    return paired.drop_nulls("balanced").with_columns(pl.col("effect").fill_null(means))


def build_noise_figure(points: pl.DataFrame) -> Figure:
    """Build accuracy against the share of changed letters, one colour per bit width."""
    kinds = points.filter(pl.col("noise") != CLEAN)["noise"].unique(maintain_order=True)
    # Every kind of noise starts at clean input.
    parts = [points.filter(pl.col("noise").is_in([CLEAN, kind])).with_columns(kind=pl.lit(kind))
             for kind in kinds]  # fmt: skip
    rows = _to_display(pl.concat([points.clear().with_columns(kind=pl.lit("")), *parts]))
    rows = rows.with_columns(level=pl.col("noise_level") * 100)
    columns = (
        Column("width"), Column("level", "letters changed", "%", 1), Column("accuracy", "accuracy", "%", 1),
        Column("accuracy_drop", "lost against FP32 under this noise", "points", 1),
        Column("drop_low", "from", "points", 1), Column("drop_high", "to", "points", 1), *COUNTS,
    )  # fmt: skip
    return _build(
        "noise", "Accuracy under input noise",
        _controls(points, Column("class_ratio"), Column("kind", "kind of noise")), columns, rows,
        _describe_n(rows),
        "Noise changes the same letters at every width; stronger noise changes those of weaker noise too.",
        AVERAGED,
    )  # fmt: skip


def build_shifts_figure(results: Results, points: pl.DataFrame) -> Figure:
    """Build the distance that each tensor moves, by bits, without the grid floor."""
    finished = points.filter(pl.col("seeds") > 0).with_columns(noise_label())
    keys = shown_keys(points)
    # A comparison varies one thing: noise at balanced calibration, class ratios on clean input.
    plain = pl.col("noise") == CLEAN
    even = pl.col("class_ratio").is_null() | (pl.col("class_ratio") == BALANCED)
    placed = finished.filter(plain | even).select(
        "model", *keys, "class_ratio", "noise", "input", "bits", "cell_ids"
    ).explode("cell_ids").rename({"cell_ids": "cell_id"}).drop_nulls("cell_id")  # fmt: skip
    numbers = ("ks_d", "atom_floor", "ks_d_dithered", "wasserstein", "clip_fraction")
    tensors = (
        results.tensors.filter(pl.col("contrast").is_in(CONTRASTS), pl.col("ks_d_dithered").is_not_null())
        .select("cell_id", "tensor", "kind", "contrast", *numbers)
        .join(placed.lazy().select("cell_id").unique(), on="cell_id", how="semi")
        .with_row_index("place")
        .collect()
    )
    quantization, ratio = (pl.col("contrast") == name for name in ("fp32_vs_quantized", "balanced_vs_ratio"))
    shown = (
        pl.when(quantization)
        .then(plain & pl.col("bits").is_not_null())
        .when(ratio)
        .then(plain)
        .otherwise(even)
    )
    comparison = (
        pl.when(quantization).then(pl.format("quantization, calibrated {}", "class_ratio"))
        .when(ratio).then(pl.format("calibration: {} instead of balanced", "class_ratio"))
        .otherwise(pl.format("noise: {} instead of clean", "input"))
    )  # fmt: skip
    order = pl.col("contrast").replace_strict(CONTRASTS, range(len(CONTRASTS)), return_dtype=pl.Int8)
    rows = (
        tensors.join(placed, on="cell_id")
        .filter(shown)
        .with_columns(comparison.alias("comparison"), order.alias("order"))
        .with_columns(pl.col("place").min().over("model", "tensor"))
        .group_by("model", *keys, "comparison", "tensor", "kind", "bits")
        .agg(*(pl.col(name).mean() for name in numbers), pl.len().alias("seeds"), pl.col("order").first(),
             pl.col("place").first())
        .sort("model", *keys, "order", "comparison", pl.col("kind") != "activation", "place",
              pl.col("bits").neg(), nulls_last=False)
        .with_columns(width_label(), pl.col("clip_fraction") * 100, pl.col("ks_d") - pl.col("atom_floor"),
                      pl.col("ks_d").alias("d"))
        .with_columns(dashed(keys))
    )  # fmt: skip
    columns = (
        Column("tensor"), Column("kind"), Column("width"), Column("ks_d_dithered", "D dithered", "", 4),
        Column("d", "D", "", 4), Column("atom_floor", "grid floor", "", 4),
        Column("ks_d", "D - floor", "", 4), Column("wasserstein", "W1", "tensor's unit", 4),
        Column("clip_fraction", "clipped", "%", 2), Column("seeds"),
    )  # fmt: skip
    return _build(
        "shifts", "How far each tensor moves", _controls(points, Column("comparison")), columns, rows,
        f"n: {len(rows)} rows, one per tensor and setting",
        "Colour: D dithered, the Kolmogorov-Smirnov distance after spreading each level over one step, which "
        "removes the grid floor. The table also lists D - floor.",
        "Noise is compared at balanced calibration, class ratios on clean input.",
        "Without weight correction, the quantized weights do not depend on the calibration set.",
        AVERAGED,
    )  # fmt: skip


def build_distributions_figure(results: Results, points: pl.DataFrame) -> Figure:
    """Build the distributions of the most shifted tensors: FP32, balanced and most uneven calibration."""
    keys = shown_keys(points)
    clean = points.filter(pl.col("seeds") > 0, pl.col("noise") == CLEAN, pl.col("bits").is_not_null())
    alike = ["model", *keys, "bits"]
    uneven = clean.filter(pl.col("class_ratio") != BALANCED).group_by(alike, maintain_order=True).last()
    shown = pl.concat([clean.filter(class_ratio=BALANCED), uneven.select(clean.columns)])
    listed = shown.select(*alike, "class_ratio", cell_id="cell_ids").explode("cell_id")
    seeds = results.cells.select("cell_id", "seed").collect()
    first = pl.col("seed") == pl.col("seed").min().over("model", *keys)
    listed = listed.join(seeds, on="cell_id", maintain_order="left").filter(first)
    tensors = results.tensors.join(listed.lazy(), on="cell_id", suffix="_cell")
    moved = (
        tensors.filter(pl.col("contrast").is_in(CONTRASTS[:2]), pl.col("ks_d_dithered").is_not_null())
        .group_by("model", "contrast", "tensor").agg(pl.col("ks_d_dithered").max())
        .sort("model", "contrast", pl.col("ks_d_dithered").neg(), "tensor")
        .group_by("model", "contrast", maintain_order=True).head(MOVED)
        .unique(["model", "tensor"], maintain_order=True)
        .select("model", "tensor").with_row_index("place").collect()
    )  # fmt: skip
    curves = (
        tensors.filter(pl.col("contrast") == CONTRASTS[0], pl.col("quantiles_b").is_not_null())
        .rename({"bits": "own_bits", "bits_cell": "bits"})
        .select(*alike, "class_ratio", "tensor", "kind", "seed", "quantiles_a", "quantiles_b")
        .join(moved.lazy(), on=["model", "tensor"])
        .collect()
    )  # fmt: skip
    even = pl.col("class_ratio") == BALANCED
    sides = pl.concat(
        curves.sort(~even).unique([*alike, "tensor"], keep="first", maintain_order=True)
        .with_columns(side=pl.lit(FP32), order=pl.lit(0), value=column)
        if name == FP32
        else curves.with_columns(side=pl.col("class_ratio"), order=(~even).cast(pl.Int32) + 1, value=column)
        for name, column in ((FP32, pl.col("quantiles_a")), (BALANCED, pl.col("quantiles_b")))
    )  # fmt: skip
    sides = sides.sort("model", *keys, "place", pl.col("bits").neg(), "order", nulls_last=False)
    kept = sides.head(CURVES)
    steps = pl.col("value").list.len() - 1
    rows = (
        kept.with_columns(share=pl.int_ranges(steps + 1) / steps * 100)
        .explode("value", "share")
        .with_columns(width_label(), pl.col("value").cast(pl.Float64))
        .with_columns(dashed(keys))
    )
    columns = (
        Column("kind"), Column("side"), Column("seed"), Column("share", "values at or below", "%", 1),
        Column("value", "value", "tensor's unit", 4),
    )  # fmt: skip
    notes = [
        f"For each model, the {MOVED} tensors that quantization shifts most by D dithered and the {MOVED} "
        "that the class ratio shifts most: FP32, balanced and the most uneven calibration set, on clean "
        "input, with the lowest seed. Each curve has 33 quantiles, exact on the levels of a quantizer."
    ]
    if len(kept) < len(sides):
        notes.append(f"The first {len(kept)} of {len(sides)} distributions.")
    return _build(
        "distributions", "Distributions before and after",
        _controls(points, Column("tensor"), Column("width")), columns, rows,
        f"n: {len(kept)} distributions" if len(kept) else "n: no finished cell with quantiles",
        *notes,
    )  # fmt: skip


def build_figures(results: Results, points: pl.DataFrame) -> dict[str, Figure]:
    """Build all figures by name."""
    made = (
        build_accuracy_figure(points), build_ratios_figure(points), build_noise_figure(points),
        build_shifts_figure(results, points), build_distributions_figure(results, points),
    )  # fmt: skip
    return {figure.exhibit.name: figure for figure in made}
