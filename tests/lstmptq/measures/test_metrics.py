"""What a document was taken for, and by how much; every metric at values worked out by hand."""

import re

import numpy as np
import pytest

from lstmptq.measures.metrics import (
    MARGIN_BITS,
    Scores,
    confusion_matrix,
    expected_calibration_error,
    macro_f1,
    metric_columns,
    prediction_columns,
    round_margins,
)
from lstmptq.results import CELLS

# Three classes, the last of which is never predicted; the first document is certain: e^-800 is 0.
POSTERIOR = np.array(
    [
        [1, 0, 0],
        [0.5, 0.25, 0.25],
        [0.25, 0.5, 0.25],
        [0.11, 0.79, 0.1],
        [0.05, 0.9, 0.05],
        [0.7, 0.1, 0.2],
    ]
)
SCORES = Scores(np.log(np.maximum(POSTERIOR, 1e-300)), np.array([0, 0, 0, 1, 1, 2]))


def test_metrics_at_values_worked_out_by_hand():
    found = metric_columns(SCORES)
    assert found["confusion"] == [[2, 1, 0], [0, 2, 0], [1, 0, 0]]
    assert found["documents"] == 6
    assert found["accuracy"] == pytest.approx(4 / 6)
    assert found["macro_f1"] == pytest.approx((2 * 2 / 6 + 2 * 2 / 5 + 0) / 3)
    assert found["nll"] == pytest.approx(-np.log(1 * 0.5 * 0.25 * 0.79 * 0.9 * 0.2) / 6)
    # bins 7 (one right, one wrong, at .5 each), 10, 11, 13, and 14, to which a confidence of 1 belongs
    assert found["ece"] == pytest.approx((0 + 0.7 + 0.21 + 0.1 + 0) / 6)


def test_rows_of_a_confusion_are_true_classes():
    """As the column's description has it: five documents of class 0 that are taken for class 1."""
    assert confusion_matrix(np.zeros(5, int), np.ones(5, int), 2).tolist() == [[0, 5], [0, 0]]
    assert CELLS.field("confusion").metadata[b"description"] == (
        b"documents by true class (rows) and prediction"
    )


@pytest.mark.parametrize(
    ("confusion", "expected"),
    [
        ([[3, 0], [0, 4]], 1),
        ([[3, 0], [4, 0]], (6 / 10 + 0) / 2),  # a class that is never predicted
        ([[3, 0, 0], [0, 4, 0], [0, 0, 0]], 2 / 3),  # one that never occurs at all
        ([[0, 2], [2, 0]], 0),
    ],
)
def test_macro_f1(confusion, expected):
    assert macro_f1(np.array(confusion)) == pytest.approx(expected)


def test_calibration_error_of_certain_documents():
    """A confidence of exactly 1 lies in the last bin, not past it."""
    nearly = np.log([0.95, 0.05]).tolist()
    certain = Scores(np.array([[0.0, -800.0]] * 4 + [nearly]), np.array([0, 0, 0, 1, 0]))
    assert expected_calibration_error(certain) == pytest.approx((1 - 0.05) / 5)
    assert metric_columns(certain)["nll"] == pytest.approx((800 - np.log(0.95)) / 5)


def test_calibration_error_does_not_let_bins_make_up_for_each_other():
    confidence = np.array([0.9, 0.9, 0.6, 0.6])  # right .5 and 1 of the time
    log_posterior = np.log(np.stack([confidence, 1 - confidence], axis=1))
    scores = Scores(log_posterior, np.array([0, 1, 0, 0]))
    assert expected_calibration_error(scores) == pytest.approx((0.8 + 0.8) / 4)


def test_scores_that_are_no_numbers_are_refused():
    broken = np.log(POSTERIOR.clip(1e-9))
    broken[2:4] = np.nan, 0.5, -np.inf
    message = (
        "class scores must be finite, got others for 2 of 6 documents, [nan, 0.5, -inf] for document 2: the "
        "model's training diverged, or its word vectors are too large"
    )
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        Scores(broken, SCORES.labels)


def test_margins_are_rounded_to_a_stated_precision():
    margins = np.concatenate([10.0 ** np.random.default_rng(0).uniform(-6, 4, 20_000), [0.0]])
    found = round_margins(margins)
    assert found.dtype == np.float32
    assert (np.abs(found - margins) <= margins * 2.0 ** -(MARGIN_BITS + 1)).all()
    assert found[-1] == 0
    assert not (found.view(np.uint32) & ((1 << 23 - MARGIN_BITS) - 1)).any()  # what is left compresses


def test_a_margin_is_the_difference_of_the_two_highest_scores():
    scores = Scores(np.array([[-3.0, -1.0, -9.0], [-2.0, -5.0, -2.0]]), np.array([1, 2]))
    assert prediction_columns(scores) == {"labels": [1, 2], "predicted": [1, 0], "margin": [2.0, 0.0]}
