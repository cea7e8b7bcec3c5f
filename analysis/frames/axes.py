"""Columns that tell cells apart, their order and their words, all derived from the table of axes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import polars as pl

from lstmptq.spec.axes import AXES, axes_of, axis_of

FP32 = "FP32"
CLEAN = "clean"
BALANCED = "balanced"

# The values of calibration that need no mention: Brevitas' own, and the paper's labels.
USUAL = {axis.name: axis.usual for axis in AXES if axis.usual is not None}
GROUP = ("dataset", "embedding")  # always told apart; the other keys where they vary within a group
_OF_MODEL = tuple(axis.name for axis in axes_of("model") if axis.is_key)
_DETAILS = tuple(name for axis in axes_of("model") if axis.is_key for name in axis.details)
MODEL_KEYS = (*GROUP, *_DETAILS, *(name for name in _OF_MODEL if name not in GROUP))
QUANTIZATION_KEYS = tuple(axis.name for axis in axes_of("quantization") if axis.is_key)
KEYS = (*MODEL_KEYS, *QUANTIZATION_KEYS)  # tell one table from another
NOISE = ("noise", "noise_level")
POINT = ("model", "class_ratio", *NOISE, "bits")  # tell the places in one table apart
MODEL = (
    *GROUP,
    "model",
    *(name for name in _OF_MODEL if name not in GROUP),
)  # name an FP32 model, its seed apart
RECIPE = tuple(axis.name for axis in axes_of("quantization") if axis.varies or axis.is_key)
CELL = (*MODEL, "seed", "model_id", *RECIPE, *NOISE)  # name a cell in a printed row
LABELS = {
    "embedding_source": "source of the vectors",
    "dataset_digest": "corpus file",
    "width": "bits",
} | {axis.name: axis.label for axis in AXES if axis.label}


def order_of(*columns: str) -> list[pl.Expr]:
    """Return the sort keys of `columns`, each in the order of its axis, e.g. 8 bits first."""
    keys: list[pl.Expr] = []
    for name in columns:
        axis = axis_of(name)
        keys += axis.order(pl.col(name)) if axis else (pl.col(name),)
    return keys


def varying_keys(scored: pl.DataFrame) -> list[str]:
    """Return the `KEYS` that tell tables apart: dataset and embedding, and those that vary within a pair."""
    return [
        *GROUP,
        *(
            key
            for key in KEYS[len(GROUP) :]
            if scored.drop_nulls(key).group_by(GROUP).agg(pl.col(key).n_unique())[key].max() not in (None, 1)
        ),
    ]


def shown_keys(points: pl.DataFrame) -> list[str]:
    """Return the `KEYS` that vary, each of which a figure must hold fixed, and always the embedding."""
    return [
        key
        for key in varying_keys(points)
        if key not in GROUP or points[key].n_unique() > 1 or key == "embedding"
    ]


def label_of(key: str) -> str:
    """Return the name of a column in words."""
    return LABELS.get(key, key.replace("_", " "))


def describe_value(key: str, value: Any) -> str:
    """Put the value of a key into words, e.g. ``hidden 100``."""
    if value is None:
        return f"{key} unknown"
    axis = axis_of(key)
    if axis and axis.phrase:
        return axis.phrase(value)
    return str(value) if key == "embedding_source" else f"{key.replace('_', ' ')} {value}"


def describe_recipe(row: Mapping[str, Any]) -> str:
    """Put a row's weight correction, internal bits and unusual ways of calibration into words."""
    usual = [axis for axis in AXES if axis.name in USUAL]
    unusual = [axis.mention(row[axis.name]) for axis in usual if row[axis.name] not in (None, axis.usual)]
    return ", ".join([row["algorithm"] or "–", str(row["internal_bits"] or "–"), *unusual])


def noise_label() -> pl.Expr:
    """Build the column ``input``: kind and level of the noise in words, e.g. ``typo 5%``."""
    percent = (pl.col("noise_level") * 100).round(2).cast(pl.String).str.replace(r"\.0$", "") + "%"
    return (
        pl.when(pl.col("noise") == CLEAN)
        .then(pl.lit(CLEAN))
        .otherwise(pl.concat_str("noise", percent, separator=" "))
        .alias("input")
    )


def width_label() -> pl.Expr:
    """Build the column ``width``: bits as text, `FP32` where they are null."""
    return pl.col("bits").cast(pl.String).fill_null(FP32).alias("width")


def dashed(keys: Iterable[str]) -> list[pl.Expr]:
    """Convert the columns to text, with a dash for unknown values."""
    return [pl.col(key).cast(pl.String).fill_null("–") for key in keys]
