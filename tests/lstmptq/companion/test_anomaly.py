"""The command that measures ways to run a BERT, on a small one."""

import json

import pytest

from lstmptq.companion.anomaly import LENGTHS, linear_work, main, new_bert, one_document
from lstmptq.companion.variants import variants

pytest.importorskip("torchao", reason="the extra bert is not installed")


@pytest.mark.slow
def test_it_measures_and_writes(tmp_path, capsys):
    out = tmp_path / "measured.json"
    given = ["--layers", "1", "--width", "64", "--repeats", "2", "--warmup", "1", "--out", str(out)]
    main(given)
    assert f"wrote {out}" in capsys.readouterr().out
    found = json.loads(out.read_text())
    assert found["command"] == f"python -m lstmptq.companion.anomaly {' '.join(given)}"
    assert set(found["linear_work"]) == {"22", "128"}
    measured = {(f["variant"], f["tokens"]): f for f in found["measured"]}
    names = [variant.name for variant in variants()]
    assert len(measured) == 2 * len(names)
    for name in names:
        for tokens in LENGTHS:
            row = measured[name, tokens]
            assert 0 < row["low_ms"] <= row["ms"] <= row["high_ms"]
            assert row["time_ratio"] > 0
            times = [ms for ms, _ in row["operators"].values()]
            assert times == sorted(times, reverse=True)
    assert measured["FP32", 22]["time_ratio"] == 1
    assert measured["FP32", 22]["integer_time"] == 0
    assert measured["torch quantize_dynamic, x86", 22]["integer_time"] > 0
    assert "quantized::linear_dynamic" in measured["torch quantize_dynamic, x86", 22]["operators"]


def test_it_writes_nowhere_unless_told(capsys):
    with pytest.raises(SystemExit):
        main([])
    assert "the following arguments are required: --out" in capsys.readouterr().err


def test_work_is_of_the_linear_layers():
    a_layer = 4 * 64 * 64 + 2 * 64 * 256  # query, key, value and output; in and out of the intermediate one
    assert linear_work(new_bert(2, 64), 10) == 2 * 10 * (2 * a_layer + 64 * 64 + 64 * 6)  # pooler, classifier


def test_a_document_is_the_same_each_time():
    assert one_document(22).tokens.tolist() == one_document(22).tokens.tolist()
    assert one_document(22).lengths.tolist() == [22]
