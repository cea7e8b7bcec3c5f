"""The LSTM that is evaluated: plain torch, weights fake-quantized once, scales fixed, no proxies in the loop.

It equals Brevitas' ``QuantLSTM`` bit for bit; tests/lstmptq/quantization/test_exact.py is the licence.
With the quantizers off it is the float graph. Where numba is installed the steps run through `native.py`,
which equals this module bit for bit in turn.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from lstmptq.quantization.observe import LAYER_QUANTIZERS, Observation
from lstmptq.quantization.quantizer import Quantizer, quantize_bias, weight_quantizer
from lstmptq.runtime.kernel import choose_kernel
from lstmptq.spec.specs import Isolation

if TYPE_CHECKING:
    from lstmptq.quantization.native import NativeLayer

# record(stage, values, clipped): called with (batch, time, features) values and where they were clipped.
# Without values it tells where the quantizer of the stage, which is named before the last dot, clips another
# of its inputs.
Recorder = Callable[[str, Tensor | None, Tensor | None], None]

# A matrix product of a few rows adds in another order than one of many (seen up to 7 rows), so that a word's
# product taken from the table would not be the token's own: smaller batches do without the table.
TABLE_ROWS = 64
NOTHING = Isolation()
GATE_FUNCTIONS = {
    "input_gate": "input_sigmoid",
    "forget_gate": "forget_sigmoid",
    "cell_gate": "cell_tanh",
    "output_gate": "output_sigmoid",
}
WORDS_KEPT = 100_000  # largest vocabulary whose products are kept: 160 MB at 100 units


@dataclass(frozen=True, slots=True)
class StageFunction:
    """A function of a recorded stage's values, quantized: a table from level to level."""

    name: str  # of the quantizer
    stage: str  # whose values it takes
    function: Callable[[Tensor], Tensor]
    quantizer: Quantizer  # of what it gives


@dataclass(frozen=True, slots=True)
class _Grid:
    """Scales and outermost levels for columns that belong to several quantizers, (columns,) each."""

    scale: Tensor
    lowest: Tensor
    highest: Tensor

    @classmethod
    def of(cls, quantizers: list[Quantizer], width: int) -> _Grid:
        device = quantizers[0].scale.device

        def spread(values: list[int]) -> Tensor:
            return torch.tensor(values, dtype=torch.float32, device=device).repeat_interleave(width)

        return cls(
            torch.stack([quantizer.scale for quantizer in quantizers]).repeat_interleave(width),
            spread([quantizer.lowest for quantizer in quantizers]),
            spread([quantizer.highest for quantizer in quantizers]),
        )

    def quantize_(self, values: Tensor) -> Tensor:
        levels = values.div_(self.scale).round_()
        return torch.clamp(levels, self.lowest, self.highest, out=levels).mul_(self.scale)

    def clipped(self, values: Tensor) -> Tensor:
        levels = (values / self.scale).round_()
        return (levels < self.lowest) | (levels > self.highest)


