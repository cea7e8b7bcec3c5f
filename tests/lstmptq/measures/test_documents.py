"""ECDFs by document, the thresholds they are read at, and which document a row belongs to."""

import numpy as np
import pytest
import torch

from lstmptq.measures.activations import compute_paired_curves, record_stages
from lstmptq.measures.documents import (
    THRESHOLDS,
    DocumentValues,
    LevelCounts,
    choose_thresholds,
    find_row_documents,
)
from lstmptq.measures.shift import Distribution
from lstmptq.models.batches import Batch, batches_by_length, batches_in_order
from lstmptq.quantization.build import float_graph
from tests.lstmptq.synthetic import random_corpus, random_model


def ecdf(values, thresholds):
    return (values.reshape(-1)[:, None] <= thresholds).mean(axis=0)


@pytest.fixture
def rows():
    """Values of 3 documents of 1, 4 and 2 rows, the documents out of order."""
    rng = np.random.default_rng(0)
    return rng.integers(-4, 4, (7, 5)), np.array([2, 2, 0, 1, 1, 1, 1])


def test_levels_are_counted_by_document(rows):
    codes, documents = rows
    counted = LevelCounts.of_codes(codes, documents, -4, 3, 0.5)
    thresholds = np.array([-9.0, -1.25, 0.0, 0.25, 1.0, 9.0])
    expected = [ecdf(codes[documents == document] * 0.5, thresholds) for document in range(3)]
    np.testing.assert_allclose(counted.shares_below(thresholds), expected)
    values = DocumentValues((codes * 0.5).astype(np.float32), documents)
    np.testing.assert_allclose(values.shares_below(thresholds), expected)


def test_counted_levels_are_the_distribution_of_all(rows):
    codes, documents = rows
    counted = LevelCounts.of_codes(codes, documents, -4, 3, 0.5).distribution
    expected = Distribution.of_levels(codes, 0.5)
    np.testing.assert_array_equal(counted.points, expected.points)
    np.testing.assert_array_equal(counted.counts, expected.counts)
    assert counted.step == expected.step


def test_thresholds_of_grids_are_edges_of_the_coarser():
    a, b = (Distribution.of_levels(np.arange(-4, 4), step) for step in (0.5, 0.48))
    np.testing.assert_allclose(choose_thresholds(a, b), (np.arange(-4, 3) + 0.5) * 0.5)
    np.testing.assert_array_equal(choose_thresholds(a, b), choose_thresholds(b, a))
    # levels side by side are not told apart: no atom moves
    np.testing.assert_array_equal(a.cdf(choose_thresholds(a, b)), b.cdf(choose_thresholds(a, b)))


def test_many_levels_are_read_evenly_in_mass():
    codes = np.clip(np.round(np.random.default_rng(0).normal(0, 20, 50_000)), -128, 127).astype(int)
    side = Distribution.of_levels(codes, 0.01)
    found = choose_thresholds(side, side)
    assert 20 < len(found) <= THRESHOLDS
    assert np.diff(side.cdf(found)).max() < 2 / THRESHOLDS


def test_thresholds_of_continuous_sides_are_pooled_quantiles():
    rng = np.random.default_rng(0)
    first, second = rng.normal(size=3000).astype(np.float32), rng.normal(2, 1, 1000).astype(np.float32)
    found = choose_thresholds(Distribution.of_values(first), Distribution.of_values(second))
    shares = (np.arange(THRESHOLDS) + 0.5) / THRESHOLDS
    pooled = np.concatenate([first, second])
    np.testing.assert_allclose(ecdf(pooled, found), shares, atol=1 / 4000)


@pytest.mark.parametrize("step", [None, 0.25])
def test_swapping_values_between_the_sides_moves_no_threshold(step):
    """The tests are exact because thresholds depend on the pooled values alone."""
    codes = np.random.default_rng(1).integers(-60, 60, (2, 300))

    def side(which):
        return Distribution.of_levels(which, step) if step else Distribution.of_values(which * 0.3)

    swapped = codes.copy()
    swapped[:, ::3] = codes[::-1, ::3]
    expected = choose_thresholds(side(codes[0]), side(codes[1]))
    np.testing.assert_array_equal(choose_thresholds(side(swapped[0]), side(swapped[1])), expected)


def test_a_constant_stage_has_a_threshold():
    zeros = Distribution.of_levels(np.zeros(4, dtype=int), 0.5)
    np.testing.assert_array_equal(choose_thresholds(zeros, zeros), [0.25])
    ones = Distribution.of_values(np.ones(4, dtype=np.float32))
    np.testing.assert_array_equal(choose_thresholds(ones, ones), [1.0])


@pytest.mark.parametrize("kind", ["discriminative", "generative"])
def test_documents_are_told_apart_in_any_order(kind):
    """Batched by length or not: the same document has the same ECDF at every stage."""
    corpus = random_corpus(23, 307, 4, 9)
    graph = float_graph(random_model(kind))
    ordered = record_stages(graph, batches_in_order(corpus, 23))
    sorted_ = record_stages(graph, batches_by_length(corpus, 5))
    for first, second in zip(*compute_paired_curves(ordered, sorted_), strict=True):
        assert first.shape == (23, THRESHOLDS)
        # padding changes the last bits of a product: a value beside a threshold may cross it
        assert np.isclose(first, second).mean() > 0.98
    alone = record_stages(graph, batches_in_order(corpus.take([7]), 1))
    for name, stage in alone.items():
        together = np.sort(ordered[name].values[ordered[name].documents == 7].reshape(-1))
        np.testing.assert_allclose(np.sort(stage.values.reshape(-1)), together, atol=1e-4)


def batch_of(lengths):
    size = len(lengths)
    zeros = torch.zeros(size, max(lengths), dtype=torch.int64)
    return Batch(zeros, torch.tensor(lengths), zeros[:, 0], torch.arange(size).flip(0))


@pytest.mark.parametrize(
    ("rows", "expected"), [(2, [1, 0]), (5, [1, 1, 1, 0, 0]), (7, [1, 1, 1, 1, 0, 0, 0])]
)
def test_rows_belong_to_documents(rows, expected):
    np.testing.assert_array_equal(find_row_documents(batch_of([3, 2]), rows), expected)


def test_rows_that_fit_no_document():
    with pytest.raises(ValueError, match="a stage recorded 6 rows for 2 documents of 5 tokens: expected one"):
        find_row_documents(batch_of([3, 2]), 6)
