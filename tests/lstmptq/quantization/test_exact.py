"""The licence to be fast: the evaluator equals Brevitas bit for bit."""

import hashlib
from dataclasses import replace

import numpy as np
import pytest
import torch
from brevitas.graph.calibrate import calibration_mode

from lstmptq.models.base import sum_by_document
from lstmptq.models.batches import batches_in_order, language_model_pair, make_batch
from lstmptq.quantization.build import float_graph, quantize
from lstmptq.quantization.classifier import quantized_bytes
from lstmptq.quantization.observe import Observation, observe, read_statistics
from lstmptq.quantization.oracle import brevitas_graph
from lstmptq.runtime.kernel import KERNEL_VARIABLE
from lstmptq.spec.specs import ISOLATED, STAGES, Isolation, QuantizationSpec
from tests.lstmptq.synthetic import random_corpus, random_model

NOTHING = Isolation()
# both recipes; `make quick` runs one width
BOTH_RECIPES = [
    pytest.param(bits, internal, marks=[] if bits == 4 else pytest.mark.slow)
    for bits in (8, 6, 5, 4, 3, 2)
    for internal in (8, bits)
]
CORPUS = random_corpus(documents=37, vocabulary=307, classes=4, longest=23)


def calibrated_oracle(model, bits, internal_bits, isolation=NOTHING):
    """Brevitas' own model, calibrated directly at these widths."""
    oracle = brevitas_graph(model, QuantizationSpec(bits, internal_bits, isolation=isolation))
    with torch.no_grad(), calibration_mode(oracle):
        for batch in batches_in_order(CORPUS, 8):
            oracle.observe_output_layer(batch, batch.labels)
    return oracle


OBSERVED: dict[object, Observation] = {}


def observe_once(model):
    """Observe a model over CORPUS; statistics serve all bit widths, so equal models share theirs."""
    weights = b"".join(tensor.numpy().tobytes() for tensor in model.state_dict().values())
    key = type(model), getattr(model, "pooling", None), hashlib.sha256(weights).digest()
    if key not in OBSERVED:
        OBSERVED[key] = observe(model, list(batches_in_order(CORPUS, 8)))
    return OBSERVED[key]


def quantized(model, bits, internal_bits, algorithm="none"):
    return quantize(
        model,
        QuantizationSpec(bits, internal_bits, algorithm),
        observe_once(model),
        batches_in_order(CORPUS, 8),
    )


@pytest.mark.parametrize(("bits", "internal_bits"), BOTH_RECIPES)
@pytest.mark.parametrize("layers", [1, 2])
@torch.no_grad()
def test_lstm_equals_brevitas_bit_for_bit(bits, internal_bits, layers):
    model = random_model("discriminative", layers=layers)
    ours, oracle = quantized(model, bits, internal_bits), calibrated_oracle(model, bits, internal_bits)
    for documents in (1, 7, 37):  # odd batches, one of a single token
        tokens = make_batch(CORPUS, np.arange(documents)).tokens
        assert torch.equal(ours.encoder.hidden_states(tokens), oracle.hidden_states(tokens))


@pytest.mark.parametrize(("bits", "internal_bits"), [(8, 8), (4, 4), (3, 8)])
@torch.no_grad()
@pytest.mark.slow
def test_lstm_equals_brevitas_at_the_size_of_the_study(bits, internal_bits):
    corpus = random_corpus(documents=64, vocabulary=900, classes=4, longest=80, seed=3)
    model = random_model("discriminative", vocabulary=900, width=300, hidden=100)
    observation = observe_once(model)
    ours = quantize(model, QuantizationSpec(bits, internal_bits, "none"), observation, [])
    tokens = make_batch(corpus, np.arange(64)).tokens
    assert torch.equal(
        ours.encoder.hidden_states(tokens),
        calibrated_oracle(model, bits, internal_bits).hidden_states(tokens),
    )


@pytest.mark.slow
@pytest.mark.parametrize("how", ISOLATED)
@pytest.mark.parametrize("stage", STAGES)
@torch.no_grad()
def test_an_isolated_stage_equals_brevitas(stage, how, monkeypatch):
    """Both kernels, both models: hidden states and what the last linear layer gives for them."""
    batch = make_batch(CORPUS, np.arange(37))
    isolation = Isolation(stage, how)
    for kind in ("discriminative", "generative"):
        model = random_model(kind, layers=2)
        observation = observe_once(model)
        spec = QuantizationSpec(3, 3, "none", isolation=isolation)
        oracle = calibrated_oracle(model, 3, 3, isolation)
        inputs = language_model_pair(batch)[0] if kind == "generative" else batch.tokens
        for kernel in ("eager", "auto"):
            monkeypatch.setenv(KERNEL_VARIABLE, kernel)
            ours = quantize(model, spec, observation, [])
            assert torch.equal(ours.encoder.hidden_states(inputs), oracle.hidden_states(inputs))
            logits = ours.output_layer.logits(ours.output_layer_inputs(batch, batch.labels))
            assert torch.equal(logits, oracle(batch, batch.labels))
        plain = quantize(model, replace(spec, isolation=Isolation()), observation, [])
        assert quantized_bytes(ours) >= quantized_bytes(plain)


@pytest.mark.parametrize(("bits", "internal_bits"), BOTH_RECIPES)
@pytest.mark.parametrize("pooling", ["mean", "last"])
@torch.no_grad()
def test_discriminative_scores_equal_brevitas(bits, internal_bits, pooling):
    model = random_model("discriminative", pooling=pooling)
    batch = make_batch(CORPUS, np.arange(37))
    expected = calibrated_oracle(model, bits, internal_bits)(batch, batch.labels).log_softmax(dim=1)
    assert torch.equal(quantized(model, bits, internal_bits).class_scores(batch), expected)


