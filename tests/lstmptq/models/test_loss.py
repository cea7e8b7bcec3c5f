import pytest
import torch

from lstmptq.models import loss as losses
from lstmptq.models.base import seeded
from lstmptq.models.loss import LabelSoftmaxLoss


@pytest.mark.parametrize("vocabulary", [7, 1024, 2500])
def test_loss_and_gradients_equal_autograd(vocabulary, monkeypatch):
    monkeypatch.setattr(losses, "TRAINING_TOKENS", 16)
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
