"""A BERT in the study: the same documents as an LSTM, padding that does not matter, training that works."""

import json

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from lstmptq.cells import ModelSpec
from lstmptq.companion.bert import BertStudy
from lstmptq.companion.cells import LoraRecipe, QatRecipe, Training
from lstmptq.companion.methods import Companion
from lstmptq.models.batches import make_batch
from lstmptq.models.training import validate
from lstmptq.text.sources import Source

pytest.importorskip("transformers", reason="the extra bert is not installed")


@pytest.fixture(scope="module")
def study(bert_spec, bert_artifacts):
    return BertStudy(bert_spec, bert_artifacts)


def test_fine_tuning_learns_and_keeps_the_best_epoch(study):
    path = study.trained(Training(study.spec))
    card = json.loads((path / "card.json").read_text())
    assert card["valid_accuracy"] == max(epoch["valid_accuracy"] for epoch in card["history"])
    assert card["valid_accuracy"] > 0.8
    assert card["trainable_parameters"] == card["parameters"]
    accuracy, _ = validate(study.float_classifier(), study.split("valid"))
    assert accuracy == card["valid_accuracy"]


def test_the_same_documents_as_an_lstm(study, tiny_files):
    _, vectors = tiny_files
    lstm = ModelSpec(study.spec.dataset, "discriminative", Source.from_file("glove", vectors), min_freq=1)
    ours = Companion(study.spec, study.artifacts).documents(20)
    theirs = Companion(lstm, study.artifacts).documents(20)
    assert ours.labels.tolist() == theirs.labels.tolist()
    assert len(ours) == 20


@torch.no_grad()
def test_padding_does_not_matter(study):
    classifier, documents = study.float_classifier(), study.split("test")
    together = classifier.class_scores(make_batch(documents, np.arange(20)))
    for place in range(20):
        alone = classifier.class_scores(make_batch(documents, np.array([place])))
        torch.testing.assert_close(alone[0], together[place], atol=1e-5, rtol=1e-4)


def test_qlora_trains_adapters_alone_on_a_4_bit_base(study):
    pytest.importorskip("bitsandbytes", reason="the extra bert is not installed")
    from lstmptq.companion import qlora

    training = Training(
        study.spec, "qlora", LoraRecipe(epochs=3, learning_rate=1e-2, batch_size=16, rank=4), 4
    )
    path = study.trained(training)
    card = json.loads((path / "card.json").read_text())
    kept = load_file(path / "model.safetensors")
    assert sum(tensor.numel() for tensor in kept.values()) == card["trainable_parameters"]
    adapted = {name.split(".lora_")[0].rpartition(".")[2] for name in kept if ".lora_" in name}
    assert adapted == {"query", "key", "value"}
    classifier = qlora.load(study, training, path)
    base = [p for p in classifier.network.parameters() if p.dtype == torch.uint8]
    assert len(base) == 2 * 6 + 1  # every linear layer of two blocks, and the pooler
    float_parameters = json.loads((study.trained(Training(study.spec)) / "card.json").read_text())[
        "parameters"
    ]
    adapters = sum(tensor.numel() for name, tensor in kept.items() if ".lora_" in name)
    assert card["parameters"] - adapters - float_parameters in (
        0,
        3 * 64 + 3,
    )  # peft keeps the head's original too
    accuracy, _ = validate(classifier, study.split("valid"))
    assert accuracy == pytest.approx(card["valid_accuracy"], abs=0.05)


def test_qlora_says_which_layers_are_missing(study):
    pytest.importorskip("bitsandbytes", reason="the extra bert is not installed")
    from lstmptq.companion import qlora

    with pytest.raises(ValueError, match="tiny has no layers named q_lin, which qlora adapts: give a BERT"):
        qlora.new_adapters(study, LoraRecipe(targets=("q_lin", "key")))


def test_qat_starts_from_the_fine_tuned_model(study):
    pytest.importorskip("torchao", reason="the extra bert is not installed")
    path = study.trained(Training(study.spec, "qat", QatRecipe(1, 1e-4, 16), 8))
    card = json.loads((path / "card.json").read_text())
    before, after = (load_file(p / "model.safetensors") for p in (study.trained(Training(study.spec)), path))
    assert before.keys() == after.keys()
    assert any((before[name] != after[name]).any() for name in before)
    assert card["valid_accuracy"] > 0.8
