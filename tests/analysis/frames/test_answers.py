"""Answers by document: from the table `predictions`, or from cells of an older version."""

import analysis
from analysis.__main__ import main
from analysis.frames.answers import answers, by_document
from lstmptq.results import PREDICTIONS
from tests.analysis.conftest import cell

NEW, OLD = cell(4), cell(3, labels=[0, 1], predicted=[1, 1])
ROW = {"cell_id": NEW["cell_id"], "labels": [0, 2, 1], "predicted": [0, 2, 2], "margin": [1.5, 0.25, 8.0]}


def test_answers_come_from_either_table(write_results):
    results = analysis.load(write_results([NEW, OLD], predictions=[ROW]))
    assert results.predictions.collect_schema().names() == PREDICTIONS.names
    found = {row[0]: row[1:] for row in answers(results.cells, results.predictions).collect().rows()}
    assert found == {NEW["cell_id"]: ([0, 2, 1], [0, 2, 2]), OLD["cell_id"]: ([0, 1], [1, 1])}
    assert answers(results.cells).collect()["cell_id"].to_list() == [OLD["cell_id"]]


def test_a_document_a_row(write_results):
    results = analysis.load(write_results([NEW], predictions=[ROW]))
    assert by_document(results.predictions).drop("cell_id").collect().rows() == [
        (0, 0, 0, 1.5), (1, 2, 2, 0.25), (2, 1, 2, 8.0),
    ]  # fmt: skip


def test_results_without_predictions_have_an_empty_table(write_results):
    results = analysis.load(write_results([OLD]))
    assert results.predictions.collect().is_empty()
    assert by_document(results.predictions).collect().is_empty()


def test_predictions_can_be_queried(write_results, capsys):
    out = str(write_results([NEW], predictions=[ROW]))
    assert (
        main(["query", out, "SELECT document, margin FROM predictions WHERE label <> predicted", "--csv"])
        == 0
    )
    assert capsys.readouterr().out == "document,margin\n2,8.0\n"
