"""What tells cells apart: the columns of a setting, their order and their words."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import polars as pl

BREVITAS = {  # how calibration is where nothing is asked: its own, and the paper's labels
    "calibration_labels": "own",
    "observer": "mean",
    "io_scales": "shared",
    "padding": "counted",
}

# What tells one table from another. Of the FP32 model:
MODEL_KEYS = (
    "dataset", "embedding", "dataset_digest", "embedding_source", "embedding_dim", "hidden", "layers",
    "training_documents", "checkpoint",
)  # fmt: skip
QUANTIZATION_KEYS = ("internal_bits", "algorithm", *BREVITAS)  # and of its quantization
KEYS = (*MODEL_KEYS, *QUANTIZATION_KEYS)
GROUP = ("dataset", "embedding")  # always told apart; the other keys where they vary within a group
POINT = ("model", "class_ratio", "noise", "noise_level", "bits")  # and what tells places in one table
# A model as its own analyses name it: its seeds apart
MODEL = (
    "dataset", "embedding", "embedding_dim", "model", "hidden", "layers", "training_documents", "checkpoint",
)  # fmt: skip
RECIPE = ("bits", "internal_bits", "algorithm", "class_ratio", *BREVITAS)
NOISE = ("noise", "noise_level")
BEST_EPOCH = 0  # of `checkpoint`
SAME = "same"  # internal bits that follow the weights', as on the command line of a sweep
FP32 = "FP32"
CLEAN = "clean"
BALANCED = "balanced"
LABELS = {
    "dataset": "corpus",
    "embedding": "vectors",
    "embedding_dim": "vector width",
    "embedding_source": "source of the vectors",
    "dataset_digest": "corpus file",
    "training_documents": "training documents",
    "internal_bits": "LSTM internals, bits",
    "algorithm": "weight correction",
    "calibration_labels": "calibration labels",
    "class_ratio": "class ratio",
    "input": "input",
    "width": "bits",
}


def varying_keys(scored: pl.DataFrame) -> list[str]:
    """The `KEYS` that tell tables apart: dataset and embedding, and what varies within one of their pairs."""
    return [
        *GROUP,
        *(
            key
            for key in KEYS[len(GROUP) :]
            if scored.drop_nulls(key).group_by(GROUP).agg(pl.col(key).n_unique())[key].max() not in (None, 1)
        ),
    ]


def shown_keys(points: pl.DataFrame) -> list[str]:
    """The `KEYS` that vary, which a figure must hold fixed one by one; the embedding always."""
    return [
        key
        for key in varying_keys(points)
        if key not in GROUP or points[key].n_unique() > 1 or key == "embedding"
    ]


def ratio_order() -> tuple[pl.Expr, ...]:
    """Balanced first, then kind by kind from the more even to the less."""
    ratio = pl.col("class_ratio")
    kind = ratio.str.extract(r"^(\w+):")
    number = ratio.str.extract(r":([\d.]+)$").cast(pl.Float64, strict=False)
    # classes:K is the less even the smaller K is, head:P the larger P is
    return ratio != "balanced", kind, pl.when(kind == "classes").then(-number).otherwise(number), ratio


def noise_order() -> tuple[pl.Expr, ...]:
    """Clean first, then kind by kind from the weaker to the stronger."""
    return pl.col("noise") != "clean", pl.col("noise"), pl.col("noise_level")


def label_of(key: str) -> str:
    """A column's name in words."""
    return LABELS.get(key, key.replace("_", " "))


def described(key: str, value: Any) -> str:
    """One setting in words, e.g. ``hidden 100``."""
    if value is None:
        return f"{key} unknown"
    if key == "internal_bits":
        return "LSTM internals as wide as the weights" if value == SAME else f"LSTM internals at {value} bits"
    if key == "algorithm":
        return "no weight correction" if value == "none" else f"weights corrected by {value}"
    if key == "checkpoint":
        return "best epoch on validation" if value == BEST_EPOCH else f"after epoch {value}"
    plain = {
        "dataset": f"{value}",
        "embedding": f"{value} vectors",
        "embedding_source": f"{value}",
        "embedding_dim": f"{value}-d vectors",
        "layers": f"{value} layer{'s' if value != 1 else ''}",
        "training_documents": f"{value} training documents",
    }
    return plain.get(key, f"{key.replace('_', ' ')} {value}")


def recipe_text(row: Mapping[str, Any]) -> str:
    """Weight correction, bits of the LSTM's internals, and where calibration is not as Brevitas has it."""
    changed = [
        "all labels" if key == "calibration_labels" else row[key]
        for key, own in BREVITAS.items()
        if row[key] not in (None, own)
    ]
    return ", ".join([row["algorithm"] or "–", str(row["internal_bits"] or "–"), *changed])


def noise_label() -> pl.Expr:
    """The column ``input``: kind and level of the noise in words, e.g. ``typo 5%``."""
    percent = (pl.col("noise_level") * 100).round(2).cast(pl.String).str.replace(r"\.0$", "") + "%"
    return (
        pl.when(pl.col("noise") == CLEAN)
        .then(pl.lit(CLEAN))
        .otherwise(pl.concat_str("noise", percent, separator=" "))
        .alias("input")
    )


def width_label() -> pl.Expr:
    """The column ``width``: bits as text, `FP32` where they are null."""
    return pl.col("bits").cast(pl.String).fill_null(FP32).alias("width")


def dashed(keys: Iterable[str]) -> list[pl.Expr]:
    """The columns as text, a dash where nothing is known."""
    return [pl.col(key).cast(pl.String).fill_null("–") for key in keys]
