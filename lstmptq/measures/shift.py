"""Distances between distributions, Kolmogorov-Smirnov and others, exact and without repeated sorting.

A distribution is stored as its distinct values with their counts. A quantized tensor has at most 2^bits of
them, so comparing it with a float tensor takes one binary search per level in the float values, which are
sorted once.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import stats

SMOOTH_POINTS = 1 << 16  # order statistics at which the dithered D reads a float side
QUANTILE_STEPS = 32  # intervals between the stored quantiles
SUMMED_VALUES = 10_000  # up to this number of values SciPy's sum over them is fast

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Distribution:
    """The empirical distribution of a tensor.

    Attributes:
        points: (k,) distinct values, ascending.
        counts: (k,) int64 number of occurrences of each.
        step: distance between neighbouring levels if the tensor is quantized, else None.
    """

    points: npt.NDArray[Any]
    counts: npt.NDArray[np.int64]
    step: float | None = None

    @classmethod
    def of_values(cls, values: npt.NDArray[Any]) -> Distribution:
        """Create the distribution of any values.

        Raises:
            ValueError: if there is no value, or one is not finite.
        """
        flat = np.asarray(values).reshape(-1)
        if flat.size == 0:
            raise ValueError("a distribution needs at least one value, got none")
        if not np.isfinite(flat).all():
            raise ValueError(f"a distribution needs finite values, got {(~np.isfinite(flat)).sum()} others")
        points, counts = np.unique(flat, return_counts=True)
        return cls(points, counts)

    @classmethod
    def of_levels(cls, codes: npt.NDArray[Any], step: float) -> Distribution:
        """Create the distribution of quantized values ``codes * step`` by counting.

        Args:
            codes: integers of any shape that span at most a few thousand levels.
            step: scale of the quantizer.
        """
        flat = np.asarray(codes).reshape(-1)
        lowest = int(flat.min())
        counts = np.bincount(flat - lowest)
        used = np.flatnonzero(counts)
        return cls((used + lowest) * float(step), counts[used], float(step))

    @property
    def n(self) -> int:
        """Number of values."""
        return int(self.cumulative[-1])

    @cached_property
    def cumulative(self) -> npt.NDArray[np.int64]:
        """(k,) values at or below each point."""
        return np.cumsum(self.counts)

    @cached_property
    def mean(self) -> float:
        """Mean of the values."""
        return float(np.dot(self.points.astype(np.float64), self.counts) / self.n)

    @cached_property
    def std(self) -> float:
        """Population standard deviation of the values."""
        squares = np.dot((self.points.astype(np.float64) - self.mean) ** 2, self.counts)
        return float(np.sqrt(squares / self.n))

    def quantiles(self) -> list[float]:
        """Return ``QUANTILE_STEPS + 1`` quantiles, from the smallest to the largest value, in float32.

        The k-th is the smallest value with k / QUANTILE_STEPS of the values at or below it. It always occurs
        in the data, so quantiles of a quantized tensor lie on its levels.
        """
        ranks = -(-np.arange(QUANTILE_STEPS + 1, dtype=np.int64) * self.n // QUANTILE_STEPS)
        places = np.searchsorted(self.cumulative, np.maximum(ranks, 1))
        found: list[float] = self.points[places].astype(np.float32).tolist()
        return found

    @property
    def largest_atom(self) -> float:
        """Share of the most frequent value."""
        return float(self.counts.max() / self.n)

    def cdf(self, at: npt.NDArray[Any]) -> Floats:
        """Return the share of values <= `at`."""
        return self._share(np.searchsorted(self.points, at, side="right"))

    def cdf_before(self, at: npt.NDArray[Any]) -> Floats:
        """Return the share of values < `at`, the left limit of the ECDF."""
        return self._share(np.searchsorted(self.points, at, side="left"))

    def rank(self, at: npt.NDArray[Any]) -> npt.NDArray[np.int64]:
        """Return the number of values <= `at`."""
        return np.concatenate([[0], self.cumulative])[np.searchsorted(self.points, at, side="right")]

    @cached_property
    def _sums(self) -> Floats:
        """(k + 1,) zero, then the sum of the values at or below each point."""
        return np.concatenate([[0.0], np.cumsum(self.points.astype(np.float64) * self.counts)])

    def sum_of_first(self, count: npt.NDArray[np.int64]) -> Floats:
        """Return the sum of the `count` smallest values."""
        place = np.searchsorted(self.cumulative, count, side="right")  # points whose values all belong to it
        whole = np.concatenate([[0], self.cumulative])[place]
        part = self.points.astype(np.float64)[np.minimum(place, len(self.points) - 1)]
        sums: Floats = self._sums[place] + (count - whole) * part
        return sums

    def _share(self, rank: npt.NDArray[np.int64]) -> Floats:
        padded = np.concatenate([[0], self.cumulative])
        shares: Floats = padded[rank] / self.n
        return shares

    @cached_property
    def ramp(self) -> tuple[Floats, Floats]:
        """Breakpoints and heights of the ECDF with each atom spread evenly over one step.

        A float side (without a step) keeps its ECDF, read at ``SMOOTH_POINTS`` order statistics.
        """
        heights = self.cumulative / self.n
        if self.step is None:
            if len(self.points) <= SMOOTH_POINTS:
                return self.points.astype(np.float64), heights
            chosen = np.linspace(0, len(self.points) - 1, SMOOTH_POINTS).round().astype(np.int64)
            return self.points[chosen].astype(np.float64), heights[chosen]
        edges = np.stack([self.points - self.step / 2, self.points + self.step / 2], axis=1).reshape(-1)
        before = np.concatenate([[0.0], heights[:-1]])
        return edges, np.stack([before, heights], axis=1).reshape(-1)


@dataclass(frozen=True, slots=True)
class KolmogorovSmirnov:
    """The largest distance between two ECDFs, its location, and which side is above there (1: the first)."""

    d: float
    location: float
    sign: int


def ks_distance(a: Distribution, b: Distribution) -> KolmogorovSmirnov:
    """Compute the exact two-sample D of SciPy's ``ks_2samp`` at the points of the side with fewer points.

    Between two neighbouring points of one side its ECDF is constant and the other one is monotone, so the
    largest distance is at such a point or just before the next one.
    """
    if len(b.points) > len(a.points):
        swapped = ks_distance(b, a)
        return KolmogorovSmirnov(swapped.d, swapped.location, -swapped.sign)
    at = b.points
    after = a.cdf(at) - b.cdf(at)
    before = a.cdf_before(at) - b.cdf_before(at)
    differences = np.concatenate([after, before])
    place = int(np.argmax(np.abs(differences)))
    d = float(abs(differences[place]))
    if place < len(at):
        location = float(at[place])
    else:  # the distance occurs just before this point, at the last value of either side below it
        point = at[place - len(at)]
        below = [side.points[side.points < point] for side in (a, b)]
        location = float(max((values[-1] for values in below if len(values)), default=point))
    return KolmogorovSmirnov(d, location, int(np.sign(differences[place])))


def ks_dithered(a: Distribution, b: Distribution) -> float:
    """Compute D after adding uniform noise of one step to quantized sides, in expectation (without a draw).

    This removes the effect of the grid and leaves that of shape and clipping. It is exact for quantized
    sides; a float side of more than ``SMOOTH_POINTS`` values is read to a precision of 1 / ``SMOOTH_POINTS``.
    """
    points = np.union1d(a.ramp[0], b.ramp[0])
    # a dithered side is continuous; a float side jumps, so both of its limits count
    return float(
        max(
            np.abs(_smooth(a, points, limit) - _smooth(b, points, limit)).max() for limit in ("left", "right")
        )
    )


def _smooth(side: Distribution, at: Floats, limit: str) -> Floats:
    if side.step is not None:
        edges, heights = side.ramp
        return np.interp(at, edges, heights, left=0.0, right=1.0)
    return side.cdf_before(at) if limit == "left" else side.cdf(at)


def nominal_p(d: float, n_a: int, n_b: int) -> float:
    """Compute SciPy's asymptotic two-sided p of a two-sample D.

    It treats the values as independent, which they are not, so it describes and never decides. Below 1e-15,
    with more than `SUMMED_VALUES` values, it uses Smirnov's asymptotic formula, which is within 2 % down to
    1e-16 and within an order of magnitude further down. SciPy sums one term per value there, which takes
    longer than the cell.
    """
    smaller, larger = sorted((n_a, n_b))
    effective = max(round(smaller / (1 + smaller / larger)), 1)
    if effective > SUMMED_VALUES and effective * d * d > 18:
        return float(2 * np.exp(-((6 * effective * d + 1) ** 2) / (18 * effective)))
    return float(np.clip(stats.kstwo.sf(d, effective), 0.0, 1.0))


def wasserstein(a: Distribution, b: Distribution) -> float:
    """Compute the 1-Wasserstein distance, the mean distance that the sorted values have to move."""
    few, many = sorted((a, b), key=lambda side: len(side.points))
    if a.n != b.n or len(few.points) > SMOOTH_POINTS:
        return float(stats.wasserstein_distance(a.points, b.points, a.counts, b.counts))
    # the sorted values of `many` move to the points of `few` in turn, each of which takes as many as it has
    ends = few.cumulative
    starts = ends - few.counts
    at = few.points.astype(np.float64)
    # within each run the values below the point move up and the others down
    turn = np.clip(many.rank(at), starts, ends)
    up = at * (turn - starts) - (many.sum_of_first(turn) - many.sum_of_first(starts))
    down = (many.sum_of_first(ends) - many.sum_of_first(turn)) - at * (ends - turn)
    return float(np.abs(up + down).sum() / a.n)


def sqnr_db(signal: npt.NDArray[Any], quantized: npt.NDArray[Any]) -> float | None:
    """Compute the signal to quantization noise ratio, 10 log10(sum x^2 / sum (x - q)^2), in dB.

    Args:
        signal: float values.
        quantized: the same values quantized, same shape and order.

    Returns:
        dB, or None if it is not finite, without noise or without signal.
    """
    power = float(np.square(signal, dtype=np.float64).sum())
    noise = float(np.square(signal.astype(np.float64) - quantized).sum())
    return 10 * float(np.log10(power / noise)) if power > 0 and noise > 0 else None


def relative_distance(first: npt.NDArray[Any], second: npt.NDArray[Any]) -> float | None:
    """Compute ||second - first|| / ||first|| (Frobenius); None if the first is zero throughout."""
    size = float(np.square(first, dtype=np.float64).sum())
    moved = float(np.square(second.astype(np.float64) - first).sum())
    return float(np.sqrt(moved / size)) if size > 0 else None


def quantile_columns(a: Distribution, b: Distribution) -> dict[str, list[float]]:
    """Build the columns of a `tensors` row that allow plotting both sides."""
    return {"quantiles_a": a.quantiles(), "quantiles_b": b.quantiles()}


def shift_columns(a: Distribution, b: Distribution, *, population: bool) -> dict[str, Any]:
    """Build the columns of a `tensors` row that describe the contrast of side `a` with side `b`.

    Args:
        a: first side: fp32, balanced or clean.
        b: second side: quantized, ratio or noisy.
        population: whether the sides are weights, which are not samples, so that no p-value is stored.
    """
    ks = ks_distance(a, b)
    return {
        "levels_used": len(b.points) if b.step is not None else None,
        "n": b.n,
        "ks_d": ks.d,
        "ks_location": ks.location,
        "ks_sign": ks.sign,
        "atom_floor": b.largest_atom / 2 if a.step is None and b.step is not None else None,
        "ks_d_dithered": ks_dithered(a, b),
        "p_nominal": None if population else nominal_p(ks.d, a.n, b.n),
        "wasserstein": wasserstein(a, b),
        "mean_a": a.mean,
        "std_a": a.std,
        "mean_b": b.mean,
        "std_b": b.std,
    }
