"""Ways to run a BERT: what they leave as it was, and what is no kernel of integers."""

import pytest
import torch

from lstmptq.companion.anomaly import new_bert, one_document
from lstmptq.companion.kernels import kernel_columns
from lstmptq.companion.variants import engine, variants, weight_only

pytest.importorskip("torchao", reason="the extra bert is not installed")


@torch.no_grad()
def test_int8_weights_made_float_are_no_integer_product():
    model = new_bert(1, 64)
    found = weight_only(model)
    batch = one_document(12)
    torch.testing.assert_close(found.class_scores(batch), model.class_scores(batch), atol=0.05, rtol=0.05)
    assert kernel_columns(found, [batch])["integer_share"] == 0


def test_an_engine_is_chosen_for_a_while():
    before = torch.backends.quantized.engine
    other = next(name for name in torch.backends.quantized.supported_engines if name not in (before, "none"))
    with engine(other):
        assert torch.backends.quantized.engine == other
    assert torch.backends.quantized.engine == before
    with engine(None):
        assert torch.backends.quantized.engine == before


@torch.no_grad()
def test_every_variant_is_near_fp32_which_comes_first():
    model, batch = new_bert(1, 64), one_document(12)
    first, *others = variants()
    assert (first.name, first.engine) == ("FP32", None)
    assert first.build(model) is model
    expected = model.class_scores(batch)
    for variant in others:
        with engine(variant.engine):
            found = variant.build(model).class_scores(batch)
        torch.testing.assert_close(found, expected, atol=0.1, rtol=0.1)