class QuantizedLSTMLayer:
    """One layer. Gates are stacked input, forget, output, cell, so that one call takes all sigmoids.

    ``quantizers["io"]`` is of the hidden state, ``quantizers["input"]`` of what the layer reads: the same,
    unless scales are separate. The 32-bit bias lies on the grid of the input's accumulator, input scale times
    weight scale, in either case: Brevitas' rule, which knows no other scale.

    Args:
        lstm: the float LSTM.
        number: which of its layers.
        bits: weight width; None leaves the weights as they are and turns every quantizer off.
        internal_bits: width of the layer's activation quantizers.
        observation: calibration statistics; not read when `bits` is None.
        kernel: see :func:`lstmptq.runtime.kernel.choose_kernel`.
        isolation: the stage that has another width.
    """

    ORDER = (0, 1, 3, 2)  # torch stacks input, forget, cell, output

    def __init__(
        self,
        lstm: nn.LSTM,
        number: int,
        bits: int | None,
        internal_bits: int,
        observation: Observation | None,
        kernel: str = "auto",
        isolation: Isolation = NOTHING,
    ) -> None:
        self.number, self.hidden, self.kernel = number, lstm.hidden_size, kernel
        parts = {
            name: [getattr(lstm, f"{name}_l{number}").detach().chunk(4)[place] for place in self.ORDER]
            for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
        }
        inputs, hiddens = parts["weight_ih"], parts["weight_hh"]
        biases = [a + b for a, b in zip(parts["bias_ih"], parts["bias_hh"], strict=True)]
        self.quantizers: dict[str, Quantizer] = {}
        self.weight_quantizers: list[Quantizer] = []
        if bits is not None:
            assert observation is not None
            for name, (_, signed) in LAYER_QUANTIZERS.items():
                statistic = observation.statistics[f"lstm.{number}.{name}"].to(biases[0].device)
                width = isolation.width(
                    f"{name.rpartition('_')[2]}s", internal_bits
                )  # gates, sigmoids, tanhs
                self.quantizers[name] = Quantizer.from_statistic(statistic, width, signed)
            for name in ("io", "cell_state"):
                statistic = observation.statistics[f"lstm.{name}"].to(biases[0].device)
                self.quantizers[name] = Quantizer.from_statistic(
                    statistic, isolation.width(name, internal_bits)
                )
            width = isolation.width("lstm_weights", bits)
            self.weight_quantizers = [
                weight_quantizer(w, u, bits=width) for w, u in zip(inputs, hiddens, strict=True)
            ]
            inputs = [q(w) for q, w in zip(self.weight_quantizers, inputs, strict=True)]
            hiddens = [q(w) for q, w in zip(self.weight_quantizers, hiddens, strict=True)]
            self.quantizers["input"] = self.quantizers["io"]
            if number == 0 and "lstm.input" in observation.statistics:  # deeper layers read hidden states
                statistic = observation.statistics["lstm.input"].to(biases[0].device)
                self.quantizers["input"] = Quantizer.from_statistic(statistic, self.quantizers["io"].bits)
            biases = [
                quantize_bias(b, self.quantizers["input"].scale, q.scale)
                for q, b in zip(self.weight_quantizers, biases, strict=True)
            ]
            names = ("input_gate", "forget_gate", "output_gate", "cell_gate")
            self.gates = _Grid.of([self.quantizers[name] for name in names], self.hidden)
            names = ("input_sigmoid", "forget_sigmoid", "output_sigmoid", "cell_tanh")
            self.activations = _Grid.of([self.quantizers[name] for name in names], self.hidden)
        self.input_weight, self.hidden_weight = torch.cat(inputs), torch.cat(hiddens)
        self.bias = torch.cat(biases)

    @cached_property
    def native(self) -> NativeLayer | None:
        """The compiled form, where it applies: quantized, finite, float32 on the CPU."""
        tensors = (self.input_weight, self.hidden_weight, self.bias)
        if not self.quantizers or self.bias.device.type != "cpu" or choose_kernel(self.kernel) == "eager":
            return None
        scales = torch.stack([quantizer.scale for quantizer in self.quantizers.values()])
        if any(t.dtype != torch.float32 or not t.isfinite().all() for t in (*tensors, scales)):
            return None
        from lstmptq.quantization.native import NativeLayer

        return NativeLayer(self.hidden_weight, self.bias, self.gates.scale, self.quantizers)

    def function(self, name: str, stage: str, function: Callable[[Tensor], Tensor]) -> StageFunction:
        """The function whose quantizer is called `name`; it takes the layer's stage `stage`."""
        prefix = f"lstm.{self.number}"
        return StageFunction(f"{prefix}.{name}", f"{prefix}.{stage}", function, self.quantizers[name])

    def run(self, inputs: Tensor, record: Recorder | None = None) -> Tensor:
        """(batch, time, width) inputs, on their grid, to (batch, time, hidden) states on the io grid."""
        batch, time, _ = inputs.shape
        if record is None and self.native is not None:
            products = (inputs @ self.input_weight.t()).view(batch * time, -1)
            return self.native.run(products, torch.arange(batch * time).view(batch, time))
        products = inputs @ self.input_weight.t()
        recurrent = self.hidden_weight.t().contiguous()
        hidden, cell = inputs.new_zeros(batch, self.hidden), inputs.new_zeros(batch, self.hidden)
        states = inputs.new_empty(batch, time, self.hidden)
        tape = _Tape(batch, time, self, inputs.device) if record else None
        for step in range(time):
            gates = products[:, step] + hidden @ recurrent
            gates += self.bias
            hidden, cell = self._step(gates, cell, tape, step)
            states[:, step] = hidden
        if tape and record:
            tape.play(record, states)
        return states

    def _step(self, gates: Tensor, cell: Tensor, tape: _Tape | None, step: int) -> tuple[Tensor, Tensor]:
        width = self.hidden
        quantized = bool(self.quantizers)
        if tape:
            tape.gates_clipped[:, step] = self.gates.clipped(gates) if quantized else False
        if quantized:
            self.gates.quantize_(gates)
        if tape:
            tape.gates[:, step] = gates
        gates[:, : 3 * width].sigmoid_()
        gates[:, 3 * width :].tanh_()
        if quantized:
            self.activations.quantize_(gates)
        enter, keep, leave, new = gates.split(width, dim=1)
        kept, entered = keep * cell, enter * new
        if quantized:
            cell_quantizer = self.quantizers["cell_state"]
            if tape:
                tape.kept_clipped[:, step] = cell_quantizer.clipped(kept)
                tape.entered_clipped[:, step] = cell_quantizer.clipped(entered)
            total = cell_quantizer(kept).add_(cell_quantizer(entered))
            if tape:
                tape.cell_clipped[:, step] = cell_quantizer.clipped(total)
            cell = cell_quantizer(total)
            output = leave * self.quantizers["hidden_tanh"](cell.tanh())
            if tape:
                tape.hidden_clipped[:, step] = self.quantizers["io"].clipped(output)
            hidden = self.quantizers["io"](output)
        else:
            cell = kept.add_(entered)
            hidden = leave * cell.tanh()
        if tape:
            tape.cell[:, step] = cell
        return hidden, cell


