"""Accuracy with its uncertainty: paired bootstrap over documents, hierarchical over seeds, McNemar's test."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl
from scipy import stats

from analysis.frames.answers import answers
from analysis.frames.reading import Frame, whole_models
from analysis.frames.settings import MODEL, NOISE, RECIPE

DRAWS = 2_000
CONFIDENCE = 0.95
SETTING = (*MODEL, *RECIPE, *NOISE)  # what a drop is of, over seeds

Right = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Interval:
    """An estimate with its 95 % interval."""

    value: float
    low: float
    high: float


def paired_drop(reference: Sequence[Right], other: Sequence[Right], rng: np.random.Generator) -> Interval:
    """How much less often `other` is right than `reference`, on the same documents.

    The bootstrap draws seeds, if there are several, and then documents of each, with both models' answers
    kept together (Davison & Hinkley, Bootstrap Methods, 1997, section 3.8); the interval is the percentile
    one.

    Args:
        reference: one array a seed, (documents,) whether the reference is right.
        other: the same of the other model.
        rng: of the draws.

    Returns:
        The mean over seeds of the difference of accuracies, a share, positive where `other` is worse. With
        two or three seeds the interval is too short, as any that draws so few.

    Raises:
        ValueError: if there is no seed, or a seed's answers are of different documents.
    """
    if not reference or [len(right) for right in reference] != [len(right) for right in other]:
        raise ValueError(
            "a paired drop needs at least one seed, and both models' answers on the same documents, got "
            f"{[len(right) for right in reference]} and {[len(right) for right in other]} documents"
        )
    lost = [a.astype(np.int8) - b.astype(np.int8) for a, b in zip(reference, other, strict=True)]
    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile(bootstrap_means(lost, rng, DRAWS), [tail, 1 - tail])
    return Interval(float(np.mean([one.mean() for one in lost])), float(low), float(high))


def bootstrap_means(
    lost: Sequence[npt.NDArray[np.int8]], rng: np.random.Generator, draws: int
) -> npt.NDArray[np.float64]:
    """Draws of the mean of paired differences: of seeds, if there are several, then of their documents.

    Args:
        lost: one array a seed, (documents,) of -1, 0 and 1.
        rng: of the draws.
        draws: how many.

    Returns:
        (draws,) means over the drawn seeds.
    """
    drawn = np.stack([_document_means(one, rng, draws) for one in lost])  # (seeds, draws)
    if len(lost) > 1:
        # each place of a draw takes a seed, and a bootstrap mean of that seed's documents of its own
        seeds = rng.integers(0, len(lost), drawn.shape)
        places = rng.permuted(np.broadcast_to(np.arange(draws), drawn.shape), axis=1)
        drawn = drawn[seeds, places]
    means: npt.NDArray[np.float64] = drawn.mean(axis=0)
    return means


def _document_means(
    lost: npt.NDArray[np.int8], rng: np.random.Generator, draws: int
) -> npt.NDArray[np.float64]:
    """(draws,) means of documents drawn with replacement: of -1, 0, 1 their counts are all that matters."""
    counts = np.array([(lost == value).sum() for value in (-1, 0, 1)])
    drawn = rng.multinomial(len(lost), counts / len(lost), draws)
    means: npt.NDArray[np.float64] = (drawn[:, 2] - drawn[:, 0]) / len(lost)
    return means


def mcnemar(first: Right, second: Right) -> float:
    """Exact two-sided p of McNemar's test (1947): do two models err equally often on the same documents?

    Args:
        first: (documents,) whether the first is right.
        second: the same of the second.

    Returns:
        p; 1 where the models are right on the same documents.

    Raises:
        ValueError: if the documents differ in number.
    """
    if first.shape != second.shape:
        raise ValueError(f"both models must answer the same documents, got {len(first)} and {len(second)}")
    only_first, only_second = int((first & ~second).sum()), int((~first & second).sum())
    if only_first + only_second == 0:
        return 1.0
    return float(stats.binomtest(only_first, only_first + only_second, 0.5).pvalue)


def accuracy_drops(cells: Frame, predictions: Frame | None = None) -> pl.DataFrame:
    """Accuracy lost against FP32 under the same noise, with 95 % intervals, over seeds.

    Args:
        cells: the table `cells`.
        predictions: the table `predictions`. Cells whose answers are neither there nor, as up to schema
            version 2, in `cells` are left out, and so are cells with an isolated stage.

    Returns:
        The columns `SETTING`, ``seeds``, ``documents`` (of a seed, the most), ``accuracy`` (mean), ``drop``,
        ``low``, ``high`` (shares) and ``mcnemar`` (p against FP32; null if there are several seeds), sorted
        as the paper's tables, FP32 itself left out.
    """
    columns = [*SETTING, "seed", "model_id", "cell_id"]
    rows = whole_models(cells).filter(pl.col("status") == "ok").select(columns)
    known = rows.join(answers(cells, predictions), on="cell_id", maintain_order="left")
    right = [
        row | {"right": np.asarray(row.pop("predicted")) == np.asarray(row.pop("labels"))}
        for row in known.collect().iter_rows(named=True)
    ]
    fp32 = {
        (row["model_id"], row["noise"], row["noise_level"]): row["right"] for row in right if not row["bits"]
    }
    points: dict[tuple[Any, ...], list[tuple[Right, Right]]] = {}
    for row in right:
        reference = fp32.get((row["model_id"], row["noise"], row["noise_level"]))
        if row["bits"] and reference is not None and len(reference) == len(row["right"]):
            points.setdefault(tuple(row[name] for name in SETTING), []).append((reference, row["right"]))
    found = []
    for point, pairs in points.items():
        drop = paired_drop([a for a, _ in pairs], [b for _, b in pairs], np.random.default_rng(0))
        found.append(
            dict(zip(SETTING, point, strict=True))
            | {
                "seeds": len(pairs),
                "documents": max(len(a) for a, _ in pairs),
                "accuracy": float(np.mean([b.mean() for _, b in pairs])),
                "drop": drop.value, "low": drop.low, "high": drop.high,
                "mcnemar": mcnemar(*pairs[0]) if len(pairs) == 1 else None,
            }
        )  # fmt: skip
    schema = rows.collect_schema()
    kinds = {name: schema[name] for name in SETTING} | {"seeds": pl.Int64(), "documents": pl.Int64()}
    kinds |= {name: pl.Float64() for name in ("accuracy", "drop", "low", "high", "mcnemar")}
    return pl.DataFrame(found, schema=kinds).sort(
        "dataset", "embedding", "model", "checkpoint", "algorithm", "calibration_labels", "internal_bits",
        "observer", "io_scales", "padding", pl.col("bits").neg(), "class_ratio", "noise", "noise_level",
    )  # fmt: skip
