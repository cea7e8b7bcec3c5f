"""Dynamic PTQ: near the float model, stored as integers, and really multiplied as integers."""

import numpy as np
import pytest
import torch
from torch import nn

from lstmptq.cells import QuantizationSpec
from lstmptq.companion import dynamic
from lstmptq.companion.bert import BertStudy
from lstmptq.companion.dynamic import dynamic_bert, dynamic_lstm
from lstmptq.companion.kernels import kernel_columns, operator_times
from lstmptq.companion.stored import _packed, stored_bytes, stored_tensors
from lstmptq.models.batches import batches_in_order, make_batch
from lstmptq.quantization.build import quantize
from lstmptq.quantization.observe import observe
from tests.lstmptq.synthetic import random_corpus, random_model

CORPUS = random_corpus(documents=37, vocabulary=307, classes=4, longest=23)
BATCH = make_batch(CORPUS, np.arange(37))


def agreement(a, b):
    return (a.argmax(dim=1) == b.argmax(dim=1)).double().mean().item()


@pytest.mark.parametrize("kind", ["discriminative", "generative"])
@torch.no_grad()
def test_a_dynamic_lstm_is_near_its_float_model_and_runs_integers(kind):
    model = random_model(kind, hidden=32)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    quantized = dynamic_lstm(model)
    ours, theirs = quantized.class_scores(BATCH), model.class_scores(BATCH)
    assert not torch.equal(ours, theirs)
    assert agreement(ours, theirs) > 0.9
    torch.testing.assert_close(ours, theirs, rtol=0.05, atol=0.5 if kind == "discriminative" else 20)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    columns = kernel_columns(quantized, [BATCH])
    assert "aten::quantized_lstm" in columns["kernel"]
    assert "quantized::linear_dynamic" in columns["kernel"]
    assert columns["integer_share"] > 0.7  # the generative model's sum over labels is a float product
    floats = kernel_columns(model, [BATCH])
    assert floats["integer_share"] == 0
    assert "quantized" not in floats["kernel"]


@torch.no_grad()
def test_the_dynamic_decoder_is_the_float_one_but_for_its_rounding(monkeypatch):
    """With the parts left in float, what is around them gives the model's own scores, in any chunks."""
    model = random_model("generative")
    monkeypatch.setattr(dynamic, "_quantize_dynamic", lambda module, *_: module)
    monkeypatch.setattr(dynamic, "TOKENS", 7)
    torch.testing.assert_close(
        dynamic.DynamicGenerative(model).class_scores(BATCH), model.class_scores(BATCH), rtol=1e-5, atol=1e-3
    )


@torch.no_grad()
def test_simulated_quantization_is_shown_as_what_it_is():
    model = random_model("discriminative")
    observation = observe(model, list(batches_in_order(CORPUS, 8)))
    quantized = quantize(model, QuantizationSpec(8, 8, "none"), observation, [])
    assert kernel_columns(quantized, [BATCH])["integer_share"] == 0


@pytest.mark.parametrize("library", ["torch", "torchao"])
def test_a_dynamic_bert_is_near_its_float_model_and_runs_integers(library, bert_spec, bert_artifacts):
    pytest.importorskip("torchao", reason="the extra bert is not installed")
    study = BertStudy(bert_spec, bert_artifacts)
    model, documents = study.float_classifier(), study.split("test")
    batch = make_batch(documents, np.arange(len(documents)))
    quantized = dynamic_bert(model, library)
    operator = {"torch": "quantized::linear_dynamic", "torchao": "aten::_int_mm"}[library]
    with torch.no_grad():
        ours, theirs = quantized.class_scores(batch), model.class_scores(batch)
        assert operator in kernel_columns(quantized, [batch])["kernel"]
        assert operator not in kernel_columns(model, [batch])["kernel"]
    assert not torch.equal(ours, theirs)
    assert agreement(ours, theirs) > 0.9
    assert stored_bytes(quantized) < 0.75 * stored_bytes(model)  # the embeddings stay in float


def test_stored_bytes_are_those_of_the_parameters():
    model = nn.Linear(64, 32)
    assert 4 * (64 * 32 + 32) < stored_bytes(model) < 4 * (64 * 32 + 32) + 400
    quantized = torch.ao.quantization.quantize_dynamic(nn.Sequential(model), {nn.Linear})
    kinds = {tensor.dtype for tensor in stored_tensors(quantized).values()}
    assert torch.int8 in kinds
    assert 64 * 32 + 4 * 32 < stored_bytes(quantized) < 64 * 32 + 4 * 32 + 800


def test_shared_tensors_are_stored_once_and_others_of_their_shape_are_not_lost():
    shared = nn.Linear(16, 16, bias=False)
    both = nn.ModuleDict({"a": shared, "b": shared, "c": nn.Linear(16, 16, bias=False)})
    assert len(stored_tensors(both)) == 2


@pytest.mark.parametrize("bits", [8, 5, 4, 3])
@torch.no_grad()
def test_levels_are_packed_at_their_bits(bits):
    levels = np.random.default_rng(0).integers(0, 2**bits, 1001)
    packed = _packed(levels, bits)
    assert len(packed) == -(-1001 * bits // 8)
    spread = np.unpackbits(packed)[: 1001 * bits].reshape(-1, bits)
    assert (spread @ (1 << np.arange(bits)[::-1]) == levels).all()
    model = random_model("generative")
    observation = observe(model, list(batches_in_order(CORPUS, 8)))
    quantized = quantize(model, QuantizationSpec(bits, 8, "none"), observation, [])
    weights = sum(weight.original.numel() for weight in quantized.quantized_weights())
    assert weights * bits / 8 < stored_bytes(quantized) < weights * bits / 8 + 4000


@torch.no_grad()
def test_operators_come_the_longest_first():
    times = [ms for ms, _ in operator_times(random_model("discriminative"), [BATCH]).values()]
    assert times == sorted(times, reverse=True)
