"""The companion study's table, and that the main tables leave its rows alone."""

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from analysis.__main__ import main
from analysis.frames.reading import ResultsError, load, whole_models
from analysis.questions.companion import companion_table, published
from analysis.statistics.tables import accuracy_table
from lstmptq.results import CELLS, to_table


def row(model, method, seed=0, **changes):
    values = {
        "cell_id": f"{model}-{method}-{seed}-{changes.get('library')}",
        "model_id": f"{model}{seed}",
        "dataset": "emotion",
        "model": model,
        "method": method,
        "seed": seed,
        "status": "ok",
        "noise": "clean",
        "noise_level": 0.0,
        "accuracy": 0.9,
        "macro_f1": 0.8,
        "fp32_accuracy": 0.92,
        "accuracy_drop": 0.02,
        "confusion": [[9, 1], [1, 9]],
        "documents": 20,
        "evaluate_seconds": 2.0,
        "parameters": 1000,
        "trainable_parameters": 10,
        "stored_bytes": 4_000_000,
        "kernel": "aten::addmm",
        "integer_share": 0.0,
        "latency_1_ms": 8.0,
        "latency_1_low_ms": 7.0,
        "latency_1_high_ms": 9.0,
        "latency_64_ms": 300.0,
        "latency_64_low_ms": 290.0,
        "latency_64_high_ms": 310.0,
        "speedup_1": 1.0,
        "speedup_64": 1.0,
    }
    return values | changes


ROWS = [
    row("discriminative", "static_ptq", bits=4, embedding="glove", hidden=100, layers=1, internal_bits=8),
    row("discriminative", "fp32", embedding="glove", hidden=100, layers=1),
    row("bert", "qat", bits=8, library="torchao, torch"),
    row("bert", "fp32", accuracy=0.94),
    row("bert", "fp32", seed=1, accuracy=0.92),
    row("bert", "dynamic_ptq", bits=8, library="torch", speedup_1=1.6, peak_memory_bytes=None),
    row("discriminative", "qat", bits=4, embedding="glove", hidden=100, layers=1, internal_bits=8),
]


def frame(rows):
    return pl.DataFrame(to_table(rows, CELLS))


@pytest.fixture
def results(tmp_path):
    for name in ("cells",):
        (tmp_path / name).mkdir()
        frame(ROWS).write_parquet(tmp_path / name / "segment-00001.parquet")
    return tmp_path


def test_models_and_methods_in_order_with_the_published_numbers_beside():
    table = companion_table(frame(ROWS))
    named = [(model, method, bits) for model, method, bits in table.select("model", "method", "bits").rows()]
    assert named == [
        ("bert", "fp32", None),
        ("bert", "dynamic_ptq", 8),
        ("bert", "qat", 8),
        ("discriminative", "fp32", None),
        ("discriminative", "static_ptq", 4),
        ("discriminative", "qat", 4),
    ]
    first, dynamic = table.rows(named=True)[:2]
    assert (first["accuracy"], first["seeds"]) == (pytest.approx(93.0), 2)
    assert first["published_accuracy"] == pytest.approx(93.25)
    assert dynamic["published_total_seconds"] == pytest.approx(450.13)
    assert dynamic["kept"] == pytest.approx(100 * 0.9 / 0.92)
    assert dynamic["ms_per_document"] == pytest.approx(100.0)
    assert (dynamic["stored_mb"], dynamic["trainable"]) == (pytest.approx(4.0), pytest.approx(1.0))
    assert table.filter(pl.col("model") != "bert")["published_accuracy"].null_count() == 3


def test_the_published_table_is_whole():
    found = published()
    assert found["method"].to_list() == ["fp32", "dynamic_ptq", "qat", "qlora"]
    assert found["published_macro_f1"].to_list() == pytest.approx([87.62, 87.62, 86.98, 87.0])


def test_the_main_tables_are_about_float_and_static_lstms():
    whole = whole_models(frame(ROWS)).collect()
    assert sorted(whole["cell_id"]) == ["discriminative-fp32-0-None", "discriminative-static_ptq-0-None"]
    alone = frame([r for r in ROWS if r["cell_id"] in set(whole["cell_id"])])
    assert_frame_equal(accuracy_table(frame(ROWS)), accuracy_table(alone))
    older = frame([values | {"method": None} for values in ROWS[:2]])  # up to schema version 3
    assert len(whole_models(older).collect()) == 2


def test_results_of_another_study_are_refused(results):
    with pytest.raises(ResultsError, match=r"make them with `python sweeps/emotion\.py`"):
        companion_table(frame([values | {"stored_bytes": None} for values in ROWS]))
    assert companion_table(load(results).cells).height == 6


def test_the_command(results, capsys):
    assert main(["companion", str(results)]) == 0
    shown = capsys.readouterr().out
    assert "emotion: how good" in shown
    assert "what multiplied" in shown
    assert "true class" not in shown
    assert main(["companion", str(results), "--confusion"]) == 0
    assert capsys.readouterr().out.count("true class") == 6
    assert main(["companion", str(results), "--csv"]) == 0
    assert capsys.readouterr().out.startswith("dataset,model,pretrained,method,library,bits,seeds,accuracy")
