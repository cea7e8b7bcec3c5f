"""What runs on another device stays there: the meta device computes nothing, but refuses a mixture.

A selection by mask needs its values, which meta has not; the generative model is followed up to its own.
"""

from dataclasses import replace
from functools import cache

import numpy as np
import pytest
import torch

from lstmptq.models.batches import batches_in_order, language_model_pair, make_batch
from lstmptq.models.scoring import LabelScorer
from lstmptq.quantization.build import float_graph, quantize
from lstmptq.quantization.observe import observe
from lstmptq.spec.specs import QuantizationSpec
from tests.lstmptq.synthetic import random_corpus, random_model

CORPUS = random_corpus(documents=9, vocabulary=307, classes=4, longest=11)
WIDTHS = [None, 8, 3]


@cache
def observed_once(kind, pooling, io_scales):
    """Statistics of the model of :func:`on_meta`, which serve every width."""
    model = random_model(kind, pooling=pooling, layers=2)
    return observe(model, list(batches_in_order(CORPUS, 4)), QuantizationSpec(8, 8, io_scales=io_scales))


def on_meta(kind, bits, pooling="mean", io_scales="shared"):
    """A classifier on the meta device, quantized with statistics that were collected on the CPU."""
    observation = observed_once(kind, pooling, io_scales)
    model = random_model(kind, pooling=pooling, layers=2).to("meta")
    if bits is None:
        return float_graph(model)
    return quantize(model, QuantizationSpec(bits, bits, "none", io_scales=io_scales), observation, [])


def batch_on_meta():
    return make_batch(CORPUS, np.arange(9)).to("meta")


def everything_is_there(*tensors):
    return all(tensor.device.type == "meta" for tensor in tensors)


@pytest.mark.parametrize("pooling", ["mean", "last"])
@pytest.mark.parametrize("bits", WIDTHS)
@torch.no_grad()
def test_the_discriminative_model_scores_where_its_batch_is(bits, pooling):
    scores = on_meta("discriminative", bits, pooling).class_scores(batch_on_meta())
    assert everything_is_there(scores)
    assert scores.shape == (9, 4)


@pytest.mark.parametrize("kind", ["discriminative", "generative"])
@pytest.mark.parametrize("io_scales", ["shared", "separate"])
@pytest.mark.parametrize("bits", WIDTHS)
@torch.no_grad()
@pytest.mark.slow
def test_every_recorded_stage_is_where_the_tokens_are(kind, bits, io_scales):
    recorded = []

    def record(stage, values, clipped):
        recorded.append((stage, values, clipped))

    tokens = batch_on_meta().tokens
    states = on_meta(kind, bits, io_scales=io_scales).encoder.hidden_states(tokens, record)
    assert states.shape == (*tokens.shape, 13)
    found = [values for _, values, _ in recorded if values is not None]
    assert len(found) == 1 + 2 * 6
    # of a quantized layer also where what enters the cell state, and what stays in it, is clipped
    assert len(recorded) == len(found) + (0 if bits is None else 2 * 2)
    assert everything_is_there(states, *found)
    assert everything_is_there(*(clipped for _, _, clipped in recorded if clipped is not None))


@pytest.mark.parametrize("bits", WIDTHS)
@torch.no_grad()
def test_scoring_under_every_label_stays_on_the_device(bits):
    classifier = on_meta("generative", bits)
    inputs, targets, _ = language_model_pair(batch_on_meta())
    states = classifier.encoder.hidden_states(inputs).flatten(0, 1)
    model = classifier.model
    scorer = LabelScorer(model.state_columns(), model.label_logits())
    assert everything_is_there(
        inputs, targets, states, scorer.labels.factors, scorer._blocks.log_sums(states)
    )


@torch.no_grad()
def test_losses_are_computed_where_the_batch_is():
    model = random_model("discriminative").to("meta")
    assert everything_is_there(model.loss(batch_on_meta()))


def test_a_batch_left_behind_is_refused():
    """The test of the tests: mixing devices is an error on meta, too."""
    model = random_model("discriminative").to("meta")
    batch = batch_on_meta()
    with pytest.raises(RuntimeError, match="device"):
        model.loss(replace(batch, lengths=torch.full((9,), 3)))
