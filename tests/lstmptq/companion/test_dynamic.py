"""Dynamic PTQ: near the float model, and really multiplied as integers."""

import numpy as np
import pytest
import torch

from lstmptq.companion import dynamic
from lstmptq.companion.bert_assets import BertAssets
from lstmptq.companion.dynamic import DynamicGenerative, dynamic_bert, dynamic_discriminative
from lstmptq.companion.kernels import kernel_columns
from lstmptq.companion.stored import list_tensors, measure_file
from lstmptq.models import scoring
from lstmptq.models.batches import make_batch
from tests.lstmptq.synthetic import random_corpus, random_model

CORPUS = random_corpus(documents=37, vocabulary=307, classes=4, longest=23)
BATCH = make_batch(CORPUS, np.arange(37))


QUANTIZE = {"discriminative": dynamic_discriminative, "generative": DynamicGenerative}


def agreement(a, b):
    return (a.argmax(dim=1) == b.argmax(dim=1)).double().mean().item()


@pytest.mark.parametrize("kind", ["discriminative", "generative"])
@torch.no_grad()
def test_a_dynamic_lstm_is_near_its_float_model_and_runs_integers(kind):
    model = random_model(kind, hidden=32)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    quantized = QUANTIZE[kind](model)
    ours, theirs = quantized.class_scores(BATCH), model.class_scores(BATCH)
    assert not torch.equal(ours, theirs)
    assert agreement(ours, theirs) > 0.9
    torch.testing.assert_close(ours, theirs, rtol=0.05, atol=0.5 if kind == "discriminative" else 20)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    columns = kernel_columns(quantized, [BATCH])
    assert "aten::quantized_lstm" in columns["kernel"]
    assert "quantized::linear_dynamic" in columns["kernel"]
    assert columns["integer_share"] > 0  # a share of time: how much, a busy machine decides
    floats = kernel_columns(model, [BATCH])
    assert floats["integer_share"] == 0
    assert "quantized" not in floats["kernel"]


@torch.no_grad()
def test_the_dynamic_decoder_is_the_float_one_but_for_its_rounding(monkeypatch):
    """With the parts left in float, what is around them gives the model's own scores, in any chunks."""
    model = random_model("generative")
    monkeypatch.setattr(dynamic, "_quantize_dynamic", lambda module, *_: module)
    monkeypatch.setattr(scoring, "PRODUCT_TOKENS", 7)
    torch.testing.assert_close(
        DynamicGenerative(model).class_scores(BATCH), model.class_scores(BATCH), rtol=1e-5, atol=1e-3
    )


@torch.no_grad()
def test_maxima_that_disagree_beyond_float32_are_guarded():
    """A word at +200 nats under every h_t, and at -400 under label 0: one exponential for all loses it."""
    model = random_model("generative", hidden=32)
    width = model.lstm.hidden_size
    for name, parameter in model.lstm.named_parameters():
        if name.startswith("weight"):
            parameter.zero_()
        else:
            parameter.fill_(4.0)  # h_t is then the same positive vector for whatever was read
    state = model.hidden_states(BATCH.tokens[:1, :1])[0, 0]
    model.label_embedding.weight.zero_()
    model.label_embedding.weight[0, 0] = 1.0
    model.decoder.weight.zero_()
    model.decoder.weight[5, :width] = 200 * state / state.square().sum()
    model.decoder.weight[5, width] = -400.0
    found, expected = DynamicGenerative(model).class_scores(BATCH), model.class_scores(BATCH)
    assert torch.isfinite(found).all()
    torch.testing.assert_close(found, expected, rtol=0.02, atol=5)


@torch.no_grad()
def test_what_the_labels_add_is_computed_once(monkeypatch):
    made = []
    whole = scoring.LabelTerms.of
    monkeypatch.setattr(scoring.LabelTerms, "of", lambda logits: made.append(1) or whole(logits))
    quantized = DynamicGenerative(random_model("generative"))
    for _ in range(3):
        quantized.class_scores(BATCH)
    assert len(made) == 1


@pytest.mark.parametrize("library", ["torch", "torchao"])
def test_a_dynamic_bert_is_near_its_float_model_and_runs_integers(library, bert_spec, bert_artifacts):
    pytest.importorskip("torchao", reason="the extra bert is not installed")
    assets = BertAssets(bert_spec, bert_artifacts)
    model, documents = assets.load(), assets.split("test")
    batch = make_batch(documents, np.arange(len(documents)))
    quantized = dynamic_bert(model, library)
    operator = {"torch": "quantized::linear_dynamic", "torchao": "aten::_int_mm"}[library]
    with torch.no_grad():
        ours, theirs = quantized.class_scores(batch), model.class_scores(batch)
        assert operator in kernel_columns(quantized, [batch])["kernel"]
        assert operator not in kernel_columns(model, [batch])["kernel"]
    assert not torch.equal(ours, theirs)
    assert agreement(ours, theirs) > 0.9
    ours, theirs = (measure_file(list_tensors(found)) for found in (quantized, model))
    assert ours < 0.75 * theirs  # the embeddings stay in float
