import importlib.util
import math

import numpy as np
import pytest
import torch

from lstmptq.models import scoring
from lstmptq.models.base import seeded
from lstmptq.models.scoring import LabelScorer, ProductScorer, Steps
from lstmptq.runtime.kernel import KERNEL_VARIABLE

needs_numba = pytest.mark.skipif(importlib.util.find_spec("numba") is None, reason="numba is not installed")
KERNELS = ["eager", pytest.param("native", marks=needs_numba), "product"]  # whose product: ours, or given


def naive(states, targets, words, label_logits):
    logits = (states @ words.t())[:, None] + label_logits
    return logits.log_softmax(dim=2).gather(2, targets[:, None, None].expand(-1, len(label_logits), 1))[
        ..., 0
    ]


def scorer(words, label_logits, kernel):
    if kernel == "product":
        return ProductScorer(lambda states: states @ words.t(), label_logits)
    return make_scorer(words, label_logits, None, kernel)


def make_scorer(words, label_logits, steps, kernel):
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv(KERNEL_VARIABLE, kernel)
        return LabelScorer(words, label_logits, steps)


def on_grid(bits, rows, columns, step):
    """Values on a signed grid, both ends of it among them."""
    codes = torch.randint(-(2 ** (bits - 1)), 2 ** (bits - 1), (rows, columns))
    codes[0], codes[-1] = -(2 ** (bits - 1)), 2 ** (bits - 1) - 1
    return codes * step


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("labels", [2, 4, 14])
@pytest.mark.parametrize("vocabulary", [5, 512, 513, 4097, 9001])
@pytest.mark.parametrize("tokens", [1, 64, 300])
def test_equals_decoding_every_label(labels, vocabulary, tokens, kernel):
    with seeded(0):
        states, words = torch.randn(tokens, 11), torch.randn(vocabulary, 11)
        label_logits, targets = torch.randn(labels, vocabulary) * 3, torch.randint(vocabulary, (tokens,))
    torch.testing.assert_close(
        scorer(words, label_logits, kernel).log_likelihood(states, targets),
        naive(states, targets, words, label_logits),
        rtol=1e-5, atol=1e-4,
    )  # fmt: skip


@needs_numba
@pytest.mark.parametrize("bytes_", [True, False])
@pytest.mark.parametrize("bits", range(2, 9))
@pytest.mark.parametrize(("labels", "vocabulary", "tokens"), [(2, 513, 1), (4, 1500, 300), (14, 511, 30)])
def test_products_of_integers_equal_decoding_every_label(
    bits, labels, vocabulary, tokens, bytes_, monkeypatch
):
    monkeypatch.setattr(scoring, "_multiplies_bytes", lambda: bytes_)
    steps = Steps(torch.tensor(2.0 ** (1 - bits) * 0.9), torch.tensor(2.0 ** (1 - bits) * 1.7))
    with seeded(0):
        states = on_grid(bits, tokens, 100, steps.states)
        words = on_grid(bits, vocabulary, 100, steps.words)
        label_logits, targets = torch.randn(labels, vocabulary) * 3, torch.randint(vocabulary, (tokens,))
    found = make_scorer(words, label_logits, steps, "native").log_likelihood(states, targets)
    expected = naive(states.double(), targets, words.double(), label_logits.double())
    torch.testing.assert_close(found.double(), expected, rtol=1e-5, atol=1e-4)


@needs_numba
def test_the_product_of_bytes_and_of_floats_give_the_same_score(monkeypatch):
    """So that a row does not depend on which processor multiplies."""
    steps = Steps(torch.tensor(0.01), torch.tensor(0.02))
    with seeded(0):
        states, words = on_grid(8, 70, 100, steps.states), on_grid(8, 700, 100, steps.words)
        label_logits, targets = torch.randn(4, 700), torch.randint(700, (70,))
    found = []
    for bytes_ in (True, False):
        monkeypatch.setattr(scoring, "_multiplies_bytes", lambda: bytes_)  # noqa: B023 - read at once
        found.append(make_scorer(words, label_logits, steps, "native").log_likelihood(states, targets))
    assert torch.equal(*found)


@pytest.mark.parametrize("kernel", KERNELS)
def test_maxima_that_disagree_beyond_float32_are_guarded(kernel):
    """The word that h_t makes likely is impossible under v_y by 200 nats, and the other way round."""
    states, words = torch.ones(3, 1), torch.zeros(6, 1)
    words[0] = 200.0
    label_logits = torch.zeros(2, 6)
    label_logits[0, 0], label_logits[0, 1:] = -400.0, 0.0
    targets = torch.tensor([0, 1, 2])
    expected = naive(states.double(), targets, words.double(), label_logits.double()).float()
    found = scorer(words, label_logits, kernel).log_likelihood(states, targets)
    assert torch.isfinite(found).all()
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("kernel", KERNELS)
def test_a_token_whose_logits_are_not_numbers_has_no_score(kernel):
    with seeded(0):
        states, words, label_logits = torch.randn(3, 5), torch.randn(700, 5), torch.randn(2, 700)
    states[1, 2] = torch.nan
    found = scorer(words, label_logits, kernel).log_likelihood(states, torch.tensor([0, 1, 2]))
    assert found.isnan().any(dim=1).tolist() == [False, True, False]


def test_a_given_product_is_asked_once_a_token_also_where_a_sum_is_lost(monkeypatch):
    """A kernel that scales by the range of what it is given would find other logits for the lost ones."""
    monkeypatch.setattr(scoring, "PRODUCT_TOKENS", 2)
    words, label_logits = torch.zeros(6, 1), torch.zeros(2, 6)
    words[0], label_logits[0, 0] = 200.0, -400.0
    asked = []

    def product(states):
        asked.append(len(states))
        return states @ words.t()

    found = ProductScorer(product, label_logits).log_likelihood(torch.ones(5, 1), torch.arange(5))
    assert torch.isfinite(found).all()
    assert asked == [2, 2, 1]


@needs_numba
def test_every_exponential_is_right():
    """Over the whole range, the ends beyond it included, from integers and from floats."""
    from lstmptq.models.native import exponentials

    logits = torch.linspace(-200, 60, 5001)[None]
    for products, scale in ((logits, 1.0), ((logits / 0.013).round().to(torch.int32), 0.013)):
        highest, shrunk, found = torch.tensor([40.0]), torch.empty(1), torch.empty(products.shape)
        exponentials(
            products.numpy(), products.amax(dim=1).numpy(), np.float32(scale),
            highest.numpy(), shrunk.numpy(), found.numpy(),
        )  # fmt: skip
        exact = products.double() * float(np.float32(scale))
        assert highest.item() == pytest.approx(exact.max().item(), rel=1e-6)
        assert shrunk.item() == pytest.approx(math.exp(40 - highest.item()), rel=1e-5)
        expected = (exact - highest.double()).exp().clamp(min=2.0**-126)
        torch.testing.assert_close(found.double(), expected, rtol=2e-5, atol=0)
