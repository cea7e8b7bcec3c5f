"""Two directories side by side: the same corpus, another one, and what one alone has."""

import json

import numpy as np
import pytest

from analysis.__main__ import main
from analysis.frames.reading import ResultsError
from analysis.questions.compare import compare
from tests.analysis.conftest import cell, failed, sweep

CLEAN = [("clean", 0.0)]


@pytest.fixture
def two(write_results, tmp_path):
    """Writes two directories."""

    def write(first, second, answers=(None, None)):
        paths = []
        for name, rows, kept in zip("ab", (first, second), answers, strict=True):
            path = write_results(rows, predictions=kept)
            paths.append(path.rename(tmp_path / name))
        return paths

    return write


def answered(rows, right):
    """Answers of which `right(row)` documents of 400 are right."""
    return [
        {"cell_id": row["cell_id"], "labels": [0] * 400,
         "predicted": np.where(np.arange(400) < right(row), 0, 1).tolist()}
        for row in rows
    ]  # fmt: skip


def test_the_same_settings_stand_beside_each_other(two):
    mine = sweep(models=["generative"], ratios=["balanced"], noise=CLEAN, documents_per_second=100.0)
    other = [dict(row, accuracy=row["accuracy"] - 0.1, documents_per_second=300.0) for row in mine]
    paths = two(mine, other, (answered(mine, lambda _: 380), answered(other, lambda _: 340)))
    found = compare(*paths)
    rows = found.exhibits["accuracy"].rows
    assert rows["width"].to_list() == ["FP32", "8", "4", "3"]
    assert rows["difference"].to_list() == pytest.approx([-10] * 4)
    assert set(rows["interval"]) == {"same documents"}
    assert (rows["low"] < -10).all()
    assert (rows["high"] > -10).all()
    assert (rows["high"] < -5).all()
    assert found.exhibits["speed"].rows["ratio"].to_list() == pytest.approx([3] * 4)
    assert found.exhibits["only"].rows.is_empty()
    assert set(found.exhibits["shifts"].rows["difference"]) == {0.0}


def test_other_documents_are_independent(two):
    mine = sweep(models=["generative"], ratios=["balanced"], noise=CLEAN, bits=[None, 8])
    other = [dict(row) for row in mine]
    answers = answered(other, lambda _: 380)
    for row in answers:
        row["labels"] = [1 - label if place % 2 else label for place, label in enumerate(row["labels"])]
        row["predicted"] = [1 - label if n % 2 else label for n, label in enumerate(row["predicted"])]
    paths = two(mine, other, (answered(mine, lambda _: 380), answers))
    rows = compare(*paths).exhibits["accuracy"].rows
    assert set(rows["interval"]) == {"independent"}
    assert (rows["low"] < -1).all()
    assert (rows["high"] > 1).all()


def test_another_corpus_is_matched_by_configuration_and_said(two, capsys):
    mine = sweep(models=["generative"], ratios=["balanced"], noise=CLEAN)
    other = sweep(models=["generative"], ratios=["balanced"], noise=CLEAN, dataset="ag_news",
                  training_documents=39487)  # fmt: skip
    paths = two(mine, other)
    assert len(compare(*paths).exhibits["accuracy"].rows) == 4
    assert main(["compare", *map(str, paths)]) == 0
    text = " ".join(capsys.readouterr().out.split())
    assert "Different corpora, A bbc_news and B ag_news: matched by configuration alone" in text
    assert "n: 4 settings in both" in text


def test_several_corpora_without_a_common_one_are_a_sentence(two):
    mine = sweep(models=["generative"], noise=CLEAN, dataset="emotion")
    mine += sweep(models=["generative"], noise=CLEAN)
    paths = two(mine, sweep(models=["generative"], noise=CLEAN, dataset="ag_news"))
    with pytest.raises(
        ResultsError, match=r"no corpus is in both .*a \(bbc_news, emotion\) and .*b \(ag_news\)"
    ):
        compare(*paths)


def test_shifts_that_are_alike_stand_in_the_order_of_their_names(two):
    """Many cells with one value each: their mean differs in the last digit with the order of the sum."""
    mine = [row for seed in range(6) for row in sweep(seed=seed)]
    rows = compare(*two(mine, mine)).exhibits["shifts"].rows
    names = rows.select("model", "contrast", "kind", "tensor")
    assert len(rows) > 20
    assert names.equals(names.sort("model", "contrast", "kind", "tensor"))


def test_what_one_alone_has(two):
    paths = two(
        sweep(models=["generative"], ratios=["balanced"], noise=CLEAN),
        sweep(models=["generative"], ratios=["balanced"], noise=CLEAN, bits=[None, 8, 6]),
    )
    only = compare(*paths).exhibits["only"]
    assert only.rows.select("side", "width").rows() == [("A", "4"), ("A", "3"), ("B", "6")]
    assert only.n == "n: 2 settings only in A, 1 settings only in B"


@pytest.mark.parametrize("second", [list, lambda: [failed(4)], lambda: [cell(None)], lambda: [cell(4)]])
def test_every_state_gives_tables(two, capsys, second):
    paths = two(sweep(models=["generative"], noise=CLEAN), second())
    assert main(["compare", *map(str, paths)]) == 0
    assert "Only in one" in capsys.readouterr().out


def test_formats(two, capsys):
    rows = sweep(models=["generative"], ratios=["balanced"], noise=CLEAN)
    paths = [str(path) for path in two(rows, rows)]
    assert main(["compare", *paths, "--table", "accuracy", "--format", "csv"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[:3] == [
        "# Accuracy, B against A",
        "# n: 4 settings in both",
        f"# python -m analysis compare {paths[0]} {paths[1]} --table accuracy --format csv",
    ]
    assert '"B - A, points"' in lines[3]
    assert main(["compare", *paths, "--format", "markdown"]) == 0
    assert capsys.readouterr().out.count("n: ") == 4
    assert main(["compare", *paths, "--table", "cells"]) == 2
    assert "there is no table cells: use one of accuracy, shifts, speed, only" in capsys.readouterr().err


def test_what_differs_in_provenance_is_said(two):
    rows = sweep(models=["generative"], noise=CLEAN)
    other = [dict(row, git_sha="fedcba", versions=json.dumps({"torch": "3"})) for row in rows]
    said = compare(*two(rows, other)).sentences
    assert "code: A 0123456789abcdef; B fedcba." in said
