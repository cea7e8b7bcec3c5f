"""Distributions per document: the ECDFs that the tests by document compare."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from lstmptq.measures.shift import Distribution
from lstmptq.models.batches import Batch

THRESHOLDS = 32  # evenly spaced in mass: D is missed by at most 1 / 64 of it
BISECTIONS = 60  # halvings of the range, after which a quantile is exact to float precision
ROUNDING = 1e-6  # as a share of the range: the most that the order of summation changes a value

Curves = npt.NDArray[np.float64]


class ValuesByDocument(Protocol):
    """Values that are grouped by document."""

    def shares_below(self, thresholds: npt.NDArray[Any]) -> Curves:
        """Return the (documents, thresholds) share of each document's values at or below each threshold."""


@dataclass(frozen=True, slots=True)
class LevelCounts:
    """Quantized values, counted by document.

    Attributes:
        counts: (documents, levels) how often each level occurs in each document.
        lowest: the first column's level.
        step: distance between neighbouring levels.
    """

    counts: npt.NDArray[np.int64]
    lowest: int
    step: float

    @classmethod
    def of_codes(
        cls,
        codes: npt.NDArray[np.integer[Any]],
        documents: npt.NDArray[np.integer[Any]],
        lowest: int,
        highest: int,
        step: float,
    ) -> LevelCounts:
        """Count `codes`, (rows, features) in lowest..highest, whose rows belong to `documents`, (rows,)."""
        levels = highest - lowest + 1
        places = (documents.astype(np.int64) * levels - lowest)[:, None] + codes
        number = int(documents.max()) + 1
        return cls(
            np.bincount(places.reshape(-1), minlength=number * levels).reshape(number, levels), lowest, step
        )

    @property
    def distribution(self) -> Distribution:
        """The distribution over all documents together."""
        counts = self.counts.sum(axis=0)
        used = np.flatnonzero(counts)
        return Distribution((used + self.lowest) * self.step, counts[used], self.step)

    def shares_below(self, thresholds: npt.NDArray[Any]) -> Curves:
        """See :class:`ValuesByDocument`."""
        points = (np.arange(self.counts.shape[1]) + self.lowest) * self.step
        below = np.concatenate([np.zeros((len(self.counts), 1)), np.cumsum(self.counts, axis=1)], axis=1)
        rank = np.searchsorted(points, thresholds, side="right")
        shares: Curves = below[:, rank] / below[:, -1:]
        return shares


@dataclass(frozen=True, slots=True)
class DocumentValues:
    """Continuous values, with the document of each row.

    Attributes:
        values: (rows, features).
        documents: (rows,) document of each row, 0..n-1, each of which occurs.
    """

    values: npt.NDArray[np.floating[Any]]
    documents: npt.NDArray[np.integer[Any]]

    def shares_below(self, thresholds: npt.NDArray[Any]) -> Curves:
        """See :class:`ValuesByDocument`."""
        # one pass per threshold: for this few thresholds faster than a binary search per value
        below = [
            np.bincount(self.documents, np.count_nonzero(self.values <= threshold, axis=1))
            for threshold in thresholds
        ]
        values = np.bincount(self.documents) * self.values.shape[1]
        shares: Curves = np.stack(below, axis=1) / values[:, None]
        return shares


def choose_thresholds(a: Distribution, b: Distribution) -> npt.NDArray[Any]:
    """Choose up to `THRESHOLDS` ascending values at which documents are compared.

    If a side is quantized, the thresholds are edges of the coarser grid, half way between its levels: two
        slightly
    different scales put their levels side by side, and a threshold between two such levels would see a whole
    atom move where nothing else did. (An atom may still cross an edge: the D of a stage with few distinct
    values, such as the embedding at low bits, is a whole atom or zero; the Wasserstein distance says how far
    it moved.) Without a grid the thresholds are quantiles. Either way they are spread evenly over the pooled
    mass of both sides, so swapping the arms of a document changes no threshold and the tests stay exact.

    Args:
        a: values of all documents in the first arm.
        b: those in the second arm; equal to `a` if both arms are parts of one sample.

    Returns:
        (1 .. `THRESHOLDS`,) ascending, distinct, in the unit of the values; float64 if a side is
        quantized, else the type of the values of `a`.
    """
    # Less 0.5, because the pooled counts are exact only up to rounding.
    wanted = (np.arange(THRESHOLDS) + 0.5) / THRESHOLDS * (a.n + b.n) - 0.5
    lowest, highest = min(a.points[0], b.points[0]), max(a.points[-1], b.points[-1])

    def pooled(at: npt.NDArray[Any]) -> Curves:
        counted: Curves = a.cdf(at) * a.n + b.cdf(at) * b.n
        return counted

    steps = [side.step for side in (a, b) if side.step is not None]
    if not steps:
        # in the type of the values: another type would copy them at every search
        below, above = (np.full(THRESHOLDS, end, dtype=a.points.dtype) for end in (lowest, highest))
        for _ in range(BISECTIONS):
            middle = below / 2 + above / 2
            enough = pooled(middle) >= wanted
            below, above = np.where(enough, below, middle), np.where(enough, middle, above)
        # slightly above, so that values equal up to their last bits stay on one side
        quantiles: npt.NDArray[Any] = np.unique(above) + (highest - lowest) * ROUNDING
        return quantiles
    step = max(steps)
    first, last = round(float(lowest) / step), round(float(highest) / step)
    edges = (np.arange(first, max(last, first + 1)) + 0.5) * step
    if len(edges) > THRESHOLDS:
        chosen = np.searchsorted(pooled(edges), wanted)
        edges = np.unique(edges[np.minimum(chosen, len(edges) - 1)])
    return edges


def stack_curves(
    pairs: Sequence[tuple[ValuesByDocument, npt.NDArray[Any]]],
) -> npt.NDArray[np.float64]:
    """Stack the ECDFs of several tensors, each at its own thresholds, as (tensors, documents, `THRESHOLDS`).

    A tensor with fewer thresholds is padded with zeros, at which all documents are alike.
    """
    stacked = []
    for side, thresholds in pairs:
        curves = side.shares_below(thresholds)
        stacked.append(np.pad(curves, ((0, 0), (0, THRESHOLDS - len(thresholds)))))
    return np.stack(stacked)


def find_row_documents(batch: Batch, rows: int) -> npt.NDArray[np.int64]:
    """Return the (rows,) document, as its index in the corpus, of each row that a stage recorded for `batch`.

    A stage has one row per document (after pooling), one per token, or, in a language model, one per token
    and one for the start.

    Raises:
        ValueError: if the number of rows fits none of these.
    """
    index, lengths = batch.index.cpu().numpy(), batch.lengths.cpu().numpy()
    for repeats in (np.ones_like(lengths), lengths, lengths + 1):
        if repeats.sum() == rows:
            return np.repeat(index, repeats)
    raise ValueError(
        f"a stage recorded {rows} rows for {len(index)} documents of {lengths.sum()} tokens: "
        "expected one per document, one per token, or one per token and one for the start"
    )
