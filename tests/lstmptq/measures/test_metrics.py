"""What a document was taken for, and by how much."""

import numpy as np

from lstmptq.measures.metrics import MARGIN_BITS, Scores, prediction_columns, rounded


def test_margins_are_rounded_to_a_stated_precision():
    margins = np.concatenate([10.0 ** np.random.default_rng(0).uniform(-6, 4, 20_000), [0.0]])
    found = rounded(margins)
    assert found.dtype == np.float32
    assert (np.abs(found - margins) <= margins * 2.0 ** -(MARGIN_BITS + 1)).all()
    assert found[-1] == 0
    assert not (found.view(np.uint32) & ((1 << 23 - MARGIN_BITS) - 1)).any()  # what is left compresses


def test_a_margin_is_the_difference_of_the_two_highest_scores():
    scores = Scores(np.array([[-3.0, -1.0, -9.0], [-2.0, -5.0, -2.0]]), np.array([1, 2]))
    assert prediction_columns(scores) == {"labels": [1, 2], "predicted": [1, 0], "margin": [2.0, 0.0]}
