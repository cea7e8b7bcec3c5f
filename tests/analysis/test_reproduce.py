import io
import re

import polars as pl
import pytest
from rich.console import Console

from analysis.reading import ResultsError
from analysis.reproduce import beside_published, print_beside_published, published


def cell(**changes):
    row = {
        "dataset": "ag_news", "model": "generative", "bits": 4, "internal_bits": 8, "algorithm": "gpfq",
        "class_ratio": "balanced", "noise": "clean", "status": "ok", "seed": 0, "accuracy": 0.87,
        "accuracy_drop": 0.01, "isolated_stage": None, "method": "static_ptq",
    }  # fmt: skip
    return row | changes


def frame(*rows):
    return pl.DataFrame(list(rows), schema_overrides={"bits": pl.Int32, "internal_bits": pl.Int32})


FP32 = {"bits": None, "internal_bits": None, "algorithm": None, "class_ratio": None, "accuracy_drop": 0.0}


def test_published_numbers_are_complete():
    found = published()
    assert found["source"].n_unique() == 2
    assert found["accuracy"].is_between(20, 95).all()
    assert found.filter(pl.col("bits").is_null()).height == 4


def test_each_cell_stands_beside_its_own_counterpart():
    cells = frame(cell(), cell(seed=1, accuracy=0.89), cell(**FP32), cell(internal_bits=4, algorithm="none"))
    found = beside_published(cells)
    paper = found.filter(pl.col("source").str.contains("paper"))
    assert paper["bits"].to_list() == [None, 4]
    quantized = paper.row(1, named=True)
    assert (quantized["ours"], quantized["published"], quantized["seeds"]) == (88.0, 87.89, 2)
    assert quantized["published_drop"] == pytest.approx(88.62 - 87.89)
    replication = found.filter(pl.col("source").str.contains("replication"), pl.col("bits") == 4)
    assert replication["published"].to_list() == [61.45]


@pytest.mark.parametrize("other", [{"noise": "typo"}, {"status": "failed"}, {"dataset": "bbc_news"}])
def test_nothing_to_compare_is_an_error(other):
    message = "no finished cell has a published counterpart: they are on ag_news, clean, balanced"
    with pytest.raises(ResultsError, match=re.escape(message)):
        beside_published(frame(cell(**other)))


def test_printed():
    out = io.StringIO()
    print_beside_published(frame(cell(), cell(**FP32)), Console(file=out, width=100))
    assert "FP32" in out.getvalue()
    assert "87.89" in out.getvalue()
