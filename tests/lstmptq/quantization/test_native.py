"""The compiled step equals plain torch and Brevitas bit for bit, and its absence is said once."""

import importlib.util
import sys
import warnings

import numpy as np
import pytest
import torch

from lstmptq.models.batches import batches_in_order, make_batch
from lstmptq.quantization.build import float_graph, quantize
from lstmptq.quantization.lstm import TABLE_ROWS, LSTMLayer
from lstmptq.quantization.observe import observe
from lstmptq.runtime import kernel
from lstmptq.runtime.kernel import KERNEL_VARIABLE
from lstmptq.spec.specs import QuantizationSpec
from tests.lstmptq.quantization.test_exact import BOTH_RECIPES, CORPUS, calibrated_oracle, observe_once
from tests.lstmptq.synthetic import random_corpus, random_model

SLOW_RECIPES = [pytest.param(7, 7, marks=pytest.mark.slow), pytest.param(3, 5, marks=pytest.mark.slow)]
needs_numba = pytest.mark.skipif(importlib.util.find_spec("numba") is None, reason="numba is not installed")


def quantized(model, bits, internal_bits, kernel, algorithm="none"):
    spec = QuantizationSpec(bits, internal_bits, algorithm)
    observation = observe_once(model)
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv(KERNEL_VARIABLE, kernel)
        return quantize(model, spec, observation, batches_in_order(CORPUS, 8))


@needs_numba
@pytest.mark.parametrize(("bits", "internal_bits"), [*BOTH_RECIPES, *SLOW_RECIPES])
@pytest.mark.parametrize("layers", [1, 2])
@torch.no_grad()
def test_native_equals_eager_and_brevitas_bit_for_bit(bits, internal_bits, layers):
    model = random_model("discriminative", layers=layers)
    native, eager = (quantized(model, bits, internal_bits, kernel) for kernel in ("native", "eager"))
    oracle = calibrated_oracle(model, bits, internal_bits)
    # odd batches, one of a single token
    batches = [make_batch(CORPUS, np.arange(documents)).tokens for documents in (1, 7, 37)]
    expected = [oracle.hidden_states(tokens) for tokens in batches]
    for tokens, states in zip(batches, expected, strict=True):
        assert torch.equal(eager.encoder.hidden_states(tokens), states)
    for _ in range(3):  # in the end from the products per word, where a batch is large enough
        for tokens, states in zip(batches, expected, strict=True):
            assert torch.equal(native.encoder.hidden_states(tokens), states)
    assert native.encoder.layers[-1].native is not None
    assert eager.encoder.layers[-1].native is None
    assert "_word_products" in native.encoder.__dict__


@needs_numba
@pytest.mark.parametrize(("bits", "internal_bits"), [(8, 8), (4, 4), (3, 8), (2, 2)])
@torch.no_grad()
def test_native_equals_eager_at_the_size_of_the_study(bits, internal_bits):
    documents = 257  # one more than run together
    corpus = random_corpus(documents, vocabulary=900, classes=4, longest=30, seed=3)
    model = random_model("discriminative", vocabulary=900, width=300, hidden=100)
    native, eager = (quantized(model, bits, internal_bits, kernel) for kernel in ("native", "eager"))
    tokens = make_batch(corpus, np.arange(documents)).tokens
    assert torch.equal(native.encoder.hidden_states(tokens), eager.encoder.hidden_states(tokens))


@needs_numba
@pytest.mark.parametrize("width", [50, 100, 300])
@torch.no_grad()
def test_a_few_tokens_do_not_depend_on_what_was_read_before(width):
    """A product of few rows adds in another order: there the table of products a word must not be used."""
    model = random_model("discriminative", vocabulary=900, width=width, hidden=100)
    encoder = quantized(model, 8, 8, "native").encoder
    corpus = random_corpus(64, vocabulary=900, classes=4, longest=30, seed=3)
    for _ in range(3):  # the table is in use from here on
        encoder.hidden_states(make_batch(corpus, np.arange(64)).tokens)
    assert "_word_products" in encoder.__dict__
    for documents, time in ((1, 1), (1, 7), (3, 5), (1, 63)):
        assert encoder._native_states(torch.randint(900, (documents, time))) is None
    for documents, time in ((1, TABLE_ROWS), (9, 8), (37, 81), (256, 81)):
        tokens = torch.randint(900, (documents, time))
        products = encoder.io(encoder.vectors[tokens]) @ encoder.layers[0].input_weight.t()
        assert torch.equal(encoder._word_products[tokens], products)


