"""Accuracy with its uncertainty: paired bootstrap over documents, hierarchical over seeds, McNemar's test."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl
from scipy import stats

from analysis.frames.answers import Right, right_answers
from analysis.frames.axes import GROUP, MODEL, NOISE, QUANTIZATION_KEYS, RECIPE, order_of
from analysis.frames.reading import Frame, whole_models

DRAWS = 2_000
CONFIDENCE = 0.95
SETTING = (*MODEL, *RECIPE, *NOISE)  # columns of a drop, which is over seeds

Pair = tuple[Right, Right]  # answers to the same documents: of the reference, and of the other model


@dataclass(frozen=True, slots=True)
class Interval:
    """An estimate with its 95 % interval."""

    value: float
    low: float
    high: float


def paired_drop(reference: Sequence[Right], other: Sequence[Right], rng: np.random.Generator) -> Interval:
    """Estimate how much less often `other` is right than `reference` on the same documents.

    The bootstrap draws seeds, if there are several, and then documents of each, with both models' answers
    kept together (Davison & Hinkley, Bootstrap Methods, 1997, section 3.8); the interval is the percentile
    one.

    Args:
        reference: one array per seed, (documents,) whether the reference is right.
        other: the same for the other model.
        rng: generator of the draws.

    Returns:
        The mean over seeds of the difference of accuracies, a share, positive where `other` is worse. With
        two or three seeds the interval is too short, as every bootstrap of so few values is.

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
    """Draw means of paired differences: draw seeds, if there are several, and then documents of each.

    Args:
        lost: one array per seed, (documents,) of -1, 0 and 1.
        rng: generator of the draws.
        draws: number of draws.

    Returns:
        (draws,) means over the drawn seeds.
    """
    drawn = np.stack([_document_means(one, rng, draws) for one in lost])  # (seeds, draws)
    if len(lost) > 1:
        # every seed of a draw gets a bootstrap mean of its own documents
        seeds = rng.integers(0, len(lost), drawn.shape)
        places = rng.permuted(np.broadcast_to(np.arange(draws), drawn.shape), axis=1)
        drawn = drawn[seeds, places]
    means: npt.NDArray[np.float64] = drawn.mean(axis=0)
    return means


def _document_means(
    lost: npt.NDArray[np.int8], rng: np.random.Generator, draws: int
) -> npt.NDArray[np.float64]:
    """Draw (draws,) means of documents with replacement: of -1, 0 and 1 only the counts matter."""
    counts = np.array([(lost == value).sum() for value in (-1, 0, 1)])
    drawn = rng.multinomial(len(lost), counts / len(lost), draws)
    means: npt.NDArray[np.float64] = (drawn[:, 2] - drawn[:, 0]) / len(lost)
    return means


def mcnemar(first: Right, second: Right) -> float:
    """Return the exact two-sided p of McNemar's test (1947): do two models err equally often?

    Args:
        first: (documents,) whether the first model is right.
        second: the same for the second model, on the same documents.

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


def pair_with_fp32(cells: pl.DataFrame) -> pl.DataFrame:
    """Add to each quantized cell its ``reference`` cell: its FP32 model under the same noise."""
    fp32 = cells.filter(pl.col("bits").is_null()).select("model_id", *NOISE, reference="cell_id").unique()
    quantized = cells.filter(pl.col("bits").is_not_null())
    return quantized.join(fp32, on=["model_id", *NOISE], maintain_order="left")


def pair_answers(rows: pl.DataFrame, right: Mapping[str, Right]) -> list[Pair]:
    """Pair the answers of each row's ``reference`` with those of its ``cell_id``.

    A row is left out if answers are unknown, or if its two cells answered different documents.
    """
    known = (
        (right.get(reference), right.get(cell))
        for reference, cell in rows.select("reference", "cell_id").iter_rows()
    )
    return [(a, b) for a, b in known if a is not None and b is not None and len(a) == len(b) > 0]


def pair_drop(pairs: Sequence[Pair]) -> Interval:
    """Estimate the paired difference over seeds, with the same draws on every run."""
    return paired_drop([a for a, _ in pairs], [b for _, b in pairs], np.random.default_rng(0))


def accuracy_drops(cells: Frame, predictions: Frame | None = None) -> pl.DataFrame:
    """Estimate the accuracy lost against FP32 under the same noise, with 95 % intervals, over seeds.

    Args:
        cells: the table `cells`.
        predictions: the table `predictions`. Cells without answers in either table are left out, and so are
            cells with an isolated stage.

    Returns:
        The columns `SETTING`, ``seeds``, ``documents`` (of a seed, the most), ``accuracy`` (mean), ``drop``,
        ``low``, ``high`` (shares) and ``mcnemar`` (p against FP32; null if there are several seeds), sorted
        as the paper's tables, FP32 itself left out.
    """
    columns = [*SETTING, "seed", "model_id", "cell_id"]
    rows = whole_models(cells).filter(pl.col("status") == "ok").select(columns).collect()
    right = right_answers(cells, predictions)
    found = []
    for setting, part in pair_with_fp32(rows).group_by(SETTING, maintain_order=True):
        pairs = pair_answers(part, right)
        if not pairs:
            continue
        drop = pair_drop(pairs)
        found.append(
            dict(zip(SETTING, setting, strict=True))
            | {
                "seeds": len(pairs),
                "documents": max(len(a) for a, _ in pairs),
                "accuracy": float(np.mean([b.mean() for _, b in pairs])),
                "drop": drop.value, "low": drop.low, "high": drop.high,
                "mcnemar": mcnemar(*pairs[0]) if len(pairs) == 1 else None,
            }
        )  # fmt: skip
    kinds: dict[str, Any] = {name: rows.schema[name] for name in SETTING}
    kinds |= {"seeds": pl.Int64, "documents": pl.Int64}
    kinds |= dict.fromkeys(("accuracy", "drop", "low", "high", "mcnemar"), pl.Float64)
    return pl.DataFrame(found, schema=kinds).sort(
        *GROUP, "model", "checkpoint", *QUANTIZATION_KEYS, *order_of("bits"), "class_ratio", *NOISE
    )  # fmt: skip
