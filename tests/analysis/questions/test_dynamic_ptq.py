"""The finding on dynamic PTQ, from a file of numbers to its words."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from analysis.questions.dynamic_ptq import main, written

ROOT = Path(__file__).resolve().parents[2]


def row(variant, tokens, ms, ratio, integer=0.0):
    operators = {"aten::addmm": [ms * 0.75, 74], "quantized::linear_dynamic": [ms * 0.25, 6]}
    return {
        "variant": variant, "tokens": tokens, "ms": ms, "low_ms": ms - 1, "high_ms": ms + 1,
        "time_ratio": ratio, "integer_time": integer, "operators": operators,
    }  # fmt: skip


@pytest.fixture
def found():
    return {
        "command": "python -m lstmptq.companion.anomaly --out there.json",
        "machine": "x86_64", "processors": 2, "threads": 1, "load": [9.2, 8.4], "torch": "2.13.0",
        "parameters": 109_000_000, "linear_work": {"22": 3.8e9, "128": 21.9e9},
        "measured": [
            row("FP32", 22, 100.0, 1.0), row("FP32", 128, 350.0, 1.0),
            row("torch quantize_dynamic, x86", 22, 29.0, 0.29, 0.81),
            row("torch quantize_dynamic, x86", 128, 105.0, 0.30, 0.70),
            row("torch quantize_dynamic, qnnpack", 128, 4000.0, 1.65, 0.95),
        ],
    }  # fmt: skip


def test_every_number_is_of_the_file(found):
    text = written(found, "there.json")
    assert (
        "Measured by `python -m lstmptq.companion.anomaly --out there.json` and written by `python -m "
        in text
    )
    assert "a BERT of 109 million random weights" in text
    assert "load was 9 before and 8 after, on 2 processors" in text
    assert "\n| torch quantize_dynamic, x86 | 22 | 29.0 (28.0-30.0) | 0.29 | 80 | 81 % |\n" in text
    assert "with 22 word pieces torch's own int8 kernel takes 0.29 of FP32's time; with 128 word" in text
    assert "The slowest variant, torch quantize_dynamic, qnnpack at 128 word pieces, takes 1.65 times" in text
    assert "the fastest, torch quantize_dynamic, x86 at 22, 0.29." in text
    assert "FP32 takes 100 ms with 22 word pieces and 350 ms with 128 word pieces" in text
    assert "the worst is a factor of 1.6**, the published one 34.6" in text  # 1.65 is below it in binary
    assert "\n| 22 | 3.8 | 38 | 585 | 17 |\n" in text
    assert "\n| aten::addmm | 74 | 75.00 | 75 % |\n" in text


def test_it_is_printed_or_written_where_it_is_told(found, tmp_path, capsys):
    measured, out = tmp_path / "there.json", tmp_path / "finding.md"
    measured.write_text(json.dumps(found))
    main([str(measured)])
    assert capsys.readouterr().out == written(found, "there.json")
    assert [path.name for path in tmp_path.iterdir()] == ["there.json"]
    main([str(measured), "--out", str(out)])
    assert out.read_text() == written(found, "there.json")
    assert f"wrote {out}" in capsys.readouterr().out


def test_it_needs_no_torch():
    code = "import sys, analysis.questions.dynamic_ptq; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)
