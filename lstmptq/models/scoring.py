"""log p(token | history, label) for every label at once, without storing the matrix of logits.

The decoder of the generative classifier reads [h_t ; v_y], so its logits split exactly into
``g = U h_t`` and ``L_y = V v_y``: one product per token, one per label. With m = max(g),

    lse_y = m + max L_y + log( sum_w exp(g_w - m) exp(L_yw - max L_y) )

needs one exponential per token and word for all labels together. Words are processed in blocks that stay in
the cache, with a running maximum, so that memory traffic does not dominate.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from lstmptq.runtime.kernel import choose_kernel

SMALLEST_SUM = 1e-30  # below this, the two maxima are some 69 nats apart and float32 has lost the large terms
TOKENS, WORDS = 64, 4096  # size of a block in plain torch
NATIVE_TOKENS, NATIVE_WORDS = 1024, 512  # size of a compiled block: products and exponentials take 2 MiB each
PRODUCT_TOKENS = 512  # tokens per call of a product scorer: the logits of as many stay in the cache


@dataclass(frozen=True, slots=True)
class Steps:
    """The steps of the signed grids, of up to 8 bits, of a quantized decoder and its input.

    Divided by them, both become integers.
    """

    states: Tensor
    words: Tensor


class LabelScorer:
    """A decoder, ready to score tokens under every label.

    Args:
        words: (vocabulary, hidden), the decoder's columns for the states.
        label_logits: (labels, vocabulary), the decoder's output for each label's part of its input.
        steps: of a quantized decoder, whose product is then computed on integers, exactly and faster.
    """

    @torch.no_grad()
    def __init__(self, words: Tensor, label_logits: Tensor, steps: Steps | None = None) -> None:
        self.words, self.labels = words, LabelTerms.of(label_logits)
        native = words.device.type == "cpu" and words.dtype == torch.float32
        self._blocks: _Blocks | _NativeBlocks
        if native and choose_kernel() == "native":
            self._blocks = _NativeBlocks(words, self.labels.factors, steps)
        else:
            self._blocks = _Blocks(words, self.labels.factors)

    @torch.no_grad()
    def log_likelihood(self, states: Tensor, targets: Tensor) -> Tensor:
        """Return the log-probability of each target token under each label.

        Args:
            states: (tokens, hidden), the label-independent part of the decoder's input.
            targets: (tokens,) int64, the next word of each token.

        Returns:
            (tokens, labels) float32, nats.
        """
        own = (states * self.words[targets]).sum(dim=1, keepdim=True)
        sums = self._blocks.log_sums(states)
        return self.labels.log_likelihood(own, targets, sums, lambda lost: self._logits(states[lost]))

    def _logits(self, states: Tensor) -> Iterator[Tensor]:
        columns = self.words.t().contiguous()
        return (block @ columns for block in states.split(TOKENS))


class ProductScorer:
    """A decoder with a product of its own, such as that of a quantized kernel, ready to score tokens.

    Args:
        product: maps states, (tokens, hidden), to the logits of all words, (tokens, vocabulary); it sees
            each token once.
        label_logits: (labels, vocabulary), each label's addition to the logits.
    """

    @torch.no_grad()
    def __init__(self, product: Callable[[Tensor], Tensor], label_logits: Tensor) -> None:
        self.product, self.labels = product, LabelTerms.of(label_logits)

    @torch.no_grad()
    def log_likelihood(self, states: Tensor, targets: Tensor) -> Tensor:
        """See :meth:`LabelScorer.log_likelihood`."""
        parts = zip(states.split(PRODUCT_TOKENS), targets.split(PRODUCT_TOKENS), strict=True)
        return torch.cat([self._log_likelihood(*part) for part in parts])

    def _log_likelihood(self, states: Tensor, targets: Tensor) -> Tensor:
        logits = self.product(states)
        highest = logits.amax(dim=1, keepdim=True)
        sums = _log_of((logits - highest).exp() @ self.labels.factors.t(), highest)
        own = logits.gather(1, targets[:, None])
        # reuse the logits: a kernel that scales by its input would compute others for the lost tokens alone
        return self.labels.log_likelihood(own, targets, sums, lambda lost: logits[lost].split(TOKENS))


@dataclass(frozen=True, slots=True)
class LabelTerms:
    """Each label's addition to the logits, with its parts that serve all tokens.

    Attributes:
        logits: (labels, vocabulary), the additions.
        highest: (labels,), the largest of each label.
        factors: (labels, vocabulary), exp(logits - highest).
    """

    logits: Tensor
    highest: Tensor
    factors: Tensor

    @classmethod
    def of(cls, logits: Tensor) -> LabelTerms:
        """Return the terms for each label's addition to the logits, (labels, vocabulary)."""
        highest = logits.amax(dim=1)
        return cls(logits, highest, (logits - highest[:, None]).exp())

    def log_likelihood(
        self,
        own: Tensor,
        targets: Tensor,
        log_sums: Tensor,
        logits_of: Callable[[Tensor], Iterable[Tensor]],
    ) -> Tensor:
        """Return the log-likelihood, (tokens, labels), nats.

        Where float32 lost a sum, it is computed again with one maximum per label.

        Args:
            own: (tokens, 1), each target's logit without the label's addition.
            targets: (tokens,) int64.
            log_sums: (tokens, labels), log sum_w exp(g_w) factor_yw; not finite where lost; overwritten.
            logits_of: returns the logits of the tokens in a (tokens,) mask, in (tokens, vocabulary) blocks.
        """
        lost = ~torch.isfinite(log_sums).all(dim=1)
        normalisers = log_sums.add_(self.highest)
        if lost.any():
            normalisers[lost] = torch.cat([self._one_by_one(block) for block in logits_of(lost)])
        return own + self.logits.t()[targets] - normalisers

    def _one_by_one(self, logits: Tensor) -> Tensor:
        """Return the normalisers, (tokens, labels), in a slower way that never underflows."""
        return torch.stack([(logits + mine).logsumexp(dim=1) for mine in self.logits], dim=1)


