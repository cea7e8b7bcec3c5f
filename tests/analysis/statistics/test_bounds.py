"""One-sided bounds of what is lost: against a published example, their definition, and known truths."""

import numpy as np
import pytest
from scipy import optimize, stats

from analysis.statistics.bounds import loss_bounds, score_bound


def test_a_published_example_of_tangos_interval():
    """Bentur et al. 2009: 1 and 7 of 21 pairs differ; the 95 % score interval is -0.517 to -0.026."""
    assert score_bound(1, 7, 21, 0.025) == pytest.approx(-0.026, abs=5e-4)
    assert -score_bound(7, 1, 21, 0.025) == pytest.approx(-0.517, abs=5e-4)


@pytest.mark.parametrize(("losses", "gains"), [(12, 2), (5, 5), (3, 9)])
def test_the_score_bound_solves_the_score_equation(losses, gains):
    """The variance at the bound, from a likelihood that is maximised by brute force."""
    documents, level = 50, 0.05
    bound = score_bound(losses, gains, documents, level)

    def minus_likelihood(only_other):
        only_reference = only_other + bound
        rest = 1 - only_reference - only_other
        logs = np.log([only_reference, only_other, rest])
        return -np.dot([losses, gains, documents - losses - gains], logs)

    lowest = max(0.0, -bound) + 1e-9
    found = optimize.minimize_scalar(
        minus_likelihood, bounds=(lowest, (1 - bound) / 2 - 1e-9), method="bounded", options={"xatol": 1e-12}
    )
    variance = documents * (2 * found.x + bound - bound**2)
    score = (losses - gains - documents * bound) / variance**0.5
    assert score == pytest.approx(-stats.norm.isf(level), abs=1e-4)


def test_no_change_at_all_is_the_rule_of_three_and_not_certainty():
    ones = np.ones(425, dtype=bool)
    found = loss_bounds([(ones, ones)], 0.05)
    assert found.value == 0
    assert found.high == pytest.approx(1 - 0.05 ** (1 / 425))
    assert found.high == pytest.approx(3 / 425, rel=0.01)
    assert found.low == -found.high
    assert score_bound(5, 0, 5, 0.05) == 1.0


@pytest.mark.parametrize("rates", [(0.004, 0.0), (0.01, 0.005), (0.05, 0.05)])
@pytest.mark.slow
def test_the_upper_bound_is_below_the_truth_at_most_as_often_as_it_says(rates):
    rng = np.random.default_rng(0)
    documents, missed, repeats = 400, 0, 300
    for _ in range(repeats):
        kind = rng.choice(3, size=documents, p=[*rates, 1 - sum(rates)])
        reference, other = kind != 1, kind != 0
        missed += loss_bounds([(reference, other)], 0.05).high < rates[0] - rates[1]
    assert missed <= stats.binom.isf(0.001, repeats, 0.05)


def test_seeds_that_differ_are_counted():
    """Three seeds: the bootstrap alone misses more often than it says, with Student's t it does not."""
    rng = np.random.default_rng(1)
    missed, repeats = 0, 200
    for _ in range(repeats):
        drops = np.clip(rng.normal(0.05, 0.02, 3), 0, 1)
        pairs = [(np.ones(2000, dtype=bool), rng.random(2000) >= drop) for drop in drops]
        missed += loss_bounds(pairs, 0.05).high < 0.05
    assert missed <= stats.binom.isf(0.001, repeats, 0.05)


def test_what_cannot_be_bounded_is_said():
    ones = np.ones(3, dtype=bool)
    with pytest.raises(ValueError, match=r"need at least one seed, .* got \[\] documents"):
        loss_bounds([], 0.05)
    with pytest.raises(ValueError, match=r"got \[\(3, 2\)\] documents"):
        loss_bounds([(ones, ones[:2])], 0.05)
    with pytest.raises(ValueError, match=r"got 4, 0, 3 and 0\.05"):
        score_bound(4, 0, 3, 0.05)
