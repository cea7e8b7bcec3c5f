"""log p(token | history, label) for every label at once, without materialising a logit.

The decoder of the generative classifier reads [h_t ; v_y], so its logits split exactly into
``g = U h_t`` and ``L_y = V v_y``: one product per token, one per label. With m = max(g),

    lse_y = m + max L_y + log( sum_w exp(g_w - m) exp(L_yw - max L_y) )

needs one exponential per token and word for all labels together. Words are taken in blocks that stay in
the cache, with a running maximum, so that memory traffic does not dominate.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

TOKEN_BLOCK = 64
WORD_BLOCK = 4096
SMALLEST_SUM = 1e-30  # below this the two maxima disagree by some 69 nats: float32 lost what matters


def label_log_likelihood(states: Tensor, targets: Tensor, words: Tensor, label_logits: Tensor) -> Tensor:
    """Log-probability of each target token under each label.

    Args:
        states: (tokens, hidden), the label-independent part of the decoder's input.
        targets: (tokens,) int64, the word that came next.
        words: (vocabulary, hidden), the decoder's columns for `states`.
        label_logits: (labels, vocabulary), the decoder's output for each label's part of its input.

    Returns:
        (tokens, labels) float32, nats.
    """
    label_max = label_logits.amax(dim=1)
    label_factors = (label_logits - label_max[:, None]).exp().t().contiguous()  # (vocabulary, labels)
    columns = _column_blocks(words)
    normalisers = torch.empty(len(states), len(label_logits), device=states.device)
    for start in range(0, len(states), TOKEN_BLOCK):
        rows = slice(start, start + TOKEN_BLOCK)
        normalisers[rows] = _log_sums(states[rows], columns, label_factors)
    lost = ~torch.isfinite(normalisers).all(dim=1)
    normalisers += label_max
    if lost.any():
        normalisers[lost] = _log_sums_one_by_one(states[lost], words, label_logits)
    target_logits = (states * words[targets]).sum(dim=1, keepdim=True) + label_logits.t()[targets]
    return target_logits - normalisers


def _column_blocks(words: Tensor) -> list[Tensor]:
    """`words` transposed, (hidden, at most WORD_BLOCK) each, contiguous: the product reads them 5 % faster
    than slices of one transposed whole, whose rows lie 100 kB apart."""
    return [block.t().contiguous() for block in words.split(WORD_BLOCK)]


def _log_sums(states: Tensor, columns: list[Tensor], label_factors: Tensor) -> Tensor:
    """log sum_w exp(g_w) factor_wy, (tokens, labels); -inf where float32 cannot hold the sum."""
    highest = states.new_full((len(states), 1), -torch.inf)
    sums = states.new_zeros(len(states), label_factors.shape[1])
    for block, factors in zip(columns, label_factors.split(WORD_BLOCK), strict=True):
        logits = states @ block
        raised = torch.maximum(highest, logits.amax(dim=1, keepdim=True))
        sums = sums * (highest - raised).exp() + logits.sub_(raised).exp_() @ factors
        highest = raised
    return torch.where(sums > SMALLEST_SUM, sums.log(), -torch.inf) + highest


def _log_sums_one_by_one(states: Tensor, words: Tensor, label_logits: Tensor) -> Tensor:
    """The same with a maximum per label: slower, never underflows."""
    columns = words.t().contiguous()
    sums = [
        torch.stack([(block @ columns + logits).logsumexp(dim=1) for logits in label_logits], dim=1)
        for block in states.split(TOKEN_BLOCK)
    ]
    return torch.cat(sums)


TRAINING_TOKENS = 512
TRAINING_WORDS = 512


class LabelSoftmaxLoss(torch.autograd.Function):
    """Summed cross entropy of next words under each token's own label, with its gradients in blocks.

    Each token's label enters as a one-hot part of its state, and the label logits as columns of the words:
    one product then gives the logits of tokens under any mix of labels, and one its gradient. Two passes
    over blocks of words: the first finds the normaliser, the second forms the probabilities again and
    accumulates the gradients, so that no (tokens, vocabulary) matrix is ever stored.
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
        """Scale the gradients found on the way forward."""
        d_inputs, d_weight = (saved * gradient for saved in ctx.saved_tensors)  # type: ignore[attr-defined]
        hidden: int = ctx.hidden  # type: ignore[attr-defined]
        return d_inputs[:, :hidden], None, None, d_weight[:, :hidden], d_weight[:, hidden:].t()


def _normaliser(inputs: Tensor, weight: Tensor) -> Tensor:
    """(tokens, 1): log of the sum over all words."""
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
