"""What cells share: the trained model, its checkpoints, its float scores."""

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch

from lstmptq.artifacts import Artifacts
from lstmptq.model_assets import ModelAssets
from lstmptq.models.training import recipe_for, train
from lstmptq.spec.specs import QuantizationSpec
from lstmptq.text.noise import Noise
from lstmptq.trial import train_model

TYPO = Noise("typo", 0.2)
KINDS = pytest.mark.parametrize("kind", ["discriminative", "generative"])


@KINDS
def test_the_model_learns(kind, tiny_spec, tiny_artifacts):
    """Every topic has words of its own: a model that learnt nothing would be at a half."""
    card = train_model(tiny_spec(kind), tiny_artifacts)
    assert card["valid_accuracy"] > 0.7
    assert card["best_epoch"] == max(
        card["history"], key=lambda epoch: (epoch["valid_accuracy"], -epoch["valid_nll"])
    )["epoch"]  # fmt: skip


def test_the_card_counts_test_documents_that_are_in_training(tiny_spec, tmp_path):
    """Whole texts differ, as in every corpus; their first words need not."""
    spec = tiny_spec("discriminative", epochs=1)
    card = train_model(spec, Artifacts(tmp_path / "16"))
    assert (card["test_documents"], card["test_twins"]) == (30, 0)
    short = train_model(replace(spec, max_tokens=1), Artifacts(tmp_path / "1"))
    assert short["test_twins"] > 20


@KINDS
def test_float_model_and_graph_agree_on_every_prediction(kind, tiny_spec, tiny_artifacts):
    scores = ModelAssets(tiny_spec(kind), tiny_artifacts).float_scores(TYPO, None)
    np.testing.assert_array_equal(scores.model.predicted, scores.graph.predicted)
    np.testing.assert_allclose(scores.model.log_posterior, scores.graph.log_posterior, atol=1e-4)


@KINDS
def test_checkpoints_are_the_weights_of_one_run(kind, tiny_spec, tmp_path):
    """Trained once, whatever epoch is asked for and when; a shorter run would anneal otherwise."""
    artifacts = Artifacts(tmp_path)
    spec = tiny_spec(kind, epochs=4)
    trained = []

    def on_epoch(epoch, epochs, _):
        trained.append((epoch, epochs))

    kept = {}
    assets = ModelAssets(spec, artifacts)
    model = assets.untrained()
    history = train(
        model, assets.dataset.train, assets.dataset.valid, recipe_for(spec), spec.seed,
        keep=lambda epoch, weights: kept.update({epoch: copy.deepcopy(weights)}),
    )  # fmt: skip
    for epoch in (3, 1, 4):  # 1 and 4 are asked for later
        checkpoint = replace(spec, checkpoint=epoch)
        card = train_model(checkpoint, artifacts, on_epoch=on_epoch)
        assert card["epochs"] == epoch
        found = ModelAssets(checkpoint, artifacts).model.state_dict()
        assert all(torch.equal(found[name], kept[epoch][name]) for name in kept[epoch])
        assert not all(torch.equal(found[name], kept[2][name]) for name in kept[epoch])
    assert trained == [(1, 4), (2, 4), (3, 4), (4, 4)]
    best = ModelAssets(spec, artifacts)
    assert best.card["epochs"] == best.card["best_epoch"] == history["best_epoch"]
    found, expected = best.model.state_dict(), kept[history["best_epoch"]]
    assert all(torch.equal(found[name], expected[name]) for name in expected)
    short = ModelAssets(replace(spec, epochs=1), artifacts).model.state_dict()
    assert not all(torch.equal(short[name], kept[1][name]) for name in short)


@pytest.mark.parametrize("ratio", ["classes:1", "head:0.7"])
def test_the_seed_draws_which_classes_an_uneven_calibration_set_keeps(ratio, tiny_spec, tiny_artifacts):
    """Only the classes differ from the fixed choice, by seed; the shares stay, and so does a balanced set."""

    def count_labels(seed, kept, ratio=ratio):
        assets = ModelAssets(tiny_spec("discriminative", seed=seed), tiny_artifacts)
        spec = QuantizationSpec(4, 8, class_ratio=ratio, calibration_documents=10, kept_classes=kept)
        return np.bincount(assets.calibration_set(spec).labels, minlength=3).tolist()

    seeds = (0, 5, 6)  # their draws favour one class each
    first = {seed: count_labels(seed, "first") for seed in seeds}
    drawn = {seed: count_labels(seed, "drawn") for seed in seeds}
    assert len(set(map(tuple, first.values()))) == 1
    assert first[0][0] == max(first[0])
    assert {tuple(sorted(counts)) for counts in drawn.values()} == {tuple(sorted(first[0]))}
    assert {int(np.argmax(counts)) for counts in drawn.values()} == {0, 1, 2}
    assert count_labels(0, "drawn", "balanced") == count_labels(0, "first", "balanced")
