"""A page of results that are too many for one: a part by a stated rule, or the part that is asked for."""

import re

import polars as pl
import pytest

from analysis.__main__ import main
from analysis.frames.reading import ResultsError, load
from analysis.page import report
from analysis.page.narrowing import select_part
from tests.analysis.conftest import failed, sweep

CLEAN = [("clean", 0.0)]


@pytest.fixture
def many(write_results):
    return write_results(sweep(noise=CLEAN) + sweep(noise=CLEAN, embedding="spacy", models=["generative"]))


def test_what_fits_is_left_alone(many):
    part = select_part(load(many))
    assert part.sentence == ""
    assert part.kept == part.cells == 39


def test_a_part_by_rule(many):
    """The value with the most cells of the first setting that varies; FP32 stays beside it."""
    part = select_part(load(many), limit=30)
    cells = part.results.cells.collect()
    assert part.fixed == {"embedding": "glove"}
    assert len(cells) == part.kept == 26
    assert set(part.results.tensors.collect()["cell_id"]) <= set(cells["cell_id"])
    assert part.sentence.startswith("This page shows 26 of 39 cells (by rule: setting by setting,")
    assert part.sentence.endswith("report --where column=value; any number over all of them: query.")


def test_a_part_that_nothing_but_its_size_narrows(write_results):
    part = select_part(
        load(write_results(sweep(models=["generative"], ratios=["balanced"], noise=CLEAN))), limit=2
    )
    assert part.kept == 2
    assert part.fixed == {"cell_id": "the first ones"}


@pytest.mark.slow
def test_the_part_that_is_asked_for(many, tmp_path):
    part = select_part(load(many), ["embedding=spacy", "bits=3"])
    assert set(part.results.cells.collect()["bits"]) == {None, 3}
    assert part.sentence.startswith("This page shows 5 of 39 cells (as asked): vectors spacy, bits 3.")
    out = tmp_path / "report.html"
    assert main(["report", str(many), "--out", str(out), "--where", "embedding=spacy"]) == 0
    assert "This page shows 13 of 39 cells (as asked): vectors spacy." in out.read_text()


@pytest.mark.parametrize(
    ("where", "message"),
    [
        ("x", "--where x cannot be met: write column=value, the columns are cell_id,"),
        ("confusion=1", "--where confusion=1 cannot be met"),
        ("bits=9", "--where bits=9 leaves no cell: bits is one of 3, 4, 8"),
    ],
)
def test_a_wrong_condition_says_what_there_is(many, where, message):
    with pytest.raises(ResultsError, match=re.escape(message)):
        select_part(load(many), [where])


@pytest.mark.slow
def test_the_table_of_cells_is_cut_to_what_matters(write_results, tmp_path, monkeypatch):
    """Failed cells first, then those that lost most; and it says so."""
    monkeypatch.setattr(report, "TABLE_ROWS", 4)
    out, rows = tmp_path / "report.html", [*sweep(models=["generative"], noise=CLEAN), failed(7)]
    found = load(write_results(rows))
    kept = []
    columns = report._to_payload
    monkeypatch.setattr(report, "_to_payload", lambda frame: kept.append(frame) or columns(frame))
    report.write_report(tmp_path / "results", out)
    assert "The first 4 of 14 cells: those that failed, then those that lost most." in out.read_text()
    table = next(frame for frame in kept if "cell" in frame.columns)
    worst = found.cells.filter(status="ok").sort("accuracy_drop", descending=True).collect().head(3)
    assert len(table) == 4
    assert sorted(table["accuracy_drop"].drop_nulls()) == pytest.approx(
        sorted(100 * worst["accuracy_drop"])
    )  # fmt: skip
    assert table.filter(pl.col("state") == "failed").height == 1