class _Tape:
    """What one pass of a layer left at each stage, kept only when activations are compared."""

    def __init__(self, batch: int, time: int, layer: QuantizedLSTMLayer, device: torch.device) -> None:
        def tape(columns: int, kind: torch.dtype) -> Tensor:
            return torch.zeros(batch, time, columns, dtype=kind, device=device)

        width = layer.hidden
        self.layer = layer
        self.gates, self.gates_clipped = tape(4 * width, torch.float32), tape(4 * width, torch.bool)
        self.cell, self.cell_clipped = tape(width, torch.float32), tape(width, torch.bool)
        self.kept_clipped, self.entered_clipped = tape(width, torch.bool), tape(width, torch.bool)
        self.hidden_clipped = tape(width, torch.bool)

    def play(self, record: Recorder, states: Tensor) -> None:
        name, width = f"lstm.{self.layer.number}", self.layer.hidden
        for gate, values, clipped in zip(
            ("input", "forget", "output", "cell"),
            self.gates.split(width, dim=2),
            self.gates_clipped.split(width, dim=2),
            strict=True,
        ):
            record(f"{name}.{gate}_gate", values, clipped)
        record(f"{name}.cell_state", self.cell, self.cell_clipped)
        if self.layer.quantizers:
            record(f"{name}.cell_state.kept", None, self.kept_clipped)
            record(f"{name}.cell_state.entered", None, self.entered_clipped)
        record(f"{name}.hidden_state", states, self.hidden_clipped)


class QuantizedEncoder:
    """Embedding and LSTM: tokens to hidden states.

    Args:
        embedding: (vocabulary, width) float word vectors.
        lstm: the float LSTM.
        bits: weight width; None turns every quantizer off.
        internal_bits: width of the LSTM's own quantizers.
        observation: calibration statistics; not read when `bits` is None.
        kernel: see :func:`lstmptq.runtime.kernel.choose_kernel`.
        isolation: the stage that has another width.
    """

    def __init__(
        self,
        embedding: Tensor,
        lstm: nn.LSTM,
        bits: int | None,
        internal_bits: int,
        observation: Observation | None,
        kernel: str = "auto",
        isolation: Isolation = NOTHING,
    ) -> None:
        self.layers = [
            QuantizedLSTMLayer(lstm, number, bits, internal_bits, observation, kernel, isolation)
            for number in range(lstm.num_layers)
        ]
        self.embedding_quantizer: Quantizer | None = None
        self.io: Quantizer | None = None  # of word vectors, and of hidden states where they share a scale
        table = embedding.detach()
        if bits is not None:
            self.io = self.layers[0].quantizers["input"]
            self.embedding_quantizer = weight_quantizer(table, bits=isolation.width("embedding", bits))
            table = self.embedding_quantizer(table)
        self.vectors = table  # as the embedding holds them: weights
        self._read = 0  # tokens so far

    def hidden_states(self, tokens: Tensor, record: Recorder | None = None) -> Tensor:
        """(batch, time) int64 to (batch, time, hidden) float32, quantized by the io quantizer."""
        if record is None and (states := self._native_states(tokens)) is not None:
            return states
        inputs = self.vectors[tokens]
        if self.io is not None:
            clipped = self.io.clipped(inputs) if record else None
            inputs = self.io(inputs)
        else:
            clipped = None
        if record:
            record("embedding", inputs, clipped)
        for layer in self.layers:
            inputs = layer.run(inputs, record)
        return inputs

    def _native_states(self, tokens: Tensor) -> Tensor | None:
        """The same from the first layer's products a word, once they pay; None before, and if eager runs."""
        first = self.layers[0].native
        self._read += tokens.numel()
        if first is None or self._read < len(self.vectors) or len(self.vectors) > WORDS_KEPT:
            return None
        if tokens.numel() < TABLE_ROWS:
            return None
        inputs = first.run(self._word_products, tokens)
        for layer in self.layers[1:]:
            inputs = layer.run(inputs)
        return inputs

    @cached_property
    def _word_products(self) -> Tensor:
        """(vocabulary, 4 hidden): every word's vector, on the io grid, times the first layer's weights."""
        assert self.io is not None
        return self.io(self.vectors) @ self.layers[0].input_weight.t()

    def stage_quantizers(self) -> dict[str, Quantizer]:
        """The quantizer whose grid each recorded stage lies on; empty with the quantizers off."""
        if self.io is None:
            return {}
        found = {"embedding": self.io}
        for layer in self.layers:
            for name in ("input_gate", "forget_gate", "cell_gate", "output_gate", "cell_state"):
                found[f"lstm.{layer.number}.{name}"] = layer.quantizers[name]
            found[f"lstm.{layer.number}.hidden_state"] = layer.quantizers["io"]
        return found

    def functions(self) -> Iterator[StageFunction]:
        """What follows a recorded stage value by value, with a quantizer of its own; none with them off."""
        for layer in self.layers if self.io is not None else ():
            for gate, name in GATE_FUNCTIONS.items():
                function = torch.tanh if name == "cell_tanh" else torch.sigmoid
                yield layer.function(name, gate, function)
            yield layer.function("hidden_tanh", "cell_state", torch.tanh)
