"""What keeping a stage at 8 bits wins back and what lowering it alone costs, from made-up answers."""

import numpy as np
import polars as pl
import pytest

import analysis
from analysis.__main__ import main
from analysis.questions.isolation import isolated_stages
from analysis.statistics.intervals import accuracy_drops
from analysis.statistics.scores import scores
from analysis.statistics.shifts import largest_shifts
from tests.analysis.conftest import cell

DOCUMENTS = 200


def rows_and_answers(seeds=(0, 1)):
    """At 3 bits 40 points are lost; the output layer wins back 30 and costs 25 alone, the gates nothing."""
    rows, answers = [], []
    shares = {
        (None, None, None): 0.9, (8, None, None): 0.9, (3, None, None): 0.5, (3, "head", "kept"): 0.8,
        (3, "head", "lowered"): 0.65, (3, "gates", "kept"): 0.5,
    }  # fmt: skip
    for seed in seeds:
        for (bits, stage, how), share in shares.items():
            row = cell(bits, seed=seed, internal_bits=bits, isolated_stage=stage, isolated_how=how)
            rows.append(row)
            wrong = (np.arange(DOCUMENTS) >= share * DOCUMENTS).astype(int).tolist()
            lists = {"labels": [0] * DOCUMENTS, "predicted": wrong, "margin": [1.0] * DOCUMENTS}
            answers.append({"cell_id": row["cell_id"], **lists})
    return rows, answers


@pytest.fixture
def out(write_results):
    rows, answers = rows_and_answers()
    return write_results(rows, predictions=answers)


def test_stages_win_back_and_cost(out):
    results = analysis.load(out)
    found = isolated_stages(results.cells, results.predictions)
    assert found["stage"].to_list() == ["gates", "head"]  # in the order of a document through them
    gates, head = found.rows(named=True)
    assert (head["bits"], head["seeds"], head["high"], head["low"]) == (3, 2, 0.9, 0.5)
    assert (head["kept"], head["lowered"]) == (0.8, 0.65)
    assert head["won_back"] == pytest.approx(0.3)
    assert head["cost"] == pytest.approx(0.25)
    assert 0.2 < head["won_back_low"] < 0.3 < head["won_back_high"] < 0.4
    assert gates["won_back"] == gates["won_back_low"] == 0
    assert gates["lowered"] is gates["cost"] is gates["cost_low"] is None


def test_isolated_cells_stand_in_no_other_table(out):
    results = analysis.load(out)
    plain = results.cells.filter(pl.col("isolated_stage").is_null())
    assert scores(results.cells).equals(scores(plain))
    assert largest_shifts(results.tensors, results.cells).equals(largest_shifts(results.tensors, plain))
    drops = accuracy_drops(results.cells, results.predictions)
    assert drops.select("bits", "seeds").rows() == [(3, 2), (8, 2)]


def test_stages_are_printed(out, capsys):
    assert main(["isolate", str(out)]) == 0
    text = capsys.readouterr().out
    assert "generative, glove, bbc_news: gpfq, same, balanced, 3 bits" in text
    assert "all at 8 bits 90.0, all at 3 50.0; seeds: 2" in text
    (line,) = [line for line in text.splitlines() if line.startswith("output layer")]
    assert line.split()[2:4] == ["80.0", "30.0"]
    main(["isolate", str(out), "--csv"])
    assert capsys.readouterr().out.splitlines()[0].startswith("dataset,embedding,")


def test_nothing_was_isolated(write_results, capsys):
    main(["isolate", str(write_results([cell(None), cell(3)]))])
    assert capsys.readouterr().out.startswith("No stage was isolated: run the sweep with --isolate")
