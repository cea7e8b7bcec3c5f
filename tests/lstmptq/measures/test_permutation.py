"""Tests by document against known truths: golden values, true nulls, a planted shift."""

import numpy as np
import pytest
from scipy import stats

from lstmptq.measures.permutation import independent_test, paired_test, random_halves

THRESHOLDS = stats.norm.ppf((np.arange(12) + 0.5) / 12)
TOKENS = 20
CORRELATIONS = (0.0, 0.05, 0.2, 0.5)


def tokens(rng, tensors, documents, correlation, effect=None):
    """(tensors, documents, TOKENS) standard normal values, alike within a document."""
    effect = rng.normal(size=(tensors, documents, 1)) if effect is None else effect
    own = rng.normal(size=(tensors, documents, TOKENS))
    return np.sqrt(correlation) * effect + np.sqrt(1 - correlation) * own


def curves(values):
    """(tensors, documents, thresholds) each document's ECDF."""
    return np.stack([(values <= threshold).mean(axis=2) for threshold in THRESHOLDS], axis=2)


def acceptable(trials):
    """How many rejections at .05 a valid test may give in 99.9 % of simulations."""
    return stats.binom.interval(0.999, trials, 0.05)


@pytest.mark.parametrize("documents", [32, 128])
@pytest.mark.parametrize("correlation", CORRELATIONS)
def test_sign_flips_keep_their_level(documents, correlation):
    rng = np.random.default_rng([documents, round(100 * correlation)])
    rejected = 0
    for _ in range(10):  # draws are shared within a block, so that blocks have draws of their own
        arms = [curves(tokens(rng, 40, documents, correlation)) for _ in range(2)]
        rejected += int((paired_test(*arms, rng, draws=199).p <= 0.05).sum())
    least, most = acceptable(400)
    assert least <= rejected <= most


