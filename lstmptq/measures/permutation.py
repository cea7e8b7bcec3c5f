"""Permutation tests whose unit is the document, for any number of tensors at once.

The tokens of one document are alike, so a test that treats them as independent rejects a true null most of
the time (docs/statistics.md). Here each document enters as one curve, its ECDF on a fixed set of thresholds.
The only assumption is exchangeability: of documents between the arms if the arms hold different documents,
and of the two arms within each document if both hold the same documents (Good, Permutation, Parametric and
Bootstrap Tests of Hypotheses, 2005, chapters 3 and 11).

The curves are rounded to integers whose sums over the documents are exact in float32. The statistic of a draw
therefore does not depend on the summation order of a BLAS, equal statistics tie, and the same cell always
gives the same p.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

# The smallest p is 1e-4, so a single shift reaches q < .05 among fewer than 500 tests. A family of the
# default grid has 648 tests (9 tensors, 6 widths, 3 class ratios, 4 noises), where two shifts must have that
# p, and the whole grid of AG News has 2,376, where five must. More draws would take proportionally longer,
# and would change the rows of existing cells.
DRAWS = 9_999
CONTROL_DRAWS = 999  # a null control only has to tell whether p <= .05
BLOCK = 1_024  # draws at a time, which bounds the memory
EXACT_BITS = 23  # float32 adds integers exactly if their sum stays below 2^23, twice the sum too

Floats = npt.NDArray[np.floating[Any]]


@dataclass(frozen=True, slots=True)
class PermutationResult:
    """The result of a permutation test, one entry per tensor.

    Attributes:
        d: (tensors,) largest absolute mean difference over the thresholds, 0..1.
        p: (tensors,) share of the draws, including the data, whose statistic is at least as large.
    """

    d: npt.NDArray[np.float64]
    p: npt.NDArray[np.float64]


def paired_test(
    first: Floats, second: Floats, rng: np.random.Generator, draws: int = DRAWS, swap_at_random: bool = False
) -> PermutationResult:
    """Test by sign flips two arms that hold the same documents in the same order.

    Args:
        first: (tensors, documents, thresholds) each document's ECDF in the first arm, 0..1.
        second: the same in the second arm.
        rng: generator of the flips, which all tensors share.
        draws: number of flips.
        swap_at_random: first swap the arms of each document at random, separately for each tensor, which
            makes a true null.

    Raises:
        ValueError: if the arms differ in shape, or there is no document or no draw.
    """
    if first.shape != second.shape:
        raise ValueError(f"both arms must have the same shape, got {first.shape} and {second.shape}")
    differences = np.asarray(first, dtype=np.float64) - second
    tensors, documents, thresholds = _check_shape(differences, draws)
    if swap_at_random:
        differences = differences * _draw_signs(tensors, documents, rng)[:, :, None]
    d = np.abs(differences.mean(axis=1)).max(axis=1)
    integers = _round_to_integers(differences)
    reached = np.abs(integers.sum(axis=1)).max(axis=1)
    stacked = _flatten_by_document(integers)
    above = np.zeros(tensors, dtype=np.int64)
    for count in _blocks(draws):
        sums = np.abs(_draw_signs(count, documents, rng) @ stacked).reshape(count, tensors, thresholds)
        above += (sums.max(axis=2) >= reached).sum(axis=0)
    return PermutationResult(d, (above + 1) / (draws + 1))


def independent_test(
    shares: Floats, in_first: npt.NDArray[np.bool_], rng: np.random.Generator, draws: int = DRAWS
) -> PermutationResult:
    """Test by label permutation two arms that hold different documents.

    Args:
        shares: (tensors, documents, thresholds) each document's ECDF, 0..1.
        in_first: (documents,) or (tensors, documents), whether a document is in the first arm; the first arm
            has the same number of documents for every tensor.
        rng: generator of the permutations, which all tensors share.
        draws: number of permutations.

    Raises:
        ValueError: if an arm is empty or the first arm's size differs between tensors, or there is no draw.
    """
    curves = shares.astype(np.float64)
    tensors, documents, thresholds = _check_shape(curves, draws)
    labels = np.broadcast_to(in_first, (tensors, documents))
    sizes = np.unique(labels.sum(axis=1))
    if len(sizes) != 1 or not 0 < sizes[0] < documents:
        raise ValueError(
            f"each arm needs a document, and the first arm the same number for every tensor, "
            f"got {sizes.tolist()} of {documents}"
        )
    size = int(sizes[0])
    integers = _round_to_integers(curves)
    expected = integers.sum(axis=1, dtype=np.float64) * size / documents  # of the sum over the first arm

    def statistic(sums: Floats) -> Floats:  # mean difference = (sum - expected) n / (size (n - size))
        largest: Floats = np.abs(sums - expected).max(axis=-1)
        return largest

    reached = statistic(np.einsum("td,tdk->tk", labels.astype(np.float32), integers))
    means = np.einsum("td,tdk->tk", labels / size - ~labels / (documents - size), curves)
    stacked = _flatten_by_document(integers)
    above = np.zeros(tensors, dtype=np.int64)
    base = np.zeros((BLOCK, documents), dtype=np.uint8)
    base[:, :size] = 1
    for count in _blocks(draws):
        drawn = rng.permuted(base[:count], axis=1).astype(np.float32)
        above += (statistic((drawn @ stacked).reshape(count, tensors, thresholds)) >= reached).sum(axis=0)
    return PermutationResult(np.abs(means).max(axis=1), (above + 1) / (draws + 1))


def random_halves(tensors: int, documents: int, rng: np.random.Generator) -> npt.NDArray[np.bool_]:
    """Draw for each tensor a random half of the documents, rounded down: (tensors, documents) bool."""
    base = np.zeros((tensors, documents), dtype=bool)
    base[:, : documents // 2] = True
    return rng.permuted(base, axis=1)


def _check_shape(curves: Floats, draws: int) -> tuple[int, int, int]:
    tensors, documents, thresholds = curves.shape
    if documents < 1 or draws < 1:
        raise ValueError(
            f"a permutation test needs a document and a draw, got {documents} documents, {draws} draws"
        )
    return tensors, documents, thresholds


def _round_to_integers(curves: npt.NDArray[np.float64]) -> npt.NDArray[np.float32]:
    """Round curves in -1..1 to integers, symmetrically; the step is below 1e-4 up to 800 documents."""
    step = 2.0 ** (EXACT_BITS - curves.shape[1].bit_length())
    integers: npt.NDArray[np.float32] = np.rint(curves * step).astype(np.float32)
    return integers


def _flatten_by_document(curves: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Reshape (tensors, documents, thresholds) to (documents, tensors * thresholds)."""
    return np.ascontiguousarray(curves.transpose(1, 0, 2).reshape(curves.shape[1], -1))


def _draw_signs(rows: int, columns: int, rng: np.random.Generator) -> npt.NDArray[np.float32]:
    """Draw a (rows, columns) array of 1 and -1 from one random bit each."""
    drawn = np.frombuffer(rng.bytes(-(-rows * columns // 8)), dtype=np.uint8)
    bits = np.unpackbits(drawn, count=rows * columns).reshape(rows, columns)
    signs: npt.NDArray[np.float32] = bits.astype(np.float32) * 2 - 1
    return signs


def _blocks(draws: int) -> Iterator[int]:
    """Yield the number of draws of each block."""
    for start in range(0, draws, BLOCK):
        yield min(BLOCK, draws - start)
