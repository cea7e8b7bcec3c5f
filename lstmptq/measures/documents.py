"""Each document's own distribution: the ECDFs that the tests by document are made of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from lstmptq.measures.shift import Distribution
from lstmptq.models.batches import Batch

THRESHOLDS = 32  # evenly spaced in mass: D is missed by at most 1 / 64 of it
BISECTIONS = 60  # halvings of the range until a quantile is as exact as a float
ROUNDING = 1e-6  # of the range: what the order of a sum can change

Curves = npt.NDArray[np.float64]


class ValuesByDocument(Protocol):
    """Values that know which document they belong to."""

    def shares_below(self, thresholds: npt.NDArray[Any]) -> Curves:
        """(documents, thresholds) share of each document's values at or below each threshold."""


@dataclass(frozen=True, slots=True)
class LevelCounts:
    """Quantized values, counted by document.

    Attributes:
        counts: (documents, levels) how often each level occurs in each document.
        lowest: the first column's level.
        step: distance of neighbouring levels.
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
        """Of all documents together."""
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
    """Continuous values with the document of each row.

    Attributes:
        values: (rows, features).
        documents: (rows,) 0..n-1, each of which occurs.
    """

    values: npt.NDArray[np.floating[Any]]
    documents: npt.NDArray[np.integer[Any]]

    def shares_below(self, thresholds: npt.NDArray[Any]) -> Curves:
        """See :class:`ValuesByDocument`."""
        # a pass for each threshold: on so few of them faster than a binary search for each value
        below = [
            np.bincount(self.documents, np.count_nonzero(self.values <= threshold, axis=1))
            for threshold in thresholds
        ]
        values = np.bincount(self.documents) * self.values.shape[1]
        shares: Curves = np.stack(below, axis=1) / values[:, None]
        return shares


def choose_thresholds(a: Distribution, b: Distribution) -> npt.NDArray[Any]:
    """At most `THRESHOLDS` values at which documents are compared, ascending.

    Between two grids, or a grid and a continuous side, they are edges of the coarser grid, half way between
    its levels: two scales that differ a little put their levels side by side, and a threshold between the
    two would see a whole atom move where nothing else did. (An atom may still cross an edge: a stage of few
    distinct values, such as the embedding at low bits, has a D of a whole atom or none; the Wasserstein
    distance tells how far it went.) Without a grid they are quantiles. Either way they
    are spread evenly over the mass of both sides pooled, so that swapping a document's arms changes none
    and the tests stay exact.

    Args:
        a: all documents' values of the first arm.
        b: of the second; the same where both arms are parts of one.

    Returns:
        (1 .. `THRESHOLDS`,) ascending, distinct, in the values' own unit; float64 beside a grid, or else of
        the type of `a`'s values.
    """
    wanted = (np.arange(THRESHOLDS) + 0.5) / THRESHOLDS * (a.n + b.n) - 0.5  # counts come within rounding
    lowest, highest = min(a.points[0], b.points[0]), max(a.points[-1], b.points[-1])

    def pooled(at: npt.NDArray[Any]) -> Curves:
        counted: Curves = a.cdf(at) * a.n + b.cdf(at) * b.n
        return counted

    steps = [side.step for side in (a, b) if side.step is not None]
    if not steps:
        # in the values' own type: another would copy them at every search
        below, above = (np.full(THRESHOLDS, end, dtype=a.points.dtype) for end in (lowest, highest))
        for _ in range(BISECTIONS):
            middle = below / 2 + above / 2
            enough = pooled(middle) >= wanted
            below, above = np.where(enough, below, middle), np.where(enough, middle, above)
        # a little above: equal values that differ in their last bits stay on one side
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
    """(tensors, documents, `THRESHOLDS`) ECDFs of several tensors, each at its own thresholds.

    A tensor with fewer thresholds is filled up with zeros, where every document is alike.
    """
    stacked = []
    for side, thresholds in pairs:
        curves = side.shares_below(thresholds)
        stacked.append(np.pad(curves, ((0, 0), (0, THRESHOLDS - len(thresholds)))))
    return np.stack(stacked)


def find_row_documents(batch: Batch, rows: int) -> npt.NDArray[np.int64]:
    """(rows,) the document, by its place in the corpus, of each row that a stage recorded for `batch`.

    A stage has one row a document (what is pooled), one a token, or, in a language model, one a token and
    one for the start.

    Raises:
        ValueError: if the rows fit none of these.
    """
    index, lengths = batch.index.cpu().numpy(), batch.lengths.cpu().numpy()
    for repeats in (np.ones_like(lengths), lengths, lengths + 1):
        if repeats.sum() == rows:
            return np.repeat(index, repeats)
    raise ValueError(
        f"a stage recorded {rows} rows for {len(index)} documents of {lengths.sum()} tokens: "
        "expected one a document, one a token, or one a token and one for the start"
    )