@pytest.mark.parametrize("documents", [32, 128])
@pytest.mark.parametrize("correlation", CORRELATIONS)
def test_label_permutation_keeps_its_level(documents, correlation):
    rng = np.random.default_rng([documents, round(100 * correlation), 1])
    rejected = 0
    for _ in range(10):
        shares = curves(tokens(rng, 40, documents, correlation))
        found = independent_test(shares, np.arange(documents) < documents // 3, rng, draws=199)
        rejected += int((found.p <= 0.05).sum())
    least, most = acceptable(400)
    assert least <= rejected <= most


def test_the_naive_test_would_not():
    """What all this is for: tokens taken as independent reject a true null far too often."""
    rng = np.random.default_rng(0)
    values = tokens(rng, 100, 64, 0.2)
    naive = [stats.ks_2samp(one[:32].ravel(), one[32:].ravel()).pvalue <= 0.05 for one in values]
    assert sum(naive) > acceptable(100)[1]


@pytest.mark.parametrize(("paired", "correlation"), [(True, 0.05), (True, 0.2), (False, 0.0)])
@pytest.mark.slow
def test_a_small_shift_in_one_tensor_of_40_is_found(paired, correlation):
    """.1 sigma at 512 documents, after Benjamini-Hochberg. The arms of a pair share the document's effect;
    independent arms do not, and at a correlation of .2 they have a power of .4 alone."""
    rng = np.random.default_rng([7, paired, round(100 * correlation)])
    shift = np.zeros((40, 1, 1))
    shift[0] = 0.1
    found, other, repeats = 0, 0, 15
    for _ in range(repeats):
        effect = rng.normal(size=(40, 512, 1))
        first = curves(tokens(rng, 40, 512, correlation, effect))
        second = curves(tokens(rng, 40, 512, correlation, effect if paired else None) + shift)
        if paired:
            p = paired_test(first, second, rng, draws=1999).p
        else:
            p = independent_test(
                np.concatenate([first, second], axis=1), np.arange(1024) < 512, rng, draws=1999
            ).p
        q = stats.false_discovery_control(p)
        found += q[0] < 0.05
        other += (q[1:] < 0.05).sum()
    assert found / repeats >= 0.8
    assert other / repeats < 0.5  # .05 of about one discovery is expected


def test_sign_flips_equal_scipy():
    """One threshold: the mean difference, whose permutation test SciPy has."""
    rng = np.random.default_rng(0)
    first, second = rng.integers(0, 9, (2, 9)) / 8  # on the integer grid, so that ties are ties in both

    def mean_difference(x, y, axis):
        return np.abs((x - y).mean(axis=axis))

    expected = stats.permutation_test(
        (first, second), mean_difference, permutation_type="samples", vectorized=True, alternative="greater",
        n_resamples=np.inf,
    )  # fmt: skip
    found = paired_test(first[None, :, None], second[None, :, None], rng, draws=20_000)
    assert found.d[0] == pytest.approx(expected.statistic)
    assert found.p[0] == pytest.approx(expected.pvalue, abs=0.015)


def test_label_permutation_equals_scipy():
    rng = np.random.default_rng(3)
    shares, in_first = rng.integers(0, 9, 10) / 8, np.arange(10) < 4

    def mean_difference(x, y, axis):
        return np.abs(x.mean(axis=axis) - y.mean(axis=axis))

    expected = stats.permutation_test(
        (shares[in_first], shares[~in_first]), mean_difference, vectorized=True, alternative="greater",
        n_resamples=np.inf,
    )  # fmt: skip
    found = independent_test(shares[None, :, None], in_first, rng, draws=20_000)
    assert found.d[0] == pytest.approx(expected.statistic)
    assert found.p[0] == pytest.approx(expected.pvalue, abs=0.015)


def test_the_largest_difference_of_all_thresholds_counts():
    first = np.zeros((2, 6, 3))
    second = first.copy()
    second[1, :, 2] = 0.5
    found = paired_test(first, second, np.random.default_rng(0), draws=999)
    np.testing.assert_array_equal(found.d, [0.0, 0.5])
    assert found.p[0] == 1.0  # equal arms
    assert found.p[1] == pytest.approx(2 / 2**6, abs=0.02)  # all flipped, or none


def test_arms_may_be_swapped():
    """Which arm is called the first does not matter, nor the order of the documents' values."""
    rng = np.random.default_rng(5)
    first, second = rng.random((2, 3, 40, 7))
    there = paired_test(first, second, np.random.default_rng(1), draws=500)
    back = paired_test(second, first, np.random.default_rng(1), draws=500)
    np.testing.assert_array_equal(there.p, back.p)
    np.testing.assert_array_equal(there.d, back.d)


def test_a_tensor_does_not_depend_on_those_beside_it():
    rng = np.random.default_rng(5)
    first, second = rng.random((2, 3, 40, 7))
    together = paired_test(first, second, np.random.default_rng(1), draws=3000)
    alone = paired_test(first[1:2], second[1:2], np.random.default_rng(1), draws=3000)
    assert alone.p[0] == together.p[1]


def test_swapping_at_random_makes_a_null_of_a_shift():
    rng = np.random.default_rng(0)
    first = curves(tokens(rng, 200, 32, 0.2))
    second = np.clip(first + 0.1, 0, 1)
    assert (paired_test(first, second, rng, draws=199).p <= 0.05).all()
    rejected = (paired_test(first, second, rng, draws=199, swap_at_random=True).p <= 0.05).sum()
    least, most = acceptable(200)
    assert least <= rejected <= most


def test_halves_are_halves_and_differ_between_tensors():
    halves = random_halves(50, 9, np.random.default_rng(0))
    assert set(halves.sum(axis=1)) == {4}
    assert len(np.unique(halves, axis=0)) > 20


def test_bad_arms():
    rng = np.random.default_rng(0)
    ones = np.ones((1, 4, 2))
    with pytest.raises(ValueError, match=r"both arms must have the same shape, got \(1, 4, 2\) and \(1, 3"):
        paired_test(ones, ones[:, :3], rng)
    with pytest.raises(ValueError, match="needs a document and a draw, got 4 documents, 0 draws"):
        paired_test(ones, ones, rng, draws=0)
    with pytest.raises(ValueError, match=r"first arm the same number for every tensor, got \[4\] of 4"):
        independent_test(ones, np.ones(4, dtype=bool), rng)
