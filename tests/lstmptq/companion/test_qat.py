"""QAT: what is trained under Brevitas is what the evaluator runs; a BERT goes on from its FP32 model."""

import json

import pytest
import torch
from safetensors.torch import load_file

from lstmptq.companion.cells import Training
from lstmptq.companion.preparation import make_assets, train
from lstmptq.companion.qat import calibrate_oracle, extract_float_model
from lstmptq.companion.recipes import QatRecipe
from lstmptq.models.batches import batches_in_order, make_batch
from lstmptq.quantization.build import quantize
from lstmptq.quantization.observe import read_statistics
from lstmptq.runtime.kernel import KERNEL_VARIABLE
from lstmptq.spec.specs import QuantizationSpec
from tests.lstmptq.synthetic import random_corpus, random_model

CORPUS = random_corpus(documents=24, vocabulary=307, classes=4, longest=11)


@pytest.mark.parametrize("kind", ["discriminative", "generative"])
@pytest.mark.parametrize("bits", [8, 4])
@pytest.mark.slow
def test_the_evaluator_equals_brevitas_after_training(kind, bits, monkeypatch):
    model = random_model(kind)
    oracle = calibrate_oracle(model, bits, [*batches_in_order(CORPUS, 8)])
    optimizer = torch.optim.Adam(oracle.parameters(), lr=1e-2)
    oracle.train()
    losses = []
    for _ in range(4):
        optimizer.zero_grad()
        loss = oracle.loss(make_batch(CORPUS, range(16)))
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0]
    oracle.eval()
    trained = extract_float_model(oracle, model)
    monkeypatch.setenv(KERNEL_VARIABLE, "eager")
    ours = quantize(trained, QuantizationSpec(bits, 8, "none"), read_statistics(oracle), [])
    for documents in (1, 24):
        batch = make_batch(CORPUS, range(documents))
        with torch.no_grad():
            assert torch.equal(ours.output_layer_inputs(batch, batch.labels), oracle.output_layer.input_quant(
                oracle.output_layer_inputs(batch, batch.labels)).value)  # fmt: skip


@pytest.mark.parametrize("kind", ["discriminative", "generative"])
def test_weights_go_through_brevitas_unchanged(kind):
    model = random_model(kind, layers=2)
    back = extract_float_model(calibrate_oracle(model, 8, [*batches_in_order(CORPUS, 8)]), model)
    for name, value in model.state_dict().items():
        if "bias_ih" in name:
            value = value + model.state_dict()[name.replace("bias_ih", "bias_hh")]
        if "bias_hh" not in name:
            assert torch.equal(back.state_dict()[name], value), name


@pytest.mark.slow
def test_a_run_keeps_the_best_and_never_worse_than_its_start(tiny_spec, tiny_artifacts):
    spec = tiny_spec("discriminative")
    training = Training(spec, "qat", QatRecipe(2, 1e-3, 16), 4)
    path = train(make_assets(spec, tiny_artifacts), training)
    card = json.loads((path / "card.json").read_text())
    accuracies = [epoch["valid_accuracy"] for epoch in card["history"]]
    assert len(accuracies) == 3
    assert accuracies[card["best_epoch"]] == max(accuracies)
    assert load_file(path / "observation.safetensors").keys() >= {"lstm.io", "lstm.cell_state", "head.input"}


def test_a_bert_s_starts_from_the_fine_tuned_model(bert_spec, bert_artifacts):
    pytest.importorskip("torchao", reason="the extra bert is not installed")
    assets = make_assets(bert_spec, bert_artifacts)
    path = train(assets, Training(bert_spec, "qat", QatRecipe(1, 1e-4, 16), 8))
    card = json.loads((path / "card.json").read_text())
    before, after = (load_file(p / "model.safetensors") for p in (assets.train_model(), path))
    assert before.keys() == after.keys()
    assert any((before[name] != after[name]).any() for name in before)
    assert card["valid_accuracy"] > 0.8
