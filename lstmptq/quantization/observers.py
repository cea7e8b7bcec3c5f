"""Calibration statistics that Brevitas does not offer.

Brevitas' quantizers take a percentile of absolute values per call and average it over the calls. Here a hook
reads the same tensors first and takes another statistic: over all values together, over real tokens alone,
or over the LSTM's input apart from its hidden state.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

# The number of largest values kept per quantizer, enough for the exact 99.99 percentile of 1.3 billion.
KEPT = 1 << 17


class Collector:
    """One statistic of absolute values, fed call by call.

    Args:
        observer: ``mean`` of the calls' percentiles, ``max`` of all values, ``percentile`` of all values.
        percentile: Brevitas' operator for the percentile of a call; its ``q`` (%) also holds for all values.
    """

    def __init__(self, observer: str, percentile: Any) -> None:
        self.observer, self.percentile = observer, percentile
        self.calls = self.count = 0
        self.total, self.largest = 0.0, 0.0
        self.top: list[Tensor] = []

    def add(self, values: Tensor) -> None:
        """Add one call's values, of any shape; an empty call does not count."""
        if values.numel() == 0:
            return
        values = values.detach().abs().reshape(-1)
        self.calls += 1
        self.count += values.numel()
        if self.observer == "mean":
            self.total += float(self.percentile(values))
        elif self.observer == "max":
            self.largest = max(self.largest, float(values.max()))
        else:
            self.top.append(values)
            if sum(map(len, self.top)) > 2 * KEPT:
                self.top = [self._top()]

    def _top(self) -> Tensor:
        joined = torch.cat(self.top)
        return joined.topk(min(KEPT, len(joined))).values

    @property
    def statistic(self) -> Tensor:
        """The statistic so far, 0-dim float32."""
        if self.observer == "mean":
            return torch.tensor(self.total / self.calls, dtype=torch.float32)
        if self.observer == "max":
            return torch.tensor(self.largest, dtype=torch.float32)
        rank = int(0.01 * self.percentile.q * self.count + 0.5)  # from the smallest, as Brevitas counts
        return self._top()[self.count - rank].cpu()


class Observers:
    """Hooks on a Brevitas classifier's quantizers, each of which feeds a :class:`Collector`.

    Args:
        scalings: the modules in which Brevitas collects, by the name of the statistic.
        observer: see :class:`Collector`.
        io_scales: ``separate`` gives the first layer's input a statistic of its own, ``lstm.input``;
            ``lstm.io`` then covers hidden states alone.
        padding: ``masked`` leaves padded steps out.
    """

    def __init__(self, scalings: Mapping[str, Any], observer: str, io_scales: str, padding: str) -> None:
        self.scalings, self.masks = scalings, padding == "masked"
        self.collectors = {
            name: Collector(observer, impl.stats.stats_impl) for name, impl in scalings.items()
        }
        self.input = "lstm.io"
        if io_scales == "separate":
            self.input = "lstm.input"
            self.collectors[self.input] = Collector(observer, self.collectors["lstm.io"].percentile)
        self.start(torch.ones(1, 1, dtype=torch.bool))

    def start(self, mask: Tensor) -> None:
        """Begin a pass of the LSTM; `mask` (batch, time) is True at real tokens."""
        self.mask = mask
        self.calls = dict.fromkeys(self.scalings, 0)  # calls with one time step
        self.inputs = 0  # calls with all time steps: one per layer, with the layer's input

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Enter a context in which the hooks read the quantizers' inputs."""
        hooks = [
            impl.register_forward_pre_hook(partial(self._see, name)) for name, impl in self.scalings.items()
        ]
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()

    def _see(self, name: str, _: nn.Module, arguments: tuple[Tensor, ...]) -> None:
        values = arguments[0]
        if name == "head.input":  # real tokens or pooled documents: there is no padding
            self.collectors[name].add(values)
        elif values.dim() == 3:
            target = self.input if self.inputs == 0 else name
            self.inputs += 1
            self.collectors[target].add(values[self.mask] if self.masks else values)
        else:
            # the cell state is quantized three times per step: the part kept, the part that enters, their sum
            calls_a_step = 3 if name == "lstm.cell_state" else 1
            step = self.calls[name] // calls_a_step % self.mask.shape[1]
            self.calls[name] += 1
            self.collectors[name].add(values[self.mask[:, step]] if self.masks else values)

    def statistics(self) -> dict[str, Tensor]:
        """Return every statistic by its name."""
        return {name: collector.statistic for name, collector in self.collectors.items()}
