"""The printed pages, word for word where they matter, and a sentence for every unfinished state."""

import io

import pyarrow.parquet as pq
import pytest
from rich.console import Console

from analysis.questions.summary import print_accuracy, print_summary
from tests.analysis.conftest import cell, confusion, failed, sweep

CLEAN = [("clean", 0.0)]

GOLDEN = """
Accuracy: bbc_news, glove vectors
chance 25.0 % (always the largest class); 400 test documents; 50-d vectors; hidden 100; 1 layer;
1500 training documents; LSTM internals at 8 bits; weights corrected by gpfq

discriminative                                        generative
bits  balanced    classes:3   classes:2   classes:1   balanced    classes:3   classes:2   classes:1
────────────────────────────────────────────────────  ──────────────────────────────────────────────
FP32  92.0        92.0        92.0        92.0        96.0        96.0        96.0        96.0
   8  92.0  0.0   92.0  0.0   92.0  0.0   92.0  0.0   96.0  0.0   96.0  0.0   96.0  0.0   96.0  0.0
   4  84.0  8.0   83.5  8.5   83.0  9.0   81.0 11.0   88.0  8.0   87.5  8.5   87.0  9.0   85.0 11.0
   3  25.0 67.0*  25.0 67.0*  25.0 67.0*  25.0 67.0‡  46.0 50.0   45.5 50.5   45.0 51.0   43.0 53.0†

Read: accuracy in %, then the points lost against FP32 under the same noise (negative: gained).
*: collapsed, in at least one seed: one class took over half of the documents of the others
†: dead signal, in at least one seed: a stage gives the same value for every input
‡: collapsed (one class took over half of the documents of the others) and dead signal (a stage
gives the same value for every input), in at least one seed
"""


def printed(function, path, width=100, **options):
    console = Console(file=io.StringIO(), width=width, highlight=False)
    function(path, console, **options)
    lines = console.file.getvalue().splitlines()
    assert max(len(line) for line in lines) <= width
    return "\n".join(line.rstrip() for line in lines) + "\n"


def collapse(row):
    row |= {"confusion": confusion(100, True), "accuracy": 0.25, "accuracy_drop": row["fp32_accuracy"] - 0.25}


def test_the_accuracy_table(write_results):
    rows = sweep()
    for row in rows:
        if row["bits"] == 3 and row["model"] == "discriminative":
            collapse(row)
        if row["bits"] == 3 and row["class_ratio"] == "classes:1":
            row["dead_signal"] = "lstm.0.hidden_state"
    assert printed(print_accuracy, write_results(rows)) == GOLDEN


def test_a_narrow_terminal_gets_the_models_one_below_the_other(write_results):
    out = write_results(sweep())
    at_80, at_40 = (printed(print_accuracy, out, width) for width in (80, 40))
    assert at_80.index("\ndiscriminative\nbits  balanced") < at_80.index("\n\ngenerative\nbits  balanced")
    assert at_40.count("\ngenerative\n") == 2  # the ratios in two parts


def test_seeds_are_told_and_those_that_lack_some(write_results):
    rows = sweep(models=["generative"], ratios=["balanced"], noise=CLEAN, seed=0)
    rows += sweep(models=["generative"], ratios=["balanced"], noise=CLEAN, seed=1, bits=[None, 8])
    text = printed(print_accuracy, write_results(rows))
    assert "mean of 2 seeds, or of fewer where ×n says so" in " ".join(text.split())
    assert "   8  96.0  0.0\n   4  88.0  8.0 ×1\n   3  46.0 50.0 ×1\n" in text


def test_a_gain_is_negative_and_nothing_is_minus_zero(write_results):
    rows = [cell(None), cell(8, accuracy_drop=-0.0001), cell(4, accuracy=0.965, accuracy_drop=-0.005)]
    text = printed(print_accuracy, write_results(rows))
    assert "   8  96.0  0.0\n   4  96.5 -0.5\n" in text


def test_a_half_finished_sweep_shows_what_is_missing_and_what_failed(write_results):
    rows = sweep(models=["generative"], noise=CLEAN)[:6]
    text = printed(print_summary, write_results([*rows, failed(4, "classes:2")], planned=50))
    assert "cells: 6 of 50 done, 1 failed, 43 to come\n" in text
    assert "   4  88.0 8.0   ·          failed     ·\n" in text
    assert "·: no finished cell yet\n" in text
    assert "failed: all of its cells failed; the summary lists the reasons\n" in text
    assert "    1  ValueError: no scale (build, line 9) (generative)  4     " in text
    assert "Failed cells: 1; the same sweep with --retry-failed tries them again\n" in text


