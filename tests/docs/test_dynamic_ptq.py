"""The script behind docs/dynamic_ptq.md, run on a small BERT."""

import importlib.util
import sys
from pathlib import Path

import pytest
import torch

from lstmptq.companion.kernels import kernel_columns

pytest.importorskip("torchao", reason="the extra bert is not installed")

SCRIPT = Path(__file__).resolve().parents[2] / "docs" / "dynamic_ptq.py"


@pytest.fixture(scope="module")
def script():
    """The script as a module."""
    spec = importlib.util.spec_from_file_location("dynamic_ptq", SCRIPT)
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.slow
def test_it_prints_the_tables_of_the_page(script, capsys):
    script.main(["--layers", "1", "--width", "64", "--repeats", "2", "--warmup", "1"])
    shown = capsys.readouterr().out
    tables = [line.split(" | ") for line in shown.splitlines() if line.startswith("| ")]
    variants = [variant.name for variant in script.list_variants()]
    measured = {
        (name.removeprefix("| "), int(tokens)): rest for name, tokens, *rest in tables[1:] if rest[3:]
    }
    assert measured.keys() == {(name, tokens) for name in variants for tokens in script.LENGTHS}
    _, ratio, _, integer = measured["FP32", 22]
    assert (ratio, integer) == ("1.00", "0 % |")
    assert measured["torch quantize_dynamic, x86", 22][3] != "0 % |"
    assert measured["int8 weights made float at every call", 22][3] == "0 % |"
    assert "\n**torch quantize_dynamic, x86, 22 word pieces**\n" in shown
    assert "| quantized::linear_dynamic |" in shown
    page = SCRIPT.with_suffix(".md").read_text()
    assert "`python docs/dynamic_ptq.py" in page
    headings = [line for line in shown.splitlines() if line.startswith(("| variant", "| word", "| operator"))]
    assert len(set(headings)) == 3
    assert all(f"\n{line}\n" in page for line in headings)


def test_work_is_of_the_linear_layers(script):
    a_layer = 4 * 64 * 64 + 2 * 64 * 256  # query, key, value and output; in and out of the intermediate one
    expected = 2 * 10 * (2 * a_layer + 64 * 64 + 64 * 6)  # pooler, classifier
    assert script.count_operations(script.new_bert(2, 64), 10) == expected


def test_a_document_is_the_same_each_time(script):
    assert script.draw_document(22).tokens.tolist() == script.draw_document(22).tokens.tolist()
    assert script.draw_document(22).lengths.tolist() == [22]


def test_an_engine_is_used_for_a_while(script):
    before = torch.backends.quantized.engine
    other = next(name for name in torch.backends.quantized.supported_engines if name not in (before, "none"))
    with script.use_engine(other):
        assert torch.backends.quantized.engine == other
    assert torch.backends.quantized.engine == before
    with script.use_engine(None):
        assert torch.backends.quantized.engine == before


@torch.no_grad()
def test_every_variant_is_near_fp32_which_comes_first(script):
    model, batch = script.new_bert(1, 64), script.draw_document(12)
    first, *others = script.list_variants()
    assert (first.name, first.engine) == ("FP32", None)
    assert first.build(model) is model
    expected = model.class_scores(batch)
    for variant in others:
        with script.use_engine(variant.engine):
            found = variant.build(model)
            scores = found.class_scores(batch)
        torch.testing.assert_close(scores, expected, atol=0.1, rtol=0.1)
    # the last one has int8 weights alone: nearer, and no product of integers
    torch.testing.assert_close(scores, expected, atol=0.05, rtol=0.05)
    assert kernel_columns(found, [batch])["integer_share"] == 0
