"""One-sided bounds of a loss, which do not trust a bootstrap that saw no change."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import optimize, stats

from analysis.statistics.intervals import Pair, bootstrap_means

DRAWS = 20_000  # at a level of .05 over a hundred sequences of tests, ten draws are still in the tail
EDGE = 1e-12


@dataclass(frozen=True, slots=True)
class Bounds:
    """A loss with its lower and upper bound, each with its own one-sided confidence."""

    value: float
    low: float
    high: float


def loss_bounds(pairs: Sequence[Pair], upper_level: float, lower_level: float | None = None) -> Bounds:
    """Bound how much less often the second model of each pair is right.

    Each bound is the widest of three, because each alone is too narrow somewhere: the percentile of the
    hierarchical bootstrap (:func:`analysis.statistics.intervals.paired_drop`), which has no width where no
    answer changes; the score bound of :func:`score_bound`, which counts documents once, since seeds may share
    them; and, over several seeds, Student's t of the seeds' means, because a bootstrap of few seeds is too
    narrow.

    Args:
        pairs: one per seed, (documents,) whether the reference and whether the other model is right.
        upper_level: probability that the loss is above ``high``.
        lower_level: probability that it is below ``low``; None takes `upper_level`.

    Returns:
        Shares, positive where the second is worse; ``value`` is the mean over seeds. The same on every run.

    Raises:
        ValueError: if there is no pair, or the answers of a pair are about different documents.
    """
    if not pairs or any(len(first) != len(second) or not len(first) for first, second in pairs):
        raise ValueError(
            "bounds need at least one seed, and both models' answers on the same documents, got "
            f"{[(len(first), len(second)) for first, second in pairs]} documents"
        )
    lower_level = upper_level if lower_level is None else lower_level
    lost = [first.astype(np.int8) - second.astype(np.int8) for first, second in pairs]
    means = np.array([one.mean() for one in lost])
    drawn = bootstrap_means(lost, np.random.default_rng(0), DRAWS)
    documents = float(np.mean([len(one) for one in lost]))
    losses, gains = (documents * float(np.mean([(one == sign).mean() for one in lost])) for sign in (1, -1))
    highs = [float(np.quantile(drawn, 1 - upper_level)), score_bound(losses, gains, documents, upper_level)]
    lows = [float(np.quantile(drawn, lower_level)), -score_bound(gains, losses, documents, lower_level)]
    value = float(means.mean())
    if len(means) > 1:
        error = float(means.std(ddof=1)) / len(means) ** 0.5
        highs.append(value + error * float(stats.t.isf(upper_level, len(means) - 1)))
        lows.append(value - error * float(stats.t.isf(lower_level, len(means) - 1)))
    return Bounds(value, max(min(lows), -1.0), min(max(highs), 1.0))


def score_bound(losses: float, gains: float, documents: float, level: float) -> float:
    """Bound a difference of paired proportions, (losses - gains) / documents, from above.

    Tango's score bound (Statistics in Medicine 17, 1998, 891-908). If nothing is gained, it is at least the
    exact bound of the losses alone (Clopper & Pearson 1934); if nothing is lost either, that bound is about
    -ln(level) / documents, the rule of three.

    Args:
        losses: number of documents that only the reference gets right; a mean over seeds need not be whole.
        gains: number of documents that only the other model gets right.
        documents: number of all documents.
        level: one-sided level, e.g. .05.

    Raises:
        ValueError: if the numbers are not those of a sample, or the level is not below .5.
    """
    if not (losses >= 0 and gains >= 0 and losses + gains <= documents and 0 < level < 0.5):
        raise ValueError(
            "a score bound needs losses and gains that are part of the documents, and a level between 0 and "
            f".5, got {losses}, {gains}, {documents} and {level}"
        )
    if losses >= documents:
        return 1.0
    z = float(stats.norm.isf(level))
    estimate = (losses - gains) / documents

    def excess(difference: float) -> float:
        a, c = 2 * documents, -gains * difference * (1 - difference)
        b = -losses - gains + (2 * documents - losses + gains) * difference
        only_other = (math.sqrt(b * b - 4 * a * c) - b) / (
            2 * a
        )  # share with the maximum likelihood at this difference
        variance = documents * (2 * only_other + difference * (1 - difference))
        return losses - gains - documents * difference + z * math.sqrt(max(variance, 0.0))

    bound = float(optimize.brentq(excess, estimate + EDGE, 1.0))
    exact = 0.0 if gains > 0 else float(stats.beta.isf(level, losses + 1, documents - losses))
    return bound if gains > 0 else max(bound, exact)
