"""Averages over seeds, FP32 beside every ratio, recipes of internal bits, collapse."""

import polars as pl
import pytest

from analysis.frames.axes import varying_keys
from analysis.statistics.scores import scores
from lstmptq.results import CELLS, to_table
from tests.analysis.conftest import TRUE, cell, confusion, failed, sweep


def frame(rows):
    return pl.DataFrame(to_table(rows, CELLS)).lazy()


def test_fp32_stands_beside_every_ratio_of_its_model():
    found = scores(frame(sweep(noise=[("clean", 0.0)])))
    fp32 = found.filter(pl.col("bits").is_null())
    assert (
        fp32.group_by("model").agg(pl.col("class_ratio").sort())["class_ratio"].to_list()
        == [["balanced", "classes:1", "classes:2", "classes:3"]] * 2
    )
    assert fp32["accuracy_drop"].to_list() == [0.0] * 8


def test_fp32_alone_stands_under_no_ratio():
    found = scores(frame(sweep(bits=[None])))
    assert found["class_ratio"].null_count() == found.height == 6


def test_rows_come_in_the_order_of_a_table():
    found = scores(frame(sweep(ratios=["head:0.8", "classes:10", "balanced", "classes:9", "head:0.4"])[::-1]))
    assert found["bits"].unique(maintain_order=True).to_list() == [None, 8, 4, 3]
    assert found["model"].unique(maintain_order=True).to_list() == ["discriminative", "generative"]
    assert found["class_ratio"].unique(maintain_order=True).to_list() == [
        "balanced", "classes:10", "classes:9", "head:0.4", "head:0.8",
    ]  # fmt: skip
    assert found["noise_level"].unique(maintain_order=True).to_list() == [0.0, 0.05, 0.2]


def test_seeds_are_averaged_and_counted():
    rows = [cell(4, seed=0, accuracy=0.8), cell(4, seed=1, accuracy=0.9), failed(4, seed=2)]
    found = scores(frame(rows)).row(0, named=True)
    assert found["accuracy"] == pytest.approx(0.85)
    assert (found["seeds"], found["failed"], found["documents"]) == (2, 1, 400)


def test_a_failed_cell_stands_beside_the_others_although_it_does_not_know_its_widths():
    rows = [*sweep(models=["generative"], noise=[("clean", 0.0)], bits=[None, 8]), failed(4, "classes:2")]
    found = scores(frame(rows))
    assert varying_keys(found) == ["dataset", "embedding"]
    assert found["embedding_dim"].to_list() == [50] * found.height
    only = found.filter(pl.col("failed") > 0)
    assert only.select("bits", "class_ratio", "seeds", "accuracy").row(0) == (4, "classes:2", 0, None)


def test_chance_is_the_share_of_the_largest_true_class():
    assert scores(frame([cell(8)]))["chance"].to_list() == [0.25]


@pytest.mark.parametrize(("taken", "collapsed"), [(249, False), (250, False), (251, True), (400, True)])
def test_collapse_is_one_class_over_half_way_from_its_share_to_everything(taken, collapsed):
    """Chance is .25, half way from it to everything .625: 250 of 400 documents."""
    rows, left = [], taken
    for count in TRUE:
        first = min(count, left)
        rows.append([first, count - first, 0, 0, 0])
        left -= first
    found = scores(frame([cell(3, confusion=rows)])).row(0, named=True)
    assert found["most_predicted"] == taken / 400
    assert found["collapsed"] is collapsed


def test_a_collapsed_or_dead_seed_marks_the_mean():
    rows = [
        cell(3, seed=0),
        cell(3, seed=1, confusion=confusion(100, True), dead_signal="lstm.0.hidden_state"),
    ]
    found = scores(frame(rows)).row(0, named=True)
    assert (found["collapsed"], found["dead"]) == (True, True)


def test_results_without_confusion_have_no_chance_level():
    found = scores(frame([cell(3, confusion=None)])).row(0, named=True)
    assert (found["chance"], found["collapsed"], found["seeds"]) == (None, False, 1)


def recipes(*widths):
    found = scores(frame([cell(bits, internal_bits=internal) for bits, internal in widths]))
    return sorted(found.select("internal_bits", "bits").rows())


def test_one_row_belongs_to_both_recipes_of_internal_bits():
    assert recipes((8, 8), (4, 8), (4, 4)) == [("8", 4), ("8", 8), ("same", 4), ("same", 8)]


def test_fixed_widths_are_no_recipe_of_equal_widths():
    assert recipes((8, 8), (6, 8), (8, 6), (6, 6)) == [("6", 6), ("6", 8), ("8", 6), ("8", 8)]


def test_equal_widths_alone_are_one_recipe():
    assert recipes((8, 8), (4, 4)) == [("same", 4), ("same", 8)]


def test_recipes_are_told_apart_for_each_algorithm():
    rows = [cell(8, algorithm="none"), cell(4, algorithm="none"), cell(8), cell(4, internal_bits=4)]
    found = scores(frame(rows)).select("algorithm", "internal_bits", "bits").rows()
    assert sorted(found) == [
        ("gpfq", "same", 4), ("gpfq", "same", 8), ("none", "8", 4), ("none", "8", 8),
    ]  # fmt: skip


def test_what_varies_tells_tables_apart():
    rows = sweep() + [row for row in sweep(algorithm="none") if row["bits"]] + sweep(hidden=64)
    found = scores(frame(rows))
    assert varying_keys(found) == ["dataset", "embedding", "hidden", "algorithm"]
    assert found.filter(pl.col("bits").is_null())["algorithm"].null_count() == 0


def test_what_differs_between_datasets_alone_does_not():
    rows = (
        sweep()
        + sweep(dataset="emotion", training_documents=16_000)
        + sweep(embedding="spacy", embedding_dim=300)
    )
    assert varying_keys(scores(frame(rows))) == ["dataset", "embedding"]


def test_no_rows():
    found = scores(frame([]))
    assert found.is_empty()
    assert varying_keys(found) == ["dataset", "embedding"]
