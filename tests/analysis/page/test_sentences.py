"""Sentences of the report that could claim too much."""

import polars as pl

from analysis.page.sentences import _summarize_shifts
from analysis.statistics.families import CHANGED, NOT_SHOWN, UNKNOWN


def judged(*verdicts):
    rows = {"contrast": "balanced_vs_ratio", "d": 0.1, "bits": 4, "tensor": "logits"}
    rows |= {"model": "generative", "embedding": "glove"}
    return pl.DataFrame([rows | {"verdict": verdict} for verdict in verdicts])


def test_without_redraws_nothing_is_claimed_unchanged():
    (said,) = _summarize_shifts(judged(UNKNOWN, UNKNOWN, NOT_SHOWN))
    assert said == (
        "The class ratio changed the activations in 0 of 3 tests; in 2 it is unknown, since no calibration "
        "set was redrawn to measure chance."
    )


def test_what_changed_is_said_with_its_largest_shift():
    (said,) = _summarize_shifts(judged(CHANGED, NOT_SHOWN))
    assert said.startswith("The class ratio changed the activations in 1 of 2 tests (q < .05, ")
    assert said.endswith("most in logits of the generative model, glove vectors, 4 bits: D = 0.100.")
