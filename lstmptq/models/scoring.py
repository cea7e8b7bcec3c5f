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
    columns = words.t().contiguous()
    normalisers = torch.empty(len(states), len(label_logits), device=states.device)
    for start in range(0, len(states), TOKEN_BLOCK):
        rows = slice(start, start + TOKEN_BLOCK)
        normalisers[rows] = _log_sums(states[rows], columns, label_factors)
    lost = ~torch.isfinite(normalisers).all(dim=1)
    normalisers += label_max
    if lost.any():
        normalisers[lost] = _log_sums_one_by_one(states[lost], columns, label_logits)
    target_logits = (states * words[targets]).sum(dim=1, keepdim=True) + label_logits.t()[targets]
    return target_logits - normalisers


def _log_sums(states: Tensor, columns: Tensor, label_factors: Tensor) -> Tensor:
    """log sum_w exp(g_w) factor_wy, (tokens, labels); -inf where float32 cannot hold the sum."""
    highest = states.new_full((len(states), 1), -torch.inf)
    sums = states.new_zeros(len(states), label_factors.shape[1])
    for start in range(0, columns.shape[1], WORD_BLOCK):
        block = slice(start, start + WORD_BLOCK)
        logits = states @ columns[:, block]
        raised = torch.maximum(highest, logits.amax(dim=1, keepdim=True))
        sums = sums * (highest - raised).exp() + logits.sub_(raised).exp_() @ label_factors[block]
        highest = raised
    return torch.where(sums > SMALLEST_SUM, sums.log(), -torch.inf) + highest


def _log_sums_one_by_one(states: Tensor, columns: Tensor, label_logits: Tensor) -> Tensor:
    """The same with a maximum per label: slower, never underflows."""
    sums = [
        torch.stack([(block @ columns + logits).logsumexp(dim=1) for logits in label_logits], dim=1)
        for block in states.split(TOKEN_BLOCK)
    ]
    return torch.cat(sums)


class LabelSoftmaxLoss(torch.autograd.Function):
    """Summed cross entropy of next words under each token's own label, with its gradients in blocks.

    Two passes over blocks of words: the first finds the normaliser, the second forms the probabilities
    again and accumulates the gradients, so that no (tokens, vocabulary) matrix is ever stored.
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
        order = torch.argsort(token_labels, stable=True)
        counts = torch.bincount(token_labels, minlength=len(label_logits)).tolist()
        d_states, d_words = torch.zeros_like(states), torch.zeros_like(words)
        d_label_logits = torch.zeros_like(label_logits)
        loss = states.new_zeros((), dtype=torch.float64)
        sorted_states = states[order]
        d_sorted = torch.zeros_like(states)
        start = 0
        for label, count in enumerate(counts):
            for first in range(start, start + count, _TRAINING_TOKENS):
                rows = slice(first, min(first + _TRAINING_TOKENS, start + count))
                block = sorted_states[rows]
                normaliser = _normaliser(block, words, label_logits[label])
                loss += normaliser.sum(dtype=torch.float64)
                _accumulate(
                    block, normaliser, words, label_logits[label],
                    d_sorted[rows], d_words, d_label_logits[label],
                )  # fmt: skip
            start += count
        d_states[order] = d_sorted
        target_words = words[targets]
        flat = token_labels * len(words) + targets
        loss -= ((states * target_words).sum(dim=1) + label_logits.reshape(-1)[flat]).sum(dtype=torch.float64)
        d_states -= target_words
        d_words.index_add_(0, targets, states, alpha=-1)
        d_label_logits.view(-1).index_add_(0, flat, states.new_full((len(flat),), -1.0))
        ctx.save_for_backward(d_states, d_words, d_label_logits)
        return loss.to(states.dtype)

    @staticmethod
    def backward(
        ctx: torch.autograd.function.FunctionCtx, gradient: Tensor
    ) -> tuple[Tensor, None, None, Tensor, Tensor]:
        """Scale the gradients found on the way forward."""
        d_states, d_words, d_label_logits = ctx.saved_tensors  # type: ignore[attr-defined]
        return d_states * gradient, None, None, d_words * gradient, d_label_logits * gradient


_TRAINING_TOKENS = 256
_TRAINING_WORDS = 1024


def _normaliser(states: Tensor, words: Tensor, label_logits: Tensor) -> Tensor:
    highest = states.new_full((len(states),), -torch.inf)
    sums = states.new_zeros(len(states))
    for start in range(0, len(words), _TRAINING_WORDS):
        block = slice(start, start + _TRAINING_WORDS)
        logits = torch.addmm(label_logits[block], states, words[block].t())
        raised = torch.maximum(highest, logits.amax(dim=1))
        sums = sums * (highest - raised).exp() + logits.sub_(raised[:, None]).exp_().sum(dim=1)
        highest = raised
    return highest + sums.log()


def _accumulate(
    states: Tensor,
    normaliser: Tensor,
    words: Tensor,
    label_logits: Tensor,
    d_states: Tensor,
    d_words: Tensor,
    d_label_logits: Tensor,
) -> None:
    for start in range(0, len(words), _TRAINING_WORDS):
        block = slice(start, start + _TRAINING_WORDS)
        probabilities = torch.addmm(label_logits[block], states, words[block].t())
        probabilities.sub_(normaliser[:, None]).exp_()
        d_states.addmm_(probabilities, words[block])
        d_words[block].addmm_(probabilities.t(), states)
        d_label_logits[block] += probabilities.sum(dim=0)
