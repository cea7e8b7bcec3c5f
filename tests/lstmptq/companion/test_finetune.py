"""Fine-tuning: it learns, keeps the best epoch, and says what it did."""

import json

import pytest

from lstmptq.companion.bert import BertStudy
from lstmptq.companion.finetune import fine_tuned, float_classifier
from lstmptq.models.training import validate

pytest.importorskip("transformers", reason="the extra bert is not installed")


@pytest.fixture(scope="module")
def study(bert_spec, bert_artifacts):
    return BertStudy(bert_spec, bert_artifacts)


def test_fine_tuning_learns_and_keeps_the_best_epoch(study):
    path = fine_tuned(study)
    card = json.loads((path / "card.json").read_text())
    assert card["valid_accuracy"] == max(epoch["valid_accuracy"] for epoch in card["history"])
    assert card["valid_accuracy"] > 0.8
    assert card["trainable_parameters"] == card["parameters"]
    accuracy, _ = validate(float_classifier(study), study.split("valid"))
    assert accuracy == card["valid_accuracy"]
