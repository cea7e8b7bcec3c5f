"""Permutation tests whose unit is the document, for any number of tensors at once.

Tokens of one document are alike, so that a test that takes them as independent rejects a true null most of
the time (docs/statistics.md). Here a document enters as one curve, its ECDF on a fixed set of thresholds, and
nothing is assumed but that documents are exchangeable: between the arms where these hold different documents,
and each document's two arms with one another where both hold the same (Good, Permutation, Parametric and
Bootstrap Tests of Hypotheses, 2005, chapters 3 and 11).

The curves are rounded to integers whose sums over the documents are exact in float32. So a draw's statistic
does not depend on the order in which a BLAS adds, equal statistics tie, and the same cell gives the same p.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

# The smallest p is 1e-4: one shift alone has q < .05 among fewer than 500 tests. A family of the default grid
# has 648 (9 tensors, 6 widths, 3 class ratios, 4 noises), where two must have that p, and AG News' whole grid
# 2,376, where five must. A row is a function of its cell, which knows no family; and more draws would take as
# many times as long, and give the cells of before other rows.
DRAWS = 9_999
CONTROL_DRAWS = 999  # a null control is only ever asked whether p <= .05
BLOCK = 1_024  # draws at a time: memory stays flat
EXACT_BITS = 23  # integers whose sum stays below 2^23 add exactly in float32, twice the sum too

Floats = npt.NDArray[np.floating[Any]]


@dataclass(frozen=True, slots=True)
class PermutationResult:
    """What a test gave, one entry a tensor.

    Attributes:
        d: (tensors,) largest absolute mean difference over the thresholds, 0..1.
        p: (tensors,) share of the draws, the data among them, whose statistic is at least as large.
    """

    d: npt.NDArray[np.float64]
    p: npt.NDArray[np.float64]


def paired_test(
    first: Floats, second: Floats, rng: np.random.Generator, draws: int = DRAWS, swap_at_random: bool = False
) -> PermutationResult:
    """Sign flips: both arms hold the same documents, in the same order.

    Args:
        first: (tensors, documents, thresholds) each document's ECDF in the first arm, 0..1.
        second: the same of the second arm.
        rng: of the flips, shared by the tensors.
        draws: how many flips.
        swap_at_random: swap the arms of each document at random first, for each tensor anew: a true null.

    Raises:
        ValueError: if the arms differ in shape, or there is no document or no draw.
    """
    if first.shape != second.shape:
        raise ValueError(f"both arms must have the same shape, got {first.shape} and {second.shape}")
    differences = np.asarray(first, dtype=np.float64) - second
    tensors, documents, thresholds = _checked(differences, draws)
    if swap_at_random:
        differences = differences * _signs(tensors, documents, rng)[:, :, None]
    d = np.abs(differences.mean(axis=1)).max(axis=1)
    integers = _as_integers(differences)
    reached = np.abs(integers.sum(axis=1)).max(axis=1)
    stacked = _by_document(integers)
    above = np.zeros(tensors, dtype=np.int64)
    for count in _blocks(draws):
        sums = np.abs(_signs(count, documents, rng) @ stacked).reshape(count, tensors, thresholds)
        above += (sums.max(axis=2) >= reached).sum(axis=0)
    return PermutationResult(d, (above + 1) / (draws + 1))


def independent_test(
    shares: Floats, in_first: npt.NDArray[np.bool_], rng: np.random.Generator, draws: int = DRAWS
) -> PermutationResult:
    """Label permutation: each document is in one arm.

    Args:
        shares: (tensors, documents, thresholds) each document's ECDF, 0..1.
        in_first: (documents,) or (tensors, documents), whether a document is in the first arm; the first arm
            has the same number of documents for every tensor.
        rng: of the permutations, shared by the tensors.
        draws: how many permutations.

    Raises:
        ValueError: if an arm is empty or the first arm's size differs between tensors, or there is no draw.
    """
    curves = shares.astype(np.float64)
    tensors, documents, thresholds = _checked(curves, draws)
    labels = np.broadcast_to(in_first, (tensors, documents))
    sizes = np.unique(labels.sum(axis=1))
    if len(sizes) != 1 or not 0 < sizes[0] < documents:
        raise ValueError(
            f"each arm needs a document, and the first as many for every tensor, got {sizes.tolist()} "
            f"of {documents}"
        )
    size = int(sizes[0])
    integers = _as_integers(curves)
    expected = integers.sum(axis=1, dtype=np.float64) * size / documents  # of the first arm's sum

    def statistic(sums: Floats) -> Floats:  # mean difference = (sum - expected) n / (size (n - size))
        largest: Floats = np.abs(sums - expected).max(axis=-1)
        return largest

    reached = statistic(np.einsum("td,tdk->tk", labels.astype(np.float32), integers))
    means = np.einsum("td,tdk->tk", labels / size - ~labels / (documents - size), curves)
    stacked = _by_document(integers)
    above = np.zeros(tensors, dtype=np.int64)
    base = np.zeros((BLOCK, documents), dtype=np.uint8)
    base[:, :size] = 1
    for count in _blocks(draws):
        drawn = rng.permuted(base[:count], axis=1).astype(np.float32)
        above += (statistic((drawn @ stacked).reshape(count, tensors, thresholds)) >= reached).sum(axis=0)
    return PermutationResult(np.abs(means).max(axis=1), (above + 1) / (draws + 1))


def random_halves(tensors: int, documents: int, rng: np.random.Generator) -> npt.NDArray[np.bool_]:
    """(tensors, documents) bool: for each tensor a random half of the documents, rounded down."""
    base = np.zeros((tensors, documents), dtype=bool)
    base[:, : documents // 2] = True
    return rng.permuted(base, axis=1)


def _checked(curves: Floats, draws: int) -> tuple[int, int, int]:
    tensors, documents, thresholds = curves.shape
    if documents < 1 or draws < 1:
        raise ValueError(
            f"a permutation test needs a document and a draw, got {documents} documents, {draws} draws"
        )
    return tensors, documents, thresholds


def _as_integers(curves: npt.NDArray[np.float64]) -> npt.NDArray[np.float32]:
    """Curves in -1..1 as integers; the step is below 1e-4 up to 800 documents. Symmetric in sign."""
    step = 2.0 ** (EXACT_BITS - curves.shape[1].bit_length())
    integers: npt.NDArray[np.float32] = np.rint(curves * step).astype(np.float32)
    return integers


def _by_document(curves: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """(tensors, documents, thresholds) to (documents, tensors * thresholds)."""
    return np.ascontiguousarray(curves.transpose(1, 0, 2).reshape(curves.shape[1], -1))


def _signs(rows: int, columns: int, rng: np.random.Generator) -> npt.NDArray[np.float32]:
    """(rows, columns) of 1 and -1, one random bit each."""
    drawn = np.frombuffer(rng.bytes(-(-rows * columns // 8)), dtype=np.uint8)
    bits = np.unpackbits(drawn, count=rows * columns).reshape(rows, columns)
    signs: npt.NDArray[np.float32] = bits.astype(np.float32) * 2 - 1
    return signs


def _blocks(draws: int) -> Iterator[int]:
    """How many draws each block takes."""
    for start in range(0, draws, BLOCK):
        yield min(BLOCK, draws - start)
