"""Intervals of accuracy drops against known truths, and McNemar's test against its definition."""

import numpy as np
import polars as pl
import pytest
from polars.testing import assert_frame_equal
from scipy import stats

from analysis.__main__ import main
from analysis.statistics.intervals import accuracy_drops, mcnemar, paired_drop
from lstmptq.results import PREDICTIONS, to_table
from tests.analysis.conftest import cell
from tests.analysis.statistics.test_shifts import frames


def answers(rng, documents, accuracy, drop):
    """Two models' answers, correlated: `other` loses some of the documents that `reference` gets right."""
    reference = rng.random(documents) < accuracy
    other = np.where(rng.random(documents) < 0.1, rng.random(documents) < accuracy, reference)
    return reference, other & (rng.random(documents) >= drop / accuracy)


def test_95_percent_of_the_intervals_hold_the_truth():
    rng = np.random.default_rng(0)
    hit = 0
    for _ in range(300):
        reference, other = answers(rng, 300, 0.9, 0.1)
        found = paired_drop([reference], [other], rng)
        hit += found.low <= 0.1 <= found.high
    least, most = stats.binom.interval(0.999, 300, 0.95)
    assert least <= hit <= most


def test_intervals_over_seeds_hold_the_truth_of_seeds_that_differ():
    """Documents alone would be far too sure: seeds differ by 5 points."""
    rng = np.random.default_rng(1)
    hit = documents_alone = 0
    for _ in range(200):
        drops = np.clip(rng.normal(0.2, 0.05, 8), 0, 1)
        pairs = [answers(rng, 2000, 0.9, drop) for drop in drops]
        reference, other = ([pair[side] for pair in pairs] for side in (0, 1))
        found = paired_drop(reference, other, rng)
        hit += found.low <= 0.2 <= found.high
        found = paired_drop([np.concatenate(reference)], [np.concatenate(other)], rng)
        documents_alone += found.low <= 0.2 <= found.high
    assert 0.85 <= hit / 200 <= 1
    assert documents_alone / 200 < 0.6


def test_a_pair_of_one_model_has_no_drop():
    right = np.arange(50) < 40
    found = paired_drop([right], [right], np.random.default_rng(0))
    assert (found.value, found.low, found.high) == (0, 0, 0)


def test_pairs_are_of_the_same_documents():
    ones = np.ones(3, dtype=bool)
    with pytest.raises(ValueError, match=r"got \[3\] and \[2\] documents"):
        paired_drop([ones], [ones[:2]], np.random.default_rng(0))
    with pytest.raises(ValueError, match="needs at least one seed"):
        paired_drop([], [], np.random.default_rng(0))
    with pytest.raises(ValueError, match="both models must answer the same documents, got 3 and 2"):
        mcnemar(ones, ones[:2])


def test_mcnemar_counts_the_documents_on_which_the_models_differ():
    first = np.array([1] * 10 + [0] * 2 + [1] * 5 + [0] * 5, dtype=bool)
    second = np.array([0] * 10 + [1] * 2 + [1] * 5 + [0] * 5, dtype=bool)
    assert mcnemar(first, second) == pytest.approx(2 * stats.binom.cdf(2, 12, 0.5))
    assert mcnemar(first, first) == 1.0


def with_answers(row, right):
    return row | {"labels": [0] * len(right), "predicted": [0 if hit else 1 for hit in right]}


def drop_answers(row):
    return {name: value for name, value in row.items() if name not in ("labels", "predicted")}


def test_drops_are_against_fp32_of_the_same_seed_and_noise():
    rows = []
    for seed in (0, 1):
        for noise in (("clean", 0.0), ("typo", 0.1)):
            few = 60 if noise[0] == "clean" else 50
            rows.append(with_answers(cell(None, noise=noise, seed=seed), np.arange(80) < few))
            rows.append(with_answers(cell(4, noise=noise, seed=seed), np.arange(80) < few - 8 * (1 + seed)))
    rows.append(cell(3))  # its answers were not kept
    old = accuracy_drops(frames(rows, [])[1])
    columns = ("cell_id", "labels", "predicted")
    kept = [{key: row[key] for key in columns} for row in rows if "labels" in row]
    predictions = pl.DataFrame(to_table(kept, PREDICTIONS))
    found = accuracy_drops(frames([drop_answers(row) for row in rows], [])[1], predictions)
    assert_frame_equal(found, old)
    assert found.select("bits", "noise", "seeds", "documents").rows() == [
        (4, "clean", 2, 80),
        (4, "typo", 2, 80),
    ]
    assert found["drop"].to_list() == pytest.approx([0.15, 0.15])
    assert found["mcnemar"].to_list() == [None, None]
    assert (found["low"] < 0.15).all()
    assert (found["high"] > 0.15).all()


def test_drops_are_printed(write_results, capsys):
    rows = [with_answers(cell(None), np.arange(80) < 60), with_answers(cell(4), np.arange(80) < 52)]
    out = str(write_results(rows))
    assert main(["drops", out]) == 0
    text = capsys.readouterr().out
    assert "Accuracy lost against FP32: generative, glove, bbc_news, seeds: 1" in text
    assert ["4", "gpfq,", "8", "balanced", "clean", "65.0", "10.0"] in [
        x.split()[:7] for x in text.splitlines()
    ]
    main(["drops", out, "--csv"])
    assert capsys.readouterr().out.splitlines()[0].endswith("accuracy,drop,low,high,mcnemar")


def test_nothing_to_compare(write_results, capsys):
    main(["drops", str(write_results([cell(4)]))])
    assert capsys.readouterr().out.startswith("No quantized cell can be held against its FP32 cell yet")
