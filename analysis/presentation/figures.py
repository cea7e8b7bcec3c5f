"""The figures of a sweep: accuracy by bits, what an uneven calibration set costs, noise, shifts.

None averages over anything but seeds: what varies and is neither an axis of the figure nor a colour is a
control, of which one value is shown at a time.
"""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl

from analysis.frames.reading import Results
from analysis.frames.settings import (
    BALANCED,
    CLEAN,
    FP32,
    KEYS,
    dashed,
    noise_label,
    shown_keys,
    width_label,
)
from analysis.presentation.exhibits import Column, Exhibit, Figure
from analysis.statistics.shifts import CONTRASTS

BARS = (
    "Bars: 95 % interval of the difference, by a paired bootstrap over documents, over seeds first where "
    "there are several."
)
NO_BARS = "No answer by document was kept (schema version 1, or --no-predictions): there are no intervals."
MOVED = 4  # tensors of a model whose distributions are drawn, for each of two reasons
CURVES = 3_000  # distributions in one figure: more would make a page slow to open
AVERAGED = "Averaged over seeds alone; whatever else varies is a control, or a row of its own."


def _readable(points: pl.DataFrame) -> pl.DataFrame:
    """Points with a finished cell, in the units and the words of a table."""
    share = [
        (pl.col(name) * 100).alias(name)
        for name in (
            "accuracy", "accuracy_drop", "chance", "drop_low", "drop_high", "effect", "effect_low",
            "effect_high",
        )
    ]  # fmt: skip
    fp32 = pl.col("accuracy") + pl.col("accuracy_drop")
    remarks = (
        pl.when("collapsed", "dead").then(pl.lit("collapsed, dead signal"))
        .when("collapsed").then(pl.lit("collapsed"))
        .when("dead").then(pl.lit("dead signal"))
        .otherwise(pl.lit(""))
    )  # fmt: skip
    return (
        points.filter(pl.col("seeds") > 0)
        .with_columns(*share, noise_label(), width_label(), remarks.alias("remark"))
        .with_columns((fp32 - pl.col("drop_high")).alias("low"), (fp32 - pl.col("drop_low")).alias("high"))
        .with_columns(dashed((*KEYS, "class_ratio")))
    )


def _seeds(rows: pl.DataFrame) -> str:
    """What a table of points rests on."""
    if rows.is_empty():
        return "n: no finished cell"
    seeds, documents = rows["seeds"], rows["documents"].drop_nulls()
    low, high = seeds.to_numpy().min(), seeds.to_numpy().max()
    n_seeds = f"{high} seed{'s' if high > 1 else ''}" if low == high else f"{low} to {high} seeds"
    held = f", {documents.to_numpy().max()} test documents each" if len(documents) else ""
    return f"n: {len(rows)} settings of {n_seeds}{held}"


def accuracy_figure(points: pl.DataFrame) -> Figure:
    """Accuracy against bits, one colour a class ratio, with the interval of the drop."""
    rows = _readable(points)
    controls = (*shown_keys(points), "input")
    columns = (
        Column("model"), *(Column(key) for key in controls), Column("class_ratio"), Column("width"),
        Column("accuracy", "accuracy", "%", 1), Column("low", "from", "%", 1), Column("high", "to", "%", 1),
        Column("accuracy_drop", "lost against FP32", "points", 1), Column("chance", "chance", "%", 1),
        Column("seeds"), Column("documents"), Column("remark"),
    )  # fmt: skip
    bars = BARS if rows["low"].count() else NO_BARS
    exhibit = Exhibit(
        "accuracy", "Accuracy by bits", columns, rows, _seeds(rows),
        (
            "Dashed: FP32. Dotted: chance, the share of the largest class.",
            f"The interval is of what is lost against FP32 on the same documents. {bars}",
            AVERAGED,
        ),
    )  # fmt: skip
    return Figure(exhibit, "model", controls, "accuracy")


