"""Fine-tuning: it learns, keeps the best epoch, and says what it did."""

import json

import pytest

from lstmptq.companion.bert_assets import BertAssets
from lstmptq.models.training import validate

pytest.importorskip("transformers", reason="the extra bert is not installed")


@pytest.fixture(scope="module")
def assets(bert_spec, bert_artifacts):
    return BertAssets(bert_spec, bert_artifacts)


def test_fine_tuning_learns_and_keeps_the_best_epoch(assets):
    path = assets.train_model()
    card = json.loads((path / "card.json").read_text())
    assert card["valid_accuracy"] == max(epoch["valid_accuracy"] for epoch in card["history"])
    assert card["valid_accuracy"] > 0.8
    assert card["trainable_parameters"] == card["parameters"]
    accuracy, _ = validate(assets.load(), assets.split("valid"))
    assert accuracy == card["valid_accuracy"]
