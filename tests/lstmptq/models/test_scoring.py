import pytest
import torch

from lstmptq.models import scoring
from lstmptq.models.base import seeded
from lstmptq.models.scoring import LabelSoftmaxLoss, label_log_likelihood


def naive(states, targets, words, label_logits):
    logits = (states @ words.t())[:, None] + label_logits
    return logits.log_softmax(dim=2).gather(2, targets[:, None, None].expand(-1, len(label_logits), 1))[
        ..., 0
    ]


@pytest.mark.parametrize("labels", [2, 4, 14])
@pytest.mark.parametrize("vocabulary", [5, 4096, 4097, 9001])
@pytest.mark.parametrize("tokens", [1, 64, 130])
def test_equals_decoding_every_label(labels, vocabulary, tokens):
    with seeded(0):
        states, words = torch.randn(tokens, 11), torch.randn(vocabulary, 11)
        label_logits, targets = torch.randn(labels, vocabulary) * 3, torch.randint(vocabulary, (tokens,))
    torch.testing.assert_close(
        label_log_likelihood(states, targets, words, label_logits),
        naive(states, targets, words, label_logits),
        rtol=1e-5, atol=1e-4,
    )  # fmt: skip


def test_maxima_that_disagree_beyond_float32_are_guarded():
    """The word that h_t makes likely is impossible under v_y by 200 nats, and the other way round."""
    states, words = torch.ones(3, 1), torch.zeros(6, 1)
    words[0] = 200.0
    label_logits = torch.zeros(2, 6)
    label_logits[0, 0], label_logits[0, 1:] = -400.0, 0.0
    targets = torch.tensor([0, 1, 2])
    expected = naive(states.double(), targets, words.double(), label_logits.double()).float()
    found = label_log_likelihood(states, targets, words, label_logits)
    assert torch.isfinite(found).all()
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("vocabulary", [7, 1024, 2500])
def test_loss_and_gradients_equal_autograd(vocabulary, monkeypatch):
    monkeypatch.setattr(scoring, "TRAINING_TOKENS", 16)
    with seeded(2):
        states = torch.randn(75, 9, dtype=torch.float64)
        words = torch.randn(vocabulary, 9, dtype=torch.float64)
        label_logits = torch.randn(3, vocabulary, dtype=torch.float64)
        targets, labels = torch.randint(vocabulary, (75,)), torch.randint(2, (75,))  # label 2 never occurs
    ours = [tensor.clone().requires_grad_() for tensor in (states, words, label_logits)]
    reference = [tensor.clone().requires_grad_() for tensor in (states, words, label_logits)]
    loss = LabelSoftmaxLoss.apply(ours[0], targets, labels, ours[1], ours[2])
    expected = torch.nn.functional.cross_entropy(
        reference[0] @ reference[1].t() + reference[2][labels], targets, reduction="sum"
    )
    (loss * 0.5).backward()
    (expected * 0.5).backward()
    torch.testing.assert_close(loss, expected)
    for found, wanted in zip(ours, reference, strict=True):
        torch.testing.assert_close(found.grad, wanted.grad)
