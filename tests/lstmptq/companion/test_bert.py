"""A BERT in the study: the same documents as an LSTM, padding that does not matter, a new output layer."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch

from lstmptq.artifacts import Artifacts
from lstmptq.companion.bert import quiet
from lstmptq.companion.bert_assets import BertAssets
from lstmptq.companion.preparation import make_assets
from lstmptq.models.base import seeded
from lstmptq.models.batches import make_batch
from lstmptq.seeds import derive_seed
from lstmptq.spec.specs import ModelSpec
from lstmptq.text.sources import Source

pytest.importorskip("transformers", reason="the extra bert is not installed")


@pytest.fixture(scope="module")
def assets(bert_spec, bert_artifacts):
    return BertAssets(bert_spec, bert_artifacts)


def test_the_same_documents_as_an_lstm(assets, tiny_files):
    _, vectors = tiny_files
    lstm = ModelSpec(assets.spec.dataset, "discriminative", Source.from_file("glove", vectors), min_freq=1)
    ours = assets.documents(20)
    theirs = make_assets(lstm, assets.artifacts).documents(20)
    assert ours.labels.tolist() == theirs.labels.tolist()
    assert len(ours) == 20


def test_padding_does_not_matter(assets):
    classifier, documents = assets.load(), assets.split("test")
    with torch.no_grad():
        together = classifier.class_scores(make_batch(documents, np.arange(20)))
        for place in range(20):
            alone = classifier.class_scores(make_batch(documents, np.array([place])))
            torch.testing.assert_close(alone[0], together[place], atol=1e-5, rtol=1e-4)


def save_with_output_layer(tiny_bert, folder, labels):
    """A copy of the tiny BERT with the trained classification layer of another task on top."""
    from transformers import AutoModelForSequenceClassification, BertTokenizerFast

    with quiet(), seeded(7):
        found = AutoModelForSequenceClassification.from_pretrained(tiny_bert, num_labels=labels)
        torch.nn.init.constant_(found.classifier.weight, 3.0)
        found.save_pretrained(folder)
    BertTokenizerFast.from_pretrained(tiny_bert).save_pretrained(folder)
    return folder


def same_weights(one, other):
    pairs = zip(one.named_parameters(), other.named_parameters(), strict=True)
    return all(a == b and torch.equal(x, y) for (a, x), (b, y) in pairs)


def test_the_first_output_layer_is_transformers_own_under_the_seed(assets, tiny_bert):
    """Earlier results depend on it."""
    from transformers import AutoModelForSequenceClassification

    with quiet(), seeded(derive_seed("initial weights", assets.spec.seed)):
        expected = AutoModelForSequenceClassification.from_pretrained(tiny_bert, num_labels=3)
    assert same_weights(assets.network(), expected)


@pytest.mark.parametrize("labels", [3, 7])  # as many as the corpus has, and another number
def test_a_trained_output_layer_is_not_kept(assets, tiny_bert, tmp_path, labels):
    folder = save_with_output_layer(tiny_bert, tmp_path / "with a head", labels)
    spec = replace(assets.spec, checkpoint=Source("with a head", str(labels), str(folder)))
    network = BertAssets(spec, assets.artifacts).network()
    assert network.config.num_labels == 3
    assert same_weights(network, assets.network())


def test_weights_that_do_not_fit_their_configuration_are_refused(assets, tiny_bert, tmp_path):
    """Transformers is told to accept output layers of another shape; all other weights have to fit."""
    folder = shutil.copytree(tiny_bert, tmp_path / "broken")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"intermediate_size": 96}))
    spec = replace(assets.spec, checkpoint=Source("broken", "0", str(folder)))
    with pytest.raises(
        ValueError,
        match=r"^broken has weights of other shapes than its config\.json says, bert\.enc.* for one: ",
    ):
        BertAssets(spec, assets.artifacts).network()


def test_documents_longer_than_the_positions_are_refused(assets):
    with pytest.raises(
        ValueError,
        match=r"max_tokens must be at most 64, the positions that tiny knows, got 65: give a smaller",
    ):
        BertAssets(replace(assets.spec, max_tokens=65), assets.artifacts).split("test")


def test_a_file_is_taken_from_where_it_was_brought(bert_spec, driver, tmp_path):
    """On another node than the driver's the corpus is not where the user has it."""
    exchange = driver()
    spec = replace(bert_spec, dataset=exchange.moved(bert_spec.dataset))
    assert len(BertAssets(spec, Artifacts(tmp_path / "node", exchange)).split("test")) == 60