def test_cells_of_earlier_grids_are_told(write_results):
    text = printed(print_summary, write_results(sweep(), planned=10))
    assert "cells: 78 done, 0 failed; the sweep's latest grid has 10\n" in text


def test_fp32_alone(write_results):
    text = printed(print_summary, write_results(sweep(bits=[None])))
    assert "FP32  92.0            96.0\n" in text
    assert "–: nothing is quantized yet, so there is no class ratio\n" in text
    assert "\nNoise: bbc_news, glove vectors\n" in text


def test_one_quantized_cell_alone(write_results):
    text = printed(print_summary, write_results([cell(4, model="discriminative")]))
    assert "FP32  ·\n   4  84.0 8.0\n" in text


def test_a_model_that_is_not_quantized_has_a_heading_without_a_recipe(write_results):
    unigram = cell(None, model="unigram", embedding="none", hidden=None, layers=None)
    recipes = [cell(4, algorithm="none"), cell(4, algorithm="gpfq")]
    text = printed(print_summary, write_results([unigram, *recipes]))
    assert "\nAccuracy: bbc_news, no vectors\n" in text
    assert "\nAccuracy: bbc_news, glove vectors, no weight correction\n" in text


def test_no_row_yet(write_results):
    out = write_results([], planned=50)
    assert printed(print_summary, out) == (
        f"Results in {out}\ncells: 0 of 50 done, 0 failed, 50 to come\n"
        "\nAccuracy\nNo cell is finished yet: there is no accuracy to show.\n"
        "\nNoise\nNo cell with noisy input is finished: there is nothing to compare.\n"
        "\nLargest shifts\nNo tensors were measured yet.\n"
    )


def test_failed_cells_only(write_results):
    reasons = [failed(bits, error=f"RuntimeError: [red]{bits}[/red]") for bits in (8, 4, 3)]
    text = printed(print_summary, write_results(reasons))
    assert "No cell is finished yet: every cell that was tried has failed.\n" in text
    assert "RuntimeError: [red]3[/red] (generative)" in text  # no markup


def test_many_reasons_are_cut(write_results):
    rows = [failed(4, seed=seed, error=f"ValueError: {seed}") for seed in range(12)]
    assert "and 2 more reasons: see the column error\n" in printed(print_summary, write_results(rows))


def test_noisy_cells_without_clean_ones(write_results):
    text = printed(print_summary, write_results(sweep(noise=[("typo", 0.1)], ratios=["classes:2"])))
    assert "No cell with clean input is finished yet: see Noise.\n" in text
    assert "\nNoise, calibration set classes:2: bbc_news, glove vectors\n" in text


def test_settings_that_vary_head_a_table_each(write_results):
    rows = sweep() + [row for row in sweep(algorithm="none") if row["bits"]]
    rows += sweep(internal_bits=4, bits=[4])[3:15]
    text = printed(print_accuracy, write_results(rows))
    start = "Accuracy: bbc_news, glove vectors, LSTM internals"
    assert [line for line in text.splitlines() if line.startswith("Accuracy")] == [
        f"{start} at 8 bits, weights corrected by gpfq",
        f"{start} at 8 bits, no weight correction",
        f"{start} as wide as the weights, weights corrected by gpfq",
    ]


def test_the_shifts_say_how_to_be_read(write_results):
    text = " ".join(printed(print_summary, write_results(sweep()), shifts=1).split())
    assert "D mostly restates the bit width" in text
    assert "Without weight correction the quantized weights do not depend on the calibration set" in text
    assert "p_nominal must not be used to decide" in text
    assert "lstm.0.cell_state 3/8 balanced clean 0.252 0.250 0.050 0.03 18.0 12.5%" in text
    assert "floor" not in text[text.index("Balanced calibration against") :]  # it has none there


@pytest.mark.parametrize(
    "missing", [["confusion"], ["ks_d_dithered"], ["ks_d", "wasserstein"], ["error", "git_sha"]]
)
def test_an_older_schema_gives_a_page(write_results, missing):
    out = write_results([*sweep(), failed(7)])
    for file in out.glob("*/*.parquet"):
        table = pq.ParquetFile(file).read()
        pq.write_table(table.drop([name for name in missing if name in table.column_names]), file)
    assert "FP32  92.0" in printed(print_summary, out)