def ratios_figure(points: pl.DataFrame) -> Figure:
    """The paper's comparison: what an uneven calibration set loses against its balanced twin, by bits."""
    uneven = points.filter(pl.col("bits").is_not_null(), pl.col("class_ratio") != BALANCED)
    rows = _readable(_with_twins(uneven, points))
    controls = (*shown_keys(points), "input")
    columns = (
        Column("model"), *(Column(key) for key in controls), Column("class_ratio"), Column("width"),
        Column("balanced", "balanced", "%", 1), Column("accuracy", "this ratio", "%", 1),
        Column("effect", "lost against balanced", "points", 1), Column("effect_low", "from", "points", 1),
        Column("effect_high", "to", "points", 1), Column("seeds"), Column("documents"), Column("remark"),
    )  # fmt: skip
    bars = BARS if rows["effect_low"].count() else NO_BARS
    exhibit = Exhibit(
        "ratios", "Balanced against uneven calibration", columns, rows, _seeds(rows),
        ("Above zero: worse than the balanced twin, which differs in its calibration set alone.", bars,
         AVERAGED),
    )  # fmt: skip
    return Figure(exhibit, "model", controls, "ratios")


def _with_twins(uneven: pl.DataFrame, points: pl.DataFrame) -> pl.DataFrame:
    """Beside each point ``balanced``, the accuracy of its balanced twins; those without one are left out."""
    alike = [*KEYS, "model", "noise", "noise_level", "bits"]
    twins = points.filter(class_ratio=BALANCED).select(*alike, balanced=pl.col("accuracy") * 100)
    paired = uneven.join(twins, on=alike, nulls_equal=True, maintain_order="left")
    # without documents to pair there is still the difference of the means
    means = pl.col("balanced") / 100 - pl.col("accuracy")
    return paired.drop_nulls("balanced").with_columns(pl.col("effect").fill_null(means))


def noise_figure(points: pl.DataFrame) -> Figure:
    """Accuracy against the share of letters touched, one colour a bit width."""
    kinds = points.filter(pl.col("noise") != CLEAN)["noise"].unique(maintain_order=True).to_list()
    # clean input is where every kind of noise starts
    started = [points.filter(pl.col("noise").is_in([CLEAN, kind])).with_columns(kind=pl.lit(kind))
               for kind in kinds]  # fmt: skip
    rows = _readable(pl.concat(started) if started else points.clear().with_columns(kind=pl.lit("")))
    rows = rows.with_columns(level=pl.col("noise_level") * 100)
    controls = (*shown_keys(points), "class_ratio", "kind")
    columns = (
        Column("model"), *(Column(key, "kind of noise" if key == "kind" else "") for key in controls),
        Column("width"), Column("level", "letters touched", "%", 1), Column("accuracy", "accuracy", "%", 1),
        Column("accuracy_drop", "lost against FP32 under this noise", "points", 1),
        Column("drop_low", "from", "points", 1), Column("drop_high", "to", "points", 1), Column("seeds"),
        Column("documents"), Column("remark"),
    )  # fmt: skip
    exhibit = Exhibit(
        "noise", "Accuracy under input noise", columns, rows, _seeds(rows),
        ("The same letters are touched for every width, and a stronger noise touches those of a weaker too.",
         AVERAGED),
    )  # fmt: skip
    return Figure(exhibit, "model", controls, "noise")


