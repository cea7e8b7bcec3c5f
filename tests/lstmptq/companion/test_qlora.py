"""QLoRA: adapters alone are trained, on a base that really has 4 bits."""

import json

import pytest
import torch
from safetensors.torch import load_file

from lstmptq.companion import qlora
from lstmptq.companion.bert_assets import BertAssets
from lstmptq.companion.cells import Training
from lstmptq.companion.preparation import train
from lstmptq.companion.recipes import LoraRecipe
from lstmptq.models.training import validate

pytest.importorskip("bitsandbytes", reason="the extra bert is not installed")


@pytest.fixture(scope="module")
def assets(bert_spec, bert_artifacts):
    return BertAssets(bert_spec, bert_artifacts)


def test_it_trains_adapters_alone_on_a_4_bit_base(assets):
    training = Training(
        assets.spec, "qlora", LoraRecipe(epochs=3, learning_rate=1e-2, batch_size=16, rank=4), 4
    )
    path = train(assets, training)
    card = json.loads((path / "card.json").read_text())
    kept = load_file(path / "model.safetensors")
    assert sum(tensor.numel() for tensor in kept.values()) == card["trainable_parameters"]
    adapted = {name.split(".lora_")[0].rpartition(".")[2] for name in kept if ".lora_" in name}
    assert adapted == {"query", "key", "value"}
    classifier = qlora.load(assets, training, path)
    base = [p for p in classifier.network.parameters() if p.dtype == torch.uint8]
    assert len(base) == 2 * 6 + 1  # every linear layer of two blocks, and the pooler
    float_parameters = json.loads((assets.train_model() / "card.json").read_text())["parameters"]
    adapters = sum(tensor.numel() for name, tensor in kept.items() if ".lora_" in name)
    assert card["parameters"] - adapters - float_parameters in (
        0,
        3 * 64 + 3,
    )  # peft keeps the original output layer too
    accuracy, _ = validate(classifier, assets.split("valid"))
    assert accuracy == pytest.approx(card["valid_accuracy"], abs=0.05)


def test_it_says_which_layers_are_missing(assets):
    with pytest.raises(ValueError, match="tiny has no layers named q_lin, which qlora adapts: give a BERT"):
        qlora.new_adapters(assets, LoraRecipe(targets=("q_lin", "key")))