@pytest.mark.parametrize(("bits", "internal_bits"), BOTH_RECIPES)
@torch.no_grad()
def test_generative_scores_equal_naive_decoding_through_brevitas(bits, internal_bits):
    model = random_model("generative")
    batch = make_batch(CORPUS, np.arange(37))
    oracle = calibrated_oracle(model, bits, internal_bits)
    _, targets, mask = language_model_pair(batch)
    per_label = [oracle(batch, torch.full_like(batch.labels, label)) for label in range(4)]
    naive = torch.stack(
        [logits.log_softmax(-1).gather(1, targets[mask][:, None])[:, 0] for logits in per_label], 1
    )
    expected = sum_by_document(naive, mask) + model.log_prior
    ours = quantized(model, bits, internal_bits).class_scores(batch)
    assert torch.equal(ours.argmax(dim=1), expected.argmax(dim=1))
    torch.testing.assert_close(ours, expected, rtol=1e-5, atol=1e-3)


@pytest.mark.parametrize("kind", ["discriminative", "generative"])
@torch.no_grad()
def test_corrected_weight_gives_what_brevitas_gives_with_it(kind):
    """The oracle takes the corrected weight under the scale it fixed before correction."""
    model = random_model(kind)
    ours = quantized(model, 4, 8, "gpfq")
    oracle = calibrated_oracle(model, 4, 8)
    batch = make_batch(CORPUS, np.arange(37))
    oracle(batch, batch.labels)
    scale = oracle.output_layer.quant_weight().scale.clone()
    oracle.output_layer.weight.data.copy_(ours.output_layer.weight)
    assert torch.equal(oracle.output_layer.quant_weight().scale, scale)
    assert torch.equal(oracle.output_layer.quant_weight().value, ours.output_layer.weight)
    assert not torch.equal(ours.output_layer.weight, quantized(model, 4, 8).output_layer.weight)


@pytest.mark.parametrize("kind", ["discriminative", "generative"])
@torch.no_grad()
def test_float_model_and_graph_with_quantizers_off_agree(kind):
    model = random_model(kind, layers=2)
    batch = make_batch(CORPUS, np.arange(37))
    off, on = float_graph(model).class_scores(batch), model.class_scores(batch)
    assert torch.equal(off.argmax(dim=1), on.argmax(dim=1))
    torch.testing.assert_close(off, on, rtol=1e-5, atol=1e-4)


def test_statistics_do_not_depend_on_the_bit_width():
    model = random_model("generative")
    eight, three = (read_statistics(calibrated_oracle(model, bits, bits)).statistics for bits in (8, 3))
    assert eight.keys() == three.keys()
    assert all(torch.equal(eight[name], three[name]) for name in eight)


def test_observing_again_is_not_silently_ignored():
    """Brevitas keeps the first statistics of a model calibrated twice; every observation builds a new one."""
    model = random_model("discriminative")
    few = observe(model, [make_batch(CORPUS, np.arange(2))]).statistics
    many = observe(model, list(batches_in_order(CORPUS, 8))).statistics
    again = observe(model, [make_batch(CORPUS, np.arange(2))]).statistics
    assert not torch.equal(few["lstm.io"], many["lstm.io"])
    assert all(torch.equal(few[name], again[name]) for name in few)


@pytest.mark.parametrize("kind", ["discriminative", "generative"])
def test_the_oracle_is_in_eval_mode_whatever_its_model(kind):
    for model in (random_model(kind), random_model(kind).train()):
        oracle = brevitas_graph(model, QuantizationSpec(8, 8))
        assert not any(module.training for module in oracle.modules())


@torch.no_grad()
@pytest.mark.slow
def test_a_forward_in_training_mode_contaminates_the_statistics():
    """Why the oracle is in eval mode: what Brevitas sees in training stays in the statistics."""
    batches = list(batches_in_order(CORPUS, 8))

    def observed(before):
        oracle = brevitas_graph(random_model("discriminative"), QuantizationSpec(8, 8))
        before(oracle)
        with calibration_mode(oracle.eval()):
            for batch in batches:
                oracle.observe_output_layer(batch, batch.labels)
        return read_statistics(oracle).statistics

    clean = observed(lambda _: None)
    ours = observe(random_model("discriminative").train(), batches).statistics
    assert all(torch.equal(clean[name], ours[name]) for name in clean)
    evaluated = observed(lambda oracle: oracle(batches[0], batches[0].labels))
    assert all(torch.equal(clean[name], evaluated[name]) for name in clean)
    trained = observed(lambda oracle: oracle.train()(batches[0], batches[0].labels))
    assert [name for name in clean if torch.equal(clean[name], trained[name])] == []


def test_every_calibration_label_is_observed_when_all_are_asked_for():
    """A label with a huge vector is seen under ``all`` although no calibration document has it."""
    model = random_model("generative")
    with torch.no_grad():
        model.label_embedding.weight[3] *= 50
    only_first = make_batch(CORPUS, np.flatnonzero(CORPUS.labels == 0))
    own = observe(model, [only_first]).statistics["head.input"]
    every = observe(model, [only_first], QuantizationSpec(8, 8, calibration_labels="all")).statistics[
        "head.input"
    ]
    assert every > 3 * own
