"""The command behind analysis/dynamic_ptq.md, on a small BERT."""

import re

import pytest
import torch

from lstmptq.companion.anomaly import main, new_bert, one_document, weight_only
from lstmptq.companion.kernels import kernel_columns

pytest.importorskip("torchao", reason="the extra bert is not installed")


@pytest.mark.slow
def test_it_measures_and_writes(tmp_path, capsys):
    out = tmp_path / "finding.md"
    main(["--layers", "1", "--width", "64", "--repeats", "2", "--warmup", "1", "--out", str(out)])
    assert f"wrote {out}" in capsys.readouterr().out
    text = out.read_text()
    for name in (
        "FP32",
        "torch quantize_dynamic, x86",
        "torchao int8 dynamic, eager",
        "int8 weights made float",
    ):
        assert text.count(f"\n| {name}") == 2, name  # both lengths
    assert "| quantized::linear_dynamic |" in text
    shares = dict(re.findall(r"^\| ([^|]+) \| \d+ \|.*\| (\d+) % \|$", text, re.MULTILINE))
    assert int(shares["FP32"]) == 0
    assert int(shares["torch quantize_dynamic, x86"]) > 0
    assert "34.6 times slower" in text


@torch.no_grad()
def test_int8_weights_made_float_are_no_integer_product():
    model = new_bert(1, 64)
    found = weight_only(model)
    batch = one_document(12)
    torch.testing.assert_close(found.class_scores(batch), model.class_scores(batch), atol=0.05, rtol=0.05)
    assert kernel_columns(found, [batch])["integer_share"] == 0
