"""Which tensors quantization, the class ratio and noise move most."""

from __future__ import annotations

import polars as pl

from analysis.frames.reading import Frame, whole_models

CONTRASTS = ("fp32_vs_quantized", "balanced_vs_ratio", "clean_vs_noisy")
CONTRAST_TITLES = {
    "fp32_vs_quantized": "FP32 against quantized",
    "balanced_vs_ratio": "balanced calibration against another class ratio",
    "clean_vs_noisy": "clean input against noisy",
}
KINDS = ("activation", "weight")

WHERE = (
    "dataset", "embedding", "model", "seed", "bits", "internal_bits", "algorithm", "class_ratio", "noise",
    "noise_level",
)  # fmt: skip
MEASURES = ("ks_d", "atom_floor", "ks_d_dithered", "wasserstein", "sqnr_db", "clip_fraction")

# These notes stand beside every list of shifts
NOTES = (
    "D mostly restates the bit width: against a grid it is at least the floor, half the largest atom. The "
    "rows are therefore sorted by D dithered, which spreads each level over one step and leaves shape and "
    "clipping; unlike D - floor it is defined in every contrast, and large where one level swallowed all.",
    "Without weight correction the quantized weights do not depend on the calibration set: they are "
    "bit-identical whatever the class ratio. With it only the output layer moves: no other weight is listed "
    "under balanced_vs_ratio.",
    "p_nominal must not be used to decide: it takes the values as independent, which tokens of one document "
    "are not, and at this n it rejects anything. Weights have none: they are the whole population.",
)


def largest_shifts(tensors: Frame, cells: Frame, n: int = 5) -> pl.DataFrame:
    """List the tensors that moved most, per contrast and kind, each at the cell where it moved most.

    Sorted by ``ks_d_dithered``, not by ``ks_d``, which mostly restates the bit width (its floor is half the
    largest atom), nor by ``ks_d - atom_floor``, which has no value between two quantized sides and is about
    zero for a dead stage, where one atom holds everything.

    Args:
        tensors: the table `tensors`.
        cells: the table `cells`; tensors of failed or missing cells are left out.
        n: number of tensors per contrast and kind, at least 1; the same name in another model, dataset or
            embedding counts as another tensor.

    Returns:
        ``contrast``, ``kind``, ``tensor``, ``tensor_bits`` (of its own quantizer), the columns `WHERE` and
        `MEASURES` and ``cell_id``; sorted by contrast, kind and falling D dithered.

    Raises:
        ValueError: if `n` is below 1.
    """
    if n < 1:
        raise ValueError(f"n must be at least 1, got {n}: give the number of tensors to list")
    finished = whole_models(cells).filter(pl.col("status") == "ok").select("cell_id", *WHERE)
    one_tensor = ("contrast", "kind", "dataset", "embedding", "model", "tensor")
    return (
        tensors.lazy()
        .filter(pl.col("ks_d_dithered").is_not_null())
        .rename({"bits": "tensor_bits"})
        .select("contrast", "kind", "tensor", "tensor_bits", *MEASURES, "cell_id")
        .join(finished, on="cell_id")
        # among equal distances, such as those of a weight under every noise, take the plainest cell
        .sort(
            pl.col("ks_d_dithered").neg(),
            pl.col("noise") != "clean",
            pl.col("class_ratio") != "balanced",
            "seed",
            "cell_id",
        )
        .unique(one_tensor, keep="first", maintain_order=True)
        .with_columns(_rank("contrast", CONTRASTS), _rank("kind", KINDS))
        .sort("contrast_rank", "contrast", "kind_rank", maintain_order=True)
        .group_by("contrast", "kind", maintain_order=True)
        .head(n)
        .select("contrast", "kind", "tensor", "tensor_bits", *WHERE, *MEASURES, "cell_id")
        .collect()
    )


def _rank(column: str, order: tuple[str, ...]) -> pl.Expr:
    """Rank the values of a column by their position in `order`; values of a later version come last."""
    ranks = pl.col(column).replace_strict(order, range(len(order)), default=len(order), return_dtype=pl.Int8)
    return ranks.alias(f"{column}_rank")