def shifts_figure(results: Results, points: pl.DataFrame) -> Figure:
    """How far each tensor moves, by bits, with the grid floor taken out."""
    finished = points.filter(pl.col("seeds") > 0).with_columns(noise_label())
    keys = shown_keys(points)
    # one comparison varies one thing: noise at balanced calibration, class ratios on clean input
    plain = pl.col("noise") == CLEAN
    even = pl.col("class_ratio").is_null() | (pl.col("class_ratio") == BALANCED)
    placed = finished.filter(plain | even).select(
        "model", *keys, "class_ratio", "noise", "input", "bits", "cell_ids"
    ).explode("cell_ids").rename({"cell_ids": "cell_id"}).drop_nulls("cell_id")  # fmt: skip
    columns = ("tensor", "kind", "contrast", "ks_d", "atom_floor", "ks_d_dithered", "wasserstein",
               "clip_fraction")  # fmt: skip
    tensors = (
        results.tensors.filter(pl.col("contrast").is_in(CONTRASTS), pl.col("ks_d_dithered").is_not_null())
        .select("cell_id", *columns)
        .join(placed.lazy().select("cell_id").unique(), on="cell_id", how="semi")
        .with_row_index("place")
        .collect()
    )
    shown = (
        pl.when(pl.col("contrast") == "fp32_vs_quantized").then(plain & pl.col("bits").is_not_null())
        .when(pl.col("contrast") == "balanced_vs_ratio").then(plain)
        .otherwise(even)
    )  # fmt: skip
    comparison = (
        pl.when(pl.col("contrast") == "fp32_vs_quantized")
        .then(pl.format("quantization, calibrated {}", "class_ratio"))
        .when(pl.col("contrast") == "balanced_vs_ratio")
        .then(pl.format("calibration: {} instead of balanced", "class_ratio"))
        .otherwise(pl.format("noise: {} instead of clean", "input"))
    )
    numbers = ("ks_d", "atom_floor", "ks_d_dithered", "wasserstein", "clip_fraction")
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
    controls = (*keys, "comparison")
    listed = (
        Column("model"), *(Column(key) for key in controls), Column("tensor"), Column("kind"),
        Column("width"), Column("ks_d_dithered", "D dithered", "", 4), Column("d", "D", "", 4),
        Column("atom_floor", "grid floor", "", 4), Column("ks_d", "D - floor", "", 4),
        Column("wasserstein", "W1", "tensor's unit", 4), Column("clip_fraction", "clipped", "%", 2),
        Column("seeds"),
    )  # fmt: skip
    exhibit = Exhibit(
        "shifts", "How far each tensor moves", listed, rows, f"n: {len(rows)} tensors at a setting",
        (
            "Colour: D dithered, the Kolmogorov-Smirnov distance after each level is spread over one step, "
            "which takes the grid floor out; D - floor beside it in the table.",
            "Noise is compared at balanced calibration, class ratios on clean input.",
            "Without weight correction the quantized weights do not depend on the calibration set.",
            AVERAGED,
        ),
    )  # fmt: skip
    return Figure(exhibit, "model", controls, "shifts")


def distributions_figure(results: Results, points: pl.DataFrame) -> Figure:
    """Before and after: FP32, balanced and the most uneven calibration, of the tensors that moved most."""
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
    controls = (*keys, "tensor", "width")
    columns = (
        Column("model"), *(Column(key) for key in controls), Column("kind"), Column("side"), Column("seed"),
        Column("share", "values at or below", "%", 1), Column("value", "value", "tensor's unit", 4),
    )  # fmt: skip
    n = f"n: {len(kept)} distributions" if len(kept) else "n: no finished cell with quantiles"
    cut = f"The first {len(kept)} of {len(sides)} distributions." if len(kept) < len(sides) else ""
    exhibit = Exhibit(
        "distributions", "Distributions before and after", columns, rows, n,
        tuple(filter(None, (
            f"The {MOVED} tensors of each model that quantization moved most by D dithered, and the {MOVED} "
            "that the class ratio moved most. FP32, balanced, and the most uneven calibration set, clean "
            "input, one seed: the lowest. Each curve is 33 quantiles, exact on the levels of a quantizer.",
            cut,
        ))),
    )  # fmt: skip
    return Figure(exhibit, "model", controls, "distributions")


def figures(results: Results, points: pl.DataFrame) -> dict[str, Figure]:
    """All figures by name."""
    made: Sequence[Figure] = (
        accuracy_figure(points), ratios_figure(points), noise_figure(points), shifts_figure(results, points),
        distributions_figure(results, points),
    )  # fmt: skip
    return {figure.exhibit.name: figure for figure in made}