@needs_numba
@torch.no_grad()
def test_native_and_recorded_runs_agree():
    """Activations are recorded through plain torch; what they belong to must be what was scored."""
    model = random_model("generative", layers=2)
    classifier = quantized(model, 4, 4, "native")
    batch = make_batch(CORPUS, np.arange(37))
    recorded = {}
    classifier.encoder.hidden_states(batch.tokens, lambda stage, values, _: recorded.update({stage: values}))
    assert torch.equal(classifier.encoder.hidden_states(batch.tokens), recorded["lstm.1.hidden_state"])


@needs_numba
@torch.no_grad()
def test_class_scores_do_not_depend_on_the_kernel():
    model = random_model("generative")
    batch = make_batch(CORPUS, np.arange(37))
    native, eager = (quantized(model, 4, 8, kernel, "gpfq") for kernel in ("native", "eager"))
    assert torch.equal(native.output_layer.weight, eager.output_layer.weight)
    torch.testing.assert_close(native.class_scores(batch), eager.class_scores(batch), rtol=1e-5, atol=1e-4)
    assert torch.equal(native.class_scores(batch).argmax(dim=1), eager.class_scores(batch).argmax(dim=1))


@needs_numba
@torch.no_grad()
def test_saturated_gates_are_equal():
    """Weights so large that every gate lies far beyond its outermost level, with ties on the way."""
    model = random_model("discriminative")
    for parameter in model.lstm.parameters():
        parameter.mul_(1e4)
    native, eager = (quantized(model, 8, 8, kernel) for kernel in ("native", "eager"))
    tokens = make_batch(CORPUS, np.arange(37)).tokens
    assert torch.equal(native.encoder.hidden_states(tokens), eager.encoder.hidden_states(tokens))


@needs_numba
@torch.no_grad()
def test_broken_weights_and_float_graphs_stay_with_plain_torch(monkeypatch):
    model = random_model("discriminative")
    observation = observe(model, list(batches_in_order(CORPUS, 8)))
    assert type(float_graph(model).encoder.layers[0]) is LSTMLayer
    model.lstm.weight_hh_l0[3, 3] = torch.nan
    monkeypatch.setenv(KERNEL_VARIABLE, "native")
    broken = quantize(model, QuantizationSpec(4, 8, "none"), observation, [])
    assert broken.encoder.layers[0].native is None


@pytest.fixture
def without_numba(monkeypatch):
    monkeypatch.setitem(sys.modules, "numba", None)
    for module in kernel.COMPILED:
        monkeypatch.delitem(sys.modules, module, raising=False)
    kernel._native_is_usable.cache_clear()
    yield
    kernel._native_is_usable.cache_clear()


@pytest.mark.parametrize("asked", ["auto", "native"])
@pytest.mark.usefixtures("without_numba")
def test_without_numba_one_line_says_so(asked, monkeypatch):
    monkeypatch.setenv(KERNEL_VARIABLE, asked)
    with pytest.warns(UserWarning, match=r"^plain torch runs, .*numba.*pip install"):
        first = kernel.choose_kernel()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert first == kernel.choose_kernel() == "eager"


@pytest.mark.usefixtures("without_numba")
def test_eager_asks_for_nothing(monkeypatch):
    monkeypatch.setenv(KERNEL_VARIABLE, "eager")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert kernel.choose_kernel() == "eager"


def test_unknown_kernels_are_refused(monkeypatch):
    monkeypatch.setenv(KERNEL_VARIABLE, "fast")
    with pytest.raises(ValueError, match=r"^LSTMPTQ_KERNEL must be one of auto, eager, native, got 'fast'$"):
        kernel.choose_kernel()
