"""The wide tables, and the list of failures."""

import polars as pl
import pytest

from analysis import accuracy_table, failures, noise_table
from lstmptq.results import CELLS, to_table
from tests.analysis.conftest import cell, failed, sweep


def frame(rows):
    return pl.DataFrame(to_table(rows, CELLS)).lazy()


def test_accuracy_by_bits_and_model_and_ratio():
    table = accuracy_table(frame(sweep()))
    assert table.columns[:4] == ["dataset", "embedding", "bits", "chance"]
    assert table.columns[4:8] == [
        "discriminative balanced", "discriminative balanced drop",
        "discriminative classes:3", "discriminative classes:3 drop",
    ]  # fmt: skip
    assert len(table.columns) == 4 + 2 * 4 * 2
    assert table["bits"].to_list() == [None, 8, 4, 3]
    assert table["generative classes:1"].to_list() == pytest.approx([96.0, 96.0, 85.0, 43.0])
    assert table["generative classes:1 drop"].to_list() == pytest.approx([0.0, 0.0, 11.0, 53.0], abs=1e-9)
    assert table["chance"].to_list() == [25.0] * 4


def test_an_eager_table_will_do():
    assert accuracy_table(frame(sweep()).collect()).equals(accuracy_table(frame(sweep())))


def test_accuracy_under_noise():
    assert accuracy_table(frame(sweep()), "typo", 0.2)["generative balanced"][0] == pytest.approx(86.0)
    levels = accuracy_table(frame(sweep()), "typo")
    assert levels.select("noise_level", "bits").rows() == [
        (level, bits) for level in (0.05, 0.2) for bits in (None, 8, 4, 3)
    ]


def test_accuracy_of_several_settings_comes_as_rows_of_each():
    table = accuracy_table(frame(sweep() + sweep(embedding="spacy", hidden=64)))
    assert table.select("embedding", "bits").rows() == [
        (name, bits) for name in ("glove", "spacy") for bits in (None, 8, 4, 3)
    ]


def test_noise_by_bits_and_model_and_level():
    table = noise_table(frame(sweep(noise=[("typo", 0.2), ("typo", 0.025), ("clean", 0.0), ("drop", 0.1)])))
    assert [name for name in table.columns[4:] if name.startswith("generative")][::2] == [
        "generative clean", "generative drop 10%", "generative typo 2.5%", "generative typo 20%",
    ]  # fmt: skip
    assert table["generative typo 20%"].to_list() == pytest.approx([86.0, 86.0, 78.0, 36.0])


def test_places_without_a_finished_cell_are_null():
    table = accuracy_table(frame([cell(None), cell(8), failed(4)]))
    assert table["generative balanced"].to_list() == pytest.approx([96.0, 96.0, None])


@pytest.mark.parametrize("make", [accuracy_table, noise_table])
@pytest.mark.parametrize("rows", [[], [failed(4)], [cell(None)], [cell(4)]])
def test_degenerate_results_give_a_table(make, rows):
    assert make(frame(rows)).height == len(rows)


def test_failures_by_reason():
    rows = [
        cell(8),
        failed(4),
        failed(3),
        failed(None, error=None),
        failed(4, "classes:1", model="discriminative"),
    ]
    found = failures(frame(rows))
    assert found.select("error", "cells", "models", "bits").rows() == [
        ("ValueError: no scale (build, line 9)", 3, ["discriminative", "generative"], [4, 3]),
        ("no reason was recorded", 1, ["generative"], [None]),
    ]
    assert found["example"][0] == min(row["cell_id"] for row in rows[1:] if row["error"])


def test_no_failures():
    assert failures(frame(sweep())).is_empty()
