"""log p(token | history, label) for every label at once, without materialising a logit.

The decoder of the generative classifier reads [h_t ; v_y], so its logits split exactly into
``g = U h_t`` and ``L_y = V v_y``: one product per token, one per label. With m = max(g),

    lse_y = m + max L_y + log( sum_w exp(g_w - m) exp(L_yw - max L_y) )

needs one exponential per token and word for all labels together. Words are taken in blocks that stay in
the cache, with a running maximum, so that memory traffic does not dominate.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from lstmptq.kernel import choose_kernel

SMALLEST_SUM = 1e-30  # below this the two maxima disagree by some 69 nats: float32 lost what matters
TOKENS, WORDS = 64, 4096  # of a block, with plain torch
NATIVE_TOKENS, NATIVE_WORDS = 1024, 512  # compiled: products and exponentials, 2 MiB each


@dataclass(frozen=True, slots=True)
class Steps:
    """What makes integers of a quantized decoder and of its input: both lie on signed grids of up to 8 bits.

    Attributes:
        states: step of the states' grid.
        words: step of the words' grid.
    """

    states: Tensor
    words: Tensor


class LabelScorer:
    """A decoder, ready to score tokens under every label.

    Args:
        words: (vocabulary, hidden), the decoder's columns for the states.
        label_logits: (labels, vocabulary), the decoder's output for each label's part of its input.
        steps: of a quantized decoder: its product is then taken on integers, which is exact and faster.
        kernel: see :func:`lstmptq.kernel.choose_kernel`.
    """

    @torch.no_grad()
    def __init__(
        self, words: Tensor, label_logits: Tensor, steps: Steps | None = None, kernel: str = "auto"
    ) -> None:
        self.words, self.label_logits = words, label_logits
        self.label_max = label_logits.amax(dim=1)
        self.label_factors = (label_logits - self.label_max[:, None]).exp()  # (labels, vocabulary)
        native = words.device.type == "cpu" and words.dtype == torch.float32
        self._blocks: _Blocks | _NativeBlocks
        if native and choose_kernel(kernel) == "native":
            self._blocks = _NativeBlocks(words, self.label_factors, steps)
        else:
            self._blocks = _Blocks(words, self.label_factors)

    @torch.no_grad()
    def log_likelihood(self, states: Tensor, targets: Tensor) -> Tensor:
        """Log-probability of each target token under each label.

        Args:
            states: (tokens, hidden), the label-independent part of the decoder's input.
            targets: (tokens,) int64, the word that came next.

        Returns:
            (tokens, labels) float32, nats.
        """
        normalisers = self._blocks.log_sums(states)
        lost = ~torch.isfinite(normalisers).all(dim=1)
        normalisers += self.label_max
        if lost.any():
            normalisers[lost] = self._log_sums_one_by_one(states[lost])
        own = (states * self.words[targets]).sum(dim=1, keepdim=True)
        return own + self.label_logits.t()[targets] - normalisers

    def _log_sums_one_by_one(self, states: Tensor) -> Tensor:
        """(tokens, labels) with a maximum per label: slower, never underflows."""
        columns = self.words.t().contiguous()
        sums = [
            torch.stack([(block @ columns + logits).logsumexp(dim=1) for logits in self.label_logits], dim=1)
            for block in states.split(TOKENS)
        ]
        return torch.cat(sums)


class _Blocks:
    """The words in blocks, on plain torch."""

    def __init__(self, words: Tensor, label_factors: Tensor) -> None:
        # contiguous: the product reads them 5 % faster than slices of one transposed whole, 100 kB apart
        self.columns = [block.t().contiguous() for block in words.split(WORDS)]
        self.factors = label_factors.t().contiguous().split(WORDS)

    def log_sums(self, states: Tensor) -> Tensor:
        """log sum_w exp(g_w) factor_yw, (tokens, labels); -inf where float32 cannot hold the sum."""
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
        return torch.where(sums > SMALLEST_SUM, sums.log(), -torch.inf) + highest


def _shaped(room: Tensor, states: Tensor, columns: Tensor) -> Tensor:
    """(tokens, words) of `room`: memory fresh from the system would cost as much as the product."""
    shape = len(states), columns.shape[1]
    return room[: shape[0] * shape[1]].view(shape)


class _NativeBlocks:
    """The words in blocks, with the exponentials compiled and the product of a quantized decoder on integers.

    Integers of up to 8 bits multiply exactly, in whatever order, also as floats (up to 1,024 terms): int8 is
    taken where the processor multiplies it faster.
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
        return (torch.where(sums > SMALLEST_SUM, sums.log(), -torch.inf) + highest).t()


def _multiplies_bytes() -> bool:
    """Whether the processor has the instructions that make an int8 product faster than a float32 one."""
    if not (hasattr(torch.cpu, "get_capabilities") and torch.backends.mkldnn.is_available()):
        return False
    return bool(torch.cpu.get_capabilities().get("avx512_vnni"))
