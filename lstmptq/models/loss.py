"""The training loss of the generative classifier, without storing the matrix of logits."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

TRAINING_TOKENS = 512
TRAINING_WORDS = 512


class LabelSoftmaxLoss(torch.autograd.Function):
    """Summed cross entropy of next words under each token's own label, with its gradients in blocks.

    Each token's label is appended to its state as a one-hot vector, and the label logits to the words as
    columns: one product then gives the logits of tokens under any mix of labels, and one more the gradient.
    There are two passes over blocks of words. The first finds the normaliser; the second computes the
    probabilities again and accumulates the gradients. No (tokens, vocabulary) matrix is ever stored.
    """

    @staticmethod
    def forward(
        ctx: torch.autograd.function.FunctionCtx,
        states: Tensor,
        targets: Tensor,
        token_labels: Tensor,
        words: Tensor,
        label_logits: Tensor,
    ) -> Tensor:
        """Args: (tokens, hidden), (tokens,), (tokens,), (vocabulary, hidden), (labels, vocabulary)."""
        own_label = functional.one_hot(token_labels, len(label_logits)).to(states.dtype)
        inputs = torch.cat([states, own_label], dim=1)
        weight = torch.cat([words, label_logits.t()], dim=1)
        loss = states.new_zeros((), dtype=torch.float64)
        d_inputs, d_weight = torch.zeros_like(inputs), torch.zeros_like(weight)
        for start in range(0, len(inputs), TRAINING_TOKENS):
            rows = slice(start, start + TRAINING_TOKENS)
            normaliser = _normaliser(inputs[rows], weight)
            loss += normaliser.sum(dtype=torch.float64)
            _accumulate(inputs[rows], normaliser, weight, d_inputs[rows], d_weight)
        target_weight = weight[targets]
        loss -= (inputs * target_weight).sum(dtype=torch.float64)
        d_inputs -= target_weight
        d_weight.index_add_(0, targets, inputs, alpha=-1)
        ctx.hidden = states.shape[1]  # type: ignore[attr-defined]
        ctx.save_for_backward(d_inputs, d_weight)
        return loss.to(states.dtype)

    @staticmethod
    def backward(
        ctx: torch.autograd.function.FunctionCtx, gradient: Tensor
    ) -> tuple[Tensor, None, None, Tensor, Tensor]:
        """Scale the gradients that the forward pass computed."""
        d_inputs, d_weight = (saved * gradient for saved in ctx.saved_tensors)  # type: ignore[attr-defined]
        hidden: int = ctx.hidden  # type: ignore[attr-defined]
        return d_inputs[:, :hidden], None, None, d_weight[:, :hidden], d_weight[:, hidden:].t()


def _normaliser(inputs: Tensor, weight: Tensor) -> Tensor:
    """Return the logarithm of the sum over all words, (tokens, 1)."""
    highest = inputs.new_full((len(inputs), 1), -torch.inf)
    sums = inputs.new_zeros(len(inputs), 1)
    for block in weight.split(TRAINING_WORDS):
        logits = inputs @ block.t()
        raised = torch.maximum(highest, logits.amax(dim=1, keepdim=True))
        sums = sums * (highest - raised).exp() + logits.sub_(raised).exp_().sum(dim=1, keepdim=True)
        highest = raised
    return highest + sums.log()


def _accumulate(
    inputs: Tensor, normaliser: Tensor, weight: Tensor, d_inputs: Tensor, d_weight: Tensor
) -> None:
    for block, d_block in zip(weight.split(TRAINING_WORDS), d_weight.split(TRAINING_WORDS), strict=True):
        probabilities = (inputs @ block.t()).sub_(normaliser).exp_()
        d_inputs.addmm_(probabilities, block)
        d_block.addmm_(probabilities.t(), inputs)