def _log_of(sums: Tensor, highest: Tensor) -> Tensor:
    """Return log(sums) + highest for `sums` of exp(g - highest); -inf where float32 cannot hold the sum."""
    return torch.where(sums > SMALLEST_SUM, sums.log(), -torch.inf) + highest


class _Blocks:
    """The decoder in blocks of words, in plain torch."""

    def __init__(self, words: Tensor, label_factors: Tensor) -> None:
        # contiguous: the product reads them 5 % faster than slices of the transposed matrix, 100 kB apart
        self.columns = [block.t().contiguous() for block in words.split(WORDS)]
        self.factors = label_factors.t().contiguous().split(WORDS)

    def log_sums(self, states: Tensor) -> Tensor:
        """Return log sum_w exp(g_w) factor_yw, (tokens, labels); -inf where float32 cannot hold the sum."""
        room = states.new_empty(TOKENS * WORDS)
        return torch.cat([self._log_sums(block, room) for block in states.split(TOKENS)])

    def _log_sums(self, states: Tensor, room: Tensor) -> Tensor:
        highest = states.new_full((len(states), 1), -torch.inf)
        sums = states.new_zeros(len(states), self.factors[0].shape[1])
        for columns, factors in zip(self.columns, self.factors, strict=True):
            logits = torch.mm(states, columns, out=_shaped(room, states, columns))
            raised = torch.maximum(highest, logits.amax(dim=1, keepdim=True))
            sums = sums * (highest - raised).exp() + logits.sub_(raised).exp_() @ factors
            highest = raised
        return _log_of(sums, highest)


def _shaped(room: Tensor, states: Tensor, columns: Tensor) -> Tensor:
    """Return a (tokens, words) view of `room`: fresh memory would cost as much time as the product."""
    shape = len(states), columns.shape[1]
    return room[: shape[0] * shape[1]].view(shape)


class _NativeBlocks:
    """The decoder in blocks of words, with compiled exponentials and, if it is quantized, an integer product.

    Products of integers of up to 8 bits are exact in any order, also as floats (up to 1,024 terms). int8 is
    used where the processor multiplies it faster.
    """

    def __init__(self, words: Tensor, label_factors: Tensor, steps: Steps | None) -> None:
        from lstmptq.models.native import exponentials

        self.exponentials = exponentials
        self.step, self.scale, self.kind = None, np.float32(1), torch.float32
        if steps is not None:
            self.step, self.scale = steps.states, np.float32(steps.states.item() * steps.words.item())
            self.kind = torch.int8 if _multiplies_bytes() else torch.float32
            words = (words / steps.words).round_().to(self.kind)
        self.columns = [block.t().contiguous() for block in words.split(NATIVE_WORDS)]
        self.factors = [block.contiguous() for block in label_factors.split(NATIVE_WORDS, dim=1)]

    def log_sums(self, states: Tensor) -> Tensor:
        """See :meth:`_Blocks.log_sums`."""
        if self.step is not None:
            states = (states / self.step).round_().to(self.kind)
        kind = torch.int32 if self.kind == torch.int8 else self.kind
        products, found = (torch.empty(NATIVE_TOKENS * NATIVE_WORDS, dtype=d) for d in (kind, torch.float32))
        return torch.cat([self._log_sums(part, products, found) for part in states.split(NATIVE_TOKENS)])

    def _log_sums(self, states: Tensor, products_room: Tensor, found_room: Tensor) -> Tensor:
        multiply = torch._int_mm if self.kind == torch.int8 else torch.mm
        highest, shrunk = torch.full((len(states),), -torch.inf), torch.empty(len(states))
        sums = torch.zeros(len(self.factors[0]), len(states))
        for columns, factors in zip(self.columns, self.factors, strict=True):
            products = multiply(states, columns, out=_shaped(products_room, states, columns))
            found = _shaped(found_room, states, columns)
            self.exponentials(
                products.numpy(), products.amax(dim=1).numpy(), self.scale,
                highest.numpy(), shrunk.numpy(), found.numpy(),
            )  # fmt: skip
            sums.mul_(shrunk).addmm_(factors, found.t())
        return _log_of(sums, highest).t()


def _multiplies_bytes() -> bool:
    """Return whether the processor has instructions that multiply int8 faster than float32."""
    if not (hasattr(torch.cpu, "get_capabilities") and torch.backends.mkldnn.is_available()):
        return False
    return bool(torch.cpu.get_capabilities().get("avx512_vnni"))
